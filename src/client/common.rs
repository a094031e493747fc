//! What the blocking client and the one for async programs have in common: what a failure means to a call.

use std::io;
use std::sync::{Arc, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ServerInfo;
use crate::call_error::{CallError, Version};
use crate::codec::Codec;
use crate::outgoing::Outgoing;
use crate::session::{NotNow, Party};
use crate::wire::{self, Failure, Malformed};
use crate::{Deadline, Error, blob};

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

/// What a reply is made of: the message, and where the codec's part begins.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) message: Arc<Vec<u8>>,
    start: usize,
    /// That of the message, which need not begin where the vector does.
    pub(crate) size: usize,
}

impl Answer {
    /// Of a message that begins at `begins` and ends with so many bytes of the codec.
    #[inline]
    pub(crate) fn new(message: Arc<Vec<u8>>, begins: usize, payload: usize) -> Answer {
        Answer {
            start: message.len() - payload,
            size: message.len() - begins,
            message,
        }
    }

    /// What the codec made.
    #[inline]
    pub(crate) fn payload(&self) -> &[u8] {
        &self.message[self.start..]
    }

    /// Decodes the reply. A [`Blob`](crate::Blob) in it is a slice of the message.
    #[inline]
    pub(crate) fn decode<C: Codec, Reply: DeserializeOwned>(&self) -> Result<Reply, CallError> {
        blob::sharing(&self.message, || C::decode(self.payload()))
            .map_err(|error| CallError::Decode(error.to_string()))
    }

    /// What a server says of itself.
    pub(crate) fn server_info(&self) -> Result<ServerInfo, CallError> {
        let info = wire::parse_info(self.payload())
            .map_err(|malformed| CallError::Decode(malformed.0.to_owned()))?;
        Ok(ServerInfo {
            version: Version::from(&Party::from(info.identity)),
            pid: info.pid,
            connections: info.connections,
            in_flight: info.in_flight,
            draining: info.draining,
        })
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

/// Whether a message may be sent to who takes so much.
#[inline]
pub(crate) fn check_size(size: usize, limit: u32) -> Result<(), CallError> {
    if size > limit as usize {
        return Err(CallError::TooLarge {
            limit: limit.into(),
            size: size as u64,
            reply: false,
        });
    }
    Ok(())
}

/// Why no call can begin, also if one waits.
pub(crate) fn cannot_begin(why: NotNow, ours: &Party, theirs: Option<&Party>) -> CallError {
    match why {
        NotNow::Full | NotNow::GoingAway => CallError::Unavailable,
        NotNow::Refused(code) => CallError::from_server(&Failure::new(code, ""), ours, theirs),
    }
}

/// Why a message was not sent.
pub(crate) fn not_sent(error: &io::Error) -> CallError {
    match (error.kind(), Error::of(error)) {
        (_, Some(Error::TooLarge { limit, size })) => CallError::TooLarge {
            limit: *limit as u64,
            size: *size as u64,
            reply: false,
        },
        (io::ErrorKind::TimedOut, _) => CallError::TimedOut { sent: false },
        _ => CallError::Disconnected { sent: false },
    }
}

/// What the server says of a call.
pub(crate) fn call_failed(
    failure: &Failure<'_>,
    ours: &Party,
    theirs: Option<&Party>,
) -> CallError {
    let mut failure = CallError::from_server(failure, ours, theirs);
    if let CallError::TooLarge { reply, .. } = &mut failure {
        // Of a request that was too large the server knows no id.
        *reply = true;
    }
    failure
}

/// Why there will be no more answers, where none can be received.
pub(crate) fn cannot_receive(error: &io::Error) -> CallError {
    match Error::of(error) {
        Some(Error::TooLarge { limit, size }) => CallError::Protocol(format!(
            "the server sent {size} bytes although it was told that the limit is {limit}"
        )),
        _ => CallError::Disconnected { sent: true },
    }
}

pub(crate) fn breaks_protocol(malformed: Malformed) -> CallError {
    CallError::Protocol(format!("the server sent {}", malformed.0))
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
