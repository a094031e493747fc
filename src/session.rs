//! Who waits for what: the bookkeeping of a typed conversation, for both roles.
//!
//! Nothing here reads, writes, waits or looks at a clock: a driver hands in each message that it receives, and is
//! told what it means. So the blocking and the asynchronous drivers are the same protocol, and the tests step two
//! sessions against each other through every order of messages that matters.
//!
//! ```text
//!     client                                       server
//!       | hello, request 1                           |
//!       |------------------------------------------->| compatible? welcome : refusal
//!       |                          welcome, reply 1  |
//!       |<-------------------------------------------|
//!       | request 2, request 3, cancel 2             | each request is answered exactly once,
//!       |------------------------------------------->| in any order, also when it is cancelled
//!       |                          reply 3, error 2  |
//!       |<-------------------------------------------|
//! ```
//!
//! That each request is answered exactly once is what makes an id safe to use again: a call that its caller has
//! given up keeps its place until the late answer has come. A stream is a request too, with any number of items
//! before its answer, which is its end:
//!
//! ```text
//!     client                                       server
//!       | open 1, with 64 credits                    |
//!       |------------------------------------------->| items as far as the credit goes
//!       |           item 1, item 1, item 1, item 1   |
//!       |<-------------------------------------------|
//!       | credit 1: 32 more                          | once the consumer has taken them
//!       |------------------------------------------->|
//!       |                            item 1, end 1   |
//!       |<-------------------------------------------|
//! ```

// With its path, for those who include this file: the fuzz targets.
#[path = "session/credit.rs"]
mod credit;
#[path = "session/due.rs"]
mod due;
#[path = "session/unanswered.rs"]
mod unanswered;

use std::collections::VecDeque;

use crate::wire::{self, Code, Failure, Identity, Malformed, Message, control};
use credit::{Credit, Window, price};
pub(crate) use due::Due;
use unanswered::Unanswered;

/// How many requests a client may have unanswered before it knows what the server allows, which may be no more.
const BEFORE_WELCOME: usize = 1;

/// The most requests that a client ever has unanswered: the place of a call is the lower half of its id.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// Who somebody is, kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Party {
    pub(crate) codec: String,
    pub(crate) service: String,
    pub(crate) fingerprint: u64,
    pub(crate) version: String,
    pub(crate) max_message: u32,
    pub(crate) max_in_flight: u32,
    pub(crate) features: u64,
}

impl Party {
    #[inline]
    pub(crate) fn identity(&self) -> Identity<'_> {
        Identity {
            codec: &self.codec,
            service: &self.service,
            fingerprint: self.fingerprint,
            version: &self.version,
            max_message: self.max_message,
            max_in_flight: self.max_in_flight,
            features: self.features,
        }
    }

    /// The largest message to send there; any size to somebody who does not say.
    #[inline]
    pub(crate) fn takes(&self) -> u32 {
        match self.max_message {
            0 => u32::MAX,
            limit => limit,
        }
    }
}

impl From<Identity<'_>> for Party {
    fn from(identity: Identity<'_>) -> Self {
        Party {
            codec: identity.codec.to_owned(),
            service: identity.service.to_owned(),
            fingerprint: identity.fingerprint,
            version: identity.version.to_owned(),
            max_message: identity.max_message,
            max_in_flight: identity.max_in_flight,
            features: identity.features,
        }
    }
}

/// Whether two parties understand each other's requests. A fingerprint of 0 is that of somebody who does not say.
pub(crate) fn compatible(ours: &Identity<'_>, theirs: &Identity<'_>) -> bool {
    ours.codec == theirs.codec
        && ours.service == theirs.service
        && (ours.fingerprint == theirs.fingerprint
            || ours.fingerprint == 0
            || theirs.fingerprint == 0)
}

// ---------------------------------------------------------------- the client's side

/// The calls of one connection, as the client sees them.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct ClientSession {
    places: Vec<Place>,
    free: Vec<u16>,
    /// The places for which something is [due](Due), each once.
    due: VecDeque<u16>,
    server: Option<Party>,
    /// What the server has said against this client.
    refused: Option<Code>,
    going_away: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Place {
    /// Counts how often the place was used, so that an answer to an earlier call is known as one.
    generation: u16,
    state: PlaceState,
    /// Of a stream.
    window: Window,
    /// Whether it is among those for which something is due.
    is_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceState {
    Free,
    /// Somebody waits for the answer.
    Waiting,
    /// The answer is awaited by nobody, and still to come.
    GivenUp,
    /// Somebody takes the items.
    Streaming,
    /// The items are dropped that are still to come, and the end after them.
    StreamGivenUp,
}

impl PlaceState {
    fn is_stream(self) -> bool {
        matches!(self, PlaceState::Streaming | PlaceState::StreamGivenUp)
    }
}

/// Why no call can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NotNow {
    /// As many calls are unanswered as may be: wait for one of them.
    Full,
    /// The server has said that it ends.
    GoingAway,
    /// The server has refused this client.
    Refused(Code),
}

