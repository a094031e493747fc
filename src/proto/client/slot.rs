//! The entry of a call, and what goes in and out of it.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::answer::Answer;
use super::due::Due;
use super::end::check_size;
use crate::Deadline;
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::credit::Window;
use crate::proto::wire;

/// How large a request may be that is sent before the server has said how much it takes. A call has to wait for its
/// answer anyway.
const UNASKED: usize = 4 << 10;

/// The same of a notification, which waits for nothing: except where it is so large that the server has to be there to
/// take it.
const UNASKED_NOTIFICATION: usize = 64 << 10;

/// The key of a call in the table: an id whose generation does not wrap around. It is good until the call is claimed or
/// given up; later it finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    pub(super) slot: u32,
    /// Counts the calls that have had the slot.
    pub(super) serial: u64,
}

impl Ticket {
    /// The id of the call on the wire: the place in the lower half, its generation in the upper one.
    #[inline]
    pub(super) fn id(self) -> u32 {
        (self.serial as u32) << 16 | self.slot
    }
}

/// What is asked of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A call, which has one answer.
    Reply { method: u32 },
    /// A stream with a window of so many credits.
    Items { method: u32, window: u32 },
    /// A notification, which has no answer.
    Nothing { method: u32 },
}

impl Asked {
    #[inline]
    pub(super) fn method(self) -> u32 {
        match self {
            Asked::Reply { method } | Asked::Items { method, .. } | Asked::Nothing { method } => {
                method
            }
        }
    }

    /// How large a message may be that is sent before the peer has said how much it takes.
    #[inline]
    pub(super) fn unasked(self) -> usize {
        match self {
            Asked::Nothing { .. } => UNASKED_NOTIFICATION,
            _ => UNASKED,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Free,
    /// It waits for room, and has no id yet.
    Waiting,
    /// Its message is being encoded, or sent by its caller.
    Begun,
    /// Its message is so large that it waits for the peer to say how large one may be.
    Held,
    /// Its message is in the outbox.
    Queued,
    /// Whether its message is sent is not known yet.
    Sending,
    Sent,
    /// Its result is here to be claimed.
    Over,
    /// Its ticket is dead; the slot is free when the late answer has come.
    GivenUp,
}

/// A call, a stream or a notification.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Slot<W> {
    pub(super) serial: u64,
    pub(super) stage: Stage,
    pub(super) asked: Asked,
    /// The peer has not answered the id yet.
    pub(super) unanswered: bool,
    pub(super) deadline: Deadline,
    /// The deadline is in the timetable.
    pub(super) timed: bool,
    pub(super) waker: Option<W>,
    /// Its message, while that is held or queued; and the message's size.
    pub(super) message: Option<Outgoing>,
    pub(super) size: usize,
    /// What it has come to: with the answer, if it was a call.
    pub(super) result: Result<Option<Answer>, CallError>,
    /// While it waits for room: its position, and the round in which it was offered some.
    pub(super) order: u64,
    pub(super) offered: Option<u64>,
    /// It is among those for which something is due.
    pub(super) is_due: bool,
    /// Of a stream: the request has been sent for certain.
    pub(super) open: bool,
    pub(super) window: Window,
    /// Of a stream: what has come and was not claimed.
    pub(super) items: VecDeque<Answer>,
}

impl<W> Slot<W> {
    pub(super) fn new() -> Slot<W> {
        Slot {
            serial: 0,
            stage: Stage::Free,
            asked: Asked::Nothing { method: 0 },
            unanswered: false,
            deadline: Deadline::NEVER,
            timed: false,
            waker: None,
            message: None,
            size: 0,
            result: Ok(None),
            order: 0,
            offered: None,
            is_due: false,
            open: false,
            window: Window::default(),
            items: VecDeque::new(),
        }
    }

    #[inline]
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.asked, Asked::Items { .. })
    }

    /// Whether its caller still waits for something of it.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Free | Stage::Over | Stage::GivenUp)
    }

    /// Whether the call is about to send something, or has an answer and may call again. The consumer of a stream need
    /// not.
    #[inline]
    pub(super) fn is_awake(&self) -> bool {
        matches!(self.stage, Stage::Begun | Stage::Over) && !self.is_stream()
    }

    /// Whether it is in one of the lines of messages.
    pub(super) fn is_in_line(&self) -> bool {
        matches!(self.stage, Stage::Held | Stage::Queued)
    }

    #[inline]
    pub(super) fn take_result(&mut self) -> Result<Option<Answer>, CallError> {
        mem::replace(&mut self.result, Ok(None))
    }
}

/// What a stream has next.
#[derive(Debug)]
pub(crate) enum Next {
    Item(Answer),
    End,
    /// The end, for a reason.
    Failed(CallError),
}

/// What the message of a call begins as.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) out: Outgoing,
    pub(super) asked: Asked,
    pub(super) id: u32,
    /// How large the message may become, if the peer has said so.
    pub(super) limit: Option<u32>,
}

impl Blank {
    /// Writes the header; what the codec makes of the arguments goes behind. `left` is how long the peer may take.
    #[inline]
    pub(crate) fn begin(&mut self, left: Option<Duration>) {
        let out = self.out.bytes();
        match self.asked {
            Asked::Reply { method } => wire::request(out, self.id, method, left),
            Asked::Items { method, window } => wire::open(out, self.id, method, left, window),
            Asked::Nothing { method } => wire::notify(out, method),
        }
    }

    /// Whether the whole message may be sent now; not before the peer has said how much it takes, if it is large.
    #[inline]
    pub(crate) fn may_be_sent(&self) -> Result<bool, CallError> {
        let size = self.out.len();
        match self.limit {
            Some(limit) => check_size(size, limit).map(|()| true),
            None => Ok(size <= self.asked.unasked()),
        }
    }
}

/// A message that is being sent, and whose it is.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) out: Outgoing,
    pub(super) whose: Whose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The hello.
    Nobody,
    Due(Due),
    Call(Ticket),
}

impl AsRef<Outgoing> for Queued {
    fn as_ref(&self) -> &Outgoing {
        &self.out
    }
}

/// What becomes of a message that a caller has encoded.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits for the welcome.
    Held,
    /// It is in the outbox.
    Queued,
    /// No message is ahead of it: its caller sends it, and [`sent_alone`](super::Calls::sent_alone) has to follow.
    Send(Queued),
}
