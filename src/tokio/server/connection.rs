//! One client of a server.
//!
//! A task for each connection receives, starts the handlers, and sends. A handler is polled for the first time where
//! its request was received: most have their reply ready by then, and cost no task. One that waits goes to a task of
//! its own. What has been replied goes out when no further request is at hand, in one write.

mod handling;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::Shared;
use super::budget::Budget;
use super::handler::Replied;
use super::state::{Batch, IsThere, KEPT, State};
use crate::server::Payload;
use crate::server::call::{Caller, KnownPeer};
use crate::server::connection::{Buffer, End, has_left, too_large};
use crate::server::control::{self, Asked};
use crate::server::emit::{TO_NOTICE, wake};
use crate::server::job::Running;
use crate::server::streams::Conversation;
use crate::session::{Party, ServerEvent, ServerSession};
use crate::tokio::alarm::Alarm;
use crate::tokio::batch::send_batch;
use crate::tokio::transport::Stream;
use crate::tokio::{fair, local, runtime};
use crate::trace::Span;
use crate::wire::{self, Code, Failure};
use crate::{Deadline, Error, Peer};

pub(super) struct Connection<S, Q, F> {
    pub(super) stream: S,
    peer: KnownPeer,
    /// Its number on the server's list.
    number: u64,
    pub(super) shared: Arc<Shared<S, Q, F>>,
    pub(super) state: Mutex<State<F>>,
}

/// A request, or a notification, that is to be handled.
pub(super) struct Request {
    pub(super) id: Option<u32>,
    pub(super) method: u32,
    pub(super) payload: Payload,
    pub(super) timeout: Option<Duration>,
}

/// What becomes of a message that was received.
enum Received {
    /// It is dealt with, and the next one can be received into this.
    Done(Buffer),
    /// A client that does not read its replies is not asked for more: the message has to wait.
    TooMany(Buffer),
    /// The same until there is room for another handler: requests are never that many, but nobody answers
    /// notifications.
    Early(Box<Request>),
    /// A request for a stream.
    Open(Box<Request>),
}

