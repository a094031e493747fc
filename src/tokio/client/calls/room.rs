//! Who waits for room to begin, and who is woken when there is some.
//!
//! Room is offered and not given: who is woken for it takes it when it is polled. So one that is not polled, because its
//! task has something else to do, keeps nobody waiting: after a while its offer is passed on to the next, and whoever is
//! polled may take what is not offered to others.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::super::slot::{Me, Slot, Stage, Ticket};
use super::{Calls, start};
use crate::Deadline;
use crate::client::common::cannot_begin;
use crate::proto::NotNow;
use crate::proto::call_error::CallError;

/// How long an offer lasts.
const OFFER: Duration = Duration::from_millis(10);

/// Those that wait for room.
#[derive(Debug)]
pub(super) struct Room {
    /// Those that have not been woken for some, in their order.
    queue: BTreeMap<u64, Ticket>,
    next_in_order: u64,
    /// How many have been woken for some in this round, and have not looked yet.
    offers: usize,
    round: u64,
    /// How many more offers than there is room for, because of those that did not look.
    beyond: usize,
    /// When the offers are passed on.
    pub(super) until: Deadline,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            queue: BTreeMap::new(),
            next_in_order: 0,
            offers: 0,
            round: 0,
            beyond: 0,
            until: Deadline::NEVER,
        }
    }
}

impl Calls {
    /// Whether there is room that is not offered to anybody.
    pub(super) fn has_free_room(&self) -> bool {
        self.session.room() > self.room.offers
    }

    /// Has a call wait for room, behind those that do already.
    pub(super) fn wait_for_room(&mut self, ticket: Ticket) {
        self.room.next_in_order += 1;
        let order = self.room.next_in_order;
        self.room.queue.insert(order, ticket);
        let slot = &mut self.slots[ticket.slot];
        (slot.order, slot.offered) = (order, None);
    }

    /// Begins a call that waits for room, if there is some for it.
    pub(super) fn poll_room(
        &mut self,
        ticket: Ticket,
        me: &mut Me<'_>,
    ) -> Poll<Result<(), CallError>> {
        let slot = &self.slots[ticket.slot];
        if slot.deadline.is_timed() && slot.deadline.has_passed() {
            // Whoever minds the deadlines has not come to it yet.
            self.stop_waiting_for_room(ticket);
            self.set(ticket, Stage::Over);
            return Poll::Ready(Err(CallError::TimedOut { sent: false }));
        }
        let is_mine = slot.offered == Some(self.room.round);
        let call = slot
            .call
            .filter(|_| self.has_free_room() || (is_mine && self.session.has_room()));
        let begun = call.map_or(Err(NotNow::Full), |mut call| {
            start(&mut self.session, &mut call)?;
            Ok(call)
        });
        match begun {
            Ok(call) => {
                self.stop_waiting_for_room(ticket);
                self.room.beyond = 0;
                self.slots[ticket.slot].call = Some(call);
                self.find_by(call.id, ticket);
                self.set(ticket, Stage::Begun);
                Poll::Ready(Ok(()))
            }
            Err(NotNow::Full) => {
                self.decline(ticket);
                self.wait(ticket, me).map(Err)
            }
            Err(why) => {
                self.stop_waiting_for_room(ticket);
                self.set(ticket, Stage::Over);
                let server = self.session.server();
                Poll::Ready(Err(cannot_begin(why, &self.ours, server)))
            }
        }
    }

    /// It has looked, and there was nothing for it: it waits in its old place for the next offer.
    fn decline(&mut self, ticket: Ticket) {
        let slot = &mut self.slots[ticket.slot];
        if let Some(round) = slot.offered.take() {
            self.room.offers -= usize::from(round == self.room.round);
            self.room.queue.insert(slot.order, ticket);
        }
    }

    /// It begins, or waits no longer; then others may be offered what it was.
    pub(super) fn stop_waiting_for_room(&mut self, ticket: Ticket) {
        let slot = &mut self.slots[ticket.slot];
        match slot.offered.take() {
            Some(round) => self.room.offers -= usize::from(round == self.room.round),
            None => drop(self.room.queue.remove(&slot.order)),
        }
    }

    /// Nobody is to begin any more: all of them fail.
    pub(super) fn fail_waiting(&mut self, why: &CallError, woken: &mut Vec<Waker>) {
        for slot in 0..self.slots.len() {
            let Slot { stage, serial, .. } = self.slots[slot];
            if stage == Stage::Waiting {
                let ticket = Ticket { slot, serial };
                self.stop_waiting_for_room(ticket);
                self.finish(ticket, Err(why.clone()), woken);
            }
        }
    }

    /// Wakes those that wait for room, as far as there is any.
    pub(super) fn offer_room(&mut self, woken: &mut Vec<Waker>) {
        if self.room.queue.is_empty() {
            return;
        }
        let had_offers = self.room.offers > 0;
        let room = self.session.room();
        let most = room.saturating_add(self.room.beyond * usize::from(room > 0));
        while self.room.offers < most {
            let Some((_, ticket)) = self.room.queue.pop_first() else {
                break;
            };
            let slot = &mut self.slots[ticket.slot];
            slot.offered = Some(self.room.round);
            self.room.offers += 1;
            woken.extend(slot.waker.take());
        }
        if self.room.offers > 0 && !had_offers {
            self.room.until = Deadline::after(OFFER);
            if !self.timers {
                // It passes them on when it is polled next.
                woken.extend(self.driver.clone());
            } else if self.room.until < self.alarm {
                self.alarm = self.room.until;
                woken.extend(self.driver.clone());
            }
        }
    }

    /// Passes on the offers that were not taken in their time.
    pub(super) fn pass_on_room(&mut self, now: u64, woken: &mut Vec<Waker>) {
        if self.room.offers == 0 {
            self.room.until = Deadline::NEVER;
        } else if !self.timers || self.room.until.has_passed_at(now) {
            self.room.round += 1;
            self.room.beyond = (self.room.beyond * 2).max(self.room.offers);
            self.room.offers = 0;
            self.room.until = Deadline::NEVER;
        }
        self.offer_room(woken);
    }
}
