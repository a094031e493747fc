//! One connection of a client, shared by all threads that call through it.
//!
//! There is no reader thread. Whoever waits for an answer and finds nobody reading becomes the reader; what it
//! reads for others it leaves with them and wakes them; when it has its own answer, or has waited long enough, it
//! wakes one of those who still wait, to be the reader after it. So a caller that is alone pays for no thread hop,
//! and no answer lies unread while somebody waits for it. `Turn::next_reader` is the hand-over; its model is checked
//! in `tests/model.rs`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, Thread};

use parking_lot::{Mutex, MutexGuard};

use crate::call_error::CallError;
use crate::session::{ClientEvent, ClientSession, NotNow, Party};
use crate::wire;
use crate::{Deadline, Error, Stream};

/// What a reply is made of: the message, and where the codec's part begins.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) message: Arc<Vec<u8>>,
    pub(crate) start: usize,
}

pub(crate) struct Link {
    pub(crate) stream: Box<dyn Stream>,
    ours: Arc<Party>,
    /// The message that is being sent; held while it is.
    out: Mutex<Vec<u8>>,
    turn: Mutex<Turn>,
}

/// Whose turn it is to read, and who waits for what.
struct Turn {
    session: ClientSession,
    /// Somebody is reading.
    reading: bool,
    waiters: Vec<Waiter>,
    next_ticket: u64,
    /// Nothing can be sent any more; answers may still come.
    broken: bool,
    /// Why there will be no more answers.
    ended: Option<CallError>,
    /// Buffers to receive into, kept for the next message.
    spare: Vec<Arc<Vec<u8>>>,
}

struct Waiter {
    ticket: u64,
    thread: Thread,
    /// The call whose answer it waits for; `None`: for room to begin one.
    call: Option<u32>,
    answer: Option<Result<Answer, CallError>>,
}

impl Link {
    /// Greets the server; its answer comes before the first reply.
    pub(crate) fn open(
        stream: Box<dyn Stream>,
        ours: Arc<Party>,
        deadline: Deadline,
    ) -> Result<Link, CallError> {
        let turn = Turn {
            session: ClientSession::default(),
            reading: false,
            waiters: Vec::new(),
            next_ticket: 0,
            broken: false,
            ended: None,
            spare: Vec::new(),
        };
        let link = Link {
            stream,
            ours,
            out: Mutex::default(),
            turn: Mutex::new(turn),
        };
        link.send(deadline, |out| {
            wire::hello(out, &link.ours.identity());
            Ok(())
        })?;
        Ok(link)
    }

    /// Whether calls can still begin here.
    pub(crate) fn is_usable(&self) -> bool {
        let turn = self.turn.lock();
        turn.ended.is_none() && !turn.broken && !turn.session.is_going_away()
    }

