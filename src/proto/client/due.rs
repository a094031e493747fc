//! What a client owes its server besides requests: that calls were given up, and credit.
//!
//! Nobody waits for these to be sent, and whoever is about to may find that the connection has no room just now. So they
//! are not messages that are sent or lost, but stay due until a driver has sent them: each driver asks for what is due
//! whenever it can send. A place owes one of the two at most, so that there are never more of them than places.

use super::{ClientSession, PlaceState};
use crate::proto::wire;

/// A message that is due. One that cannot be sent is due [still](ClientSession::keep).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A call, or a stream, was given up.
    Cancel { id: u32 },
    /// A stream may send so much more; that counts as sent.
    Credit { id: u32, more: u32 },
}

impl Due {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Due::Cancel { id } => wire::cancel(out, id),
            Due::Credit { id, more } => wire::credit(out, id, more),
        }
    }
}

impl ClientSession {
    /// Whether something may be due.
    #[inline]
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes what is due next, if anything.
    pub(crate) fn next_due(&mut self) -> Option<Due> {
        while let Some(index) = self.due.pop_front() {
            let place = &mut self.places[usize::from(index)];
            place.is_due = false;
            let id = u32::from(place.generation) << 16 | u32::from(index);
            match place.state {
                PlaceState::GivenUp | PlaceState::StreamGivenUp => {
                    return Some(Due::Cancel { id });
                }
                PlaceState::Streaming => {
                    if let Some(more) = place.window.due() {
                        return Some(Due::Credit { id, more });
                    }
                }
                // The answer came first.
                PlaceState::Free | PlaceState::Waiting => {}
            }
        }
        None
    }

    /// Takes back what could not be sent: it is the next that is due.
    pub(crate) fn keep(&mut self, due: Due) {
        let id = match due {
            Due::Cancel { id } => id,
            Due::Credit { id, more } => {
                if let Some(window) = self.window(id) {
                    window.keep(more);
                }
                id
            }
        };
        let Some(place) = self.place(id) else { return };
        if place.state != PlaceState::Free && !std::mem::replace(&mut place.is_due, true) {
            self.due.push_front(index(id));
        }
    }

    /// Nothing can be sent any more.
    pub(crate) fn forget_due(&mut self) {
        for index in std::mem::take(&mut self.due) {
            self.places[usize::from(index)].is_due = false;
        }
    }

    /// Something is due for a call, or for a stream.
    pub(super) fn owe(&mut self, id: u32) {
        let Some(place) = self.place(id) else { return };
        if !std::mem::replace(&mut place.is_due, true) {
            self.due.push_back(index(id));
        }
    }
}

/// Of the place of a call.
fn index(id: u32) -> u16 {
    (id & 0xFFFF) as u16
}
