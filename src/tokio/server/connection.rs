//! One client of a server.
//!
//! A task for each connection receives, starts the handlers, and sends. A handler is polled for the first time where
//! its request was received: most have their reply ready by then, and cost no task. One that waits goes to a task of
//! its own. What has been replied goes out when no further request is at hand, in one write.

mod handling;
mod large;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

pub(super) use self::large::elsewhere;
use super::core::Core;
use super::job::Reply;
use super::kept::Kept;
use super::state::{Batch, IsThere, KEPT, State};
use super::{Decoded, List, Shared};
use crate::base::caught::Panicked;
use crate::proto::wire::{self, Code, Failure};
use crate::proto::{Party, ServerEvent};
use crate::server::Payload;
use crate::server::budget::{Lease, SMALL};
use crate::server::buffer::Buffer;
use crate::server::connection::{End, has_left};
use crate::server::control::{self, Asked};
use crate::server::emit::{TO_NOTICE, wake, wake_any};
use crate::tokio::alarm::Alarm;
use crate::tokio::batch::send_batch;
use crate::tokio::transport::Stream;
use crate::tokio::{fair, runtime};
use crate::trace::Span;
use crate::transport::Announced;
use crate::transport::tokio::carrier::Carrier as _;
use crate::{Deadline, Error};

/// What serves a client.
pub(super) struct Connection<Q, F> {
    pub(super) core: Arc<Core<F>>,
    pub(super) shared: Arc<Shared<Q, F>>,
}

/// A request, or a notification, that is to be handled.
pub(super) struct Request<Q> {
    pub(super) id: Option<u32>,
    pub(super) method: u32,
    pub(super) asked: What<Q>,
    pub(super) timeout: Option<Duration>,
    /// Of one that is large, or one of many.
    pub(super) lease: Option<Box<Lease>>,
}

/// What is asked for.
pub(super) enum What<Q> {
    Encoded(Payload),
    /// Unless decoding it has panicked.
    Decoded(Result<Decoded<Q>, Panicked>),
}

/// What becomes of a message that was received.
enum Received<Q> {
    /// It is dealt with, and the next one can be received into this.
    Done(Buffer),
    /// A client that does not read its replies is not asked for more: the message has to wait.
    TooMany(Buffer),
    /// The same until there is a share of the server's memory for it.
    Unleased(Buffer),
    /// The same until there is room for another handler: requests are never that many, but nobody answers
    /// notifications.
    Early(Box<Request<Q>>),
    /// It is to be decoded where that holds up nobody.
    Large(Box<Request<Q>>),
    /// A request for a stream.
    Open(Box<Request<Q>>),
}

/// A connection with its place on the server's list. It goes in this order: the service before the place.
pub(super) struct Listed<Q, F> {
    connection: Connection<Q, F>,
    leaves: Leaves<F>,
}

