//! The items of one stream, as they come over a connection that others use too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::common::Answer;
use super::link::{Blank, Link};
use super::turn::{Begun, Over};
use crate::Deadline;
use crate::call_error::CallError;
use crate::outgoing::Outgoing;
use crate::wire;

/// A stream that has been opened. Dropping it gives it up, and tells the server so.
pub(super) struct Feed {
    link: Arc<Link>,
    begun: Begun,
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

/// How long the credit for items that were taken may take to be sent, where the item after them is not waited for as
/// long.
const PATIENCE: Duration = Duration::from_secs(1);

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
        link.send(&mut blank, deadline)?;
        unsent.sent();
        link.reuse(blank);
        Ok(Feed {
            link: Arc::clone(link),
            begun,
        })
    }

    /// Waits for the next item, or the end.
    pub(super) fn next(&self, deadline: Deadline) -> Next {
        let Feed { link, begun } = self;
        // Credit that could not be sent before may be what the server waits for.
        let mut credit = link.turns.lock().shared.credit(begun.id);
        self.send_credit(credit.take(), deadline);
        let next = link.turns.next(&**link, *begun, deadline, |shared, next| {
            if let Ok(Ok(Some(answer))) = next {
                shared.session.take(begun.id, answer.size);
                credit = shared.credit(begun.id);
            }
        });
        self.send_credit(credit, deadline);
        match next {
            Ok(Ok(Some(answer))) => Next::Item(answer),
            Ok(Ok(None)) => Next::End,
            Ok(Err(error)) => Next::Failed(error),
            Err(Over::TimedOut) => Next::Late,
            Err(Over::Ended(why)) => {
                // The server is to notice as well, also if it was the one to break the protocol.
                link.stream.close();
                Next::Failed(why.with_sent(true))
            }
        }
    }

    /// Takes back the buffer of an item that has been decoded.
    pub(super) fn recycle(&self, item: Answer) {
        self.link.recycle(item);
    }

    /// Gives back what the consumer has taken. What cannot be sent now is still due; if the connection is broken, the
    /// consumer learns it when it has taken what came before.
    fn send_credit(&self, credit: Option<(u32, Blank)>, deadline: Deadline) {
        let Some((credit, mut blank)) = credit else {
            return;
        };
        wire::credit(blank.out.bytes(), self.begun.id, credit);
        let soon = deadline.max(Deadline::after(PATIENCE));
        if self.link.send(&mut blank, soon).is_err() {
            let mut turn = self.link.turns.lock();
            turn.shared.session.keep_credit(self.begun.id, credit);
        }
        self.link.reuse(blank);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut turn = self.link.turns.lock();
        let given_up = turn.shared.session.give_up(self.begun.id);
        turn.abandon(self.begun);
        drop(turn);
        if given_up {
            self.link.cancel(self.begun.id);
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}
