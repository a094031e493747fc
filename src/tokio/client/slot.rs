//! What the calls of one connection are made of: the place of each, what it asks for, and what is kept for the next.

use std::collections::VecDeque;
use std::mem;
use std::task::Waker;

use crate::Deadline;
use crate::client::common::Answer;
use crate::codec::outgoing::Outgoing;
use crate::proto::Due;
use crate::proto::call_error::CallError;

/// The place of a call among those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// Counts the calls that have been here.
    pub(super) serial: u64,
    pub(super) stage: Stage,
    /// What a call came to that is over: with the answer, if it was a call.
    pub(super) result: Result<Option<Answer>, CallError>,
    /// `None`: a notification.
    pub(super) call: Option<Call>,
    pub(super) deadline: Deadline,
    /// Whether that has been noted for the alarm.
    pub(super) timed: bool,
    pub(super) waker: Option<Waker>,
    /// Its message, from when it is pushed until it is taken to be sent; and how large that is.
    pub(super) message: Option<Outgoing>,
    pub(super) size: usize,
    /// While it waits for room: its place in the order, and in which round it was woken for some.
    pub(super) order: u64,
    pub(super) offered: Option<u64>,
    /// Of a stream: the request has been sent for certain.
    pub(super) open: bool,
    /// Of a stream: what has come and was not claimed.
    pub(super) items: VecDeque<Answer>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) method: u32,
    /// The session's, once it has begun.
    pub(super) id: u32,
    /// Of a stream: the credit that it is opened with.
    pub(super) window: Option<u32>,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot {
            serial: 0,
            stage: Stage::Free,
            result: Ok(None),
            call: None,
            deadline: Deadline::NEVER,
            timed: false,
            waker: None,
            message: None,
            size: 0,
            order: 0,
            offered: None,
            open: false,
            items: VecDeque::new(),
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.call.is_some_and(|call| call.window.is_some())
    }

    /// Whether a call is about to send something, or has an answer and may call again. Who takes the items of a stream
    /// need not.
    pub(super) fn is_awake(&self) -> bool {
        matches!(self.stage, Stage::Begun | Stage::Over) && !self.is_stream()
    }

    pub(super) fn take_result(&mut self) -> Result<Option<Answer>, CallError> {
        mem::replace(&mut self.result, Ok(None))
    }
}

/// What somebody calls for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Reply {
        method: u32,
    },
    /// A stream with a window of so many credits.
    Items {
        method: u32,
        window: u32,
    },
    Nothing,
}

/// What a stream has next.
#[derive(Debug)]
pub(super) enum Next {
    Item(Answer),
    End,
    /// The end, for a reason.
    Failed(CallError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Free,
    Waiting,
    Begun,
    /// Its message is so large that it waits for the welcome, which says how large one may be.
    Held,
    Queued,
    /// Whether its message is sent is not known yet.
    Sending,
    Sent,
    Over,
}

/// A message that is being sent, and whose it is.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) out: Outgoing,
    pub(super) whose: Whose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The greeting.
    Nobody,
    Due(Due),
    /// And the id, if it is no notification.
    Call(Ticket, Option<u32>),
}

impl AsRef<Outgoing> for Queued {
    fn as_ref(&self) -> &Outgoing {
        &self.out
    }
}

/// What a message begins as: a kept buffer, and what its header says.
#[derive(Debug)]
pub(super) struct Blank {
    pub(super) out: Outgoing,
    /// That of the call; 0 for a notification.
    pub(super) id: u32,
    /// That of a stream.
    pub(super) credit: u32,
}

/// What has to be done once the lock is free.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    /// Sends a message that nobody is ahead of, and nobody is about to add to.
    Send(Queued),
    /// Sends what is in the outbox, for the driver to go on with: nobody else is about to add to it.
    Flush(Option<Waker>),
    /// Wakes the driver.
    Wake(Option<Waker>),
}

/// Who looks for what has become of a call. What is the caller's own, its waker, is cloned, woken and dropped without
/// the lock, because all of these may be code of anybody's.
#[derive(Debug)]
pub(super) struct Me<'a> {
    pub(super) waker: &'a Waker,
    /// A clone, to be left with the call.
    pub(super) clone: Option<Waker>,
    /// There is none, and one is needed: it has to look again with one.
    pub(super) lacks: bool,
    /// What was left with the call before.
    pub(super) left: Option<Waker>,
    /// The driver, if that is to be woken.
    pub(super) driver: Option<Waker>,
}

impl<'a> Me<'a> {
    pub(super) fn new(waker: &'a Waker, waits: bool) -> Me<'a> {
        Me {
            waker,
            clone: waits.then(|| waker.clone()),
            lacks: false,
            left: None,
            driver: None,
        }
    }

    /// Whether it has to look again, for which it has what it lacked then. For who does not hold the lock.
    pub(super) fn looks_again(&mut self) -> bool {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
        if !mem::take(&mut self.lacks) {
            return false;
        }
        self.clone = Some(self.waker.clone());
        true
    }
}

/// Things that are kept for the next use, up to so many bytes.
#[derive(Debug)]
pub(super) struct Spare<T> {
    kept: Vec<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare {
            kept: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T: Default> Spare<T> {
    pub(super) fn take(&mut self) -> T {
        let Some((spare, size)) = self.kept.pop() else {
            return T::default();
        };
        self.bytes -= size;
        spare
    }

    pub(super) fn keep(&mut self, spare: T, size: usize) {
        const BYTES: usize = 4 << 20;
        const NUMBER: usize = 1024;
        if self.bytes + size <= BYTES && self.kept.len() < NUMBER {
            self.kept.push((spare, size));
            self.bytes += size;
        }
    }
}
