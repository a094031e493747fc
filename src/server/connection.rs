//! One client of a server.
//!
//! The thread of the connection receives, and by default handles as well: one request after the other, with no
//! thread hop. While it handles, nobody receives, except that the handler's [`Call::is_cancelled`] looks ahead at what
//! has come: a cancellation counts at once, and the rest waits for its turn. With a pool the thread only receives,
//! and the requests run on the pool's threads. Streams have threads of their own: `emit.rs` says how.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Shared;
use super::ahead::{Ahead, Seen};
use super::call::{Call, Caller, KnownPeer};
use super::control::{self, Asked};
use super::emit::wake;
use super::handler::Payload;
use super::job::{Job, Request, Running};
use super::outbox::Outbox;
use super::pool::Share;
use super::streams::{Conversation, Waker};
use crate::outgoing::Outgoing;
use crate::session::{Party, ServerEvent, ServerSession};
use crate::trace::Span;
use crate::transport::unless_it_panics;
use crate::wire::{self, Code, Failure, Malformed};
use crate::{Deadline, Error, Peer, Stream};

/// What a message is received into. A [`Blob`](crate::Blob) of a handler's may still hold it.
pub(crate) type Buffer = Arc<Vec<u8>>;

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    peer: KnownPeer,
    pub(super) shared: Arc<Shared>,
    pub(super) state: Mutex<State>,
    ahead: Ahead,
    /// With a pool: what a thread of the connection's own sends.
    outbox: Option<Outbox>,
    /// The largest message that the client takes.
    client_takes: AtomicU32,
    /// How many bytes of courtesy were sent last, once goodbye was said because the server ends.
    courtesy: AtomicUsize,
    /// The client takes nothing any more. What it had sent before is still there.
    deaf: AtomicBool,
    pub(super) share: Share,
    /// The threads of streams' handlers.
    pub(super) handlers: Share,
    /// There are items to send.
    pub(super) queued: Condvar,
}

/// What the threads that serve one client share. A request takes the lock three times, so there is only one.
pub(super) struct State {
    pub(super) talk: Conversation,
    /// There is a thread that sends items.
    pub(super) sending: bool,
    pub(super) running: Running,
    /// Buffers to receive into, kept for the next message.
    spare: Vec<Buffer>,
    /// Messages to send, kept for the next one.
    spare_out: Vec<Outgoing>,
}

