//! What ends a connection, or a call, and what that is to the callers.

use std::io;

use crate::Error;
use crate::proto::Party;
use crate::proto::call_error::CallError;
use crate::proto::wire::{Code, Failure, Malformed};

/// Why no call can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NotNow {
    /// The server has said that it ends.
    GoingAway,
    /// The server has refused this client.
    Refused(Code),
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
        NotNow::GoingAway => CallError::Unavailable,
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

/// Why a connection has ended, and what that is to each of its calls: it need not be what went wrong with the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    why: CallError,
    /// What is unanswered was not carried out.
    undone: bool,
}

impl End {
    pub(crate) fn new(why: CallError) -> End {
        End { why, undone: false }
    }

    /// The connection broke, or was closed.
    pub(crate) fn broken() -> End {
        End::new(CallError::Disconnected { sent: true })
    }

    /// The server has answered all that it has read, and reads no more.
    pub(crate) fn goodbye() -> End {
        End {
            why: CallError::Unavailable,
            undone: true,
        }
    }

    /// The server has refused the conversation: instead of a welcome, or later.
    pub(crate) fn refused(
        failure: &Failure<'_>,
        unmet: bool,
        ours: &Party,
        theirs: Option<&Party>,
    ) -> End {
        End {
            why: CallError::from_server(failure, ours, theirs),
            undone: unmet,
        }
    }

    /// What it is to a call whose request was not sent.
    pub(crate) fn of_unsent(&self) -> CallError {
        match &self.why {
            why if is_of_all(why) => why.clone(),
            _ => CallError::Disconnected { sent: false },
        }
    }

    /// What it is to a call whose request was sent, in a message of so many bytes.
    pub(crate) fn of_sent(&self, size: usize) -> CallError {
        match &self.why {
            // It was this one.
            CallError::TooLarge { limit, .. } if size as u64 > *limit => CallError::TooLarge {
                limit: *limit,
                size: size as u64,
                reply: false,
            },
            why @ CallError::Protocol(_) => why.clone(),
            why if self.undone && is_of_all(why) => why.clone(),
            // Whatever the server has against the connection, or against another call: this one may have been
            // carried out.
            _ => CallError::Disconnected { sent: !self.undone },
        }
    }
}

/// Whether what has ended a connection says something to those whom it did not concern.
fn is_of_all(why: &CallError) -> bool {
    match why {
        CallError::TooLarge { .. } | CallError::Disconnected { .. } => false,
        CallError::Protocol(_) => true,
        why => !why.was_sent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code, unmet: bool) -> End {
        let failure = Failure {
            limit: 1_000,
            size: 5_000,
            ..Failure::new(code, "why")
        };
        End::refused(&failure, unmet, &Party::default(), None)
    }

    const CODES: [Code; 11] = [
        Code::Cancelled,
        Code::Panicked,
        Code::TooLarge,
        Code::OverLimit,
        Code::Incompatible,
        Code::Unavailable,
        Code::UnknownMethod,
        Code::Malformed,
        Code::Denied,
        Code::Failed,
        Code::Other(99),
    ];

    /// Whatever ends a connection: a call that was sent may have been carried out, unless it certainly was not.
    #[test]
    fn an_end_says_truthfully_whether_a_call_was_sent() {
        let protocol = |error: &CallError| matches!(error, CallError::Protocol(_));
        for code in CODES {
            let end = refused(code, false);
            assert!(end.of_sent(500).was_sent(), "{code:?}");
            // It says what is wrong with the connection; that it was not sent would be the better news.
            let unsent = end.of_unsent();
            assert!(!unsent.was_sent() || protocol(&unsent), "{code:?}");

            let end = refused(code, true);
            for error in [end.of_sent(500), end.of_unsent()] {
                assert!(!error.was_sent() || protocol(&error), "{code:?}");
            }
        }
        for end in [End::broken(), End::new(CallError::Protocol(String::new()))] {
            assert!(end.of_sent(500).was_sent());
        }
        let closed = End::broken();
        assert_eq!(closed.of_unsent(), CallError::Disconnected { sent: false });
        for error in [End::goodbye().of_sent(500), End::goodbye().of_unsent()] {
            assert_eq!(error, CallError::Unavailable);
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_told_of_to_its_own_call_only() {
        for unmet in [false, true] {
            let end = refused(Code::TooLarge, unmet);
            let own = CallError::TooLarge {
                limit: 1_000,
                size: 1_001,
                reply: false,
            };
            assert_eq!(end.of_sent(1_001), own);
            let other = CallError::Disconnected { sent: !unmet };
            assert_eq!(end.of_sent(1_000), other);
            assert_eq!(end.of_unsent(), CallError::Disconnected { sent: false });
        }
    }
}
