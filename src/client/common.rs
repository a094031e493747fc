//! What the blocking client and the one for async programs have in common: connections that follow one another, and
//! what takes a clock.

use std::io;
use std::sync::{Arc, Weak};

use serde::Serialize;

use crate::Deadline;
use crate::codec::Codec;
use crate::codec::outgoing::Outgoing;
use crate::proto::Party;
use crate::proto::call_error::CallError;

/// The connection that a client has, or had.
#[derive(Debug)]
pub(crate) enum Kept<L> {
    Never,
    Current(Arc<L>),
    /// No call can begin there any more. It is closed when the last call over it ends: on Windows an end that is open
    /// keeps the name from the next server, for which its own client may be waiting. Who the server was is still known.
    Past(Weak<L>, Option<Party>),
}

impl<L> Kept<L> {
    pub(crate) fn current(&self) -> Option<&Arc<L>> {
        match self {
            Kept::Current(link) => Some(link),
            Kept::Never | Kept::Past(..) => None,
        }
    }

    /// The current one, or else the one before as long as there are calls over it.
    pub(crate) fn any(&self) -> Option<Arc<L>> {
        match self {
            Kept::Never => None,
            Kept::Current(link) => Some(Arc::clone(link)),
            Kept::Past(link, _) => link.upgrade(),
        }
    }

    /// Whether there has been one.
    pub(crate) fn was_connected(&self) -> bool {
        !matches!(self, Kept::Never)
    }
}

/// What appends an encoded request to a message.
pub(crate) fn encoding<C: Codec, T: Serialize + ?Sized>(
    value: &T,
) -> impl FnMut(&mut Outgoing) -> Result<(), CallError> {
    |out| {
        out.encode::<C, T>(value)
            .map_err(|error| CallError::Encode(error.to_string()))
    }
}

/// The failure of a call by its deadline: the server's clock may be a little quicker than ours to see that the time is
/// over.
#[inline]
pub(crate) fn late(error: CallError, deadline: Deadline) -> CallError {
    match error {
        CallError::Cancelled if deadline.has_passed() => CallError::TimedOut { sent: true },
        error => error,
    }
}

/// Whether a call that failed may be tried again, over another connection.
pub(crate) fn may_try_again(error: &CallError, idempotent: bool, was_connected: bool) -> bool {
    match error {
        CallError::Disconnected { sent } => !sent || idempotent,
        CallError::Unavailable => true,
        // The server may be starting again; where there never was one, connecting has said so.
        CallError::Unreachable {
            kind: io::ErrorKind::NotFound,
            ..
        } => was_connected,
        _ => false,
    }
}