/// What ends a connection.
pub(crate) enum End {
    /// The client has gone, or the stream was closed.
    Gone,
    /// The client breaks the protocol.
    Malformed(Malformed),
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, peer: Peer, shared: Arc<Shared>) -> Connection {
        let state = State {
            talk: Conversation::new(ServerSession::new(shared.options.max_in_flight)),
            sending: false,
            running: Running::default(),
            spare: Vec::new(),
            spare_out: Vec::new(),
        };
        let outbox = shared.pool.is_some().then(Outbox::default);
        Connection {
            stream,
            peer: KnownPeer::new(peer),
            shared,
            state: Mutex::new(state),
            ahead: Ahead::default(),
            outbox,
            client_takes: AtomicU32::new(u32::MAX),
            courtesy: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            share: Share::default(),
            handlers: Share::default(),
            queued: Condvar::new(),
        }
    }

    /// Serves the client until one of the two ends it.
    pub(super) fn serve(self: &Arc<Self>) {
        self.serve_with_or_without_pool();
        // Until then it counts as one of those that may be connected: who leaves and comes back has no more with the
        // pool, and no more streams, than who stays.
        self.share.wait_until_none();
        self.handlers.wait_until_none();
    }

    fn serve_with_or_without_pool(self: &Arc<Self>) {
        let Some(outbox) = &self.outbox else {
            return self.serve_requests();
        };
        thread::scope(|scope| {
            let writer = thread::Builder::new().name("pipetalk-writer".to_owned());
            match writer.spawn_scoped(scope, || self.write_out(outbox)) {
                Ok(_) => self.serve_requests(),
                Err(_) => self.close(),
            }
            outbox.finish();
        });
        self.hang_up();
    }

    /// Sends what the threads of the pool have to say.
    fn write_out(&self, outbox: &Outbox) {
        while let Some(mut message) = outbox.next() {
            if self.send_now(&mut message, self.patience()).is_err() {
                return;
            }
            message.clear();
            self.state.lock().keep_out(message);
            if self.deaf.load(Ordering::Acquire) {
                return outbox.end();
            }
        }
        self.hang_up();
    }

    fn serve_requests(self: &Arc<Self>) {
        let mut deadline = Deadline::after(self.shared.options.hello_timeout);
        let mut buffer = Buffer::default();
        // For what is handled here, one after the other.
        let mut call = Call {
            caller: Arc::clone(self) as Arc<dyn Caller>,
            deadline: Deadline::NEVER,
            cancelled: self.state.lock().running.flag(),
            inline: true,
        };
        loop {
            if self.shared.is_draining() && self.in_flight() == 0 {
                return self.part(Deadline::after(COURTESY));
            }
            if let Some(outbox) = &self.outbox {
                outbox.wait_for_room(self.shared.options.max_in_flight);
            }
            let end = match self.next_message(&mut buffer, deadline) {
                Ok(Some(start)) => match self.receive(buffer, start, &mut call) {
                    Ok(next) => {
                        buffer = next;
                        // Nothing else than a hello comes first.
                        deadline = self.until_idle();
                        continue;
                    }
                    Err(end) => end,
                },
                Ok(None) => End::Gone,
                Err(error) => match Error::of(&error) {
                    Some(Error::TooLarge { limit, size }) => {
                        let failure = too_large(*limit, *size);
                        self.refuse(&failure);
                        End::Gone
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut && self.in_flight() > 0 => {
                        deadline = self.until_idle();
                        continue;
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut => {
                        if self.state.lock().talk.session.client().is_some() {
                            return self.part(Deadline::after(COURTESY));
                        }
                        self.refuse(&Failure::new(Code::OverLimit, "time for a hello"));
                        End::Gone
                    }
                    _ => End::Gone,
                },
            };
            if let End::Malformed(malformed) = end {
                self.refuse(&Failure::new(Code::Malformed, malformed.0));
            }
            return match &self.outbox {
                // The refusal may be in it.
                Some(outbox) => outbox.finish(),
                None => self.close(),
            };
        }
    }

    /// How long the client may go without a request from now on.
    fn until_idle(&self) -> Deadline {
        self.shared
            .options
            .idle_timeout
            .map_or(Deadline::NEVER, Deadline::about)
    }

    /// Takes the connection off the server's list.
    pub(super) fn leave(self: &Arc<Self>) {
        self.shared.leave(self);
    }

    #[inline]
    pub(super) fn client_takes(&self) -> u32 {
        self.client_takes.load(Ordering::Acquire)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.lock().talk.session.in_flight()
    }

    /// Tells the client that the server ends.
    pub(super) fn go_away(&self, grace: Deadline, courtesy: Deadline) {
        let mut out = Outgoing::default();
        wire::going_away(out.bytes(), grace.remaining());
        let length = out.len();
        match &self.outbox {
            Some(outbox) => outbox.push(out),
            None => {
                // A client that is still reading a reply does without.
                let _ = unless_it_panics(|| out.send(&*self.stream, courtesy, None));
            }
        }
        let wakers = self.state.lock().talk.streams.wakers();
        wake(wakers);
        if self.in_flight() == 0 {
            // Nothing was owed between the two.
            self.courtesy.store(length, Ordering::Release);
            self.part(courtesy);
        }
    }

    /// Ends the connection in good order: everything that was read has been answered, and the client is told so.
    pub(super) fn part(&self, deadline: Deadline) {
        let _ = self.send(deadline, |out| {
            wire::goodbye(out);
            if self.shared.is_draining() {
                self.courtesy.fetch_add(out.len(), Ordering::AcqRel);
            }
        });
        match &self.outbox {
            Some(outbox) => {
                self.cancel_all();
                outbox.finish();
            }
            None => self.close(),
        }
    }

    pub(super) fn close(&self) {
        self.cancel_all();
        if let Some(outbox) = &self.outbox {
            outbox.end();
        }
        self.close_stream();
    }

    /// Closes the stream: in good order, if goodbye has been said.
    fn close_stream(&self) {
        match self.courtesy.load(Ordering::Acquire) {
            0 => self.stream.close(),
            courtesy => self.stream.part(courtesy),
        }
    }

    /// Nobody waits for any answer any more.
    fn client_has_gone(&self) {
        self.state.lock().running.client_has_gone();
        self.stop_streams();
    }

    /// Ends the connection after its last message: what a client that leaves has notified is still carried out.
    fn hang_up(&self) {
        self.client_has_gone();
        self.close_stream();
    }

    /// Cancels what is being handled, and what waits for it.
    fn cancel_all(&self) {
        self.state.lock().running.close();
        self.stop_streams();
    }

    /// The next message, what was received ahead first: where in the buffer it begins, or `None` at the end.
    #[inline]
    fn next_message(&self, buffer: &mut Buffer, deadline: Deadline) -> io::Result<Option<usize>> {
        match self.ahead.take(buffer) {
            Some(true) => Ok(Some(0)),
            Some(false) => {
                let buffer = to_fill(buffer);
                unless_it_panics(|| self.stream.recv_in_place(buffer, deadline))
            }
            None => Ok(None),
        }
    }

    /// Whether a request, whose turn has come, was cancelled before.
    pub(super) fn was_cancelled(&self, id: u32) -> bool {
        self.ahead.was_cancelled(id)
    }

    /// Does what a message asks for, and gives a buffer for the next one.
    fn receive(
        self: &Arc<Self>,
        message: Buffer,
        start: usize,
        call: &mut Call,
    ) -> Result<Buffer, End> {
        let ours = self.shared.ours.identity();
        let mut state = self.state.lock();
        let event = state
            .talk
            .session
            .receive(&ours, &message[start..])
            .map_err(End::Malformed)?;
        match event {
            ServerEvent::Nothing => {}
            ServerEvent::Credit { id } => {
                let waker = state.talk.credit(id);
                drop(state);
                wake(waker);
            }
            ServerEvent::Open {
                id,
                method,
                timeout,
                payload,
            } => {
                let start = message.len() - payload.len();
                let payload = Payload { message, start };
                drop(state);
                return self.open_stream(id, method, payload, timeout);
            }
            ServerEvent::Hello => {
                let mut out = state.blank();
                state.talk.session.greet(&ours, out.bytes());
                let takes = state.talk.session.client().map_or(u32::MAX, Party::takes);
                drop(state);
                self.peer.ask_again(|| self.stream.peer());
                self.client_takes.store(takes, Ordering::Release);
                // Not by way of the outbox: items could overtake it there, and a client may stay away from those.
                self.send_now(&mut out, self.patience())
                    .map_err(|_| End::Gone)?;
            }
            ServerEvent::Reject { id, failure } => {
                drop(state);
                self.fail(id, &failure)?;
            }
            ServerEvent::Cancel { id } => {
                let waker = state.cancel(id);
                drop(state);
                self.queued.notify_one();
                wake(waker);
            }
            ServerEvent::Request {
                id,
                method,
                payload,
                ..
            } if method >= wire::control::FIRST => {
                drop(state);
                self.control(id, method, payload)?;
            }
            ServerEvent::Request { id, .. } if self.shared.is_draining() => {
                state.talk.session.answer(id);
                drop(state);
                let told = self.fail(id, &Failure::new(Code::Unavailable, "ending"));
                self.state.lock().talk.session.answered();
                told?;
            }
            ServerEvent::Request {
                id,
                method,
                timeout,
                payload,
            } => {
                let start = message.len() - payload.len();
                let payload = Payload { message, start };
                return self.run(state, call, Some(id), method, payload, timeout);
            }
            ServerEvent::Notify { method, payload } => {
                let start = message.len() - payload.len();
                return self.run(state, call, None, method, Payload { message, start }, None);
            }
        }
        Ok(message)
    }

    /// Carries out a request, at once or in its turn, and gives a buffer for the next message.
    #[inline]
    fn run(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        call: &mut Call,
        id: Option<u32>,
        method: u32,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Buffer, End> {
        let Some(pool) = &self.shared.pool else {
            state.running.begin(&call.cancelled, id);
            let out = state.blank();
            drop(state);
            call.deadline = timeout.map_or(Deadline::NEVER, Deadline::about);
            if id.is_some_and(|id| self.ahead.was_cancelled(id)) {
                call.cancelled.store(true, Ordering::Release);
            }
            let request = Request {
                id,
                method,
                payload,
                out,
            };
            return call.serve(self, request);
        };
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, id);
        drop(state);
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        // Requests are never that many, but nobody answers notifications.
        self.share.add(self.shared.options.max_in_flight);
        pool.give(Job {
            connection: Arc::clone(self),
            call: Call {
                caller: Arc::clone(self) as Arc<dyn Caller>,
                deadline,
                cancelled,
                inline: false,
            },
            request: Request {
                id,
                method,
                payload,
                // While it waits for its turn it holds no buffer that was large once.
                out: Outgoing::default(),
            },
        });
        Ok(self.state.lock().spare())
    }

    /// What every server answers, whatever its service.
    fn control(&self, id: u32, method: u32, payload: &[u8]) -> Result<(), End> {
        self.state.lock().talk.session.answer(id);
        let span = self.span(method);
        let answered = span.run(|| self.answer_control(id, method, payload));
        self.state.lock().talk.session.answered();
        span.end_request(answered.as_ref().ok().copied());
        answered.map(drop)
    }

    /// The span of a request.
    pub(super) fn span(&self, method: u32) -> Span {
        let Shared { ours, methods, .. } = &*self.shared;
        let span = Span::of_request(&ours.service, methods, method);
        span.peer(|| self.peer.get().pid);
        span
    }

    /// Answers a control request, and says with which failure if not with a reply.
    fn answer_control(&self, id: u32, method: u32, payload: &[u8]) -> Result<Option<Code>, End> {
        // Asked again: on Windows the system knows the user only once something was received.
        let peer = || {
            self.stream
                .peer()
                .unwrap_or_else(|_| self.peer.get().clone())
        };
        let may = || self.shared.options.may_control(&peer());
        match control::asked(method, payload, may).map_err(End::Malformed)? {
            Asked::Info => {
                let info = self.shared.info();
                self.reply(id, |out| wire::info(out, &info))?;
            }
            Asked::Drain(timeout) => {
                self.reply(id, |_| {})?;
                self.shared.handle.drain(timeout);
            }
            Asked::Stop => {
                self.reply(id, |_| {})?;
                self.shared.handle.stop();
            }
            Asked::No(failure) => {
                self.fail(id, &failure)?;
                return Ok(Some(failure.code));
            }
        }
        Ok(None)
    }

    fn reply(&self, id: u32, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), End> {
        self.send(self.patience(), |out| {
            wire::reply(out, id);
            write(out);
        })
        .map_err(|_| End::Gone)
    }

    pub(super) fn fail(&self, id: u32, failure: &Failure<'_>) -> Result<(), End> {
        self.send(self.patience(), |out| wire::error(out, id, failure))
            .map_err(|_| End::Gone)
    }

    /// Says why the connection ends.
    pub(super) fn refuse(&self, failure: &Failure<'_>) {
        let ours = self.shared.ours.identity();
        let _ = self.send(Deadline::after(COURTESY), |out| {
            wire::refusal(out, &ours, failure)
        });
    }

    /// How long a client may take to read what it is sent.
    fn patience(&self) -> Deadline {
        Deadline::about(self.shared.options.send_timeout)
    }

    fn send(&self, deadline: Deadline, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut out = Outgoing::default();
        write(out.bytes());
        self.deliver(out, deadline)
    }

    fn deliver(&self, message: Outgoing, deadline: Deadline) -> io::Result<()> {
        let (sent, message) = self.hand_over(message, deadline);
        if let Some(message) = message {
            self.state.lock().keep_out(message);
        }
        sent
    }

    /// Sends a message, and gives it back empty; or has it sent.
    #[inline]
    pub(super) fn hand_over(
        &self,
        mut message: Outgoing,
        deadline: Deadline,
    ) -> (io::Result<()>, Option<Outgoing>) {
        if let Some(outbox) = &self.outbox {
            outbox.push(message);
            return (Ok(()), None);
        }
        let sent = self.send_now(&mut message, deadline);
        message.clear();
        (sent, Some(message))
    }

    #[inline]
    pub(super) fn send_now(&self, message: &mut Outgoing, deadline: Deadline) -> io::Result<()> {
        if self.deaf.load(Ordering::Acquire) {
            return Ok(());
        }
        match unless_it_panics(|| message.send(&*self.stream, deadline, None)) {
            // It may have left once it had said all that it had to say, and not waited for any answer.
            Err(error) if has_left(&error) => {
                self.deaf.store(true, Ordering::Release);
                self.client_has_gone();
                Ok(())
            }
            // A client that does not read is as good as gone.
            sent => sent.inspect_err(|_| self.close()),
        }
    }
}

impl Caller for Connection {
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

    /// Without waiting.
    fn look_ahead(&self) {
        let limit = self.shared.options.max_in_flight;
        let (mut wakers, mut has_gone) = (Vec::new(), false);
        self.ahead.look(&*self.stream, limit, |seen| match seen {
            Seen::Cancel(id) => {
                wakers.extend(self.state.lock().cancel(id));
                self.queued.notify_one();
                true
            }
            Seen::Credit(message) => {
                let ours = self.shared.ours.identity();
                let mut state = self.state.lock();
                match state.talk.session.receive(&ours, message) {
                    Ok(ServerEvent::Credit { id }) => {
                        wakers.extend(state.talk.credit(id));
                        true
                    }
                    Ok(_) => true,
                    // In its turn it ends the connection, with words.
                    Err(_) => false,
                }
            }
            Seen::End => {
                has_gone = true;
                true
            }
        });
        if has_gone {
            self.client_has_gone();
        }
        wake(wakers);
    }
}

/// How long a client may take to read what it is told out of courtesy.
pub(crate) const COURTESY: Duration = Duration::from_millis(100);

/// How many buffers wait to be received into, and how large a kept one may be.
const SPARE_BUFFERS: usize = 2;
const KEPT: usize = 4 << 20;

/// What a client is told that sent too large a message. Whose request it was is not known, as it was not received.
pub(crate) fn too_large(limit: usize, size: usize) -> Failure<'static> {
    Failure {
        limit: limit as u64,
        size: size as u64,
        ..Failure::new(Code::TooLarge, "a message over the server's limit")
    }
}