    /// Sends a request and waits for its answer. `encode` appends what the codec makes of the arguments.
    pub(crate) fn call(
        &self,
        method: u32,
        encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), CallError>,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        let (ticket, id) = self.begin(method, deadline)?;
        let sent = self.send(deadline, |out| {
            wire::request(out, id, method, deadline.remaining());
            encode(out)
        });
        if let Err(error) = sent {
            let mut turn = self.turn.lock();
            turn.session.unsend(id);
            turn.leave(ticket);
            turn.next_reader();
            return Err(error);
        }
        self.wait(ticket, Some(id), deadline)
    }

    /// Sends what is not answered.
    pub(crate) fn notify(
        &self,
        method: u32,
        encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), CallError>,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        if let Some(error) = self.turn.lock().ended.clone() {
            return Err(error.with_sent(false));
        }
        self.send(deadline, |out| {
            wire::notify(out, method);
            encode(out)
        })
    }

    /// Takes back the buffer of an answer that has been decoded.
    pub(crate) fn recycle(&self, answer: Answer) {
        self.turn.lock().keep(answer.message);
    }

    /// Who the server is, once it has said so.
    pub(crate) fn server(&self) -> Option<Party> {
        self.turn.lock().session.server().cloned()
    }

    /// Gets an id for a call, waiting for room if need be.
    fn begin(&self, method: u32, deadline: Deadline) -> Result<(u64, u32), CallError> {
        let mut turn = self.turn.lock();
        loop {
            if let Some(error) = turn.ended.clone() {
                return Err(error.with_sent(false));
            }
            match turn.session.start(method) {
                Ok(id) => return Ok((turn.enter(Some(id)), id)),
                Err(NotNow::Full) => {}
                Err(NotNow::GoingAway) => return Err(CallError::Unavailable),
                Err(NotNow::Refused(code)) => {
                    let failure = wire::Failure::new(code, "");
                    return Err(CallError::from_server(
                        &failure,
                        &self.ours,
                        turn.session.server(),
                    ));
                }
            }
            let ticket = turn.enter(None);
            let waited = self.wait_turn(turn, deadline);
            turn = self.turn.lock();
            turn.leave(ticket);
            if let Err(error) = waited {
                turn.next_reader();
                return Err(error.with_sent(false));
            }
            if deadline.has_passed() {
                turn.next_reader();
                return Err(CallError::TimedOut { sent: false });
            }
        }
    }

    /// Sends one message, which `write` makes. What fails here has not been sent: no peer can have received a
    /// whole message of which the sending failed.
    fn send(
        &self,
        deadline: Deadline,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let mut out = match deadline.lock(&self.out) {
            Ok(out) => out,
            Err(_) => return Err(CallError::TimedOut { sent: false }),
        };
        out.clear();
        write(&mut out)?;
        let limit = self
            .turn
            .lock()
            .session
            .server()
            .map_or(u32::MAX, |server| server.max_message);
        if out.len() > limit as usize {
            let size = out.len() as u64;
            shrink(&mut out);
            return Err(CallError::TooLarge {
                limit: limit.into(),
                size,
                reply: false,
            });
        }
        let sent = self
            .stream
            .send_while_receiving(&out, deadline, &mut || self.read_if_nobody_does());
        shrink(&mut out);
        drop(out);
        sent.map_err(|error| match not_sent(&error) {
            CallError::Disconnected { .. } => self.why_not_sent(),
            error => error,
        })
    }

    /// The peer takes no more messages. What it had sent before is still there: the answers to other calls, and
    /// perhaps the reason.
    fn why_not_sent(&self) -> CallError {
        self.turn.lock().broken = true;
        while self.read_if_nobody_does() {}
        match self.turn.lock().ended.clone() {
            Some(why) => why.with_sent(false),
            None => CallError::Disconnected { sent: false },
        }
    }

    /// Waits for the answer to a call.
    fn wait(
        &self,
        ticket: u64,
        call: Option<u32>,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        let mut waits = 0_u64;
        loop {
            let mut turn = self.turn.lock();
            if let Some(answer) = turn.answer(ticket) {
                turn.leave(ticket);
                turn.next_reader();
                return match answer {
                    // The server's clock was a little quicker than ours to see that the time is over.
                    Err(CallError::Cancelled) if deadline.has_passed() => {
                        Err(CallError::TimedOut { sent: true })
                    }
                    answer => answer,
                };
            }
            let waited = match waits {
                // There may always be something to read that is not the answer.
                1.. if deadline.has_passed() => {
                    drop(turn);
                    Err(CallError::TimedOut { sent: true })
                }
                _ => self.wait_turn(turn, deadline),
            };
            waits += 1;
            match waited {
                Ok(()) => {}
                Err(error) => {
                    let mut turn = self.turn.lock();
                    // It may have come in the last moment.
                    let answer = turn.answer(ticket);
                    turn.leave(ticket);
                    let given_up = answer.is_none()
                        && turn.ended.is_none()
                        && call.is_some_and(|id| turn.session.give_up(id));
                    turn.next_reader();
                    drop(turn);
                    if let (true, Some(id)) = (given_up, call) {
                        self.cancel(id);
                    }
                    return answer.unwrap_or(Err(error));
                }
            }
        }
    }

    /// Reads a message if nobody else does, or waits to be woken: by an answer, by room, or to read.
    fn wait_turn(&self, turn: MutexGuard<'_, Turn>, deadline: Deadline) -> Result<(), CallError> {
        if let Some(error) = turn.ended.clone() {
            return Err(error.with_sent(true));
        }
        if turn.reading {
            drop(turn);
            match deadline.remaining() {
                None => thread::park(),
                Some(left) if left.is_zero() => return Err(CallError::TimedOut { sent: true }),
                Some(left) => thread::park_timeout(left),
            }
            return Ok(());
        }
        if self.read(turn, deadline) {
            Ok(())
        } else {
            Err(CallError::TimedOut { sent: true })
        }
    }

    /// Reads what has come, without waiting, if nobody else reads; whether there was anything.
    fn read_if_nobody_does(&self) -> bool {
        let turn = self.turn.lock();
        if turn.reading || turn.ended.is_some() {
            return false;
        }
        let came = self.read(turn, Deadline::NOW);
        self.turn.lock().next_reader();
        came
    }

    /// Reads one message, or the end, and hands it to whom it concerns; false if none came in time.
    fn read(&self, mut turn: MutexGuard<'_, Turn>, deadline: Deadline) -> bool {
        turn.reading = true;
        let mut message = turn.spare.pop().unwrap_or_default();
        drop(turn);
        let received = match Arc::get_mut(&mut message) {
            Some(buffer) => self.stream.recv_message(buffer, deadline),
            // A blob holds it still; a spare is never shared, but nothing depends on that.
            None => {
                let mut buffer = Vec::new();
                let received = self.stream.recv_message(&mut buffer, deadline);
                message = Arc::new(buffer);
                received
            }
        };
        let mut turn = self.turn.lock();
        turn.reading = false;
        match received {
            Ok(Some(_)) => turn.dispatch(message, &self.ours),
            Ok(None) => turn.end(CallError::Disconnected { sent: true }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                turn.keep(message);
                return false;
            }
            Err(error) => turn.end(match Error::of(&error) {
                Some(Error::TooLarge { limit, size }) => CallError::Protocol(format!(
                    "the server sent {size} bytes although it was told that the limit is {limit}"
                )),
                _ => CallError::Disconnected { sent: true },
            }),
        }
        let ended = turn.ended.is_some();
        drop(turn);
        if ended {
            // The server is to notice as well, also if it was the one to break the protocol.
            self.stream.close();
        }
        true
    }

    /// Tells the server that nobody waits for an answer. That is a courtesy: if it cannot be sent at once, the
    /// server finds out by its own clock.
    fn cancel(&self, id: u32) {
        let soon = Deadline::after(std::time::Duration::from_millis(20));
        let _ = self.send(soon, |out| {
            wire::cancel(out, id);
            Ok(())
        });
    }

    fn end(&self, why: CallError) {
        self.turn.lock().end(why);
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.stream.close();
        self.end(CallError::Disconnected { sent: false });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stream.close();
    }
}

