//! One client of a server.
//!
//! The thread of the connection receives, and by default handles as well: one request after the other, with no
//! thread hop. While it handles, nobody receives, except that the handler's [`Call::is_cancelled`] looks ahead at what
//! has come: a cancellation counts at once, and the rest waits for its turn. With a pool the thread only receives,
//! and the requests run on the pool's threads.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use super::call::Call;
use super::handler::{HandleError, Payload};
use super::outbox::Outbox;
use super::pool::Share;
use crate::session::{Party, ServerEvent, ServerSession};
use crate::trace::Span;
use crate::transport::unless_it_panics;
use crate::wire::{self, Code, Failure, Malformed, control};
use crate::{Deadline, Error, Peer, Stream};

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    peer: Peer,
    shared: Arc<Shared>,
    session: Mutex<ServerSession>,
    ahead: Mutex<Ahead>,
    running: Mutex<Running>,
    /// Buffers to send from, kept for the next message.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// With a pool: what a thread of the connection's own sends.
    outbox: Option<Outbox>,
    /// The client takes nothing any more. What it had sent before is still there.
    deaf: AtomicBool,
    share: Share,
}

/// What was received while a handler ran.
#[derive(Default)]
struct Ahead {
    messages: VecDeque<Arc<Vec<u8>>>,
    bytes: usize,
    /// Which of the requests among them are cancelled already.
    cancelled: Vec<u32>,
    ended: bool,
    spare: Vec<Arc<Vec<u8>>>,
}

/// A request on its way to a handler.
pub(super) struct Job {
    connection: Arc<Connection>,
    /// `None`: a notification.
    id: Option<u32>,
    method: u32,
    payload: Payload,
    deadline: Deadline,
    cancelled: Arc<AtomicBool>,
}

