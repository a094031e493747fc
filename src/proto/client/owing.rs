//! What is due, and when: at most one thing for each place.

use super::Calls;
use super::due::Due;
use super::slot::{Stage, Ticket};

impl<W> Calls<W> {
    /// Whether something may be due.
    #[inline]
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes what is due next, if anything.
    pub(super) fn next_due(&mut self) -> Option<Due> {
        while let Some(place) = self.due.pop_front() {
            let (ticket, slot) = self.table.in_place(place);
            let id = ticket.id();
            slot.is_due = false;
            match slot.stage {
                // The answer came first.
                _ if !slot.unanswered => {}
                Stage::GivenUp | Stage::Over => return Some(Due::Cancel { id }),
                _ if !slot.is_stream() => {}
                _ => {
                    if let Some(more) = slot.window.due() {
                        return Some(Due::Credit { id, more });
                    }
                }
            }
        }
        None
    }

    /// Takes back what could not be sent: it is the next that is due.
    pub(super) fn keep_due(&mut self, due: Due) {
        let (Due::Cancel { id } | Due::Credit { id, .. }) = due;
        let Some((_, slot)) = self.table.unanswered(id) else {
            return;
        };
        match due {
            Due::Credit { more, .. } if slot.is_live() => slot.window.keep(more),
            _ => {}
        }
        if !std::mem::replace(&mut slot.is_due, true) {
            self.due.push_front(id as u16);
        }
    }

    /// Nothing can be sent any more.
    pub(super) fn forget_due(&mut self) {
        for place in std::mem::take(&mut self.due) {
            self.table.in_place(place).1.is_due = false;
        }
    }

    /// Something is due for a call, or for a stream.
    pub(super) fn owe(&mut self, ticket: Ticket) {
        let slot = self.table.slot(ticket);
        if slot.unanswered && !std::mem::replace(&mut slot.is_due, true) {
            self.due.push_back(ticket.id() as u16);
        }
    }
}
