//! What a client is still to be sent, where other threads make the replies than the one that sends them.
//!
//! A thread of the pool serves everybody: it must not wait for a client that does not read. So it leaves the reply
//! here, and a thread of the connection's own sends it.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::outgoing::Outgoing;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Outgoing>,
    /// No more messages come.
    finished: bool,
}

impl Outbox {
    pub(super) fn push(&self, message: Outgoing) {
        let mut state = self.state.lock();
        if !state.finished {
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
        state.messages.clear();
        self.changed.notify_all();
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

    /// Waits until fewer than so many messages are in it, or no more may come: a client that does not read its
    /// replies is not asked for more requests.
    pub(super) fn wait_for_room(&self, limit: usize) {
        let mut state = self.state.lock();
        while state.messages.len() >= limit && !state.finished {
            self.changed.wait(&mut state);
        }
    }
}
