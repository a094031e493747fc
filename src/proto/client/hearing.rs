//! What the messages of the peer mean to the calls.

use std::io;
use std::sync::Arc;

use super::Calls;
use super::answer::Answer;
use super::end::{End, breaks_protocol, call_failed, cannot_receive};
use super::slot::{Stage, Ticket};
use super::table::MAX_IN_FLIGHT;
use crate::proto::Party;
use crate::proto::call_error::CallError;
use crate::proto::wire::{self, Code, Identity, Malformed, Message};
use crate::proto::woken::Woken;

impl<W> Calls<W> {
    /// A buffer to receive into.
    #[inline]
    pub(crate) fn buffer(&mut self) -> Arc<Vec<u8>> {
        self.spare.take()
    }

    /// A message has come, which begins at `begins`. Says whether that is why there is something to send.
    #[inline]
    pub(crate) fn received(
        &mut self,
        message: Arc<Vec<u8>>,
        begins: usize,
        woken: &mut Woken<W>,
    ) -> bool {
        let released = match self.hear(message, begins, woken) {
            Ok(released) => released,
            Err(end) => {
                self.end(end, woken);
                false
            }
        };
        self.offer_room(woken);
        released
    }

    /// There is nothing more to receive: the connection was closed, or has failed.
    pub(crate) fn broke(&mut self, error: Option<&io::Error>, woken: &mut Woken<W>) {
        let end = error.map_or_else(End::broken, |error| End::new(cannot_receive(error)));
        self.end(end, woken);
    }

    #[inline]
    pub(super) fn hear(
        &mut self,
        message: Arc<Vec<u8>>,
        begins: usize,
        woken: &mut Woken<W>,
    ) -> Result<bool, End> {
        let bytes = &message[begins..];
        match wire::parse(bytes)? {
            Message::Reply { id, payload } => {
                let payload = payload.len();
                let call = self.table.unanswered(id);
                let (ticket, slot) = call.ok_or(Malformed("an answer to no request"))?;
                if slot.is_stream() {
                    return Err(Malformed("a reply to the request for a stream").into());
                }
                slot.unanswered = false;
                self.unanswered -= 1;
                let answer = Answer::new(message, begins, payload);
                if slot.stage == Stage::Sent {
                    // As nearly always.
                    slot.stage = Stage::Over;
                    slot.result = Ok(Some(answer));
                    self.awake += 1;
                    woken.add(slot.waker.take());
                } else {
                    self.conclude(ticket, Ok(Some(answer)), woken);
                }
                return Ok(false);
            }
            Message::Item { id, payload } => {
                let (payload, size) = (payload.len(), bytes.len());
                let stream = self.table.unanswered(id);
                let stream = stream.filter(|(_, slot)| slot.is_stream());
                let (_, slot) = stream.ok_or(Malformed("an item of no stream"))?;
                if !slot.window.receive(size) {
                    return Err(Malformed("an item beyond its credit").into());
                }
                if slot.is_live() {
                    slot.open = true;
                    let item = Answer::new(message, begins, payload);
                    slot.items.push_back(item);
                    woken.add(slot.waker.take());
                    return Ok(false);
                }
            }
            Message::Error { id, failure } => {
                let ticket = self.answered(id)?;
                let failure = call_failed(&failure, &self.ours, self.server.as_ref());
                self.conclude(ticket, Err(failure), woken);
            }
            Message::End { id } => {
                let ticket = self.answered(id)?;
                if !self.table.slot(ticket).is_stream() {
                    return Err(Malformed("the end of what is no stream").into());
                }
                self.conclude(ticket, Ok(None), woken);
            }
            Message::GoingAway { .. } => self.going_away = true,
            Message::Goodbye => {
                self.going_away = true;
                return Err(End::goodbye());
            }
            Message::Welcome(server) => {
                self.meet(server)?;
                return Ok(self.welcomed(message, woken));
            }
            // The conversation goes on, for what every client may ask.
            Message::Refusal(server, failure) if failure.code == Code::Incompatible => {
                self.meet(server)?;
                self.refused = Some(failure.code);
                return Ok(self.welcomed(message, woken));
            }
            // The end can come at any time: a limit is reached, or the protocol broken.
            Message::Refusal(server, failure) => {
                let unmet = self.server.replace(server.into()).is_none();
                self.refused = Some(failure.code);
                let theirs = self.server.as_ref();
                return Err(End::refused(&failure, unmet, &self.ours, theirs));
            }
            Message::Hello(_)
            | Message::Request { .. }
            | Message::Notify { .. }
            | Message::Open { .. }
            | Message::Credit { .. }
            | Message::Cancel { .. } => {
                return Err(Malformed("a message that only a client sends").into());
            }
        }
        self.spare.keep(message);
        Ok(false)
    }

    fn meet(&mut self, server: Identity<'_>) -> Result<(), Malformed> {
        // A server that takes none at all could not be asked anything.
        self.max_in_flight = (server.max_in_flight as usize).clamp(1, MAX_IN_FLIGHT);
        match self.server.replace(server.into()) {
            None => Ok(()),
            Some(_) => Err(Malformed("a second welcome")),
        }
    }

    /// The server has said how large a message may be.
    fn welcomed(&mut self, message: Arc<Vec<u8>>, woken: &mut Woken<W>) -> bool {
        self.spare.keep(message);
        let limit = self.server.as_ref().map_or(u32::MAX, Party::takes);
        self.release_held(limit, woken);
        self.has_unsent()
    }

    /// The call whose id is answered now.
    fn answered(&mut self, id: u32) -> Result<Ticket, Malformed> {
        let call = self.table.unanswered(id);
        let (ticket, slot) = call.ok_or(Malformed("an answer to no request"))?;
        slot.unanswered = false;
        self.unanswered -= 1;
        Ok(ticket)
    }

    /// Hands the answer to the call, if that still waits for it.
    fn conclude(
        &mut self,
        ticket: Ticket,
        result: Result<Option<Answer>, CallError>,
        woken: &mut Woken<W>,
    ) {
        let slot = self.table.slot(ticket);
        match slot.stage {
            Stage::GivenUp => self.table.free(ticket),
            // Its deadline has passed, of which it has not heard.
            Stage::Over => {}
            _ => {
                slot.open = true;
                return self.finish(ticket, result, woken);
            }
        }
        if let Ok(Some(answer)) = result {
            self.spare.keep(answer.message);
        }
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        End::new(breaks_protocol(malformed))
    }
}