/// What ends a connection.
enum End {
    /// The client has gone, or the stream was closed.
    Gone,
    /// The client breaks the protocol.
    Malformed(Malformed),
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, peer: Peer, shared: Arc<Shared>) -> Connection {
        let session = ServerSession::new(shared.options.max_in_flight);
        let outbox = shared.pool.is_some().then(Outbox::default);
        Connection {
            stream,
            peer,
            shared,
            session: Mutex::new(session),
            ahead: Mutex::default(),
            running: Mutex::default(),
            buffers: Mutex::default(),
            outbox,
            deaf: AtomicBool::new(false),
            share: Share::default(),
        }
    }

    /// Serves the client until one of the two ends it.
    pub(super) fn serve(self: &Arc<Self>) {
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
        self.close();
        // Until then it counts as one of those that may be connected: who leaves and comes back has no more with
        // the pool than who stays.
        self.share.wait_until_none();
    }

    /// Sends what the threads of the pool have to say.
    fn write_out(&self, outbox: &Outbox) {
        while let Some(message) = outbox.next() {
            if self.send_now(message, self.patience()).is_err() {
                return;
            }
            if self.deaf.load(Ordering::Acquire) {
                return outbox.end();
            }
        }
        self.close();
    }

    fn serve_requests(self: &Arc<Self>) {
        let mut deadline = Deadline::after(self.shared.options.hello_timeout);
        loop {
            if self.shared.is_draining() && self.in_flight() == 0 {
                return self.part(Deadline::after(COURTESY));
            }
            if let Some(outbox) = &self.outbox {
                outbox.wait_for_room(self.shared.options.max_in_flight);
            }
            let end = match self.next_message(deadline) {
                Ok(Some(message)) => match self.receive(message) {
                    Ok(()) => {
                        if self.session.lock().client().is_some() {
                            deadline = self.until_idle();
                        }
                        continue;
                    }
                    Err(end) => end,
                },
                Ok(None) => End::Gone,
                Err(error) => match Error::of(&error) {
                    Some(Error::TooLarge { limit, size }) => {
                        // Whose request it was is not known, as it was not received.
                        let failure = Failure {
                            limit: *limit as u64,
                            size: *size as u64,
                            ..Failure::new(Code::TooLarge, "a message over the server's limit")
                        };
                        self.refuse(&failure);
                        End::Gone
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut
                        && self.session.lock().in_flight() > 0 =>
                    {
                        deadline = self.until_idle();
                        continue;
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut => {
                        if self.session.lock().client().is_some() {
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
            .map_or(Deadline::NEVER, Deadline::after)
    }

    /// Takes the connection off the server's list.
    pub(super) fn leave(self: &Arc<Self>) {
        self.shared.leave(self);
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn client_version(&self) -> String {
        self.session
            .lock()
            .client()
            .map(|client| client.version.clone())
            .unwrap_or_default()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.session.lock().in_flight()
    }

    /// Tells the client that the server ends.
    pub(super) fn go_away(&self, grace: Deadline, courtesy: Deadline) {
        let mut out = self.buffer();
        wire::going_away(&mut out, grace.remaining());
        match &self.outbox {
            Some(outbox) => outbox.push(out),
            None => {
                // A client that is still reading a reply does without.
                let _ = unless_it_panics(|| self.stream.send(&out, courtesy));
                self.recycle(out);
            }
        }
        if self.in_flight() == 0 {
            self.part(courtesy);
        }
    }

    /// Ends the connection in good order: everything that was read has been answered, and the client is told so.
    fn part(&self, deadline: Deadline) {
        let _ = self.send(deadline, wire::goodbye);
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
        self.stream.close();
    }

    /// Cancels the requests that run, and those that are still to run.
    fn cancel_all(&self) {
        let mut running = self.running.lock();
        running.ended = true;
        running.cancel(|_| true);
    }

    /// The next message: what was received ahead first.
    fn next_message(&self, deadline: Deadline) -> io::Result<Option<Arc<Vec<u8>>>> {
        let mut ahead = self.ahead.lock();
        if let Some(message) = ahead.messages.pop_front() {
            ahead.bytes -= message.len();
            return Ok(Some(message));
        }
        if ahead.ended {
            return Ok(None);
        }
        let mut message = ahead.spare.pop().unwrap_or_default();
        drop(ahead);
        let received = recv_into(&*self.stream, &mut message, deadline)?;
        Ok(received.then_some(message))
    }

    /// Receives what has come while a handler runs, without waiting.
    pub(super) fn look_ahead(&self) {
        let mut ahead = self.ahead.lock();
        while !ahead.ended
            && ahead.messages.len() < self.shared.options.max_in_flight
            && ahead.bytes < self.stream.max_message()
        {
            match unless_it_panics(|| self.stream.peek()) {
                // One that is too large ends the connection, in its turn and with words.
                Ok(Some(waiting))
                    if waiting
                        .message
                        .is_some_and(|size| size <= self.stream.max_message()) => {}
                Ok(Some(_)) => return,
                Ok(None) | Err(_) => {
                    ahead.ended = true;
                    self.cancel_all();
                    return;
                }
            }
            let mut message = ahead.spare.pop().unwrap_or_default();
            match recv_into(&*self.stream, &mut message, Deadline::NOW) {
                Ok(true) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return,
                Ok(false) | Err(_) => {
                    ahead.ended = true;
                    self.cancel_all();
                    return;
                }
            }
            // A cancellation counts at once, and takes up no room: there may be any number of them.
            if let Ok(wire::Message::Cancel { id }) = wire::parse(&message) {
                self.cancel(id);
                ahead.cancel(id);
                ahead.keep(message);
                continue;
            }
            ahead.bytes += message.len();
            ahead.messages.push_back(message);
        }
    }

    fn cancel(&self, id: u32) {
        self.running.lock().cancel(|running| running == id);
    }

    fn receive(self: &Arc<Self>, message: Arc<Vec<u8>>) -> Result<(), End> {
        let ours = self.shared.ours.identity();
        let event = self
            .session
            .lock()
            .receive(&ours, &message)
            .map_err(End::Malformed)?;
        match event {
            ServerEvent::Nothing => {}
            ServerEvent::Hello => {
                let mut out = self.buffer();
                self.session.lock().greet(&ours, &mut out);
                self.deliver(out, self.patience()).map_err(|_| End::Gone)?;
            }
            ServerEvent::Reject { id, failure } => self.fail(id, &failure)?,
            ServerEvent::Cancel { id } => self.cancel(id),
            ServerEvent::Request {
                id,
                method,
                payload,
                ..
            } if method >= control::FIRST => {
                let start = message.len() - payload.len();
                self.control(id, method, &message[start..])?;
            }
            ServerEvent::Request { id, .. } if self.shared.is_draining() => {
                self.session.lock().answer(id);
                let told = self.fail(id, &Failure::new(Code::Unavailable, "ending"));
                self.session.lock().answered();
                told?;
            }
            ServerEvent::Request {
                id,
                method,
                timeout,
                payload,
            } => {
                let start = message.len() - payload.len();
                let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
                return self.run(Some(id), method, deadline, message, start);
            }
            ServerEvent::Notify { method, payload } => {
                let start = message.len() - payload.len();
                return self.run(None, method, Deadline::NEVER, message, start);
            }
        }
        self.keep(message);
        Ok(())
    }

    fn run(
        self: &Arc<Self>,
        id: Option<u32>,
        method: u32,
        deadline: Deadline,
        message: Arc<Vec<u8>>,
        start: usize,
    ) -> Result<(), End> {
        let cancelled = self.running.lock().begin(id);
        if id.is_some_and(|id| self.ahead.lock().was_cancelled(id)) {
            cancelled.store(true, Ordering::Release);
        }
        let payload = Payload { message, start };
        let job = Job {
            connection: Arc::clone(self),
            id,
            method,
            payload,
            deadline,
            cancelled,
        };
        match &self.shared.pool {
            Some(pool) => {
                // Requests are never that many, but nobody answers notifications.
                self.share.add(self.shared.options.max_in_flight);
                pool.give(job);
                Ok(())
            }
            None => job.run(true),
        }
    }

    /// What every server answers, whatever its service.
    fn control(&self, id: u32, method: u32, payload: &[u8]) -> Result<(), End> {
        self.session.lock().answer(id);
        let span = self.span(method);
        let answered = span.run(|| self.answer_control(id, method, payload));
        self.session.lock().answered();
        span.end_request(answered.as_ref().ok().copied());
        answered.map(drop)
    }

    /// The span of a request.
    fn span(&self, method: u32) -> Span {
        let Shared { ours, methods, .. } = &*self.shared;
        let span = Span::of_request(&ours.service, methods, method);
        span.peer(|| self.peer.pid);
        span
    }

    /// Answers a control request, and says with which failure if not with a reply.
    fn answer_control(&self, id: u32, method: u32, payload: &[u8]) -> Result<Option<Code>, End> {
        // Asked again: on Windows the system knows the user only once something was received.
        let may = method == control::INFO
            || self
                .shared
                .may_control(&self.stream.peer().unwrap_or_else(|_| self.peer.clone()));
        if !may {
            let failure = Failure::new(Code::Denied, "only the server's own user may end it");
            self.fail(id, &failure)?;
            return Ok(Some(failure.code));
        }
        match method {
            control::INFO => {
                let info = self.shared.info();
                self.reply(id, |out| wire::info(out, &info))?;
            }
            control::DRAIN => {
                let timeout = wire::parse_drain(payload).map_err(End::Malformed)?;
                self.reply(id, |_| {})?;
                self.shared.handle.drain(timeout.unwrap_or(Duration::MAX));
            }
            control::STOP => {
                self.reply(id, |_| {})?;
                self.shared.handle.stop();
            }
            _ => {
                let failure = Failure::new(Code::UnknownMethod, "no such control request");
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

    fn fail(&self, id: u32, failure: &Failure<'_>) -> Result<(), End> {
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
        Deadline::after(self.shared.options.send_timeout)
    }

    fn send(&self, deadline: Deadline, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut out = self.buffer();
        write(&mut out);
        self.deliver(out, deadline)
    }

    /// Sends a message, or has it sent.
    fn deliver(&self, message: Vec<u8>, deadline: Deadline) -> io::Result<()> {
        if let Some(outbox) = &self.outbox {
            outbox.push(message);
            return Ok(());
        }
        self.send_now(message, deadline)
    }

    fn send_now(&self, message: Vec<u8>, deadline: Deadline) -> io::Result<()> {
        if self.deaf.load(Ordering::Acquire) {
            return Ok(());
        }
        let sent = unless_it_panics(|| self.stream.send(&message, deadline));
        self.recycle(message);
        match sent {
            // It may have left once it had said all that it had to say, and not waited for any answer.
            Err(error) if has_left(&error) => {
                self.deaf.store(true, Ordering::Release);
                self.cancel_all();
                Ok(())
            }
            // A client that does not read is as good as gone.
            sent => sent.inspect_err(|_| self.close()),
        }
    }

    fn buffer(&self) -> Vec<u8> {
        self.buffers.lock().pop().unwrap_or_default()
    }

    fn recycle(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock();
        if buffer.capacity() <= KEPT && buffers.len() < SPARE_BUFFERS {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    fn keep(&self, message: Arc<Vec<u8>>) {
        self.ahead.lock().keep(message);
    }
}

impl Ahead {
    fn keep(&mut self, mut message: Arc<Vec<u8>>) {
        if self.spare.len() < SPARE_BUFFERS
            && Arc::get_mut(&mut message).is_some_and(|buffer| buffer.capacity() <= KEPT)
        {
            self.spare.push(message);
        }
    }

    /// Notes the end of a request that waits for its turn.
    fn cancel(&mut self, id: u32) {
        let waits = self.messages.iter().any(|message| {
            matches!(wire::parse(message), Ok(wire::Message::Request { id: of, .. }) if of == id)
        });
        if waits && !self.cancelled.contains(&id) {
            self.cancelled.push(id);
        }
    }

    /// Whether a request, whose turn has come, was cancelled before.
    fn was_cancelled(&mut self, id: u32) -> bool {
        let place = self.cancelled.iter().position(|other| *other == id);
        place
            .map(|place| self.cancelled.swap_remove(place))
            .is_some()
    }
}

/// How long a client may take to read what it is told out of courtesy.
pub(super) const COURTESY: Duration = Duration::from_millis(100);

/// How many buffers wait to be received into, and how large a kept one may be.
const SPARE_BUFFERS: usize = 2;
const KEPT: usize = 4 << 20;

/// Whether there is nobody any more who could receive; not that this end sends no more.
fn has_left(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe && Error::of(error).is_none()
}

fn recv_into(
    stream: &dyn Stream,
    message: &mut Arc<Vec<u8>>,
    deadline: Deadline,
) -> io::Result<bool> {
    if Arc::get_mut(message).is_none() {
        *message = Arc::default();
    }
    let buffer = Arc::make_mut(message);
    Ok(unless_it_panics(|| stream.recv_message(buffer, deadline))?.is_some())
}

impl Job {
    /// Handles the request and answers it, whatever becomes of the handler.
    fn run(self, inline: bool) -> Result<(), End> {
        let Job {
            connection,
            id,
            method,
            payload,
            deadline,
            cancelled,
        } = self;
        let mut out = connection.buffer();
        if let Some(id) = id {
            wire::reply(&mut out, id);
        }
        let call = Call {
            connection,
            deadline,
            cancelled,
            inline,
        };
        let span = call.connection.span(method);
        let handler = &call.connection.shared.handler;
        let unwanted = || call.cancelled.load(Ordering::Acquire) || call.deadline.has_passed();
        let handled = if id.is_some() && unwanted() {
            // It waited too long for its turn.
            Ok(Ok(()))
        } else {
            // What a panic has left half-done is the handler's own affair, as it is with any thread that panics.
            panic::catch_unwind(AssertUnwindSafe(|| {
                span.run(|| handler.handle(method, &payload, &call, &mut out))
            }))
        };
        let unwanted = unwanted();
        let Call {
            connection,
            cancelled,
            ..
        } = call;
        let answered = match id {
            Some(id) => connection.answer(id, handled, unwanted, out),
            None => {
                connection.recycle(out);
                let failure = failure(handled, false, 0, u32::MAX);
                Ok(failure.map(|failure| failure.code))
            }
        };
        connection.keep(payload.message);
        connection.finished(cancelled);
        span.end_request(answered.as_ref().ok().copied());
        answered.map(drop)
    }

    /// As [`run`](Job::run), on a thread of the pool.
    pub(super) fn run_in_pool(self) {
        let connection = Arc::clone(&self.connection);
        let lost = self.run(false).is_err();
        // The connection's own thread waits for the next message, which it need not do any more.
        if lost {
            connection.close();
        } else if connection.shared.is_draining() && connection.in_flight() == 0 {
            connection.part(Deadline::after(COURTESY));
        }
        connection.share.done();
    }
}

/// A failure with a text of its own.
struct OwnFailure {
    code: Code,
    text: String,
    limit: u64,
    size: u64,
}

impl OwnFailure {
    fn write(&self, out: &mut Vec<u8>, id: u32) {
        let OwnFailure {
            code, limit, size, ..
        } = *self;
        wire::error(
            out,
            id,
            &Failure {
                code,
                text: &self.text,
                limit,
                size,
            },
        );
    }
}

/// Why a request has no reply, if it has none; `size` is that of its reply.
fn failure(handled: Handled, unwanted: bool, size: usize, limit: u32) -> Option<OwnFailure> {
    let new = |code, text| {
        Some(OwnFailure {
            code,
            text,
            limit: 0,
            size: 0,
        })
    };
    match handled {
        _ if unwanted => new(Code::Cancelled, String::new()),
        Ok(Ok(())) if size <= limit as usize => None,
        Ok(Ok(())) => Some(OwnFailure {
            code: Code::TooLarge,
            text: "the reply is over the client's limit".to_owned(),
            limit: limit.into(),
            size: size as u64,
        }),
        Ok(Err(HandleError::UnknownMethod)) => new(Code::UnknownMethod, String::new()),
        Ok(Err(error)) => new(Code::Malformed, error.to_string()),
        // Its text is on the server's standard error, where it belongs.
        Err(_panic) => new(Code::Panicked, String::new()),
    }
}

type Handled = std::thread::Result<Result<(), HandleError>>;

impl Connection {
    /// Sends the reply that is in `out`, or why there is none, and says with which failure.
    fn answer(
        &self,
        id: u32,
        handled: Handled,
        unwanted: bool,
        mut out: Vec<u8>,
    ) -> Result<Option<Code>, End> {
        self.running.lock().forget(id);
        let limit = {
            let mut session = self.session.lock();
            session.answer(id);
            session.client().map_or(u32::MAX, Party::takes)
        };
        let failure = failure(handled, unwanted, out.len(), limit);
        if let Some(failure) = &failure {
            out.clear();
            failure.write(&mut out, id);
        }
        let sent = self.deliver(out, self.patience());
        self.session.lock().answered();
        sent.map_err(|_| End::Gone)?;
        Ok(failure.map(|failure| failure.code))
    }

    fn finished(&self, flag: Arc<AtomicBool>) {
        self.running.lock().keep(flag);
    }
}

/// The requests that somebody handles, each with the flag by which it is cancelled.
#[derive(Default)]
struct Running {
    requests: Vec<(u32, Arc<AtomicBool>)>,
    /// Nobody waits for any answer any more.
    ended: bool,
    spare: Vec<Arc<AtomicBool>>,
}

impl Running {
    fn begin(&mut self, id: Option<u32>) -> Arc<AtomicBool> {
        let flag = self.spare.pop().unwrap_or_default();
        flag.store(self.ended, Ordering::Release);
        if let Some(id) = id {
            self.requests.push((id, Arc::clone(&flag)));
        }
        flag
    }

    fn forget(&mut self, id: u32) {
        self.requests.retain(|(running, _)| *running != id);
    }

    fn keep(&mut self, mut flag: Arc<AtomicBool>) {
        if self.spare.len() < SPARE_BUFFERS && Arc::get_mut(&mut flag).is_some() {
            self.spare.push(flag);
        }
    }

    fn cancel(&self, which: impl Fn(u32) -> bool) {
        for (id, flag) in &self.requests {
            if which(*id) {
                flag.store(true, Ordering::Release);
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
