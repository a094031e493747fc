//! The calls of one connection, as the client sees them.

mod due;

use std::collections::VecDeque;

use super::credit::Window;
use super::party::Party;
use super::wire::{self, Code, Failure, Identity, Malformed, Message, control};
pub(crate) use due::Due;

/// How many requests a client may have unanswered before it knows what the server allows, which may be no more.
const BEFORE_WELCOME: usize = 1;

/// The most requests that a client ever has unanswered: the place of a call is the lower half of its id.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// The calls of one connection, as the client sees them.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct ClientSession {
    places: Vec<Place>,
    free: Vec<u16>,
    /// The places for which something is [due](Due), each once.
    pub(super) due: VecDeque<u16>,
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
