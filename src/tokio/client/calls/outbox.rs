//! What the calls of a connection have to send, and what becomes of it.
//!
//! A message waits with its call, and the outbox has their order: so one that is taken back costs the same however many
//! there are. What is due besides, cancellations and credit, is the session's to know, and goes out ahead of them.

use std::collections::VecDeque;
use std::mem;
use std::task::Waker;

use super::super::slot::{Queued, Slot, Stage, Ticket, Whose};
use super::Calls;
use crate::client::common::{check_size, not_sent};
use crate::codec::outgoing::Outgoing;
use crate::proto::Party;
use crate::proto::call_error::CallError;
use crate::tokio::batch::Failed;

/// Calls in the order in which they came, of which any may leave.
#[derive(Debug, Default)]
pub(super) struct Line {
    tickets: VecDeque<Ticket>,
    /// How many of these have left.
    gone: usize,
}

impl Line {
    pub(super) fn push_back(&mut self, ticket: Ticket) {
        self.tickets.push_back(ticket);
    }

    fn push_front(&mut self, ticket: Ticket) {
        self.tickets.push_front(ticket);
    }

    pub(super) fn len(&self) -> usize {
        self.tickets.len() - self.gone
    }

    /// The first one whose message waits here still, and that message.
    fn pop_front(&mut self, slots: &mut [Slot]) -> Option<(Ticket, Outgoing)> {
        while let Some(ticket) = self.tickets.pop_front() {
            if let Some(message) = message_of(slots, ticket) {
                return message.take().map(|message| (ticket, message));
            }
            self.gone -= 1;
        }
        None
    }

    /// One has left whose message has been taken back.
    fn leave(&mut self, slots: &mut [Slot]) {
        const FEW: usize = 64;
        self.gone += 1;
        if self.gone > FEW && self.gone > self.tickets.len() / 2 {
            self.tickets
                .retain(|ticket| message_of(slots, *ticket).is_some());
            self.gone = 0;
        }
    }
}

/// The message of a call that waits with it.
fn message_of(slots: &mut [Slot], ticket: Ticket) -> Option<&mut Option<Outgoing>> {
    let slot = slots.get_mut(ticket.slot)?;
    let waits = slot.serial == ticket.serial && slot.message.is_some();
    waits.then_some(&mut slot.message)
}

/// How much goes out in one batch: what comes behind it can still be taken back.
const BATCH: usize = 256 << 10;
const BATCH_MESSAGES: usize = 256;

impl Calls {
    /// Whoever polls the writer is to do it again: somebody else was to do it meanwhile, and cannot.
    pub(in super::super) fn polls_again(&mut self) {
        self.again = true;
    }

    /// Whether whoever has polled the writer is to do it again.
    pub(in super::super) fn is_to_be_polled_again(&mut self) -> bool {
        mem::take(&mut self.again) || self.has_unsent()
    }

    /// Whether there is something to send that nobody is sending.
    pub(in super::super) fn has_unsent(&self) -> bool {
        self.has_to_send() && !self.sending && !self.deaf
    }

    fn has_to_send(&self) -> bool {
        self.outbox.len() > 0 || self.session.has_due() || self.hello.is_some()
    }

    pub(in super::super) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Whether others are about to add to what is to be sent.
    pub(in super::super) fn expects_more(&self) -> bool {
        self.awake > 0
    }

    /// Whether a message can be sent by its caller: nobody is ahead of it, and nobody is about to add to it.
    pub(super) fn is_first_and_last(&self) -> bool {
        let first = !self.has_to_send() && !self.sending && !self.deaf;
        // Until the driver runs for the first time there is nobody to go on.
        self.tries && first && self.awake == 0 && self.driver.is_some()
    }

    /// Takes a message to be sent by its caller; then [`sent_alone`](Self::sent_alone) has to follow.
    pub(super) fn take_alone(&mut self, ticket: Ticket, out: Outgoing) -> Queued {
        (self.sending, self.alone) = (true, true);
        self.sends(ticket, out)
    }

    /// A message is about to be sent.
    fn sends(&mut self, ticket: Ticket, out: Outgoing) -> Queued {
        let slot = &mut self.slots[ticket.slot];
        slot.stage = Stage::Sending;
        let id = slot.call.map(|call| call.id);
        Queued {
            out,
            whose: Whose::Call(ticket, id),
        }
    }

    /// What became of that. Was it not sent, it is the next one for the writer.
    pub(in super::super) fn sent_alone(
        &mut self,
        queued: Queued,
        sent: bool,
        woken: &mut Vec<Waker>,
    ) {
        (self.sending, self.alone) = (false, false);
        if sent {
            self.was_sent(queued.whose, woken);
            self.keep_out(queued.out);
        } else {
            self.take_back(queued);
        }
    }

    /// Takes what is to be sent next; then [`sent`](Self::sent) or [`not_sent`](Self::not_sent) has to follow. False
    /// if there is nothing.
    pub(in super::super) fn take_batch(&mut self, batch: &mut Vec<Queued>) -> bool {
        if self.alone {
            // Whoever sends it sends what has come since as well.
            return false;
        }
        if let Some(out) = self.hello.take() {
            let whose = Whose::Nobody;
            batch.push(Queued { out, whose });
        }
        while batch.len() < BATCH_MESSAGES {
            let Some(due) = self.session.next_due() else {
                break;
            };
            let mut out = self.spare_out.take();
            due.write(out.bytes());
            let whose = Whose::Due(due);
            batch.push(Queued { out, whose });
        }
        let mut bytes = 0;
        while bytes < BATCH && batch.len() < BATCH_MESSAGES {
            let Some((ticket, out)) = self.outbox.pop_front(&mut self.slots) else {
                break;
            };
            bytes += out.len();
            let next = self.sends(ticket, out);
            batch.push(next);
        }
        self.sending = !batch.is_empty();
        self.sending
    }

