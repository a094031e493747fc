//! What the calls of a connection have to send, and what becomes of it.
//!
//! A message waits with its call, and the outbox has their order: so one that is taken back costs the same however many
//! there are. What is due besides, cancellations and credit, goes out ahead of them, and the hello ahead of all.

use std::io;
use std::mem;

use super::Calls;
use super::end::{check_size, not_sent};
use super::line::Line;
use super::slot::{Asked, Queued, Slot, Stage, Ticket, Whose};
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::woken::Woken;

/// How much goes out in one batch: what comes behind it can still be taken back.
const BATCH: usize = 256 << 10;
const BATCH_MESSAGES: usize = 256;

impl<W> Calls<W> {
    /// What is to be sent is to be looked at again by whatever sends at the moment.
    pub(crate) fn send_again(&mut self) {
        self.again = true;
    }

    /// Whether another was to send meanwhile, and could not.
    pub(crate) fn takes_again(&mut self) -> bool {
        mem::take(&mut self.again)
    }

    /// Whether there is something to send that is not being sent.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.has_to_send() && !self.sending && !self.deaf
    }

    /// Whether that is no request, behind which it would be sent.
    #[inline]
    pub(crate) fn has_only_due(&self) -> bool {
        self.has_due() && !self.sending && self.outbox.len() == 0
    }

    #[inline]
    pub(super) fn has_to_send(&self) -> bool {
        self.outbox.len() > 0 || self.has_due() || self.hello.is_some()
    }

    #[inline]
    pub(crate) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Whether something is still to be sent, or is being sent.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.sending || self.has_unsent()
    }

    /// Whether others are about to add to what is to be sent.
    #[inline]
    pub(crate) fn expects_more(&self) -> bool {
        self.awake > 0
    }

    /// How many requests are in the outbox.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Takes a message to be sent by its caller.
    #[inline]
    pub(super) fn take_alone(&mut self, ticket: Ticket, out: Outgoing) -> Queued {
        (self.sending, self.alone) = (true, true);
        self.sends(ticket, out)
    }

    /// A message is about to be sent.
    #[inline]
    fn sends(&mut self, ticket: Ticket, out: Outgoing) -> Queued {
        self.table.slot(ticket).stage = Stage::Sending;
        let whose = Whose::Call(ticket);
        Queued { out, whose }
    }

    /// What became of a message that was sent alone. If it was not sent, it is the next one to send.
    #[inline]
    pub(crate) fn sent_alone(&mut self, queued: Queued, sent: bool, woken: &mut Woken<W>) {
        (self.sending, self.alone) = (false, false);
        if sent {
            self.was_sent(queued.whose, woken);
            self.spare_out.keep_out(queued.out);
        } else {
            self.take_back(queued);
        }
    }

    /// Takes what is to be sent next; then [`sent_batch`](Self::sent_batch) or [`not_sent`](Self::not_sent) has to
    /// follow. False if there is nothing, or another sends.
    pub(crate) fn take_batch(&mut self, batch: &mut Vec<Queued>) -> bool {
        if self.alone || self.deaf {
            // What is being sent alone is followed by what has come since.
            return false;
        }
        if let Some(out) = self.hello.take() {
            let whose = Whose::Nobody;
            batch.push(Queued { out, whose });
        }
        while batch.len() < BATCH_MESSAGES {
            let Some(due) = self.next_due() else { break };
            let mut out = self.spare_out.blank();
            due.write(out.bytes());
            let whose = Whose::Due(due);
            batch.push(Queued { out, whose });
        }
        let mut bytes = 0;
        while bytes < BATCH && batch.len() < BATCH_MESSAGES {
            let Some(ticket) = self.outbox.pop_front(&mut self.table) else {
                break;
            };
            let message = self.table.slot(ticket).message.take();
            let next = self.sends(ticket, message.unwrap_or_default());
            bytes += next.out.len();
            batch.push(next);
        }
        self.sending = !batch.is_empty();
        self.sending
    }

    /// Takes the message of a call out of the line in which it is: the call is as if it had just begun.
    pub(super) fn take_out(&mut self, ticket: Ticket) {
        let is_held = self.table.slot(ticket).stage == Stage::Held;
        self.take_message(ticket);
        let line = match is_held {
            true => &mut self.held,
            false => &mut self.outbox,
        };
        line.leave(&mut self.table);
    }

    /// The same where the line is gone.
    pub(super) fn take_message(&mut self, ticket: Ticket) {
        self.set(ticket, Stage::Begun);
        if let Some(out) = self.table.slot(ticket).message.take() {
            self.spare_out.keep_out(out);
        }
    }

    /// The server has said how large a message may be: those that have waited for that are sent, or are too large.
    pub(super) fn release_held(&mut self, limit: u32, woken: &mut Woken<W>) {
        while let Some(ticket) = self.held.pop_front(&mut self.table) {
            let slot = self.table.slot(ticket);
            if let Err(error) = check_size(slot.size, limit) {
                self.fail_taken(ticket, error, woken);
            } else if slot.message.is_some() {
                self.set(ticket, Stage::Queued);
                self.outbox.push_back(ticket);
            } else {
                woken.add(slot.waker.take());
                self.set(ticket, Stage::Begun);
            }
        }
    }

    /// A batch has been sent.
    pub(crate) fn sent_batch(&mut self, batch: &mut Vec<Queued>, woken: &mut Woken<W>) {
        self.sending = false;
        for Queued { out, whose } in batch.drain(..) {
            self.was_sent(whose, woken);
            self.spare_out.keep_out(out);
        }
    }

    #[inline]
    fn was_sent(&mut self, whose: Whose, woken: &mut Woken<W>) {
        let Whose::Call(ticket) = whose else {
            return;
        };
        let Some(slot) = self.table.find(ticket) else {
            return;
        };
        // The answer may have overtaken this.
        if slot.stage != Stage::Sending {
            return;
        }
        match slot.asked {
            Asked::Reply { .. } => slot.stage = Stage::Sent,
            Asked::Items { .. } => {
                (slot.stage, slot.open) = (Stage::Sent, true);
                woken.add(slot.waker.take());
            }
            Asked::Nothing { .. } => self.finish(ticket, Ok(None), woken),
        }
    }

    /// A batch could not be sent. The first `sent` messages of it were; of the `doubtful` ones behind them that is not
    /// known if they are several, and one was not. False if nothing can be sent any more. One whose deadline has passed is
    /// to be sent later.
    pub(crate) fn not_sent(
        &mut self,
        batch: &mut Vec<Queued>,
        (sent, doubtful): (usize, usize),
        error: &io::Error,
        woken: &mut Woken<W>,
    ) -> bool {
        self.sending = false;
        let why = not_sent(error);
        let only_too_large = doubtful == 1 && matches!(why, CallError::TooLarge { .. });
        let only_late = matches!(why, CallError::TimedOut { .. });
        self.deaf |= !only_too_large && !only_late;
        let mut back = Vec::new();
        for (place, queued) in batch.drain(..).enumerate() {
            if place < sent {
                self.was_sent(queued.whose, woken);
            } else if only_too_large && place == sent {
                self.fail_sending(queued.whose, &why, woken);
            } else if place >= sent + doubtful || doubtful == 1 {
                // No peer can have received a whole message of which the sending failed.
                back.push(queued);
            } else {
                self.was_sent(queued.whose, woken);
            }
        }
        for queued in back.into_iter().rev() {
            self.take_back(queued);
        }
        self.offer_room(woken);
        !self.deaf
    }

    /// Queues a message again that was not sent, ahead of the others. The call of one that is over by now leaves its
    /// place, as there is nothing that could be answered.
    fn take_back(&mut self, Queued { out, whose }: Queued) {
        match whose {
            Whose::Nobody => self.hello = Some(out),
            Whose::Due(due) => {
                self.keep_due(due);
                self.spare_out.keep_out(out);
            }
            Whose::Call(ticket) => match self.table.find(ticket) {
                Some(slot) if slot.stage == Stage::Sending => {
                    (slot.stage, slot.message) = (Stage::Queued, Some(out));
                    self.outbox.tickets.push_front(ticket);
                }
                slot => {
                    let is_there = slot.is_some();
                    self.spare_out.keep_out(out);
                    if is_there {
                        self.unsend(ticket);
                    }
                }
            },
        }
    }

    /// What there is to read has been read, and the peer takes nothing: what is unsent fails.
    pub(crate) fn fail_unsent(&mut self, woken: &mut Woken<W>) {
        self.unsent_fails = true;
        self.outbox = Line::default();
        self.held = Line::default();
        let unsent = |slot: &Slot<W>| slot.is_in_line() || slot.stage == Stage::Waiting;
        for ticket in self.table.all(unsent) {
            self.fail_unsent_call(ticket, CallError::Disconnected { sent: false }, woken);
        }
    }

    /// Fails a call whose message was not sent, unless it is over for another reason.
    fn fail_sending(&mut self, whose: Whose, why: &CallError, woken: &mut Woken<W>) {
        let Whose::Call(ticket) = whose else { return };
        match self.table.find(ticket).map(|slot| slot.stage) {
            Some(Stage::Sending) => self.fail_taken(ticket, why.clone(), woken),
            Some(_) => self.unsend(ticket),
            None => {}
        }
    }

    /// Fails a call whose message is in no line any more, and was not sent.
    fn fail_taken(&mut self, ticket: Ticket, why: CallError, woken: &mut Woken<W>) {
        self.take_message(ticket);
        self.unsend(ticket);
        self.finish(ticket, Err(why), woken);
    }

    /// Whether the peer takes no more messages.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf
    }
}
