//! The table of calls.
//!
//! The index of a call that has begun is the lower half of its id, and the number of calls that have had its slot is the
//! upper half. Calls that wait for room and notifications have no id, and stand aside.

use super::slot::{Slot, Stage, Ticket};

/// The most requests that one end ever has unanswered: the place of a call is the lower half of its id.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// The slot numbers from here on are of calls that have no id.
const ASIDE: u32 = MAX_IN_FLIGHT as u32;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Table<W> {
    places: List<W>,
    aside: List<W>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct List<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
}

impl<W> List<W> {
    const fn new() -> List<W> {
        List {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    #[inline]
    fn enter(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| self.add())
    }

    #[cold]
    fn add(&mut self) -> u32 {
        self.slots.push(Slot::new());
        self.slots.len() as u32 - 1
    }
}

impl<W> Table<W> {
    pub(super) const fn new() -> Table<W> {
        Table {
            places: List::new(),
            aside: List::new(),
        }
    }

    /// How many more calls could have an id.
    #[inline]
    pub(super) fn room(&self) -> usize {
        MAX_IN_FLIGHT - self.places.slots.len() + self.places.free.len()
    }

    /// Takes a slot: one with an id, of which there has to be [room](Self::room), or one aside.
    #[inline(always)]
    pub(super) fn enter(&mut self, with_id: bool) -> (Ticket, &mut Slot<W>) {
        let slot = match with_id {
            true => self.places.enter(),
            false => ASIDE + self.aside.enter(),
        };
        let entry = self.at(slot);
        entry.serial += 1;
        let serial = entry.serial;
        (Ticket { slot, serial }, entry)
    }

    /// Gives a slot back.
    #[inline]
    pub(super) fn free(&mut self, ticket: Ticket) {
        self.slot(ticket).stage = Stage::Free;
        self.freed(ticket);
    }

    /// A slot is free whose stage says so.
    #[inline]
    pub(super) fn freed(&mut self, ticket: Ticket) {
        match ticket.slot.checked_sub(ASIDE) {
            None => self.places.free.push(ticket.slot),
            Some(slot) => self.aside.free.push(slot),
        }
    }

    #[inline]
    fn at(&mut self, slot: u32) -> &mut Slot<W> {
        match slot.checked_sub(ASIDE) {
            None => &mut self.places.slots[slot as usize],
            Some(slot) => &mut self.aside.slots[slot as usize],
        }
    }

    /// The slot of a ticket that is good.
    #[inline]
    pub(super) fn slot(&mut self, ticket: Ticket) -> &mut Slot<W> {
        self.at(ticket.slot)
    }

    /// The slot of a call that may be gone.
    #[inline]
    pub(super) fn find(&mut self, ticket: Ticket) -> Option<&mut Slot<W>> {
        let slot = self.at(ticket.slot);
        (slot.serial == ticket.serial && slot.stage != Stage::Free).then_some(slot)
    }

    /// The call that has an id which the peer has not answered.
    #[inline]
    pub(super) fn unanswered(&mut self, id: u32) -> Option<(Ticket, &mut Slot<W>)> {
        let slot = id & 0xFFFF;
        let entry = self.places.slots.get_mut(slot as usize)?;
        let ticket = Ticket {
            slot,
            serial: entry.serial,
        };
        (entry.unanswered && ticket.id() == id).then_some((ticket, entry))
    }

    /// The call in a place.
    pub(super) fn in_place(&mut self, place: u16) -> (Ticket, &mut Slot<W>) {
        let slot = u32::from(place);
        let entry = self.at(slot);
        let serial = entry.serial;
        (Ticket { slot, serial }, entry)
    }

    /// All calls of which that holds.
    pub(super) fn all(&self, which: impl Fn(&Slot<W>) -> bool) -> Vec<Ticket> {
        let places = self.places.slots.iter().zip(0..);
        let all = places.chain(self.aside.slots.iter().zip(ASIDE..));
        let those = all.filter(|(entry, _)| which(entry));
        let ticket = |(entry, slot): (&Slot<W>, u32)| Ticket {
            slot,
            serial: entry.serial,
        };
        those.map(ticket).collect()
    }
}
