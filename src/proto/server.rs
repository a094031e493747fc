//! The requests of one connection, as the server sees them.

mod unanswered;

use super::credit::{Credit, price};
use super::party::{Party, compatible};
use super::wire::{self, Code, Failure, Identity, Malformed, Message, control};
use unanswered::Unanswered;

/// The requests of one connection, as the server sees them.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct ServerSession {
    client: Option<Party>,
    compatible: bool,
    unanswered: Unanswered,
    /// Requests whose answers are being sent.
    answering: usize,
    max_in_flight: usize,
}

/// What a message means to a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerEvent<'a> {
    /// Nothing to do.
    Nothing,
    /// The client has said who it is: see [`ServerSession::greet`].
    Hello,
    /// A request, which has to be answered.
    Request {
        id: u32,
        method: u32,
        timeout: Option<std::time::Duration>,
        payload: &'a [u8],
    },
    /// A request for a stream, which has to be ended as others are answered.
    Open {
        id: u32,
        method: u32,
        timeout: Option<std::time::Duration>,
        payload: &'a [u8],
    },
    /// A stream may send more.
    Credit { id: u32 },
    /// A request that may not be served, and has to be answered so.
    Reject { id: u32, failure: Failure<'a> },
    /// What is not to be answered.
    Notify { method: u32, payload: &'a [u8] },
    /// The client does not wait for the answer any more, which it has to get all the same; nor for more items.
    Cancel { id: u32 },
}

impl ServerSession {
    pub(crate) fn new(max_in_flight: usize) -> ServerSession {
        ServerSession {
            client: None,
            compatible: false,
            unanswered: Unanswered::default(),
            answering: 0,
            max_in_flight,
        }
    }

    /// What a message of the client's means. An error ends the conversation; the client is told, and the
    /// connection closed.
    #[inline]
    pub(crate) fn receive<'a>(
        &mut self,
        ours: &Identity<'_>,
        bytes: &'a [u8],
    ) -> Result<ServerEvent<'a>, Malformed> {
        let message = wire::parse(bytes)?;
        if self.client.is_none() && !matches!(message, Message::Hello(_)) {
            return Err(Malformed("a message before the hello"));
        }
        match message {
            Message::Hello(client) => {
                self.compatible = compatible(ours, &client);
                if self.client.replace(client.into()).is_some() {
                    return Err(Malformed("a second hello"));
                }
                Ok(ServerEvent::Hello)
            }
            Message::Request {
                id,
                method,
                timeout,
                payload,
            } => Ok(match self.admit(id, method, None)? {
                Some(failure) => ServerEvent::Reject { id, failure },
                None => ServerEvent::Request {
                    id,
                    method,
                    timeout,
                    payload,
                },
            }),
            Message::Open {
                id,
                method,
                timeout,
                credit,
                payload,
            } => {
                let mut granted = Credit::default();
                if !granted.grant(credit) {
                    return Err(TOO_MUCH_CREDIT);
                }
                Ok(match self.admit(id, method, Some(granted))? {
                    Some(failure) => ServerEvent::Reject { id, failure },
                    None => ServerEvent::Open {
                        id,
                        method,
                        timeout,
                        payload,
                    },
                })
            }
            Message::Credit { id, more } => self.grant(id, more),
            Message::Notify { method, payload } if self.compatible && method < control::FIRST => {
                Ok(ServerEvent::Notify { method, payload })
            }
            Message::Cancel { id } if self.unanswered.has(id) => Ok(ServerEvent::Cancel { id }),
            // It was answered when the client gave it up; or it is of no use to anybody.
            Message::Cancel { .. } | Message::Notify { .. } => Ok(ServerEvent::Nothing),
            Message::Welcome(_)
            | Message::Refusal(..)
            | Message::Reply { .. }
            | Message::Error { .. }
            | Message::Item { .. }
            | Message::End { .. }
            | Message::GoingAway { .. }
            | Message::Goodbye => Err(Malformed("a message that only a server sends")),
        }
    }

    /// Takes in a request, or says why not.
    #[inline]
    fn admit(
        &mut self,
        id: u32,
        method: u32,
        credit: Option<Credit>,
    ) -> Result<Option<Failure<'static>>, Malformed> {
        if self.unanswered.has(id) {
            return Err(Malformed("an id that is in use"));
        }
        Ok(if !self.compatible && method < control::FIRST {
            Some(Failure::new(Code::Incompatible, ""))
        } else if credit.is_some() && method >= control::FIRST {
            Some(Failure::new(
                Code::UnknownMethod,
                "no control request is a stream",
            ))
        } else if self.unanswered.len() >= self.max_in_flight {
            Some(Failure::new(Code::OverLimit, "requests in flight"))
        } else {
            self.unanswered.add(id, credit);
            None
        })
    }

    /// Grants a stream more credit.
    fn grant<'a>(&mut self, id: u32, more: u32) -> Result<ServerEvent<'a>, Malformed> {
        // It may cross the end of the stream.
        let Some(credit) = self.unanswered.get_mut(id) else {
            return Ok(ServerEvent::Nothing);
        };
        let Some(credit) = credit else {
            return Err(Malformed("credit for what is no stream"));
        };
        if !credit.grant(more) {
            return Err(TOO_MUCH_CREDIT);
        }
        Ok(ServerEvent::Credit { id })
    }

    /// Whether an item of a stream may be sent now.
    pub(crate) fn may_send(&self, id: u32) -> bool {
        self.unanswered
            .get(id)
            .flatten()
            .is_some_and(Credit::is_left)
    }

    /// Pays for an item of a stream whose message is so long, and says how much, in credits. If nothing, it may not be
    /// sent now.
    #[inline]
    #[must_use]
    pub(crate) fn pay(&mut self, id: u32, size: usize) -> Option<u32> {
        let credit = self.unanswered.get_mut(id)?.as_mut()?;
        credit.pay(size).then(|| price(size))
    }

    /// Writes the answer to the hello.
    pub(crate) fn greet(&self, ours: &Identity<'_>, out: &mut Vec<u8>) {
        if self.compatible {
            wire::welcome(out, ours);
        } else {
            let why = Failure::new(Code::Incompatible, "another service, version or codec");
            wire::refusal(out, ours, &why);
        }
    }

    /// Notes that a request is about to be answered, or a stream about to be ended: with the answer in hand, the client may use the id again.
    /// Whether it was still unanswered; then [`answered`](Self::answered) has to follow.
    #[inline]
    pub(crate) fn answer(&mut self, id: u32) -> bool {
        let was = self.unanswered.remove(id);
        self.answering += usize::from(was);
        was
    }

    /// Notes that an answer has been sent.
    #[inline]
    pub(crate) fn answered(&mut self) {
        self.answering -= 1;
    }

    /// How many requests are unanswered, or are just being answered.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.unanswered.len() + self.answering
    }

    /// Who the client is, once it has said so.
    #[inline]
    pub(crate) fn client(&self) -> Option<&Party> {
        self.client.as_ref()
    }
}

const TOO_MUCH_CREDIT: Malformed = Malformed("more credit than there can be");