impl Turn {
    fn enter(&mut self, call: Option<u32>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiters.push(Waiter {
            ticket,
            thread: thread::current(),
            call,
            answer: None,
        });
        ticket
    }

    fn leave(&mut self, ticket: u64) {
        if let Some(place) = self
            .waiters
            .iter()
            .position(|waiter| waiter.ticket == ticket)
        {
            self.waiters.swap_remove(place);
        }
    }

    fn answer(&mut self, ticket: u64) -> Option<Result<Answer, CallError>> {
        self.waiters
            .iter_mut()
            .find(|waiter| waiter.ticket == ticket)?
            .answer
            .take()
    }

    /// Wakes somebody who waits to become the reader, if nobody reads.
    fn next_reader(&self) {
        if !self.reading {
            if let Some(waiter) = self.waiters.iter().find(|waiter| waiter.answer.is_none()) {
                waiter.thread.unpark();
            }
        }
    }

    /// Hands a message to whom it concerns.
    fn dispatch(&mut self, message: Arc<Vec<u8>>, ours: &Party) {
        let (id, answer) = match self.session.receive(&message) {
            Ok(ClientEvent::Reply { id, payload }) => {
                let start = message.len() - payload.len();
                (id, Ok(Answer { message, start }))
            }
            Ok(ClientEvent::Failed { id, failure }) => {
                let mut failure = CallError::from_server(&failure, ours, self.session.server());
                if let CallError::TooLarge { reply, .. } = &mut failure {
                    // Of a request that was too large the server knows no id.
                    *reply = true;
                }
                self.keep(message);
                (id, Err(failure))
            }
            Ok(ClientEvent::Nothing | ClientEvent::Welcome | ClientEvent::GoingAway) => {
                self.keep(message);
                self.wake_for_room();
                return;
            }
            Ok(ClientEvent::Goodbye) => return self.end(CallError::Unavailable),
            Ok(ClientEvent::Refused(failure)) => {
                let why = CallError::from_server(&failure, ours, self.session.server());
                return self.end(why);
            }
            Err(malformed) => {
                return self.end(CallError::Protocol(format!(
                    "the server sent {}",
                    malformed.0
                )));
            }
        };
        self.wake_for_room();
        if let Some(waiter) = self
            .waiters
            .iter_mut()
            .find(|waiter| waiter.call == Some(id))
        {
            waiter.answer = Some(answer);
            waiter.thread.unpark();
        }
    }

    /// There may be room for more calls.
    fn wake_for_room(&self) {
        self.waiters
            .iter()
            .filter(|waiter| waiter.call.is_none())
            .for_each(|waiter| waiter.thread.unpark());
    }

    fn end(&mut self, why: CallError) {
        self.ended.get_or_insert(why);
        self.waiters
            .iter()
            .for_each(|waiter| waiter.thread.unpark());
    }

    fn keep(&mut self, mut message: Arc<Vec<u8>>) {
        if let Some(buffer) = Arc::get_mut(&mut message) {
            if self.spare.len() < SPARE_BUFFERS && buffer.capacity() <= KEPT {
                self.spare.push(message);
            }
        }
    }
}

/// How many buffers wait to be received into, and how large a kept one may be.
const SPARE_BUFFERS: usize = 4;
const KEPT: usize = 4 << 20;

fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
}

fn not_sent(error: &io::Error) -> CallError {
    match (error.kind(), Error::of(error)) {
        (_, Some(Error::TooLarge { limit, size })) => CallError::TooLarge {
            limit: *limit as u64,
            size: *size as u64,
            reply: false,
        },
        (io::ErrorKind::TimedOut, _) => CallError::TimedOut { sent: false },
        _ => CallError::Disconnected { sent: false },
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
