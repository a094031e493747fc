//! [`Timetable`]: the deadlines of calls in their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::slot::Ticket;
use super::table::Table;
use crate::Deadline;

/// Deadlines with the calls whose they are. Those of calls that are over go when their time comes, or when they are most.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Timetable(pub(super) BinaryHeap<Reverse<(Deadline, Ticket)>>);

/// Whether a call still has a deadline.
pub(super) fn has<W>(table: &mut Table<W>, (deadline, ticket): (Deadline, Ticket)) -> bool {
    let slot = table.find(ticket);
    slot.is_some_and(|slot| slot.is_live() && slot.deadline == deadline)
}
