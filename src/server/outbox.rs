//! What a client is still to be sent, where other threads make the replies than the one that sends them.
//!
//! A thread of the pool serves everybody: it must not wait for a client that does not read. So it leaves the reply
//! here, and a thread of the connection's own sends it. A client that has much to read is not asked for more requests,
//! and those of its requests that wait for the pool have no turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::outgoing::Outgoing;

/// What a client may have to read whatever the others have.
pub(super) const SMALL: usize = 64 << 10;

/// A client that has more than this to read is not asked for more.
const QUEUED: usize = 1 << 20;

/// The most that all clients of a server together may have to read beyond what is [`SMALL`], before each is asked for no
/// more while it has more than that. Replies that are under way by then may double it.
const MOST: usize = 64 << 20;

/// How long a client may take to read where there is much to read: so long, and as long again for each so many bytes.
const HURRY: Duration = Duration::from_secs(1);
const A_SECOND: usize = 4 << 20;

/// How many bytes all clients of a server together have to read, beyond a little for each.
#[derive(Debug, Default)]
pub(super) struct Unread(AtomicUsize);

impl Unread {
    /// Whether it is much.
    fn is_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MOST
    }

    /// Whether it would be too much by any measure with a message of so many bytes.
    #[inline]
    pub(super) fn is_too_much_with(&self, bytes: usize) -> bool {
        bytes > SMALL && self.0.load(Ordering::Relaxed).saturating_add(bytes) > 2 * MOST
    }

    /// How long a client may take to read so many bytes, if that is to be less than usual: others wait for it.
    pub(super) fn patience(&self, bytes: usize) -> Option<Duration> {
        let seconds = u32::try_from(bytes / A_SECOND).unwrap_or(u32::MAX);
        (bytes > SMALL && self.is_much()).then(|| HURRY.saturating_mul(seconds.saturating_add(1)))
    }

    /// Counts a message that is sent now.
    #[cold]
    pub(super) fn count(self: &Arc<Self>, bytes: usize) -> Counted {
        let mut counted = Counted {
            unread: Arc::clone(self),
            bytes: 0,
        };
        counted.set(bytes);
        counted
    }
}

/// A share of what is unread. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Counted {
    unread: Arc<Unread>,
    bytes: usize,
}

impl Counted {
    fn set(&mut self, bytes: usize) {
        let Unread(unread) = &*self.unread;
        if bytes > self.bytes {
            unread.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            unread.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Outgoing>,
    /// How much that is, with what is being sent.
    bytes: usize,
    /// What of it is more than a little.
    counted: Counted,
    /// Requests wait until more of it has been sent.
    holds_up: bool,
    /// No more messages come.
    finished: bool,
}

impl Outbox {
    pub(super) fn new(unread: &Arc<Unread>) -> Outbox {
        Outbox {
            state: Mutex::new(State {
                messages: VecDeque::new(),
                bytes: 0,
                counted: Counted {
                    unread: Arc::clone(unread),
                    bytes: 0,
                },
                holds_up: false,
                finished: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn push(&self, message: Outgoing) {
        let mut state = self.state.lock();
        if !state.finished {
            state.add(message.len());
            state.messages.push_back(message);
            self.changed.notify_all();
        }
    }

    /// Takes no more messages; those that are in it are still sent.
    pub(super) fn finish(&self) {
        self.state.lock().finished = true;
        self.changed.notify_all();
    }

    /// Drops what is in it as well.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.finished = true;
        let bytes = state.bytes;
        state.remove(bytes);
        let messages = std::mem::take(&mut state.messages);
        self.changed.notify_all();
        drop(state);
        drop(messages);
    }

    /// The next message to send, once there is one; `None` when there will be none.
    pub(super) fn next(&self) -> Option<Outgoing> {
        let mut state = self.state.lock();
        loop {
            if let Some(message) = state.messages.pop_front() {
                self.changed.notify_all();
                return Some(message);
            }
            if state.finished {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// A message of so many bytes has been sent. Whether requests may go on that it has held up.
    #[must_use]
    pub(super) fn has_sent(&self, bytes: usize) -> bool {
        let mut state = self.state.lock();
        state.remove(bytes);
        if state.has_room() {
            self.changed.notify_all();
        }
        state.lets_go_on()
    }

    /// Whether requests may go on that it has held up: nothing more is sent.
    #[must_use]
    pub(super) fn lets_go_on(&self) -> bool {
        self.state.lock().lets_go_on()
    }

    /// Whether it holds up requests.
    #[must_use]
    pub(super) fn holds_up(&self) -> bool {
        let mut state = self.state.lock();
        state.holds_up |= !state.has_room();
        state.holds_up
    }

    /// Waits until fewer than so many messages are in it, and not too much, or no more may come: a client that does not
    /// read its replies is not asked for more requests.
    pub(super) fn wait_for_room(&self, limit: usize) {
        let mut state = self.state.lock();
        while !state.finished && (state.messages.len() >= limit || !state.has_room()) {
            self.changed.wait(&mut state);
        }
    }
}

impl State {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.count();
    }

    fn remove(&mut self, bytes: usize) {
        // It may have ended meanwhile.
        self.bytes = self.bytes.saturating_sub(bytes);
        self.count();
    }

    #[inline]
    fn count(&mut self) {
        if self.bytes > SMALL || self.counted.bytes > 0 {
            self.counted.set(self.bytes.saturating_sub(SMALL));
        }
    }

    /// What is sent next makes room sooner or later, where there is none.
    fn has_room(&self) -> bool {
        let much = || self.counted.unread.is_much();
        self.finished || self.bytes <= SMALL || (self.bytes <= QUEUED && !much())
    }

    fn lets_go_on(&mut self) -> bool {
        let go_on = self.holds_up && self.has_room();
        self.holds_up &= !go_on;
        go_on
    }
}
