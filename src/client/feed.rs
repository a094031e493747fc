//! The items of one stream, as they come over a connection that others use too.

use std::fmt;
use std::sync::Arc;

use super::link::Link;
use super::sync::{ATTEMPT, TRY_AGAIN, soon, within};
use super::turn::{For, Locked};
use crate::Deadline;
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::client::{Answer, Asked, Calls, Next, Ticket};

/// A stream that has been opened. Dropping it gives it up, and tells the server so.
pub(super) struct Feed {
    link: Arc<Link>,
    ticket: Ticket,
}

impl Feed {
    /// Sends the request for a stream, by a deadline; the stream ends at another one.
    pub(super) fn open(
        link: &Arc<Link>,
        asked: Asked,
        encode: &mut dyn FnMut(&mut Outgoing) -> Result<(), CallError>,
        deadline: Deadline,
        ends: Deadline,
    ) -> Result<Feed, CallError> {
        let (unsent, mut blank, _) = link.begin(asked, deadline)?;
        blank.begin(ends.remaining());
        encode(&mut blank.out)?;
        link.send(unsent.ticket, &mut blank, deadline)?;
        let ticket = unsent.sent();
        link.catch_up(Locked::new(link.took(ticket, blank)), deadline);
        Ok(Feed {
            link: Arc::clone(link),
            ticket,
        })
    }

    /// Waits for the next item, or the end, after which there is nothing more. `None`: nothing has come in time.
    pub(super) fn next(&self, deadline: Deadline) -> Option<Next> {
        let Feed { link, ticket } = self;
        loop {
            let mut turn = link.turn.lock();
            let by = if turn.calls.is_behind() {
                let has_next = turn.calls.has_next(*ticket);
                drop(turn);
                let by = match self.is_behind(has_next, deadline) {
                    true => within(TRY_AGAIN, deadline),
                    false => deadline,
                };
                turn = link.turn.lock();
                by
            } else {
                deadline
            };
            let look = |calls: &mut Calls<_>| calls.poll_next(*ticket);
            let (turn, next) = link.wait(turn, *ticket, For::Message, by, look);
            let is_behind = turn.calls.is_behind();
            drop(turn);
            match &next {
                None if by != deadline => continue,
                Some(Next::Item(_)) if is_behind => {
                    // A consumer that has its item waits for nothing more: what cannot be sent now is due still.
                    let _ = link.flush(Deadline::NOW);
                }
                // The server is to notice as well, also if it was the one to break the protocol.
                Some(Next::Failed(_)) => link.let_go(),
                _ => {}
            }
            return next;
        }
    }

    /// Whether something is due still: credit that could not be sent before may be what the server waits for.
    #[cold]
    fn is_behind(&self, has_next: bool, deadline: Deadline) -> bool {
        self.link.is_behind(match has_next {
            true => Deadline::NOW,
            // Not at once: there are transports in which a message is sent when it is received.
            false => soon(deadline).max(within(ATTEMPT, Deadline::NEVER)),
        })
    }

    /// Takes back the buffer of an item that has been decoded.
    pub(super) fn recycle(&self, item: Answer) {
        self.link.recycle(item);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut turn = self.link.lock();
        turn.give_up(self.ticket);
        self.link.catch_up(turn, Deadline::NEVER);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}
