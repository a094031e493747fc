//! What a connection has received while a handler ran.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::buffer::{Buffer, to_fill};
use super::kept::FREE;
use crate::base::clock;
use crate::proto::wire;
use crate::transport::carrier::Carrier;
use crate::transport::{recv_step, unless_it_panics};
use crate::{Deadline, Error};

/// While the thread of the connection handles a request, nobody receives. This is how the handler, and the
/// [watch](super::watch), look at what has come: a cancellation counts at once, and the rest waits here for its turn.
#[derive(Default)]
pub(super) struct Ahead {
    /// There is something here, or something may have waited elsewhere. Nearly always there is not, and nobody needs the
    /// lock.
    any: AtomicBool,
    state: Mutex<State>,
    turn: Turn,
}

/// What is known of the message whose turn it is, for the connection's own thread.
#[derive(Default)]
struct Turn {
    /// It has waited for its turn, or may have.
    waited: AtomicBool,
    /// When it was there at the latest; 0 if that is not known.
    came_by: AtomicU64,
    /// It is a request that was cancelled before.
    cancelled: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Since when a message is known to have come that is too large to be received ahead.
    large_since: Option<u64>,
    /// A message of which more is to come: of a transport that cannot tell what waits.
    partial: Option<Partial>,
    /// The client has gone, or the connection has failed.
    ended: bool,
    spare: Vec<Buffer>,
}

struct Waiting {
    message: Buffer,
    came: Came,
    /// Of a request or a stream.
    id: Option<u32>,
}

/// What is known of a message that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    /// When it was there, at the latest.
    pub(super) by: Option<u64>,
    /// It is a request that was cancelled before.
    pub(super) cancelled: bool,
}

#[derive(Default)]
struct Partial {
    message: Vec<u8>,
    /// How much has come. What is over the limit is dropped.
    size: usize,
    /// That is all.
    whole: bool,
    came_by: u64,
}

/// What has been seen while looking ahead.
pub(super) enum Seen<'a> {
    Cancel(u32),
    /// The message, for a stream that has had its turn.
    Credit(&'a [u8]),
    End,
}

/// Where the next message comes from.
pub(super) enum Next {
    /// It was received ahead.
    Here(Came),
    /// The stream, where it is known to have come by then, if that is known.
    Stream(Option<u64>),
    /// The stream, which gives the rest of it.
    Rest,
    /// There is none.
    End,
}

/// How much is received ahead, in bytes. What is larger waits in its stream.
const MOST: usize = 64 << 10;

/// How much is looked at in one go. Those that count at once take up no room here, and there may be any number of them.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 256 << 10;

/// How many buffers wait to be received into.
const SPARE: usize = 2;

impl Ahead {
    /// The next of the messages that are here, if any; the other buffer is kept for the next.
    pub(super) fn take(&self, buffer: &mut Buffer) -> Next {
        let mut state = self.state.lock();
        if let Some(Waiting { message, came, .. }) = state.waiting.pop_front() {
            state.bytes -= message.len();
            let spare = mem::replace(buffer, message);
            state.keep(spare);
            return Next::Here(came);
        }
        if state.partial.is_some() {
            return Next::Rest;
        }
        if state.ended {
            return Next::End;
        }
        self.any.store(false, Ordering::Release);
        Next::Stream(state.large_since.take())
    }

