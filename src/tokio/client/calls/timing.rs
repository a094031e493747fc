//! The deadlines of calls, and which of them comes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use super::super::slot::{Slot, Stage, Then, Ticket};
use super::Calls;
use crate::Deadline;
use crate::proto::call_error::CallError;

/// Deadlines with the calls whose they are. Those of calls that are over go when their time comes, or when they are most.
#[derive(Debug, Default)]
pub(super) struct Timetable(BinaryHeap<Reverse<(Deadline, usize, u64)>>);

/// Whether a call still has a deadline.
fn has(slots: &[Slot], (deadline, slot, serial): (Deadline, usize, u64)) -> bool {
    let slot = &slots[slot];
    let open = !matches!(slot.stage, Stage::Free | Stage::Over);
    open && slot.serial == serial && slot.deadline == deadline
}

impl Calls {
    /// Has the driver woken by the deadline of a call.
    pub(super) fn arm(&mut self, ticket: Ticket) -> Then {
        const FEW: usize = 64;
        let slot = &mut self.slots[ticket.slot];
        let deadline = slot.deadline;
        if !deadline.is_timed() {
            return Then::Nothing;
        }
        slot.timed = true;
        let Timetable(times) = &mut self.times;
        let open = self.slots.len() - self.free.len();
        if times.len() > 2 * open + FEW {
            times.retain(|Reverse(time)| has(&self.slots, *time));
        }
        times.push(Reverse((deadline, ticket.slot, ticket.serial)));
        if deadline >= self.alarm {
            return Then::Nothing;
        }
        self.alarm = deadline;
        Then::Wake(self.driver.clone())
    }

    /// Gives up the calls whose deadlines have passed, and says when to look again in [`alarm`](Self::alarm).
    pub(in super::super) fn expire(&mut self, now: u64, woken: &mut Vec<Waker>) {
        self.alarm = Deadline::NEVER;
        while let Some(&Reverse(first)) = self.times.0.peek() {
            let (deadline, slot, serial) = first;
            let is_open = has(&self.slots, first);
            if is_open && !deadline.has_passed_at(now) {
                self.alarm = deadline;
                break;
            }
            self.times.0.pop();
            if !is_open {
                continue;
            }
            if self.slots[slot].stage == Stage::Begun {
                // It is being encoded, and noted again when it is pushed.
                self.slots[slot].timed = false;
                continue;
            }
            let ticket = Ticket { slot, serial };
            let sent = self.withdraw(ticket);
            self.finish(ticket, Err(CallError::TimedOut { sent }), woken);
        }
        self.pass_on_room(now, woken);
        self.alarm = self.alarm.min(self.room.until);
    }
}
