//! What a client is still to be sent, where other threads make the replies than the one that sends them.
//!
//! A thread of the pool serves everybody: it must not wait for a client that does not read. So it leaves the reply
//! here, and a thread of the connection's own sends it. A client that has much to read is not asked for more requests,
//! and those of its requests that wait for the pool have no turn.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::budget::{Budget, Counted};
use super::unsent::Unsent;
use crate::codec::outgoing::Outgoing;

#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Outgoing>,
    /// How much that is, with what is being sent.
    unsent: Unsent,
    /// Requests wait until more of it has been sent.
    holds_up: bool,
    /// No more messages come.
    finished: bool,
}

impl Outbox {
    pub(super) fn new(budget: &Arc<Budget>) -> Outbox {
        Outbox {
            state: Mutex::new(State {
                messages: VecDeque::new(),
                unsent: Unsent::new(Arc::clone(budget)),
                holds_up: false,
                finished: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Queues a message, which may be counted elsewhere until it is.
    pub(super) fn push(&self, message: Outgoing, counted: Option<Counted>) {
        let mut state = self.state.lock();
        if !state.finished {
            state.unsent.add(message.len());
            // Before it can be sent, and its client ask for another one.
            drop(counted);
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
        state.unsent.clear();
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
        // It may have ended meanwhile.
        state.unsent.remove(bytes);
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
    /// What is sent next makes room sooner or later, where there is none.
    fn has_room(&self) -> bool {
        self.finished || self.unsent.has_room()
    }

    fn lets_go_on(&mut self) -> bool {
        let go_on = self.holds_up && self.has_room();
        self.holds_up &= !go_on;
        go_on
    }
}
