//! Which calls wait for room to begin, and which are woken when there is some.
//!
//! Room is offered and not given: a call that is woken for it takes it when it looks. So one that does not look, because
//! its task has something else to do, keeps no other waiting: after a while its offer is passed on to the next, and a call
//! that looks may take what is not offered to others.

use std::time::Duration;

use super::Calls;
use super::slot::{Asked, Stage, Ticket};
use crate::Deadline;
use crate::proto::woken::Woken;

/// How long an offer lasts.
const OFFER: Duration = Duration::from_millis(10);

impl<W> Calls<W> {
    /// How many calls could begin; any number, if they are to be told why they cannot.
    #[inline]
    pub(super) fn room(&self) -> usize {
        if self.going_away || self.refused.is_some() {
            return usize::MAX;
        }
        let room = self.max_in_flight.saturating_sub(self.unanswered);
        room.min(self.table.room())
    }

    /// Whether a call can have an id.
    #[inline]
    pub(super) fn has_place(&self) -> bool {
        self.unanswered < self.max_in_flight && self.table.room() > 0
    }

    /// Whether there is room that is not offered to a call.
    #[inline]
    pub(super) fn has_free_room(&self) -> bool {
        self.room() > self.room.offers
    }

    /// Whether there is room for this call.
    pub(super) fn is_room_of(&mut self, ticket: Ticket) -> bool {
        let is_mine = self.table.slot(ticket).offered == Some(self.room.round);
        self.has_free_room() || (is_mine && self.room() > 0)
    }

    /// Has a call wait for room, behind those that do already.
    #[cold]
    pub(super) fn wait_for_room(&mut self, asked: Asked, deadline: Deadline) -> Ticket {
        let (ticket, _) = self.enter(false, Stage::Waiting, asked, deadline);
        self.room.next_in_order += 1;
        let order = self.room.next_in_order;
        self.room.queue.insert(order, ticket);
        let slot = self.table.slot(ticket);
        (slot.order, slot.offered) = (order, None);
        ticket
    }

    /// A call waits in its old position for the next offer: it has looked, and there was nothing for it.
    pub(crate) fn line_up(&mut self, ticket: Ticket) {
        let slot = self.table.slot(ticket);
        let (order, offered) = (slot.order, slot.offered.take());
        self.room.queue.insert(order, ticket);
        self.took_offer(offered);
    }

    /// Makes no offers to a call that looks by itself, until it [lines up](Self::line_up) again.
    pub(crate) fn step_aside(&mut self, ticket: Ticket) {
        let order = self.table.slot(ticket).order;
        self.room.queue.remove(&order);
    }

    fn took_offer(&mut self, offered: Option<u64>) {
        self.room.offers -= usize::from(offered == Some(self.room.round));
    }

    /// A call that has waited begins.
    pub(super) fn takes_room(&mut self, ticket: Ticket) {
        self.stop_waiting_for_room(ticket);
        self.room.beyond = 0;
    }

    /// A call begins, or waits no longer; then others may be offered what it was.
    pub(super) fn stop_waiting_for_room(&mut self, ticket: Ticket) {
        let slot = self.table.slot(ticket);
        let (order, offered) = (slot.order, slot.offered.take());
        if offered.is_none() {
            self.room.queue.remove(&order);
        }
        self.took_offer(offered);
    }

    /// Wakes those that wait for room, as far as there is any.
    #[inline]
    pub(crate) fn offer_room(&mut self, woken: &mut Woken<W>) {
        if !self.room.queue.is_empty() {
            self.offer_room_that_is_waited_for(woken);
        }
    }

    fn offer_room_that_is_waited_for(&mut self, woken: &mut Woken<W>) {
        let had_offers = self.room.offers > 0;
        let room = self.room();
        let most = room.saturating_add(self.room.beyond * usize::from(room > 0));
        while self.room.offers < most {
            let Some((_, ticket)) = self.room.queue.pop_first() else {
                break;
            };
            let slot = self.table.slot(ticket);
            slot.offered = Some(self.room.round);
            self.room.offers += 1;
            woken.add(slot.waker.take());
        }
        if self.room.offers > 0 && !had_offers {
            self.room.renewed = true;
            if self.room.until == Deadline::NEVER {
                self.room.until = Deadline::NOW;
            }
        }
    }

    /// Passes on the offers that were not taken in their time.
    pub(super) fn pass_on_room(&mut self, now: u64, woken: &mut Woken<W>) {
        if self.room.offers == 0 {
            self.room.until = Deadline::NEVER;
        } else if self.room.until.has_passed_at(now) && !self.room.renewed {
            self.pass_on_offers();
        }
        self.offer_room(woken);
        if self.room.until.has_passed_at(now) {
            self.room.until = Deadline::after_time(now, OFFER);
            self.room.renewed = false;
        }
    }

    fn pass_on_offers(&mut self) {
        self.room.round += 1;
        self.room.beyond = (self.room.beyond * 2).max(self.room.offers);
        self.room.offers = 0;
        self.room.until = Deadline::NEVER;
    }

    /// Passes on all offers, and makes others: for a driver that has no timers.
    pub(crate) fn pass_on_all_room(&mut self, woken: &mut Woken<W>) {
        self.pass_on_offers();
        self.offer_room(woken);
    }
}
