//! [`CallError`]: how a call can fail.

use std::fmt;
use std::io;

use crate::proto::Party;
use crate::proto::wire::{Code, Failure};

/// How a call can fail. What the method itself returns, its own `Result` included, is no part of this.
///
/// Whether the request may have been carried out is what a caller needs to know before it tries again:
/// [`CallError::was_sent`] says so truthfully for each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// No answer came in time. The server was told that nobody waits any more.
    TimedOut {
        /// Whether the request had been sent, or a part of it, of which the rest may still follow.
        sent: bool,
    },
    /// The server gave the request up: its time was over, or the server was ending.
    Cancelled,
    /// The handler panicked. The server goes on.
    Panicked,
    /// The request or its reply is over a limit, in bytes.
    TooLarge {
        /// The limit.
        limit: u64,
        /// The size.
        size: u64,
        /// Whether it is the reply, of a request that was carried out.
        reply: bool,
    },
    /// The server did not take the request, or the connection; the text names the limit or the rule.
    Refused(String),
    /// The handler ended the stream with this text.
    Failed(String),
    /// The two programs do not fit: another service, another version of it, or another codec.
    Incompatible(Box<Incompatible>),
    /// The server takes no more requests, because it is ending.
    Unavailable,
    /// No connection could be made.
    Unreachable {
        /// What kind of failure it was: `NotFound` if nobody listens.
        kind: io::ErrorKind,
        /// In words.
        text: String,
    },
    /// The connection broke, or the server ended it for something that was not this call's fault.
    Disconnected {
        /// Whether the request had been sent.
        sent: bool,
    },
    /// The request could not be encoded, and was not sent; the text is the codec's.
    Encode(String),
    /// The reply came, and could not be decoded; the text is the codec's.
    Decode(String),
    /// One of the two breaks the protocol; the text says how.
    Protocol(String),
}

/// The two parties that do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incompatible {
    /// This program.
    pub ours: Version,
    /// The one at the other end.
    pub theirs: Version,
}

/// Which version of which service a program speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Version {
    /// The name of the service.
    pub service: String,
    /// The version of the application, as it was given for people to read.
    pub version: String,
    /// A number that differs where the methods and their types do; 0 where nobody says.
    pub fingerprint: u64,
    /// The name of the codec.
    pub codec: String,
}

