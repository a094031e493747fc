//! Whose turn it is to read: the hand-over between the threads that share a connection.
//!
//! There is no reader thread. A thread that waits for an answer while no other reads becomes the reader; what it reads
//! for others it leaves with their calls and wakes them; when it leaves, with its own answer or without, it wakes one of
//! those that still wait, to be the reader after it. So a caller that is alone pays for no thread hop, and no answer lies
//! unread while a thread waits for it.
//!
//! Two rules make that so, and both hold whenever the lock is free:
//!
//! * If a thread waits and none reads, one of those that wait is awake, and looks again before it sleeps. Only one that
//!   leaves can break that, and so it wakes another.
//! * A thread that is woken to read does so. One that is sending does not, and so it is not chosen: it may be held up
//!   until another reads.
//!
//! However many threads wait, whatever one of them does costs the same.

use std::ops::{Deref, DerefMut};

use super::sync::{MutexGuard, Thread, current};
use crate::proto::client::{Calls, Queued, Ticket};
use crate::proto::woken::Woken;

/// What the threads share, behind the lock.
pub(super) struct Turn {
    pub(super) calls: Calls<Thread>,
    /// A thread is reading.
    pub(super) reading: bool,
    /// The calls whose threads have fallen asleep, of which one is to read if no thread does. Some may have been woken
    /// since: their calls have no waker.
    asleep: Vec<Ticket>,
    /// How many there may be before those that have been woken are sorted out.
    most_asleep: usize,
    /// For what is due.
    pub(super) batch: Vec<Queued>,
}

impl Turn {
    pub(super) fn new(calls: Calls<Thread>) -> Turn {
        Turn {
            calls,
            reading: false,
            asleep: Vec::new(),
            most_asleep: 0,
            batch: Vec::new(),
        }
    }

    /// A thread falls asleep that waits for a call.
    pub(super) fn falls_asleep(&mut self, ticket: Ticket) {
        const FEW: usize = 64;
        let waker = self.calls.waker(ticket);
        if waker.is_some() {
            // It has not been woken since it slept last.
            return;
        }
        *waker = Some(current());
        if self.asleep.len() >= self.most_asleep {
            let calls = &mut self.calls;
            self.asleep.retain(|ticket| calls.sleeps(*ticket));
            self.most_asleep = 2 * self.asleep.len() + FEW;
        }
        self.asleep.push(ticket);
    }

    /// Wakes a thread that waits to become the reader, if none reads. One that has its answer has been woken, and wakes
    /// another when it leaves.
    #[inline]
    fn next_reader(&mut self) -> Option<Thread> {
        if self.reading {
            return None;
        }
        while let Some(ticket) = self.asleep.pop() {
            let thread = self.calls.wake(ticket);
            if thread.is_some() {
                return thread;
            }
        }
        None
    }
}

/// The threads to wake, without the lock.
#[derive(Default)]
pub(super) struct Wakes(pub(super) Woken<Thread>);

impl Wakes {
    #[inline(always)]
    pub(super) fn wake(&mut self) {
        self.0.drain(|thread| thread.unpark());
    }
}

impl Drop for Wakes {
    #[inline(always)]
    fn drop(&mut self) {
        self.wake();
    }
}

/// The lock, and the threads to wake once it is free.
pub(super) struct Locked<'a> {
    pub(super) turn: MutexGuard<'a, Turn>,
    pub(super) woken: Wakes,
}

impl<'a> Locked<'a> {
    #[inline]
    pub(super) fn new(turn: MutexGuard<'a, Turn>) -> Locked<'a> {
        let woken = Wakes::default();
        Locked { turn, woken }
    }

    /// The calls, and where to leave the threads that are to be woken.
    #[inline]
    pub(super) fn waking(&mut self) -> (&mut Calls<Thread>, &mut Woken<Thread>) {
        (&mut self.turn.calls, &mut self.woken.0)
    }

    /// Wakes the next reader, if there is to be one.
    #[inline]
    pub(super) fn hand_over(&mut self) {
        let next = self.turn.next_reader();
        self.woken.0.add(next);
    }

    /// Gives a call up. Says whether it was sent.
    pub(super) fn give_up(&mut self, ticket: Ticket) -> bool {
        let (calls, woken) = self.waking();
        calls.give_up(ticket, woken).0
    }
}

impl Deref for Locked<'_> {
    type Target = Turn;

    #[inline]
    fn deref(&self) -> &Turn {
        &self.turn
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Turn {
        &mut self.turn
    }
}

/// What a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// What a message says.
    Message,
    /// Room for its call, which there may be without a message.
    Room,
}
