//! [`Error`]: what can go wrong that the operating system has no error for.

use std::fmt;
use std::io;

/// A failure of the transport's own, carried inside an [`io::Error`].
///
/// The transport returns [`io::Error`] everywhere, with the [`io::ErrorKind`] that fits; where more is to be
/// said, the error holds one of these, and [`Error::of`] finds it:
///
/// ```
/// use std::io;
/// use pipetalk::Error;
///
/// let error: io::Error = Error::TooLarge { limit: 16, size: 40 }.into();
/// assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
/// assert_eq!(error.to_string(), "a message of 40 bytes is over the limit of 16");
/// if let Some(Error::TooLarge { limit, size }) = Error::of(&error) {
///     assert_eq!((*limit, *size), (16, 40));
/// }
/// ```
///
/// The kinds that come from the system itself, the same on every platform:
///
/// | kind | when |
/// |---|---|
/// | `NotFound` | nobody listens at the name |
/// | `AddrInUse` | the name has a listener already |
/// | `AlreadyExists` | something that is not a socket is at the path |
/// | `TimedOut` | the deadline passed |
/// | `BrokenPipe` | sending to a peer that has closed |
/// | `PermissionDenied` | the access policy of the other side, or the trust of this one, forbids it |
/// | `InvalidInput` | a name or an option that cannot be |
/// | `Unsupported` | this platform has no such thing |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A message is over a limit: the receiver's, or [`MAX_MESSAGE`](crate::MAX_MESSAGE) when sending. Kind
    /// `FileTooLarge`. The connection stays usable: the next message is intact.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// The size of the message, in bytes.
        size: usize,
    },
    /// The peer went away in the middle of a message. Kind `UnexpectedEof`.
    Truncated,
    /// The endpoint is busy: no instance is free to connect to and no waiting was asked for, a transaction
    /// was begun with an unread message waiting, or a message within another, by what
    /// [`send_while_receiving`](crate::Stream::send_while_receiving) calls. Kind `ResourceBusy`.
    Busy,
    /// The listener was stopped. Kind `ConnectionAborted`.
    Stopped,
    /// This end of the stream was closed. Kind `NotConnected`.
    Closed,
    /// An earlier send or transaction stopped half-way, at its deadline or because the system could not go on, so that
    /// what follows would be taken for its rest: the connection was closed for good. Kind `BrokenPipe`.
    Poisoned,
    /// The peer does not speak the wire format; the text says what is wrong. The connection was closed. Kind
    /// `InvalidData`.
    Malformed(&'static str),
}

impl Error {
    /// The transport's own error inside `error`, if there is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// The kind under which this error travels in an [`io::Error`].
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Error::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Error::Truncated => io::ErrorKind::UnexpectedEof,
            Error::Busy => io::ErrorKind::ResourceBusy,
            Error::Stopped => io::ErrorKind::ConnectionAborted,
            Error::Closed => io::ErrorKind::NotConnected,
            Error::Poisoned => io::ErrorKind::BrokenPipe,
            Error::Malformed(_) => io::ErrorKind::InvalidData,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLarge { limit, size } => {
                write!(f, "a message of {size} bytes is over the limit of {limit}")
            }
            Error::Truncated => f.write_str("the peer went away in the middle of a message"),
            Error::Busy => f.write_str("busy"),
            Error::Stopped => f.write_str("the listener was stopped"),
            Error::Closed => f.write_str("this end of the stream is closed"),
            Error::Poisoned => f.write_str(
                "the connection is closed because an earlier message was sent only in part",
            ),
            Error::Malformed(what) => write!(f, "the peer does not speak this wire format: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// What was asked for cannot be, in words.
pub(crate) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

/// This platform does not have what was asked for, in words.
pub(crate) fn unsupported(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_again_and_a_strangers_is_not() {
        for error in [
            Error::TooLarge { limit: 1, size: 2 },
            Error::Truncated,
            Error::Busy,
            Error::Stopped,
            Error::Closed,
            Error::Poisoned,
            Error::Malformed("test"),
        ] {
            let outer = io::Error::from(error.clone());
            assert_eq!(outer.kind(), error.kind());
            assert_eq!(Error::of(&outer), Some(&error));
            assert!(!outer.to_string().is_empty());
        }
        assert_eq!(Error::of(&io::ErrorKind::TimedOut.into()), None);
        assert_eq!(Error::of(&io::Error::other("else")), None);
    }
}
