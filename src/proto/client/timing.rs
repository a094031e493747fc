//! The deadlines of calls, and which of them comes first.

use std::cmp::Reverse;

use super::Calls;
use super::slot::{Stage, Ticket};
use super::timetable::{Timetable, has};
use crate::Deadline;
use crate::proto::call_error::CallError;
use crate::proto::woken::Woken;

impl<W> Calls<W> {
    /// Minds the deadline of a call: for a driver whose callers do not mind them by themselves.
    #[inline]
    pub(crate) fn mind(&mut self, ticket: Ticket) {
        const FEW: usize = 64;
        let slot = self.table.slot(ticket);
        let deadline = slot.deadline;
        if slot.timed || !deadline.is_timed() {
            return;
        }
        slot.timed = true;
        let Timetable(times) = &mut self.times;
        if times.len() > 2 * self.entered + FEW {
            times.retain(|Reverse(time)| has(&mut self.table, *time));
        }
        times.push(Reverse((deadline, ticket)));
        self.alarm = self.alarm.min(deadline);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; [`Deadline::NOW`]: at once, to learn the time.
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Deadline {
        self.alarm.min(self.room.until)
    }

    /// Ends the calls whose deadlines have passed, and passes on the room that was not taken in time.
    pub(crate) fn handle_timeout(&mut self, now: u64, woken: &mut Woken<W>) {
        self.alarm = Deadline::NEVER;
        while let Some(&Reverse(first)) = self.times.0.peek() {
            let (deadline, ticket) = first;
            let is_live = has(&mut self.table, first);
            if is_live && !deadline.has_passed_at(now) {
                self.alarm = deadline;
                break;
            }
            self.times.0.pop();
            if !is_live {
                continue;
            }
            let slot = self.table.slot(ticket);
            if slot.stage == Stage::Begun {
                // It is being encoded, and minded again when it is pushed.
                slot.timed = false;
                continue;
            }
            let sent = self.withdraw(ticket);
            self.finish(ticket, Err(CallError::TimedOut { sent }), woken);
        }
        self.pass_on_room(now, woken);
    }
}