    /// Whether something is here, or may have waited elsewhere.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether the client sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.is_any() && self.state.lock().ended
    }

    /// What comes next may have waited. Nobody else receives any more when this returns, unless it is asked to.
    pub(super) fn is_behind(&self) {
        let _state = self.state.lock();
        self.any.store(true, Ordering::Release);
    }

    /// The message whose turn it is has come just now.
    #[inline]
    pub(super) fn has_just_come(&self) {
        self.turn.waited.store(false, Ordering::Relaxed);
    }

    /// The message whose turn it is has waited, or may have.
    pub(super) fn has_come(&self, came: Came) {
        let turn = &self.turn;
        turn.waited.store(true, Ordering::Relaxed);
        turn.came_by.store(came.by.unwrap_or(0), Ordering::Relaxed);
        turn.cancelled.store(came.cancelled, Ordering::Relaxed);
    }

    /// Whether the message whose turn it is has waited, or may have.
    #[inline]
    pub(super) fn has_waited(&self) -> bool {
        self.turn.waited.load(Ordering::Relaxed)
    }

    /// What is known of it then.
    pub(super) fn came(&self) -> Came {
        let by = self.turn.came_by.load(Ordering::Relaxed);
        Came {
            by: (by > 0).then_some(by),
            cancelled: self.turn.cancelled.load(Ordering::Relaxed),
        }
    }

    /// Receives what has come, without waiting: as much as there is room for, and no more than so much in one go. `seen`
    /// says whether it has dealt with what it is told; if not, the message waits for its turn.
    ///
    /// `may` is asked first, with nobody else looking.
    pub(super) fn look(
        &self,
        stream: &dyn Carrier,
        limit: usize,
        may: impl FnOnce() -> bool,
        mut seen: impl FnMut(Seen<'_>) -> bool,
    ) {
        let mut state = self.state.lock();
        if !may() {
            return;
        }
        let now = clock::now();
        let (mut messages, mut bytes) = (0, 0);
        while state.has_room(limit) && messages < AT_ONCE && bytes < BYTES_AT_ONCE {
            let message = match state.receive(stream, now) {
                Ok(Received::Message(message)) => message,
                Ok(Received::Nothing) => break,
                Ok(Received::End) | Err(_) => {
                    state.ended = true;
                    seen(Seen::End);
                    break;
                }
            };
            messages += 1;
            bytes += message.len();
            state.put(message, now, &mut seen);
        }
        let more = messages >= AT_ONCE || bytes >= BYTES_AT_ONCE;
        if more || state.is_any() {
            self.any.store(true, Ordering::Release);
        }
    }

    /// Receives the rest of the message of which a part is here, and says by when that had come.
    pub(super) fn receive_rest(
        &self,
        stream: &dyn Carrier,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<u64>> {
        let Some(mut partial) = self.state.lock().partial.take() else {
            return Ok(None);
        };
        match partial.receive(stream, usize::MAX, deadline) {
            Ok(true) => {
                let came = partial.came_by;
                partial.finish(stream)?;
                *message = partial.message;
                Ok(Some(came))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.state.lock().partial = Some(partial);
                Err(error)
            }
            // It was cut off.
            Ok(false) => Err(Error::Truncated.into()),
            Err(error) => Err(error),
        }
    }
}

/// What there is to receive.
enum Received {
    Message(Buffer),
    Nothing,
    End,
}

impl State {
    fn is_any(&self) -> bool {
        !self.waiting.is_empty()
            || self.ended
            || self.partial.is_some()
            || self.large_since.is_some()
    }

    /// Whether there is room for more. A message that has to wait for its turn keeps those behind it waiting.
    fn has_room(&self, limit: usize) -> bool {
        let stuck = self.partial.as_ref().is_some_and(|partial| partial.whole);
        !self.ended && !stuck && self.waiting.len() < limit && self.bytes < MOST
    }

    /// The next message, if it is there, and not too large to be received ahead.
    fn receive(&mut self, stream: &dyn Carrier, now: u64) -> io::Result<Received> {
        match unless_it_panics(|| stream.peek()) {
            Ok(Some(waiting)) => match waiting.message {
                // One that is over the limit ends the connection, in its turn and with words.
                Some(size) if size > MOST.min(stream.max_message()) => {
                    self.large_since.get_or_insert(now);
                    return Ok(Received::Nothing);
                }
                Some(_) => {}
                None => return Ok(Received::Nothing),
            },
            Ok(None) => return Ok(Received::End),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                return self.receive_in_parts(stream, now);
            }
            Err(error) => return Err(error),
        }
        let mut message = self.spare.pop().unwrap_or_default();
        let buffer = to_fill(&mut message);
        match unless_it_panics(|| stream.recv_message(buffer, Deadline::NOW)) {
            Ok(Some(_)) => Ok(Received::Message(message)),
            Ok(None) => Ok(Received::End),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The same where the transport cannot tell what waits. Of a message that has not come as a whole, the part that has
    /// is kept: a whole one that is received without waiting would lose it.
    fn receive_in_parts(&mut self, stream: &dyn Carrier, now: u64) -> io::Result<Received> {
        let partial = self.partial.get_or_insert_with(|| Partial {
            message: Vec::new(),
            size: 0,
            whole: false,
            came_by: now,
        });
        match partial.receive(stream, BYTES_AT_ONCE, Deadline::NOW) {
            // In its turn it ends the connection, with words.
            Ok(true) if partial.size > stream.max_message() => Ok(Received::Nothing),
            Ok(true) => {
                let mut partial = self.partial.take().unwrap_or_default();
                partial.finish(stream)?;
                Ok(Received::Message(Buffer::new(partial.message)))
            }
            Ok(false) => Ok(Received::End),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                if partial.size == 0 {
                    self.partial = None;
                }
                Ok(Received::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Sees what a message is, which counts at once or waits for its turn.
    fn put(&mut self, message: Buffer, now: u64, seen: &mut impl FnMut(Seen<'_>) -> bool) {
        let mut id = None;
        let dealt_with = match wire::parse(&message) {
            Ok(wire::Message::Cancel { id }) => {
                if let Some(waiting) = self.find(id) {
                    waiting.came.cancelled = true;
                }
                seen(Seen::Cancel(id))
            }
            Ok(wire::Message::Credit { id, .. }) if self.find(id).is_none() => {
                seen(Seen::Credit(&message))
            }
            Ok(wire::Message::Request { id: of, .. } | wire::Message::Open { id: of, .. }) => {
                id = Some(of);
                false
            }
            _ => false,
        };
        if dealt_with {
            return self.keep(message);
        }
        self.bytes += message.len();
        let came = Came {
            by: Some(now),
            cancelled: false,
        };
        self.waiting.push_back(Waiting { message, came, id });
    }

    /// A request or a stream that waits for its turn.
    fn find(&mut self, id: u32) -> Option<&mut Waiting> {
        let mut waiting = self.waiting.iter_mut();
        waiting.find(|waiting| waiting.id == Some(id))
    }

    fn keep(&mut self, buffer: Buffer) {
        if self.spare.len() < SPARE && buffer.capacity() <= FREE {
            self.spare.push(buffer);
        }
    }
}

impl Partial {
    /// Receives the rest, or about so much of it. False if there is none, as the client has gone.
    fn receive(
        &mut self,
        stream: &dyn Carrier,
        most: usize,
        deadline: Deadline,
    ) -> io::Result<bool> {
        let most = self.size.saturating_add(most);
        while !self.whole {
            if self.size > most {
                // It is as if that were all that has come.
                return Err(io::ErrorKind::TimedOut.into());
            }
            let at = recv_step(&mut self.message, self.size, stream.max_message())?;
            let buffer = &mut self.message[at..];
            let Some(part) = unless_it_panics(|| stream.recv(buffer, deadline))? else {
                return Ok(false);
            };
            self.size = self.size.saturating_add(part.len);
            self.whole = part.last;
        }
        Ok(true)
    }

    /// The message is what has come, unless it is over the limit.
    fn finish(&mut self, stream: &dyn Carrier) -> io::Result<()> {
        let (limit, size) = (stream.max_message(), self.size);
        if size > limit {
            return Err(Error::TooLarge { limit, size }.into());
        }
        self.message.truncate(size);
        Ok(())
    }
}
