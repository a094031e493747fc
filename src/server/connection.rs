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
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use super::call::Call;
use super::handler::{HandleError, Payload};
use crate::session::{ServerEvent, ServerSession};
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
}

/// What was received while a handler ran.
#[derive(Default)]
struct Ahead {
    messages: VecDeque<Arc<Vec<u8>>>,
    bytes: usize,
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
        Connection {
            stream,
            peer,
            shared,
            session: Mutex::new(session),
            ahead: Mutex::default(),
            running: Mutex::default(),
            buffers: Mutex::default(),
        }
    }

    /// Serves the client until one of the two ends it.
    pub(super) fn serve(self: &Arc<Self>) {
        let hello = Deadline::after(self.shared.options.hello_timeout);
        let mut deadline = hello;
        loop {
            if self.shared.is_draining() && self.in_flight() == 0 {
                self.part();
                break;
            }
            let end = match self.next_message(deadline) {
                Ok(Some(message)) => match self.receive(message) {
                    Ok(()) => {
                        deadline = match self.session.lock().client() {
                            Some(_) => self
                                .shared
                                .options
                                .idle_timeout
                                .map_or(Deadline::NEVER, Deadline::after),
                            None => hello,
                        };
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
                        continue;
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut => {
                        if self.session.lock().client().is_none() {
                            self.refuse(&Failure::new(Code::OverLimit, "time for a hello"));
                        } else {
                            self.part();
                        }
                        End::Gone
                    }
                    _ => End::Gone,
                },
            };
            if let End::Malformed(malformed) = end {
                self.refuse(&Failure::new(Code::Malformed, malformed.0));
            }
            break;
        }
        self.cancel_all();
        self.stream.close();
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

    /// Tells the client that the server ends; whether it has nothing to wait for.
    pub(super) fn go_away(&self, grace: Deadline) {
        let _ = self.send(Deadline::after(COURTESY), |out| {
            wire::going_away(out, grace.remaining());
        });
        if self.in_flight() == 0 {
            self.part();
        }
    }

    /// Ends the connection in good order: everything that was read has been answered, and the client is told so.
    fn part(&self) {
        let _ = self.send(Deadline::after(COURTESY), wire::goodbye);
        self.close();
    }

    pub(super) fn close(&self) {
        self.cancel_all();
        self.stream.close();
    }

    fn cancel_all(&self) {
        self.running.lock().cancel(|_| true);
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
            match self.stream.peek() {
                Ok(Some(waiting)) if waiting.message.is_some() => {}
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
            // A cancellation counts at once; it is harmless to see it again in its turn.
            if let Ok(wire::Message::Cancel { id }) = wire::parse(&message) {
                self.cancel(id);
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
                let session = self.session.lock();
                self.send(self.patience(), |out| session.greet(&ours, out))
                    .map_err(|_| End::Gone)?;
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
                self.fail(id, &Failure::new(Code::Unavailable, "ending"))?;
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
                pool.give(job);
                Ok(())
            }
            None => job.run(true),
        }
    }

    /// What every server answers, whatever its service.
    fn control(&self, id: u32, method: u32, payload: &[u8]) -> Result<(), End> {
        self.session.lock().answer(id);
        // Asked again: on Windows the system knows the user only once something was received.
        let may = method == control::INFO
            || self
                .shared
                .may_control(&self.stream.peer().unwrap_or_else(|_| self.peer.clone()));
        if !may {
            return self.fail(
                id,
                &Failure::new(Code::Denied, "only the server's own user may end it"),
            );
        }
        match method {
            control::INFO => {
                let info = self.shared.info();
                self.reply(id, |out| wire::info(out, &info))
            }
            control::DRAIN => {
                let timeout = wire::parse_drain(payload).map_err(End::Malformed)?;
                self.reply(id, |_| {})?;
                self.shared.handle.drain(timeout.unwrap_or(Duration::MAX));
                Ok(())
            }
            control::STOP => {
                self.reply(id, |_| {})?;
                self.shared.handle.stop();
                Ok(())
            }
            _ => self.fail(
                id,
                &Failure::new(Code::UnknownMethod, "no such control request"),
            ),
        }
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
        let mut out = self.buffers.lock().pop().unwrap_or_default();
        out.clear();
        write(&mut out);
        let sent = self.send_bytes(&out, deadline);
        self.buffers.lock().push(out);
        sent
    }

    fn send_bytes(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.stream.send(message, deadline).inspect_err(|_| {
            // A client that does not read is as good as gone.
            self.close();
        })
    }

    fn keep(&self, mut message: Arc<Vec<u8>>) {
        if Arc::get_mut(&mut message).is_some_and(|buffer| buffer.capacity() <= KEPT) {
            let mut ahead = self.ahead.lock();
            if ahead.spare.len() < SPARE_BUFFERS {
                ahead.spare.push(message);
            }
        }
    }
}

/// How long a client may take to read what it is told out of courtesy.
const COURTESY: Duration = Duration::from_millis(100);

/// How many buffers wait to be received into, and how large a kept one may be.
const SPARE_BUFFERS: usize = 2;
const KEPT: usize = 4 << 20;

fn recv_into(
    stream: &dyn Stream,
    message: &mut Arc<Vec<u8>>,
    deadline: Deadline,
) -> io::Result<bool> {
    match Arc::get_mut(message) {
        Some(buffer) => Ok(stream.recv_message(buffer, deadline)?.is_some()),
        None => {
            let mut buffer = Vec::new();
            let received = stream.recv_message(&mut buffer, deadline)?;
            *message = Arc::new(buffer);
            Ok(received.is_some())
        }
    }
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
        let mut out = connection.buffers.lock().pop().unwrap_or_default();
        out.clear();
        if let Some(id) = id {
            wire::reply(&mut out, id);
        }
        let call = Call {
            connection,
            deadline,
            cancelled,
            inline,
        };
        let handler = &call.connection.shared.handler;
        // What a panic has left half-done is the handler's own affair, as it is with any thread that panics.
        let handled = panic::catch_unwind(AssertUnwindSafe(|| {
            handler.handle(method, &payload, &call, &mut out)
        }));
        let unwanted = call.cancelled.load(Ordering::Acquire) || call.deadline.has_passed();
        let Call {
            connection,
            cancelled,
            ..
        } = call;
        let answered = match id {
            Some(id) => connection.answer(id, handled, unwanted, &mut out),
            None => Ok(()),
        };
        connection.keep(payload.message);
        if out.capacity() <= KEPT {
            connection.buffers.lock().push(out);
        }
        connection.finished(cancelled);
        answered
    }

    /// As [`run`](Job::run), on a thread of the pool.
    pub(super) fn run_in_pool(self) {
        let connection = Arc::clone(&self.connection);
        let lost = self.run(false).is_err();
        // The connection's own thread waits for the next message, which it need not do any more.
        if lost {
            connection.close();
        } else if connection.shared.is_draining() && connection.in_flight() == 0 {
            connection.part();
        }
    }
}

