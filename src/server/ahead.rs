//! What a connection has received while a handler ran.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::connection::{Buffer, to_fill};
use crate::transport::unless_it_panics;
use crate::{Deadline, Stream, wire};

/// While the thread of the connection handles a request, nobody receives. This is how the handler looks at what has
/// come: a cancellation counts at once, and the rest waits here for its turn.
#[derive(Default)]
pub(super) struct Ahead {
    /// There is something here. Nearly always there is not, and nobody needs the lock.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Buffer>,
    bytes: usize,
    /// Which of the requests among them are cancelled already.
    cancelled: Vec<u32>,
    /// The client has gone, or the connection has failed.
    ended: bool,
    spare: Vec<Buffer>,
}

/// What has been seen while looking ahead.
pub(super) enum Seen<'a> {
    Cancel(u32),
    /// The message, for a stream that has had its turn.
    Credit(&'a [u8]),
    End,
}

impl Ahead {
    /// The next of the messages that are here, if any; the other buffer is kept for the next. `None` at the end.
    #[inline]
    pub(super) fn take(&self, buffer: &mut Buffer) -> Option<bool> {
        if !self.any.load(Ordering::Acquire) {
            return Some(false);
        }
        let mut state = self.state.lock();
        if let Some(message) = state.messages.pop_front() {
            state.bytes -= message.len();
            let spare = mem::replace(buffer, message);
            if state.spare.len() < SPARE {
                state.spare.push(spare);
            }
            return Some(true);
        }
        if state.ended {
            return None;
        }
        state.cancelled.clear();
        self.any.store(false, Ordering::Release);
        Some(false)
    }

    /// Whether a request, whose turn has come, was cancelled before.
    #[inline]
    pub(super) fn was_cancelled(&self, id: u32) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let cancelled = &mut self.state.lock().cancelled;
        let place = cancelled.iter().position(|other| *other == id);
        place.map(|place| cancelled.swap_remove(place)).is_some()
    }

    /// Receives what has come, without waiting, up to so many messages. `seen` says whether it has dealt with what it
    /// is told; if not, the message waits for its turn.
    pub(super) fn look(
        &self,
        stream: &dyn Stream,
        limit: usize,
        mut seen: impl FnMut(Seen<'_>) -> bool,
    ) {
        let mut state = self.state.lock();
        while !state.ended && state.messages.len() < limit && state.bytes < stream.max_message() {
            match unless_it_panics(|| stream.peek()) {
                // One that is too large ends the connection, in its turn and with words.
                Ok(Some(waiting))
                    if waiting
                        .message
                        .is_some_and(|size| size <= stream.max_message()) => {}
                Ok(Some(_)) => return,
                Ok(None) | Err(_) => {
                    self.end(&mut state);
                    seen(Seen::End);
                    return;
                }
            }
            let mut message = state.spare.pop().unwrap_or_default();
            let buffer = to_fill(&mut message);
            match unless_it_panics(|| stream.recv_message(buffer, Deadline::NOW)) {
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return,
                Ok(None) | Err(_) => {
                    self.end(&mut state);
                    seen(Seen::End);
                    return;
                }
            }
            // These count at once, and take up no room: there may be any number of them.
            let dealt_with = match wire::parse(&message) {
                Ok(wire::Message::Cancel { id }) => {
                    state.cancel(id);
                    seen(Seen::Cancel(id))
                }
                Ok(wire::Message::Credit { id, .. }) if !state.waits(id) => {
                    seen(Seen::Credit(&message))
                }
                _ => false,
            };
            if dealt_with {
                if state.spare.len() < SPARE {
                    state.spare.push(message);
                }
                continue;
            }
            state.bytes += message.len();
            state.messages.push_back(message);
            self.any.store(true, Ordering::Release);
        }
    }

    fn end(&self, state: &mut State) {
        state.ended = true;
        self.any.store(true, Ordering::Release);
    }
}

impl State {
    /// Whether a request or a stream waits for its turn.
    fn waits(&self, id: u32) -> bool {
        self.messages
            .iter()
            .any(|message| match wire::parse(message) {
                Ok(wire::Message::Request { id: of, .. } | wire::Message::Open { id: of, .. }) => {
                    of == id
                }
                _ => false,
            })
    }

    /// Notes the end of a request that waits for its turn.
    fn cancel(&mut self, id: u32) {
        if self.waits(id) && !self.cancelled.contains(&id) {
            self.cancelled.push(id);
        }
    }
}

/// How many buffers wait to be received into.
const SPARE: usize = 2;
