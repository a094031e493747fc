//! [`Line`]: an order of calls.

use std::collections::VecDeque;

use super::slot::Ticket;
use super::table::Table;

/// Calls in the order in which they came, of which any may leave.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Line {
    pub(super) tickets: VecDeque<Ticket>,
    /// How many of these have left.
    gone: usize,
}

impl Line {
    #[inline]
    pub(super) fn push_back(&mut self, ticket: Ticket) {
        self.tickets.push_back(ticket);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tickets.len() - self.gone
    }

    /// The first call that is still here.
    #[inline]
    pub(super) fn pop_front<W>(&mut self, table: &mut Table<W>) -> Option<Ticket> {
        while let Some(ticket) = self.tickets.pop_front() {
            if is_in_line(table, ticket) {
                return Some(ticket);
            }
            self.gone -= 1;
        }
        None
    }

    /// A call has left.
    pub(super) fn leave<W>(&mut self, table: &mut Table<W>) {
        const FEW: usize = 64;
        self.gone += 1;
        if self.gone > FEW && self.gone > self.tickets.len() / 2 {
            self.tickets.retain(|ticket| is_in_line(table, *ticket));
            self.gone = 0;
        }
    }
}

#[inline]
fn is_in_line<W>(table: &mut Table<W>, ticket: Ticket) -> bool {
    table.find(ticket).is_some_and(|slot| slot.is_in_line())
}