impl From<&Party> for Version {
    fn from(party: &Party) -> Self {
        Version {
            service: party.service.clone(),
            version: party.version.clone(),
            fingerprint: party.fingerprint,
            codec: party.codec.clone(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &'_ str, other: &str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        write!(
            f,
            "{} {}",
            or(&self.service, "an unnamed service"),
            or(&self.version, "of no stated version")
        )?;
        write!(f, " ({:016x}, {})", self.fingerprint, self.codec)
    }
}

impl CallError {
    /// Whether the request was sent, so that it may have been carried out. If not, it is safe to try again.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            CallError::TimedOut { sent } | CallError::Disconnected { sent } => *sent,
            CallError::TooLarge { reply, .. } => *reply,
            CallError::Cancelled
            | CallError::Panicked
            | CallError::Failed(_)
            | CallError::Decode(_)
            | CallError::Protocol(_) => true,
            CallError::Refused(_)
            | CallError::Incompatible(_)
            | CallError::Unavailable
            | CallError::Unreachable { .. }
            | CallError::Encode(_) => false,
        }
    }

    /// The same failure, of a request that was sent or was not.
    pub(crate) fn with_sent(self, sent: bool) -> CallError {
        match self {
            CallError::TimedOut { .. } => CallError::TimedOut { sent },
            CallError::Disconnected { .. } => CallError::Disconnected { sent },
            other => other,
        }
    }

    /// The same failure, of a request that was sent before, perhaps over another connection.
    pub(crate) fn although_sent(self) -> CallError {
        let error = self.with_sent(true);
        if error.was_sent() {
            error
        } else {
            CallError::Disconnected { sent: true }
        }
    }

    /// What the server says went wrong.
    pub(crate) fn from_server(
        failure: &Failure<'_>,
        ours: &Party,
        theirs: Option<&Party>,
    ) -> CallError {
        let text = || failure.text.to_owned();
        match failure.code {
            Code::Cancelled => CallError::Cancelled,
            Code::Panicked => CallError::Panicked,
            Code::TooLarge => CallError::TooLarge {
                limit: failure.limit,
                size: failure.size,
                reply: false,
            },
            Code::OverLimit => {
                CallError::Refused(format!("over the server's limit: {}", failure.text))
            }
            Code::Failed => CallError::Failed(text()),
            Code::Denied => CallError::Refused(format!("not allowed: {}", failure.text)),
            Code::Incompatible => CallError::Incompatible(Box::new(Incompatible {
                ours: ours.into(),
                theirs: theirs.map(Version::from).unwrap_or_default(),
            })),
            Code::Unavailable => CallError::Unavailable,
            Code::UnknownMethod => {
                CallError::Protocol(format!("the server has no such method: {}", failure.text))
            }
            Code::Malformed => CallError::Protocol(text()),
            Code::Other(number) => {
                CallError::Protocol(format!("failure {number}: {}", failure.text))
            }
        }
    }

    /// A connection that could not be made.
    pub(crate) fn unreachable(error: &io::Error) -> CallError {
        match error.kind() {
            io::ErrorKind::TimedOut => CallError::TimedOut { sent: false },
            // It was made, and broke at once.
            io::ErrorKind::BrokenPipe => CallError::Disconnected { sent: false },
            kind => CallError::Unreachable {
                kind,
                text: error.to_string(),
            },
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::TimedOut { sent: true } => f.write_str("timed out waiting for the reply"),
            CallError::TimedOut { sent: false } => {
                f.write_str("timed out before the request was sent")
            }
            CallError::Cancelled => f.write_str("the server gave the request up"),
            CallError::Panicked => f.write_str("the handler of the request panicked"),
            CallError::TooLarge { limit, size, reply } => {
                let what = if *reply { "reply" } else { "request" };
                write!(f, "a {what} of {size} bytes is over the limit of {limit}")
            }
            CallError::Refused(text) => write!(f, "refused: {text}"),
            CallError::Failed(text) => write!(f, "the server ended the stream: {text}"),
            CallError::Incompatible(parties) => {
                write!(
                    f,
                    "incompatible: we are {}, they are {}",
                    parties.ours, parties.theirs
                )
            }
            CallError::Unavailable => {
                f.write_str("the server is ending and takes no more requests")
            }
            CallError::Unreachable { text, .. } => f.write_str(text),
            CallError::Disconnected { sent: true } => {
                f.write_str("the connection broke after the request was sent")
            }
            CallError::Disconnected { sent: false } => {
                f.write_str("the connection broke before the request was sent")
            }
            CallError::Encode(text) => write!(f, "the request cannot be encoded: {text}"),
            CallError::Decode(text) => write!(f, "the reply cannot be decoded: {text}"),
            CallError::Protocol(text) => write!(f, "the conversation broke down: {text}"),
        }
    }
}

impl std::error::Error for CallError {}

/// The kind that fits best, with the error inside.
impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::TimedOut { .. } => io::ErrorKind::TimedOut,
            CallError::Cancelled | CallError::Disconnected { .. } => {
                io::ErrorKind::ConnectionAborted
            }
            CallError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            CallError::Refused(_) => io::ErrorKind::PermissionDenied,
            CallError::Incompatible(_) => io::ErrorKind::Unsupported,
            CallError::Unavailable => io::ErrorKind::ConnectionRefused,
            CallError::Unreachable { kind, .. } => *kind,
            CallError::Encode(_) | CallError::Decode(_) | CallError::Protocol(_) => {
                io::ErrorKind::InvalidData
            }
            CallError::Panicked | CallError::Failed(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
