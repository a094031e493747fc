//! What can happen in a conversation, and how its calls can end.

use crate::proto::client::NotNow;
use crate::proto::wire::Code;

/// What can happen in a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// How many calls the client makes.
    pub(crate) calls: u32,
    /// From which of them on they are control requests.
    pub(crate) control_from: u32,
    /// From which of them on they are streams, if not control requests, with a window of so many credits, and how
    /// many items each has at most.
    pub(crate) streams_from: u32,
    pub(crate) window: u32,
    pub(crate) items: u32,
    /// How many requests the server takes at once.
    pub(crate) in_flight: usize,
    pub(crate) compatible: bool,
    /// The client may give up each call, or fail to send its request.
    pub(crate) give_up: bool,
    pub(crate) unsend: bool,
    /// Each call has a deadline, which passes at some time.
    pub(crate) deadlines: bool,
    /// The server may say that it ends, and goodbye when it has answered all.
    pub(crate) going_away: bool,
    /// The server may end the conversation.
    pub(crate) refusal: Option<Code>,
}

#[cfg(test)]
impl Scenario {
    pub(crate) const fn new(calls: u32, in_flight: usize) -> Scenario {
        Scenario {
            calls,
            control_from: u32::MAX,
            streams_from: u32::MAX,
            window: 1,
            items: 2,
            in_flight,
            compatible: true,
            give_up: false,
            unsend: false,
            deadlines: false,
            going_away: false,
            refusal: None,
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client begins its next call.
    Start,
    /// The same, and the request cannot be sent.
    StartUnsent,
    GiveUp(usize),
    /// The message at the head arrives.
    ToServer,
    ToClient,
    /// A handler returns; or fails.
    Answer(usize),
    Fail(usize),
    GoAway,
    Goodbye,
    Refuse,
    /// The clock moves to the next deadline.
    Tick,
    /// A handler sends an item.
    Item(usize),
    /// The consumer of a stream takes an item; or does, and credit cannot be sent.
    Take(usize),
    TakeUnsent(usize),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Reply,
    /// A stream, with so many items.
    Items(u32),
    Failed(Code),
    GivenUp,
    Unsent,
    NotBegun(NotNow),
    /// With the conversation, which the server ends in good order or for a reason.
    Ended,
    Refused(Code),
}
