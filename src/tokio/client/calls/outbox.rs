//! What the calls of a connection have to send, and what becomes of it.

use std::mem;
use std::task::Waker;

use super::super::slot::{Queued, Slot, Stage, Ticket};
use super::Calls;
use crate::call_error::CallError;
use crate::client::common::not_sent;
use crate::tokio::batch::Failed;

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
        !self.outbox.is_empty() && !self.sending && !self.deaf
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
        let first = self.outbox.is_empty() && !self.sending && !self.deaf;
        // Until the driver runs for the first time there is nobody to go on.
        self.tries && first && self.awake == 0 && self.driver.is_some()
    }

    /// Takes a message to be sent by its caller; then [`sent_alone`](Self::sent_alone) has to follow.
    pub(super) fn take_alone(&mut self, ticket: Ticket, queued: Queued) -> Queued {
        self.slots[ticket.slot].stage = Stage::Sending;
        (self.sending, self.alone) = (true, true);
        queued
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
            self.was_sent(queued.owner, woken);
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
        self.sending = false;
        if self.outbox.is_empty() {
            return false;
        }
        let mut bytes = 0;
        while bytes < BATCH && batch.len() < BATCH_MESSAGES {
            let Some(next) = self.outbox.pop_front() else {
                break;
            };
            bytes += next.out.len();
            if let Some(slot) = next.owner.and_then(|owner| self.slot(owner)) {
                slot.stage = Stage::Sending;
            }
            batch.push(next);
        }
        self.sending = true;
        true
    }

    pub(in super::super) fn sent(&mut self, batch: &mut Vec<Queued>, woken: &mut Vec<Waker>) {
        self.sending = false;
        for Queued { out, owner } in batch.drain(..) {
            self.was_sent(owner, woken);
            self.keep_out(out);
        }
    }

    fn was_sent(&mut self, owner: Option<Ticket>, woken: &mut Vec<Waker>) {
        let Some(ticket) = owner else { return };
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
        let mut rest = batch.drain(..).enumerate();
        let mut back = Vec::new();
        for (place, queued) in rest.by_ref() {
            let owner = queued.owner;
            if place < failed.sent {
                self.was_sent(owner, woken);
            } else if only_too_large && place == failed.sent {
                self.fail(owner, &why, woken);
            } else if place >= failed.sent + failed.doubtful || failed.doubtful == 1 {
                // No peer can have received a whole message of which the sending failed.
                back.push(queued);
            } else {
                self.was_sent(owner, woken);
            }
        }
        drop(rest);
        for queued in back.into_iter().rev() {
            self.take_back(queued);
        }
        self.deaf = !only_too_large;
        !self.deaf
    }

    /// Queues a message again that was not sent, ahead of the others, unless it is over or was nobody's.
    fn take_back(&mut self, queued: Queued) {
        let slot = queued.owner.and_then(|owner| self.slot(owner));
        if let Some(slot) = slot.filter(|slot| slot.stage == Stage::Sending) {
            slot.stage = Stage::Queued;
            self.outbox.push_front(queued);
        }
    }

    /// What there is to read has been read, and the peer takes nothing: what is unsent fails.
    pub(in super::super) fn fail_unsent(&mut self, woken: &mut Vec<Waker>) {
        self.unsent_fails = true;
        while let Some(queued) = self.outbox.pop_front() {
            let why = CallError::Disconnected { sent: false };
            self.fail(queued.owner, &why, woken);
        }
        while let Some(ticket) = self.waiting.pop_front() {
            self.finish(ticket, Err(CallError::Disconnected { sent: false }), woken);
        }
    }

    /// Fails a call whose message was not sent, unless it is over for another reason.
    fn fail(&mut self, owner: Option<Ticket>, why: &CallError, woken: &mut Vec<Waker>) {
        let Some(ticket) = owner else { return };
        let unsent = |slot: &mut Slot| matches!(slot.stage, Stage::Queued | Stage::Sending);
        if self.slot(ticket).is_some_and(unsent) {
            self.unsend(ticket);
            self.finish(ticket, Err(why.clone()), woken);
        }
    }

    pub(in super::super) fn is_deaf(&self) -> bool {
        self.deaf
    }
}

#[cfg(test)]
mod tests;
