//! The items of one stream, as they come over a connection that others use too.

use std::fmt;
use std::sync::Arc;

use super::common::{Answer, UNASKED};
use super::link::{ATTEMPT, Link, TRY_AGAIN, soon};
use super::turn::{Begun, Over};
use crate::Deadline;
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::wire;

/// A stream that has been opened. Dropping it gives it up, and tells the server so.
pub(super) struct Feed {
    link: Arc<Link>,
    begun: Begun,
    /// That of the request's message.
    size: usize,
}

/// What a stream has next.
pub(super) enum Next {
    Item(Answer),
    End,
    /// The end, for a reason.
    Failed(CallError),
    /// Nothing has come in time.
    Late,
}

impl Feed {
    /// Sends the request for a stream, by a deadline; the stream ends at another one.
    pub(super) fn open(
        link: &Arc<Link>,
        method: u32,
        encode: &mut dyn FnMut(&mut Outgoing) -> Result<(), CallError>,
        window: u32,
        deadline: Deadline,
        ends: Deadline,
    ) -> Result<Feed, CallError> {
        let mut credit = 0;
        let (begun, mut blank) = link.begin(deadline, |session| {
            let (id, granted) = session.open(method, window)?;
            credit = granted;
            Ok(id)
        })?;
        let unsent = link.unsent(begun);
        let out = blank.out.bytes();
        wire::open(out, begun.id, method, ends.remaining(), credit);
        encode(&mut blank.out)?;
        let size = blank.out.len();
        link.send(&mut blank, UNASKED, deadline)?;
        unsent.sent();
        link.reuse(blank, deadline);
        Ok(Feed {
            link: Arc::clone(link),
            begun,
            size,
        })
    }

    /// Waits for the next item, or the end.
    pub(super) fn next(&self, deadline: Deadline) -> Next {
        let Feed { link, begun, .. } = self;
        let next = loop {
            let turn = link.turns.lock();
            let (owes, has_next) = (turn.shared.owes(), turn.has_next(*begun));
            drop(turn);
            let by = match owes && self.is_behind(has_next, deadline) {
                true => deadline.min(Deadline::after(TRY_AGAIN)),
                false => deadline,
            };
            let mut owes = false;
            let next = link.turns.next(&**link, *begun, by, |shared, next| {
                if let Ok(Ok(Some(answer))) = next {
                    shared.session.take(begun.id, answer.size);
                    owes = shared.owes();
                }
            });
            if owes {
                // Who has its item waits for nothing more: what cannot be sent now is due still.
                link.send_due(Deadline::NOW);
            }
            if by == deadline || !matches!(next, Err(Over::TimedOut)) {
                break next;
            }
        };
        match next {
            Ok(Ok(Some(answer))) => Next::Item(answer),
            Ok(Ok(None)) => Next::End,
            Ok(Err(error)) => Next::Failed(error),
            Err(Over::TimedOut) => Next::Late,
            Err(Over::Ended(end)) => {
                // The server is to notice as well, also if it was the one to break the protocol.
                link.stream.close();
                Next::Failed(end.of_sent(self.size))
            }
        }
    }

    /// Whether something is due still: credit that could not be sent before may be what the server waits for.
    #[cold]
    fn is_behind(&self, has_next: bool, deadline: Deadline) -> bool {
        self.link.is_behind(match has_next {
            true => Deadline::NOW,
            // Not at once: there are transports in which a message is sent when it is received.
            false => soon(deadline).max(Deadline::after(ATTEMPT)),
        })
    }

    /// Takes back the buffer of an item that has been decoded.
    pub(super) fn recycle(&self, item: Answer) {
        self.link.recycle(item);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut turn = self.link.turns.lock();
        let given_up = turn.shared.session.give_up(self.begun.id);
        turn.abandon(self.begun);
        drop(turn);
        if given_up {
            self.link.send_due(soon(Deadline::NEVER));
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}