    /// Takes the message of a call out of the line in which it is.
    pub(super) fn take_out(&mut self, ticket: Ticket) {
        let slot = &mut self.slots[ticket.slot];
        let Some(out) = slot.message.take() else {
            return;
        };
        let line = match slot.stage {
            Stage::Held => &mut self.held,
            _ => &mut self.outbox,
        };
        line.leave(&mut self.slots);
        self.keep_out(out);
    }

    /// The server has said how large a message may be: those that have waited for that are sent, or are too large.
    pub(super) fn release_held(&mut self, woken: &mut Vec<Waker>) {
        let limit = self.session.server().map_or(u32::MAX, Party::takes);
        while let Some((ticket, out)) = self.held.pop_front(&mut self.slots) {
            if let Err(error) = check_size(out.len(), limit) {
                self.keep_out(out);
                self.unsend(ticket);
                self.finish(ticket, Err(error), woken);
                continue;
            }
            self.slots[ticket.slot].message = Some(out);
            self.set(ticket, Stage::Queued);
            self.outbox.push_back(ticket);
        }
        if self.has_unsent() {
            woken.extend(self.driver.clone());
        }
    }

    pub(in super::super) fn sent(&mut self, batch: &mut Vec<Queued>, woken: &mut Vec<Waker>) {
        self.sending = false;
        for Queued { out, whose } in batch.drain(..) {
            self.was_sent(whose, woken);
            self.keep_out(out);
        }
    }

    fn was_sent(&mut self, whose: Whose, woken: &mut Vec<Waker>) {
        let Whose::Call(ticket, _) = whose else {
            return;
        };
        let Some(slot) = self.slot(ticket) else {
            return;
        };
        // The answer may have overtaken this.
        match (slot.stage, slot.call) {
            (Stage::Sending, Some(call)) => {
                slot.stage = Stage::Sent;
                if call.window.is_some() {
                    slot.open = true;
                    woken.extend(slot.waker.take());
                }
            }
            (Stage::Sending, None) => self.finish(ticket, Ok(None), woken),
            _ => {}
        }
    }

    /// A batch could not be sent. False if nothing can be sent any more.
    pub(in super::super) fn not_sent(
        &mut self,
        batch: &mut Vec<Queued>,
        failed: Failed,
        woken: &mut Vec<Waker>,
    ) -> bool {
        self.sending = false;
        let why = not_sent(&failed.error);
        let only_too_large = failed.doubtful == 1 && matches!(why, CallError::TooLarge { .. });
        self.deaf = !only_too_large;
        let mut back = Vec::new();
        for (place, queued) in batch.drain(..).enumerate() {
            if place < failed.sent {
                self.was_sent(queued.whose, woken);
            } else if only_too_large && place == failed.sent {
                self.fail(queued.whose, &why, woken);
            } else if place >= failed.sent + failed.doubtful || failed.doubtful == 1 {
                // No peer can have received a whole message of which the sending failed.
                back.push(queued);
            } else {
                self.was_sent(queued.whose, woken);
            }
        }
        for queued in back.into_iter().rev() {
            self.take_back(queued);
        }
        !self.deaf
    }

    /// Queues a message again that was not sent, ahead of the others. The call of one that is over by now leaves its
    /// place, as there is nothing that could be answered.
    fn take_back(&mut self, Queued { out, whose }: Queued) {
        match whose {
            Whose::Nobody => self.hello = Some(out),
            Whose::Due(due) => {
                self.session.keep(due);
                self.keep_out(out);
            }
            Whose::Call(ticket, id) => {
                let slot = self.slot(ticket);
                if let Some(slot) = slot.filter(|slot| slot.stage == Stage::Sending) {
                    slot.stage = Stage::Queued;
                    slot.message = Some(out);
                    self.outbox.push_front(ticket);
                    return;
                }
                self.keep_out(out);
                if let Some(id) = id {
                    self.session.unsend(id);
                }
            }
        }
    }

    /// What there is to read has been read, and the peer takes nothing: what is unsent fails.
    pub(in super::super) fn fail_unsent(&mut self, woken: &mut Vec<Waker>) {
        self.unsent_fails = true;
        let why = CallError::Disconnected { sent: false };
        for line in [mem::take(&mut self.outbox), mem::take(&mut self.held)] {
            for ticket in line.tickets {
                let Some(message) = message_of(&mut self.slots, ticket) else {
                    continue;
                };
                *message = None;
                self.unsend(ticket);
                self.finish(ticket, Err(why.clone()), woken);
            }
        }
        self.fail_waiting(&why, woken);
    }

    /// Fails a call whose message was not sent, unless it is over for another reason.
    fn fail(&mut self, whose: Whose, why: &CallError, woken: &mut Vec<Waker>) {
        let Whose::Call(ticket, id) = whose else {
            return;
        };
        if let Some(id) = id {
            self.session.unsend(id);
        }
        let sending = |slot: &mut Slot| slot.stage == Stage::Sending;
        if self.slot(ticket).is_some_and(sending) {
            self.finish(ticket, Err(why.clone()), woken);
        }
    }

    pub(in super::super) fn is_deaf(&self) -> bool {
        self.deaf
    }
}

#[cfg(test)]
mod tests;