type Handled = std::thread::Result<Result<(), HandleError>>;

impl Connection {
    /// Sends the reply that is in `out`, or why there is none.
    fn answer(
        &self,
        id: u32,
        handled: Handled,
        unwanted: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        self.running.lock().forget(id);
        let limit = {
            let mut session = self.session.lock();
            // Before it is sent: with the answer in hand, the client may use the id again.
            session.answer(id);
            session
                .client()
                .map_or(u32::MAX, |client| client.max_message)
        };
        let text;
        let failure = match handled {
            _ if unwanted => Failure::new(Code::Cancelled, ""),
            Ok(Ok(())) if out.len() <= limit as usize => {
                return self.send_bytes(out, self.patience()).map_err(|_| End::Gone);
            }
            Ok(Ok(())) => Failure {
                limit: limit.into(),
                size: out.len() as u64,
                ..Failure::new(Code::TooLarge, "the reply is over the client's limit")
            },
            Ok(Err(error)) => {
                let code = match error {
                    HandleError::UnknownMethod => Code::UnknownMethod,
                    HandleError::Decode(_) | HandleError::Encode(_) => Code::Malformed,
                };
                text = error.to_string();
                Failure::new(code, &text)
            }
            // Its text is on the server's standard error, where it belongs.
            Err(_panic) => Failure::new(Code::Panicked, ""),
        };
        out.clear();
        wire::error(out, id, &failure);
        self.send_bytes(out, self.patience()).map_err(|_| End::Gone)
    }

    fn finished(&self, flag: Arc<AtomicBool>) {
        self.running.lock().keep(flag);
    }
}

/// The requests that somebody handles, each with the flag by which it is cancelled.
#[derive(Default)]
struct Running {
    requests: Vec<(u32, Arc<AtomicBool>)>,
    spare: Vec<Arc<AtomicBool>>,
}

impl Running {
    fn begin(&mut self, id: Option<u32>) -> Arc<AtomicBool> {
        let flag = self.spare.pop().unwrap_or_default();
        flag.store(false, Ordering::Release);
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