impl<Q, F> Listed<Q, F>
where
    Q: Send + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    pub(super) fn new(connection: Connection<Q, F>, list: Arc<List<F>>) -> Listed<Q, F> {
        let core = Arc::clone(&connection.core);
        Listed {
            connection,
            leaves: Leaves(list, core),
        }
    }

    /// Serves the client until one of the two ends it.
    #[allow(
        clippy::manual_async_fn,
        reason = "an async function would have place for the stream twice"
    )]
    pub(super) fn serve<S: Stream>(self, stream: S) -> impl Future<Output = ()> + Send {
        async move {
            self.connection.talk(&self.leaves.0.kept, &stream).await;
            // Whoever still has something of the connection does not have the stream.
            let core = &self.connection.core;
            core.close_stream(&stream);
            drop(stream);
            core.sends_no_more();
            let mut task = None;
            poll_fn(|cx| {
                core.runs_as(cx, &mut task);
                match core.state.lock().is_over() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
    }
}

impl<F> Core<F> {
    /// Notes the task that serves the connection; `noted` is the one that was noted last.
    fn runs_as(&self, cx: &mut Context<'_>, noted: &mut Option<Waker>) {
        if noted
            .as_ref()
            .is_none_or(|task| !task.will_wake(cx.waker()))
        {
            *noted = Some(cx.waker().clone());
            self.state.lock().task.clone_from(noted);
        }
    }

    /// Whether the server is ending, and there is nothing to wait for here.
    fn is_drained(&self, state: &State<F>) -> bool {
        self.is_draining() && state.talk.session.in_flight() == 0
    }
}

impl<Q, F> Connection<Q, F>
where
    Q: Send + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    /// Receives and sends, until there will be no more of either.
    async fn talk<S: Stream>(&self, kept: &Kept, stream: &S) {
        let core = &*self.core;
        let mut reader = pin!(self.read(kept, stream));
        let mut writer = pin!(self.write(stream));
        let (mut reading, mut writing) = (true, true);
        let mut alarm = Alarm::default();
        let mut armed: Option<Instant> = None;
        let mut greeted = false;
        let mut task = None;
        poll_fn(|cx| {
            core.runs_as(cx, &mut task);
            loop {
                if reading && reader.as_mut().poll(cx).is_ready() {
                    reading = false;
                }
                // Asked first, because it takes no lock.
                let draining = core.is_draining();
                if draining && core.is_drained(&core.state.lock()) {
                    core.part();
                }
                if writing && self.is_to_write(stream) && writer.as_mut().poll(cx).is_ready() {
                    writing = false;
                }
                let mut state = core.state.lock();
                reading &= !state.parted;
                writing &= !state.closed;
                if !reading && !writing {
                    return Poll::Ready(());
                }
                if !state.parted && core.is_drained(&state) {
                    // The end of a stream was what was left.
                    continue;
                }
                let limit = self.shared.options.max_in_flight;
                if reading
                    && state
                        .stalled
                        .is_some_and(|is_there| is_there(&state, limit))
                {
                    continue;
                }
                // There may be room, or none will be needed any more.
                let wakers = state.relieved();
                state.settle(kept);
                state.watch(self.shared.options.send_timeout);
                let next = state.next_deadline(core.aborts, core.idle_timeout);
                let greets = !greeted && state.hello_by.is_none();
                drop(state);
                wake_any(wakers);
                if greets && next.is_none() {
                    // Most connections never need it again.
                    (armed, greeted) = (None, true);
                    alarm.set(None);
                }
                // It may fire too early, but never too late: setting it for each message would cost more.
                if let Some(next) = next.filter(|next| armed.is_none_or(|armed| *next < armed)) {
                    armed = Some(next);
                    alarm.set(armed);
                }
                // One that was set for what is over by now fires in vain.
                if next.is_none() || alarm.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                armed = None;
                self.look_at_the_clock();
            }
        })
        .await;
    }

    // ------------------------------------------------------------ receiving

    async fn read<S: Stream>(&self, kept: &Kept, stream: &S) {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let mut buffer = Buffer::default();
        let mut held = Held { kept, bytes: 0 };
        let mut received = 0_u32;
        loop {
            held.fit(&mut buffer);
            let message = Arc::make_mut(&mut buffer);
            let mut lease = None;
            let mut result = stream.recv_message(message, Deadline::NEVER).await;
            if let Some(size) = result.as_ref().err().and_then(Announced::size) {
                // It takes place, which those that send nothing large need not have.
                (lease, result) = Box::pin(self.receive_large(stream, message, size)).await;
            }
            let end = match result {
                Ok(Some(_)) => loop {
                    match self.receive(stream, buffer, &mut lease, &waker) {
                        Ok(Received::Done(kept)) => {
                            buffer = kept;
                            break None;
                        }
                        Ok(Received::TooMany(message)) => {
                            buffer = message;
                            self.room(State::takes_more).await;
                        }
                        Ok(Received::Unleased(message)) => {
                            let wanted = self.core.holder.lease(message.len());
                            lease = Some(Box::new(Box::pin(wanted).await));
                            buffer = message;
                        }
                        Ok(Received::Early(request)) => {
                            self.room(|state, limit| state.jobs.len() < limit).await;
                            buffer = self.start_later(*request, &waker).await;
                            break None;
                        }
                        Ok(Received::Large(request)) => {
                            buffer = self.start_later(*request, &waker).await;
                            break None;
                        }
                        Ok(Received::Open(request)) => {
                            // A handler whose stream is over ends soon, or notices it when it sends.
                            let room = self.room(|state, limit| state.has_room_for_stream(limit));
                            // If there is none by then, the client is told.
                            // It takes place, which those that open no streams need not have.
                            let by = runtime::by(Deadline::after(TO_NOTICE), room);
                            let _ = Box::pin(by).await;
                            self.open_stream(*request);
                            buffer = Buffer::default();
                            break None;
                        }
                        Err(end) => {
                            buffer = Buffer::default();
                            break Some(end);
                        }
                    }
                },
                Ok(None) => {
                    Box::pin(self.outlast(stream)).await;
                    Some(End::Gone)
                }
                Err(error) => {
                    if let Some(Error::TooLarge { limit, size }) = Error::of(&error) {
                        self.refuse(&control::too_large(*limit, *size));
                    }
                    Some(End::Gone)
                }
            };
            if let Some(end) = end {
                if let End::Malformed(malformed) = end {
                    self.refuse(&Failure::new(Code::Malformed, malformed.0));
                }
                return self.core.client_has_gone(true);
            }
            received = (received + 1) % fair::AT_ONCE;
            if received == 0 {
                fair::yield_now().await;
            }
        }
    }

    /// A client that sends no more may still wait for what it has asked for.
    async fn outlast<S: Stream>(&self, stream: &S) {
        while stream.peer_listens() {
            let answered = self.room(|state, _| state.talk.session.in_flight() == 0);
            if runtime::by(Deadline::after(LOOK), answered).await.is_ok() {
                return;
            }
        }
    }

    /// Waits until there is room, which the connection's task looks for whenever it runs.
    async fn room(&self, is_there: IsThere<F>) {
        /// Nobody looks any more, also where this was not waited for until it came about.
        struct Stalled<'a, F>(&'a Core<F>);

        impl<F> Drop for Stalled<'_, F> {
            fn drop(&mut self) {
                self.0.state.lock().stalled = None;
            }
        }

        let limit = self.shared.options.max_in_flight;
        let _stalled = Stalled(&self.core);
        poll_fn(|_| {
            let mut state = self.core.state.lock();
            let stalled = !is_there(&state, limit) && !state.finished;
            state.stalled = stalled.then_some(is_there);
            match stalled {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Does what a message asks for, as far as that need not wait.
    fn receive<S: Stream>(
        &self,
        stream: &S,
        message: Buffer,
        lease: &mut Option<Box<Lease>>,
        waker: &Waker,
    ) -> Result<Received<Q>, End> {
        let ours = self.shared.ours.identity();
        let limit = self.shared.options.max_in_flight;
        let mut state = self.core.state.lock();
        if state.parted {
            // It came too late: the client has been told that no more is read.
            return Err(End::Gone);
        }
        if !state.takes_more(limit) && !state.finished {
            return Ok(Received::TooMany(message));
        }
        if state.held + message.len() > SMALL && lease.is_none() && wire::asks(&message) {
            return Ok(Received::Unleased(message));
        }
        if state.heard.is_some() {
            state.heard = Some(Instant::now());
        }
        state.idle_since = None;
        let event = state
            .talk
            .session
            .receive(&ours, &message)
            .map_err(End::Malformed)?;
        let (opens, id, method, length, timeout) = match event {
            ServerEvent::Request {
                id,
                method,
                timeout,
                payload,
            } if method < wire::control::FIRST && !self.core.is_draining() => {
                (false, Some(id), method, payload.len(), timeout)
            }
            ServerEvent::Notify { method, payload } => (false, None, method, payload.len(), None),
            ServerEvent::Open {
                id,
                method,
                timeout,
                payload,
            } => (true, Some(id), method, payload.len(), timeout),
            event => {
                self.tend(stream, event, state)?;
                return Ok(Received::Done(message));
            }
        };
        let start = message.len() - length;
        let request = Request {
            id,
            method,
            asked: What::Encoded(Payload::new(message, start, None)),
            timeout,
            lease: lease.take(),
        };
        if opens {
            return Ok(Received::Open(Box::new(request)));
        }
        if state.jobs.len() >= limit {
            return Ok(Received::Early(Box::new(request)));
        }
        if length > SMALL && self.core.aborts {
            return Ok(Received::Large(Box::new(request)));
        }
        let place = state.place(id);
        drop(state);
        Ok(Received::Done(self.start(request, place, waker)))
    }

    /// Does what a message asks for that is none for a handler.
    fn tend<S: Stream>(
        &self,
        stream: &S,
        event: ServerEvent<'_>,
        mut state: MutexGuard<'_, State<F>>,
    ) -> Result<(), End> {
        match event {
            ServerEvent::Hello => {
                state.hello_by = None;
                let mut out = state.blank();
                let ours = self.shared.ours.identity();
                state.talk.session.greet(&ours, out.bytes());
                state.client_takes = state.talk.session.client().map_or(u32::MAX, Party::takes);
                state.push(out);
                drop(state);
                self.core.peer.ask_again(|| stream.peer());
            }
            ServerEvent::Reject { id, failure } => state.fail(id, &failure),
            ServerEvent::Credit { id } => {
                let waker = state.talk.credit(id);
                drop(state);
                wake(waker);
            }
            ServerEvent::Cancel { id } => {
                let waker = self.core.cancel(&mut state, id);
                drop(state);
                wake(waker);
            }
            ServerEvent::Request {
                id,
                method,
                payload,
                ..
            } if method >= wire::control::FIRST => {
                state.talk.session.answer(id);
                drop(state);
                self.control(stream, id, method, payload)?;
                self.core.state.lock().talk.session.answered();
            }
            // The server is ending.
            ServerEvent::Request { id, .. } => {
                state.talk.session.answer(id);
                state.fail(id, &Failure::new(Code::Unavailable, "ending"));
                state.talk.session.answered();
            }
            // The rest is for handlers.
            ServerEvent::Nothing | ServerEvent::Open { .. } | ServerEvent::Notify { .. } => {}
        }
        Ok(())
    }

    /// What every server answers, whatever its service.
    fn control<S: Stream>(
        &self,
        stream: &S,
        id: u32,
        method: u32,
        payload: &[u8],
    ) -> Result<(), End> {
        let span = self.span(method);
        let answered = span.run(|| self.answer_control(stream, id, method, payload));
        span.end_request(answered.as_ref().ok().copied());
        answered.map(drop)
    }

    fn answer_control<S: Stream>(
        &self,
        stream: &S,
        id: u32,
        method: u32,
        payload: &[u8],
    ) -> Result<Option<Code>, End> {
        // Asked again: on Windows the system knows the user only once something was received.
        let known = || self.core.peer.get().clone();
        let peer = || stream.peer().unwrap_or_else(|_| known());
        let may = || self.shared.options.may_control(&peer());
        let asked = control::asked(method, payload, may).map_err(End::Malformed)?;
        let info = match asked {
            Asked::Info => Some(self.shared.info()),
            _ => None,
        };
        let mut state = self.core.state.lock();
        if let Asked::No(failure) = asked {
            state.fail(id, &failure);
            return Ok(Some(failure.code));
        }
        let mut out = state.blank();
        wire::reply(out.bytes(), id);
        if let Some(info) = info {
            wire::info(out.bytes(), &info);
        }
        state.push(out);
        drop(state);
        match asked {
            Asked::Drain(timeout) => self.shared.handle.drain(timeout),
            Asked::Stop => self.shared.handle.stop(),
            _ => {}
        }
        Ok(None)
    }

    /// The span of a request.
    pub(super) fn span(&self, method: u32) -> Span {
        let Shared { ours, methods, .. } = &*self.shared;
        let span = Span::of_request(&ours.service, methods, method);
        span.peer(|| self.core.peer.get().pid);
        span
    }

    // ------------------------------------------------------------ sending

    /// Sends a reply that is alone. Whether there is anything to do for the writer, which sends the rest.
    fn is_to_write<S: Stream>(&self, stream: &S) -> bool {
        let mut state = self.core.state.lock();
        let tries = stream.tries_to_send();
        if let Some(reply) = tries.then(|| state.take_alone()).flatten() {
            drop(state);
            let message = reply.plain();
            let sent = message.is_some_and(|message| stream.try_send(message));
            state = self.core.state.lock();
            let wakers = state.sent_alone(reply, sent);
            let is_to_write = state.is_to_write();
            drop(state);
            wake_any(wakers);
            wake_any(self.core.holder.budget().relieved());
            return is_to_write;
        }
        state.is_to_write()
    }

    /// Sends what there is, until there will be no more.
    async fn write<S: Stream>(&self, stream: &S) {
        let core = &*self.core;
        // What is to be sent next, once it has been looked for: the connection's task polls this again when it may have
        // changed.
        let mut next = None;
        loop {
            let batch = poll_fn(|_| match next.take() {
                Some(looked) => looked,
                None => core.state.lock().take_batch(),
            });
            let sent = match batch.await {
                Some(Batch::Replies(mut batch)) => {
                    let sent = send_batch(stream, &batch, Deadline::NEVER).await;
                    let mut state = core.state.lock();
                    for message in batch.drain(..) {
                        state.talk.streams.unsent.remove(message.len());
                        state.keep(message);
                    }
                    state.batch = batch;
                    state.has_sent();
                    if sent.is_ok() {
                        next = Some(state.take_batch());
                    }
                    let wakers = state.relieved();
                    drop(state);
                    wake(wakers);
                    sent
                }
                Some(Batch::Items(items)) => {
                    let sent = send_batch(stream, &items, Deadline::NEVER).await;
                    let mut state = core.state.lock();
                    let sent_items = items.into_iter();
                    let mut wakers: Vec<_> = sent_items
                        .filter_map(|item| state.talk.sent(item))
                        .collect();
                    wakers.extend(state.relieved());
                    state.has_sent();
                    drop(state);
                    wake(wakers);
                    sent
                }
                None => break,
            };
            wake(core.holder.budget().relieved());
            match sent {
                Ok(()) => {}
                // It may have left once it had said all that it had to say, and not waited for any answer.
                Err(failed) if has_left(&failed.error) => return core.client_has_gone(false),
                Err(_) => return core.close(),
            }
        }
        core.client_has_gone(true);
        core.close_stream(stream);
    }
}

/// Takes the connection off the server's list, however its task ends.
struct Leaves<F>(Arc<List<F>>, Arc<Core<F>>);

impl<F> Drop for Leaves<F> {
    fn drop(&mut self) {
        let Leaves(list, core) = self;
        core.close();
        let mut state = core.state.lock();
        list.kept.keep(&mut state.kept, 0);
        state.let_go();
        drop(state);
        wake(core.holder.budget().relieved());
        list.leave(core);
    }
}

/// A buffer to receive into, as far as what idle connections may keep covers it.
struct Held<'a> {
    kept: &'a Kept,
    bytes: usize,
}

impl Held<'_> {
    /// Sees to it that a buffer is nobody else's, and no larger than may be kept.
    fn fit(&mut self, buffer: &mut Buffer) {
        let size = Arc::get_mut(buffer).map(|buffer| buffer.capacity());
        if size.is_none_or(|size| size > KEPT || !self.kept.keep(&mut self.bytes, size)) {
            *buffer = Buffer::default();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.kept.keep(&mut self.bytes, 0);
    }
}

/// How often to look whether a client is still there that sends no more.
const LOOK: Duration = Duration::from_millis(100);