/// Whether there is nobody any more who could receive; not that this end sends no more.
pub(crate) fn has_left(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe && Error::of(error).is_none()
}

impl State {
    /// An empty message to send.
    #[inline]
    pub(super) fn blank(&mut self) -> Outgoing {
        self.spare_out.pop().unwrap_or_default()
    }

    /// Takes back an empty message, for the next one.
    #[inline]
    pub(super) fn keep_out(&mut self, message: Outgoing) {
        if self.spare_out.len() < SPARE_BUFFERS {
            self.spare_out.push(message);
        }
    }

    /// Cancels a request or a stream, and says whom to wake.
    fn cancel(&mut self, id: u32) -> Option<Waker> {
        self.running.cancel(id);
        self.talk.streams.cancel(id)
    }

    /// A buffer to receive the next message into.
    pub(super) fn spare(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a buffer to receive into, for the next message.
    pub(super) fn keep(&mut self, buffer: Buffer) {
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }
}

/// A buffer to receive into that is nobody else's, and not larger than one that is kept.
#[inline]
pub(super) fn to_fill(buffer: &mut Buffer) -> &mut Vec<u8> {
    if Arc::strong_count(buffer) > 1 || buffer.capacity() > KEPT {
        *buffer = Buffer::default();
    }
    Arc::make_mut(buffer)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", self.peer.get())
            .finish_non_exhaustive()
    }
}