/// What a message means to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent<'a> {
    /// Nothing to do: the answer to a call that was given up, or an item of such a stream.
    Nothing,
    /// The server has said who it is; there may be room for more calls.
    Welcome,
    /// The answer to a call.
    Reply { id: u32, payload: &'a [u8] },
    /// The failure of a call, or of a stream, which it ends.
    Failed { id: u32, failure: Failure<'a> },
    /// An item of a stream: [`ClientSession::take`] has to follow, once its consumer has it.
    Item { id: u32, payload: &'a [u8] },
    /// The end of a stream.
    Ended { id: u32 },
    /// The server takes no more calls; those that are under way are still answered.
    GoingAway,
    /// The server has answered all that it has read, and reads no more: what is unanswered was not carried out.
    Goodbye,
    /// The server has ended the conversation, and says why.
    Refused {
        failure: Failure<'a>,
        /// It has said so instead of a welcome: nothing was carried out.
        unmet: bool,
    },
}

impl ClientSession {
    /// Begins a call, and says which id it has.
    #[inline]
    pub(crate) fn start(&mut self, method: u32) -> Result<u32, NotNow> {
        self.begin(method, PlaceState::Waiting, Window::default())
    }

    /// Begins a stream with a window of so many credits, and says which id it has and with how many credits it is to
    /// be opened.
    pub(crate) fn open(&mut self, method: u32, window: u32) -> Result<(u32, u32), NotNow> {
        let window = Window::new(window);
        let id = self.begin(method, PlaceState::Streaming, window)?;
        Ok((id, window.size()))
    }

    #[inline]
    fn begin(&mut self, method: u32, state: PlaceState, window: Window) -> Result<u32, NotNow> {
        match self.refused {
            // Who is incompatible may still ask who is there, and ask him to go.
            Some(Code::Incompatible) if method >= control::FIRST => {}
            Some(code) => return Err(NotNow::Refused(code)),
            None => {}
        }
        if self.going_away {
            return Err(NotNow::GoingAway);
        }
        if self.unanswered() >= self.max_in_flight() {
            return Err(NotNow::Full);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let Ok(index) = u16::try_from(self.places.len()) else {
                    return Err(NotNow::Full);
                };
                self.places.push(Place {
                    generation: 0,
                    state: PlaceState::Free,
                    window,
                    is_due: false,
                });
                index
            }
        };
        let place = &mut self.places[usize::from(index)];
        place.generation = place.generation.wrapping_add(1);
        place.state = state;
        place.window = window;
        Ok(u32::from(place.generation) << 16 | u32::from(index))
    }

    /// Takes back a call whose request was not sent.
    pub(crate) fn unsend(&mut self, id: u32) {
        if self
            .place(id)
            .is_some_and(|place| place.state != PlaceState::Free)
        {
            self.release(id);
        }
    }

    /// Gives up a call, or a stream: its answer, when it comes, means nothing, and neither do more items. Whether it
    /// was still unanswered; then the server is [to be told](Due).
    pub(crate) fn give_up(&mut self, id: u32) -> bool {
        let Some(place) = self.place(id) else {
            return false;
        };
        place.state = match place.state {
            PlaceState::Waiting => PlaceState::GivenUp,
            PlaceState::Streaming => PlaceState::StreamGivenUp,
            _ => return false,
        };
        self.owe(id);
        true
    }

    /// Notes that the consumer of a stream has taken an item whose message was so long: credit may be [due](Due) then.
    #[inline]
    pub(crate) fn take(&mut self, id: u32, size: usize) {
        if let Some(window) = self.window(id) {
            window.take(size);
            if window.is_due() {
                self.owe(id);
            }
        }
    }

    /// The window of a stream that is open.
    #[inline]
    fn window(&mut self, id: u32) -> Option<&mut Window> {
        let place = self.place(id)?;
        (place.state == PlaceState::Streaming).then_some(&mut place.window)
    }

    /// What a message of the server's means.
    #[inline]
    pub(crate) fn receive<'a>(&mut self, bytes: &'a [u8]) -> Result<ClientEvent<'a>, Malformed> {
        match wire::parse(bytes)? {
            Message::Reply { id, payload } => Ok(match self.answered(id)? {
                PlaceState::Waiting => ClientEvent::Reply { id, payload },
                PlaceState::GivenUp => ClientEvent::Nothing,
                _ => return Err(Malformed("a reply to the request for a stream")),
            }),
            Message::Error { id, failure } => Ok(match self.answered(id)? {
                PlaceState::Waiting | PlaceState::Streaming => ClientEvent::Failed { id, failure },
                _ => ClientEvent::Nothing,
            }),
            Message::Item { id, payload } => {
                let place = self.place(id).filter(|place| place.state.is_stream());
                let place = place.ok_or(Malformed("an item of no stream"))?;
                if !place.window.receive(bytes.len()) {
                    return Err(Malformed("an item beyond its credit"));
                }
                Ok(match place.state {
                    PlaceState::Streaming => ClientEvent::Item { id, payload },
                    _ => ClientEvent::Nothing,
                })
            }
            Message::End { id } => Ok(match self.answered(id)? {
                PlaceState::Streaming => ClientEvent::Ended { id },
                PlaceState::StreamGivenUp => ClientEvent::Nothing,
                _ => return Err(Malformed("the end of what is no stream")),
            }),
            Message::GoingAway { .. } => {
                self.going_away = true;
                Ok(ClientEvent::GoingAway)
            }
            Message::Goodbye => {
                self.going_away = true;
                Ok(ClientEvent::Goodbye)
            }
            Message::Welcome(server) => {
                self.meet(server)?;
                Ok(ClientEvent::Welcome)
            }
            // The conversation goes on, for what every client may ask.
            Message::Refusal(server, failure) if failure.code == Code::Incompatible => {
                self.meet(server)?;
                self.refused = Some(failure.code);
                Ok(ClientEvent::Welcome)
            }
            // The end can come at any time: a limit is reached, or the protocol broken.
            Message::Refusal(server, failure) => {
                let unmet = self.server.replace(server.into()).is_none();
                self.refused = Some(failure.code);
                Ok(ClientEvent::Refused { failure, unmet })
            }
            Message::Hello(_)
            | Message::Request { .. }
            | Message::Notify { .. }
            | Message::Open { .. }
            | Message::Credit { .. }
            | Message::Cancel { .. } => Err(Malformed("a message that only a client sends")),
        }
    }

    /// Who the server is, once it has said so.
    #[inline]
    pub(crate) fn server(&self) -> Option<&Party> {
        self.server.as_ref()
    }

    /// Whether the server has said that it ends.
    #[inline]
    pub(crate) fn is_going_away(&self) -> bool {
        self.going_away
    }

    fn meet(&mut self, server: Identity<'_>) -> Result<(), Malformed> {
        if self.server.replace(server.into()).is_some() {
            return Err(Malformed("a second welcome"));
        }
        Ok(())
    }

    #[inline]
    fn max_in_flight(&self) -> usize {
        match &self.server {
            // A server that takes none at all could not be asked anything.
            Some(server) => (server.max_in_flight as usize).clamp(1, MAX_IN_FLIGHT),
            None => BEFORE_WELCOME,
        }
    }

    /// Whether a call could begin, or be told why it cannot.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many calls could begin; any number, if they are to be told why they cannot.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        if self.going_away || self.refused.is_some() {
            return usize::MAX;
        }
        self.max_in_flight().saturating_sub(self.unanswered())
    }

    /// How many calls are unanswered, those that were given up among them.
    #[inline]
    pub(crate) fn unanswered(&self) -> usize {
        self.places.len() - self.free.len()
    }

    #[inline]
    fn place(&mut self, id: u32) -> Option<&mut Place> {
        let place = self.places.get_mut(id as usize & 0xFFFF)?;
        (u32::from(place.generation) == id >> 16).then_some(place)
    }

    #[inline]
    fn answered(&mut self, id: u32) -> Result<PlaceState, Malformed> {
        match self.place(id).map(|place| place.state) {
            None | Some(PlaceState::Free) => Err(Malformed("an answer to no request")),
            Some(state) => {
                self.release(id);
                Ok(state)
            }
        }
    }

    #[inline]
    fn release(&mut self, id: u32) {
        if let Some(place) = self.place(id) {
            place.state = PlaceState::Free;
            self.free.push((id & 0xFFFF) as u16);
        }
    }
}

// ---------------------------------------------------------------- the server's side

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

// With its path, for those who include this file: the fuzz targets.
#[cfg(test)]
#[path = "session/tests.rs"]
mod tests;