impl<S, Q, F> Connection<S, Q, F>
where
    S: Stream,
    Q: 'static,
    F: Future<Output = Replied> + Send + 'static,
{
    pub(super) fn new(
        stream: S,
        peer: Peer,
        number: u64,
        shared: Arc<Shared<S, Q, F>>,
    ) -> Connection<S, Q, F> {
        let now = Instant::now();
        let options = &shared.options;
        let state = State {
            talk: Conversation::new(ServerSession::new(options.max_in_flight)),
            streaming: Vec::new(),
            running: Running::default(),
            jobs: Vec::new(),
            next_job: 0,
            outbox: Vec::new(),
            batch: Vec::new(),
            sending: false,
            replying: false,
            stalled: None,
            finished: false,
            closed: false,
            parted: false,
            courtesy: 0,
            task: None,
            client_takes: u32::MAX,
            hello_by: now.checked_add(options.hello_timeout),
            heard: options.idle_timeout.map(|_| now),
            read_by: None,
            finish_by: None,
            slots: Vec::new(),
            spare: Vec::new(),
            kept: 0,
        };
        Connection {
            stream,
            peer: KnownPeer::new(peer),
            number,
            shared,
            state: Mutex::new(state),
        }
    }

    /// Serves the client until one of the two ends it.
    pub(super) async fn serve(self: Arc<Self>) {
        let _leaves = Leaves(&self);
        let mut reader = pin!(self.read());
        let mut writer = pin!(self.write());
        let (mut reading, mut writing) = (true, true);
        let mut alarm = Alarm::default();
        let mut armed: Option<Instant> = None;
        let mut greeted = false;
        let mut task = None;
        poll_fn(|cx| {
            self.runs_as(cx, &mut task);
            loop {
                if reading && reader.as_mut().poll(cx).is_ready() {
                    reading = false;
                }
                // Asked first, because it takes no lock.
                let draining = self.shared.handle.is_draining();
                if draining && self.is_drained(&self.state.lock()) {
                    self.part();
                }
                if writing && self.is_to_write() && writer.as_mut().poll(cx).is_ready() {
                    writing = false;
                }
                let mut state = self.state.lock();
                reading &= !state.parted;
                writing &= !state.closed;
                let idle = state.jobs.is_empty() && state.streaming.is_empty();
                if !reading && !writing && idle {
                    return Poll::Ready(());
                }
                if !state.parted && self.is_drained(&state) {
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
                state.settle(&self.shared.budget);
                // A client may stay away from its streams for as long as it likes, but not from its replies.
                let owes = state.sending && (state.replying || !state.outbox.is_empty());
                if owes && state.read_by.is_none() && !state.closed {
                    state.read_by = Instant::now().checked_add(self.shared.options.send_timeout);
                }
                let next = state.next_deadline(&self.shared);
                let greets = !greeted && state.hello_by.is_none();
                drop(state);
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
        self.shared.handle.is_draining() && state.talk.session.in_flight() == 0
    }

    // ------------------------------------------------------------ receiving

    async fn read(self: &Arc<Self>) {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let mut buffer = Buffer::default();
        let mut held = Held {
            budget: &self.shared.budget,
            bytes: 0,
        };
        let mut received = 0_u32;
        loop {
            held.fit(&mut buffer);
            let message = Arc::make_mut(&mut buffer);
            let result = self.stream.recv_message(message, Deadline::NEVER).await;
            let end = match result {
                Ok(Some(_)) => loop {
                    match self.receive(buffer, &waker) {
                        Ok(Received::Done(kept)) => {
                            buffer = kept;
                            break None;
                        }
                        Ok(Received::TooMany(message)) => {
                            buffer = message;
                            self.room(|state, limit| state.outbox.len() < limit).await;
                        }
                        Ok(Received::Early(request)) => {
                            self.room(|state, limit| state.jobs.len() < limit).await;
                            let place = self.state.lock().place(request.id);
                            buffer = self.start(*request, place, &waker);
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
                Ok(None) => Some(End::Gone),
                Err(error) => {
                    if let Some(Error::TooLarge { limit, size }) = Error::of(&error) {
                        self.refuse(&too_large(*limit, *size));
                    }
                    Some(End::Gone)
                }
            };
            if let Some(end) = end {
                if let End::Malformed(malformed) = end {
                    self.refuse(&Failure::new(Code::Malformed, malformed.0));
                }
                return self.client_has_gone(true);
            }
            received = (received + 1) % fair::AT_ONCE;
            if received == 0 {
                fair::yield_now().await;
            }
        }
    }

    /// Waits until there is room, which the connection's task looks for whenever it runs.
    async fn room(&self, is_there: IsThere<F>) {
        let limit = self.shared.options.max_in_flight;
        poll_fn(|_| {
            let mut state = self.state.lock();
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
    fn receive(self: &Arc<Self>, message: Buffer, waker: &Waker) -> Result<Received, End> {
        let ours = self.shared.ours.identity();
        let limit = self.shared.options.max_in_flight;
        let mut state = self.state.lock();
        if state.outbox.len() >= limit && !state.finished {
            return Ok(Received::TooMany(message));
        }
        if state.heard.is_some() {
            state.heard = Some(Instant::now());
        }
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
            } if method < wire::control::FIRST && !self.shared.handle.is_draining() => {
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
                self.tend(event, state)?;
                return Ok(Received::Done(message));
            }
        };
        let start = message.len() - length;
        let request = Request {
            id,
            method,
            payload: Payload { message, start },
            timeout,
        };
        if opens {
            return Ok(Received::Open(Box::new(request)));
        }
        if state.jobs.len() >= limit {
            return Ok(Received::Early(Box::new(request)));
        }
        let place = state.place(id);
        drop(state);
        Ok(Received::Done(self.start(request, place, waker)))
    }

    /// Does what a message asks for that is none for a handler.
    fn tend(&self, event: ServerEvent<'_>, mut state: MutexGuard<'_, State<F>>) -> Result<(), End> {
        match event {
            ServerEvent::Hello => {
                state.hello_by = None;
                let mut out = state.blank();
                let ours = self.shared.ours.identity();
                state.talk.session.greet(&ours, out.bytes());
                state.client_takes = state.talk.session.client().map_or(u32::MAX, Party::takes);
                state.push(out);
                drop(state);
                self.peer.ask_again(|| self.stream.peer());
            }
            ServerEvent::Reject { id, failure } => state.fail(id, &failure),
            ServerEvent::Credit { id } => {
                let waker = state.talk.credit(id);
                drop(state);
                wake(waker);
            }
            ServerEvent::Cancel { id } => {
                let waker = self.cancel(&mut state, id);
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
                self.control(id, method, payload)?;
                self.state.lock().talk.session.answered();
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
    fn control(&self, id: u32, method: u32, payload: &[u8]) -> Result<(), End> {
        let span = self.span(method);
        let answered = span.run(|| self.answer_control(id, method, payload));
        span.end_request(answered.as_ref().ok().copied());
        answered.map(drop)
    }

    fn answer_control(&self, id: u32, method: u32, payload: &[u8]) -> Result<Option<Code>, End> {
        // Asked again: on Windows the system knows the user only once something was received.
        let peer = || {
            self.stream
                .peer()
                .unwrap_or_else(|_| self.peer.get().clone())
        };
        let may = || self.shared.options.may_control(&peer());
        let asked = control::asked(method, payload, may).map_err(End::Malformed)?;
        let info = match asked {
            Asked::Info => Some(self.shared.info()),
            _ => None,
        };
        let mut state = self.state.lock();
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
        span.peer(|| self.peer.get().pid);
        span
    }

    // ------------------------------------------------------------ sending

    /// Sends a reply that is alone. Whether there is anything to do for the writer, which sends the rest.
    fn is_to_write(&self) -> bool {
        let mut state = self.state.lock();
        let tries = local::tries_to_send::<S>();
        if let Some(reply) = tries.then(|| state.take_alone()).flatten() {
            drop(state);
            let message = reply.plain();
            let sent = message.is_some_and(|message| local::try_send(&self.stream, message));
            state = self.state.lock();
            state.sent_alone(reply, sent);
        }
        state.is_to_write()
    }

    /// Sends what there is, until there will be no more.
    async fn write(&self) {
        // What is to be sent next, once it has been looked for: the connection's task polls this again when it may have
        // changed.
        let mut next = None;
        loop {
            let batch = poll_fn(|_| match next.take() {
                Some(looked) => looked,
                None => self.state.lock().take_batch(),
            });
            let sent = match batch.await {
                Some(Batch::Replies(mut batch)) => {
                    let sent = send_batch(&self.stream, &batch, Deadline::NEVER).await;
                    let mut state = self.state.lock();
                    batch.drain(..).for_each(|message| state.keep(message));
                    state.batch = batch;
                    (state.sending, state.read_by) = (false, None);
                    if sent.is_ok() {
                        next = Some(state.take_batch());
                    }
                    sent
                }
                Some(Batch::Items(items)) => {
                    let sent = send_batch(&self.stream, &items, Deadline::NEVER).await;
                    let mut state = self.state.lock();
                    let sent_items = items.into_iter();
                    let wakers: Vec<_> = sent_items
                        .filter_map(|item| state.talk.sent(item))
                        .collect();
                    (state.sending, state.read_by) = (false, None);
                    drop(state);
                    wake(wakers);
                    sent
                }
                None => break,
            };
            match sent {
                Ok(()) => {}
                // It may have left once it had said all that it had to say, and not waited for any answer.
                Err(failed) if has_left(&failed.error) => return self.client_has_gone(false),
                Err(_) => return self.close(),
            }
        }
        self.client_has_gone(true);
        self.close_stream();
    }
}

impl<S, Q, F> Caller for Connection<S, Q, F>
where
    S: Stream,
    Q: 'static,
    F: Send + 'static,
{
    fn peer(&self) -> &Peer {
        self.peer.get()
    }

    fn client_version(&self) -> String {
        let state = self.state.lock();
        let client = state.talk.session.client();
        client
            .map(|client| client.version.clone())
            .unwrap_or_default()
    }

    /// The connection's task receives while handlers wait.
    fn look_ahead(&self) {}
}

/// Takes the connection off the server's list, however its task ends.
struct Leaves<'a, S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static>(
    &'a Connection<S, Q, F>,
);

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Drop
    for Leaves<'_, S, Q, F>
{
    fn drop(&mut self) {
        let Leaves(connection) = self;
        connection.close();
        let mut state = connection.state.lock();
        connection.shared.budget.keep(&mut state.kept, 0);
        drop(state);
        connection.shared.leave(connection.number);
    }
}

/// A buffer to receive into, as far as the server's budget covers it.
struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Held<'_> {
    /// Sees to it that a buffer is nobody else's, and no larger than may be kept.
    fn fit(&mut self, buffer: &mut Buffer) {
        let size = Arc::get_mut(buffer).map(|buffer| buffer.capacity());
        if size.is_none_or(|size| size > KEPT || !self.budget.keep(&mut self.bytes, size)) {
            *buffer = Buffer::default();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.keep(&mut self.bytes, 0);
    }
}

impl<S: fmt::Debug, Q, F> fmt::Debug for Connection<S, Q, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.stream)
            .field("peer", self.peer.get())
            .finish_non_exhaustive()
    }
}
