//! The calls of one connection: who waits for what, and what is still to be sent.
//!
//! Nothing here reads, writes or waits. A call goes through these stages, each with the lock held:
//!
//! ```text
//! begin --> Waiting (for room) --> Begun --push--> Queued --take--> Sending --> Sent --> Over --> claimed
//!    |                               ^  |                         ^
//!    +-------------------------------+  +---------push------------+
//! ```
//!
//! A message that nobody is ahead of, and nobody is about to join, need not be queued: its caller tries to send it.
//!
//! A call that fails goes to `Over` from wherever it is, and one whose future is dropped leaves at once: its message
//! is taken back if it is still queued, and otherwise its place is free again when the late answer has come.
//!
//! A stream goes the same way. Its items wait with it, from the time when it is sent, until they are claimed one by one;
//! and its answer, which is its end, comes behind them.

mod outbox;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::slot::{Asked, Blank, Call, Next, Queued, Slot, Spare, Stage, Then, Ticket};
use crate::call_error::CallError;
use crate::client::common::{
    Answer, breaks_protocol, call_failed, cannot_begin, cannot_receive, check_size, late,
};
use crate::outgoing::Outgoing;
use crate::session::{ClientEvent, ClientSession, NotNow, Party};
use crate::{Deadline, wire};

/// What is behind the lock of a connection.
#[derive(Debug)]
pub(super) struct Calls {
    ours: Arc<Party>,
    session: ClientSession,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Which slot a call of the session's is in, by its place there.
    slot_of: Vec<usize>,
    /// Those that wait for room, in their order.
    waiting: VecDeque<Ticket>,
    outbox: VecDeque<Queued>,
    /// Messages are being sent, or are to be sent once the peer makes room.
    sending: bool,
    /// What is being sent is a message that its caller sends, without the writer.
    alone: bool,
    /// Callers try to.
    tries: bool,
    /// Somebody was to poll the writer while somebody else did.
    again: bool,
    /// How many calls are about to send something, or have an answer and may call again: as long as there are any it
    /// is worth waiting for more to send.
    awake: usize,
    /// The peer takes no more messages. What it had sent before may still come.
    deaf: bool,
    /// And what has come by then has been read: it was not said why.
    unsent_fails: bool,
    ended: Option<CallError>,
    /// Nobody can call any more: the driver ends when all is sent.
    pub(super) closing: bool,
    /// When the first deadline passes that somebody waits with, or earlier.
    pub(super) alarm: Deadline,
    /// The task of the driver.
    driver: Option<Waker>,
    /// Something has come, or the reader has not looked yet: somebody has been woken to poll it, and whoever looks for
    /// what has become of his call does so before.
    pub(super) unread: bool,
    /// Somebody was to poll the reader while somebody else did, who has to do it again.
    pub(super) missed: bool,
    /// Who has waited last, and is no stream: if he is the only one, he is to read.
    lone: usize,
    /// Buffers to receive into, and messages to send, kept for the next.
    spare: Spare<Arc<Vec<u8>>>,
    spare_out: Spare<Outgoing>,
}

impl Calls {
    /// If callers try to send by themselves, that need not go through the outbox.
    pub(super) fn new(ours: Arc<Party>, tries: bool) -> Calls {
        Calls {
            ours,
            session: ClientSession::default(),
            slots: Vec::new(),
            free: Vec::new(),
            slot_of: Vec::new(),
            waiting: VecDeque::new(),
            outbox: VecDeque::new(),
            sending: false,
            alone: false,
            tries,
            again: false,
            awake: 0,
            deaf: false,
            unsent_fails: false,
            ended: None,
            closing: false,
            alarm: Deadline::NEVER,
            driver: None,
            unread: true,
            missed: false,
            lone: 0,
            spare: Spare::default(),
            spare_out: Spare::default(),
        }
    }

    // ------------------------------------------------------------ by those who call

    /// The first message, which is nobody's.
    pub(super) fn greet(&mut self) {
        let mut out = Outgoing::default();
        wire::hello(out.bytes(), &self.ours.identity());
        self.outbox.push_back(Queued { out, owner: None });
    }

    /// Enters a call, a stream, or a notification. It has begun if there is room, and waits if not.
    pub(super) fn begin(
        &mut self,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<(Ticket, bool, Then), CallError> {
        if let Some(why) = &self.ended {
            return Err(why.clone().with_sent(false));
        }
        if self.unsent_fails {
            return Err(CallError::Disconnected { sent: false });
        }
        let (method, window) = match asked {
            Asked::Reply { method } => (method, None),
            Asked::Items { method, window } => (method, Some(window)),
            Asked::Nothing => {
                let ticket = self.enter(Stage::Begun, None, deadline);
                return Ok((ticket, false, Then::Nothing));
            }
        };
        let mut call = Call {
            method,
            id: 0,
            window,
        };
        let begun = match self.waiting.is_empty() {
            true => start(&mut self.session, &mut call),
            false => Err(NotNow::Full),
        };
        match begun {
            Ok(()) => {
                let ticket = self.enter(Stage::Begun, Some(call), deadline);
                self.find_by(call.id, ticket);
                Ok((ticket, false, Then::Nothing))
            }
            Err(NotNow::Full) => {
                let ticket = self.enter(Stage::Waiting, Some(call), deadline);
                self.waiting.push_back(ticket);
                Ok((ticket, true, self.arm(deadline)))
            }
            Err(why) => Err(cannot_begin(why, &self.ours, self.session.server())),
        }
    }

    /// Ready when a call has begun that had to wait.
    pub(super) fn poll_begun(
        &mut self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CallError>> {
        let slot = &mut self.slots[ticket.slot];
        match slot.stage {
            Stage::Waiting => self.wait(ticket, cx).map(Err),
            Stage::Over => Poll::Ready(slot.take_result().map(drop)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// What the message of a call begins as that has begun.
    pub(super) fn blank(&mut self, ticket: Ticket) -> Blank {
        let call = self.slots[ticket.slot].call;
        Blank {
            out: self.spare_out.take(),
            limit: self.session.server().map_or(u32::MAX, Party::takes),
            id: call.map_or(0, |call| call.id),
            credit: call.and_then(|call| call.window).unwrap_or(0),
        }
    }

    /// Queues the message of a call that has begun.
    pub(super) fn push(&mut self, ticket: Ticket, blank: Blank) -> Result<Then, CallError> {
        if let Some(why) = &self.ended {
            return Err(why.clone().with_sent(false));
        }
        if self.unsent_fails {
            return Err(CallError::Disconnected { sent: false });
        }
        let Blank { out, limit, .. } = blank;
        let limit = limit.min(crate::MAX_MESSAGE as u32);
        if let Err(error) = check_size(out.len(), limit) {
            self.keep_out(out);
            return Err(error);
        }
        self.set(ticket, Stage::Queued);
        let deadline = self.slots[ticket.slot].deadline;
        let queued = Queued {
            out,
            owner: Some(ticket),
        };
        let then = self.arm(deadline);
        if matches!(then, Then::Nothing) && self.is_first_and_last() {
            return Ok(Then::Send(self.take_alone(ticket, queued)));
        }
        self.outbox.push_back(queued);
        Ok(match then {
            Then::Wake(driver) => Then::Wake(driver),
            // Whoever sends will find it.
            _ if self.sending => Then::Nothing,
            _ if self.awake == 0 => Then::Flush(self.driver.clone()),
            // The others may push as well, or they may not.
            _ if self.outbox.len() == 1 => Then::Wake(self.driver.clone()),
            _ => Then::Nothing,
        })
    }

    /// Ready when a call is over; then its ticket is no longer good.
    pub(super) fn poll_over(
        &mut self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Answer>, CallError>> {
        let slot = &mut self.slots[ticket.slot];
        let deadline = slot.deadline;
        let result = match slot.stage {
            Stage::Over => slot.take_result(),
            _ => match self.wait(ticket, cx) {
                Poll::Ready(why) => Err(why),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.leave(ticket);
        Poll::Ready(result.map_err(|error| late(error, deadline)))
    }

    /// Ready when the request for a stream is sent. An error: its ticket is no longer good.
    pub(super) fn poll_open(
        &mut self,
        ticket: Ticket,
        ends: Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CallError>> {
        let slot = &mut self.slots[ticket.slot];
        if slot.open {
            // From now on it is the stream that has a time, and no longer its opening.
            slot.deadline = ends;
            self.wake_by(ends);
            return Poll::Ready(Ok(()));
        }
        let why = match slot.stage {
            Stage::Over => slot.take_result().err(),
            _ => match self.wait(ticket, cx) {
                Poll::Ready(why) => Some(why),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.leave(ticket);
        Poll::Ready(Err(why.unwrap_or(CallError::Disconnected { sent: false })))
    }

    /// Ready with what a stream has next. After its end its ticket is no longer good.
    pub(super) fn poll_next(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> (Poll<Next>, Then) {
        let slot = &mut self.slots[ticket.slot];
        if let Some(item) = slot.items.pop_front() {
            let id = slot.call.map_or(0, |call| call.id);
            let then = self.took(id, item.size);
            return (Poll::Ready(Next::Item(item)), then);
        }
        let deadline = slot.deadline;
        let next = match slot.stage {
            Stage::Over => match slot.take_result() {
                Ok(_) => Next::End,
                Err(error) => Next::Failed(late(error, deadline)),
            },
            _ => match self.wait(ticket, cx) {
                Poll::Ready(why) => Next::Failed(why),
                Poll::Pending => return (Poll::Pending, Then::Nothing),
            },
        };
        self.leave(ticket);
        (Poll::Ready(next), Then::Nothing)
    }

    /// The consumer of a stream has an item: gives back the credit for it, when enough has come together.
    fn took(&mut self, id: u32, size: usize) -> Then {
        self.session.take(id, size);
        let Some(credit) = self.session.credit_due(id) else {
            return Then::Nothing;
        };
        let mut out = self.spare_out.take();
        wire::credit(out.bytes(), id, credit);
        self.outbox.push_back(Queued { out, owner: None });
        match self.sending || self.outbox.len() > 1 {
            true => Then::Nothing,
            false => Then::Flush(self.driver.clone()),
        }
    }

    /// Waits to be woken, or gives up at once where there is no time to wait.
    fn wait(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<CallError> {
        let slot = &mut self.slots[ticket.slot];
        if slot.deadline == Deadline::NOW {
            let sent = self.withdraw(ticket);
            // Somebody may have waited for its place, and its cancellation may have to be sent.
            if let Some(driver) = &self.driver {
                driver.wake_by_ref();
            }
            return Poll::Ready(CallError::TimedOut { sent });
        }
        match &mut slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        self.lone = ticket.slot;
        Poll::Pending
    }

    /// Something has come: who is to read it. The only one who waits does so himself, which saves waking two; but not
    /// for a stream, whose consumer may be busy with what it has.
    pub(super) fn has_come(&mut self) -> Option<Waker> {
        self.unread = true;
        let alone = self.slots.len() - self.free.len() == 1;
        let lone = self
            .slots
            .get_mut(self.lone)
            .filter(|slot| alone && !slot.is_stream());
        lone.and_then(|slot| slot.waker.take())
            .or_else(|| self.driver.clone())
    }

    /// A call whose future is dropped.
    pub(super) fn abandon(&mut self, ticket: Ticket, woken: &mut Vec<Waker>) {
        self.withdraw(ticket);
        self.leave(ticket);
        self.hand_out_room(woken);
        if !self.outbox.is_empty() && !self.sending {
            woken.extend(self.driver.clone());
        }
    }

    /// Takes back the buffer of an answer that has been decoded.
    pub(super) fn keep(&mut self, mut message: Arc<Vec<u8>>) {
        if let Some(size) = Arc::get_mut(&mut message).map(|buffer| buffer.capacity()) {
            self.spare.keep(message, size);
        }
    }

    fn keep_out(&mut self, mut out: Outgoing) {
        out.clear();
        let size = out.capacity();
        self.spare_out.keep(out, size);
    }

    pub(super) fn server(&self) -> Option<&Party> {
        self.session.server()
    }

    // ------------------------------------------------------------ by the driver

    /// Notes the task of the driver, and gives away the room that there is.
    pub(super) fn driven_by(&mut self, cx: &mut Context<'_>, woken: &mut Vec<Waker>) {
        match &mut self.driver {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        self.hand_out_room(woken);
    }

    pub(super) fn driver(&self) -> Option<&Waker> {
        self.driver.as_ref()
    }

    /// A buffer to receive into.
    pub(super) fn buffer(&mut self) -> Arc<Vec<u8>> {
        self.spare.take()
    }

    /// What was received. An error: why there will be no more answers.
    pub(super) fn received(
        &mut self,
        received: io::Result<bool>,
        message: Arc<Vec<u8>>,
        woken: &mut Vec<Waker>,
    ) -> Result<(), CallError> {
        match received {
            Ok(true) => {}
            Ok(false) => return Err(CallError::Disconnected { sent: true }),
            Err(error) => return Err(cannot_receive(&error)),
        }
        match self.session.receive(&message) {
            Ok(ClientEvent::Reply { id, payload }) => {
                let payload = payload.len();
                let answer = Answer::new(message, 0, payload);
                self.answer(id, Ok(Some(answer)), woken);
            }
            Ok(ClientEvent::Failed { id, failure }) => {
                let failure = call_failed(&failure, &self.ours, self.session.server());
                self.answer(id, Err(failure), woken);
                self.keep(message);
            }
            Ok(ClientEvent::Nothing | ClientEvent::Welcome | ClientEvent::GoingAway) => {
                self.keep(message);
            }
            Ok(ClientEvent::Item { id, payload }) => {
                let payload = payload.len();
                if let Some(ticket) = self.ticket_of(id) {
                    let slot = &mut self.slots[ticket.slot];
                    slot.open = true;
                    slot.items.push_back(Answer::new(message, 0, payload));
                    woken.extend(slot.waker.take());
                }
            }
            Ok(ClientEvent::Ended { id }) => {
                self.answer(id, Ok(None), woken);
                self.keep(message);
            }
            Ok(ClientEvent::Goodbye) => return Err(CallError::Unavailable),
            Ok(ClientEvent::Refused(failure)) => {
                let theirs = self.session.server();
                return Err(CallError::from_server(&failure, &self.ours, theirs));
            }
            Err(malformed) => return Err(breaks_protocol(malformed)),
        }
        self.hand_out_room(woken);
        Ok(())
    }

    /// Whether calls can still begin here.
    pub(super) fn is_usable(&self) -> bool {
        self.ended.is_none() && !self.deaf && !self.session.is_going_away()
    }

    /// There will be no more answers. Of several reasons the first counts.
    pub(super) fn end(&mut self, why: CallError, woken: &mut Vec<Waker>) {
        let why = self.ended.get_or_insert(why).clone();
        self.outbox.clear();
        self.waiting.clear();
        self.alarm = Deadline::NEVER;
        for slot in 0..self.slots.len() {
            let sent = match self.slots[slot].stage {
                Stage::Waiting | Stage::Queued => false,
                Stage::Sending | Stage::Sent => true,
                // It finds out when it pushes.
                Stage::Begun | Stage::Free | Stage::Over => continue,
            };
            let serial = self.slots[slot].serial;
            self.finish(
                Ticket { slot, serial },
                Err(why.clone().with_sent(sent)),
                woken,
            );
        }
        woken.extend(self.driver.clone());
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Gives up the calls whose deadlines have passed, and says when to look again in [`alarm`](Self::alarm).
    pub(super) fn expire(&mut self, now: u64, woken: &mut Vec<Waker>) {
        self.alarm = Deadline::NEVER;
        for slot in 0..self.slots.len() {
            let Slot {
                serial,
                stage,
                deadline,
                ..
            } = self.slots[slot];
            // One that is encoded meanwhile sets the alarm when it is pushed.
            if matches!(stage, Stage::Free | Stage::Begun | Stage::Over) {
                continue;
            }
            if !deadline.is_timed() {
                continue;
            }
            if !deadline.has_passed_at(now) {
                self.alarm = self.alarm.min(deadline);
                continue;
            }
            let ticket = Ticket { slot, serial };
            let sent = self.withdraw(ticket);
            self.finish(ticket, Err(CallError::TimedOut { sent }), woken);
        }
        self.hand_out_room(woken);
    }

    // ------------------------------------------------------------ within

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = &mut self.slots[ticket.slot];
        (slot.serial == ticket.serial).then_some(slot)
    }

    fn enter(&mut self, stage: Stage, call: Option<Call>, deadline: Deadline) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                serial: 0,
                stage: Stage::Free,
                result: Ok(None),
                call: None,
                deadline,
                waker: None,
                open: false,
                items: VecDeque::new(),
            });
            self.slots.len() - 1
        });
        let place = &mut self.slots[slot];
        place.serial += 1;
        (place.stage, place.call, place.deadline) = (stage, call, deadline);
        self.awake += usize::from(place.is_awake());
        Ticket {
            slot,
            serial: place.serial,
        }
    }

    /// Ends a ticket.
    fn leave(&mut self, ticket: Ticket) {
        self.set(ticket, Stage::Free);
        let slot = &mut self.slots[ticket.slot];
        slot.serial += 1;
        slot.waker = None;
        slot.open = false;
        if slot.is_stream() {
            slot.items = VecDeque::new();
        }
        slot.result = Ok(None);
        self.free.push(ticket.slot);
        // It may have been woken to read what has come since it has read.
        if self.unread {
            if let Some(driver) = &self.driver {
                driver.wake_by_ref();
            }
        }
    }

    fn set(&mut self, ticket: Ticket, stage: Stage) {
        let slot = &mut self.slots[ticket.slot];
        self.awake -= usize::from(slot.is_awake());
        slot.stage = stage;
        self.awake += usize::from(slot.is_awake());
    }

    fn finish(
        &mut self,
        ticket: Ticket,
        result: Result<Option<Answer>, CallError>,
        woken: &mut Vec<Waker>,
    ) {
        self.set(ticket, Stage::Over);
        let slot = &mut self.slots[ticket.slot];
        slot.result = result;
        woken.extend(slot.waker.take());
    }

    fn find_by(&mut self, id: u32, ticket: Ticket) {
        let place = id as usize & 0xFFFF;
        if self.slot_of.len() <= place {
            self.slot_of.resize(place + 1, usize::MAX);
        }
        self.slot_of[place] = ticket.slot;
    }

    fn answer(
        &mut self,
        id: u32,
        result: Result<Option<Answer>, CallError>,
        woken: &mut Vec<Waker>,
    ) {
        if let Some(ticket) = self.ticket_of(id) {
            self.slots[ticket.slot].open = true;
            self.finish(ticket, result, woken);
        }
    }

    /// Whose call has an id.
    fn ticket_of(&self, id: u32) -> Option<Ticket> {
        let slot = self.slot_of.get(id as usize & 0xFFFF).copied()?;
        let of = self.slots.get(slot)?;
        let serial = of.serial;
        (of.call?.id == id).then_some(Ticket { slot, serial })
    }

    /// Stops waiting for an answer; whether the request was sent.
    fn withdraw(&mut self, ticket: Ticket) -> bool {
        let slot = &self.slots[ticket.slot];
        match slot.stage {
            Stage::Free | Stage::Over => true,
            Stage::Waiting => {
                self.waiting.retain(|other| *other != ticket);
                false
            }
            Stage::Begun => {
                self.unsend(ticket);
                false
            }
            Stage::Queued => {
                let place = self.outbox.iter().position(|it| it.owner == Some(ticket));
                if let Some(queued) = place.and_then(|place| self.outbox.remove(place)) {
                    self.keep_out(queued.out);
                }
                self.unsend(ticket);
                false
            }
            Stage::Sending | Stage::Sent => {
                let unanswered = slot.call.filter(|call| self.session.give_up(call.id));
                if let Some(call) = unanswered {
                    let mut out = self.spare_out.take();
                    wire::cancel(out.bytes(), call.id);
                    self.outbox.push_back(Queued { out, owner: None });
                }
                true
            }
        }
    }

    fn unsend(&mut self, ticket: Ticket) {
        if let Some(call) = self.slots[ticket.slot].call {
            self.session.unsend(call.id);
        }
    }

    /// Begins those calls that wait for room, as far as there is any.
    fn hand_out_room(&mut self, woken: &mut Vec<Waker>) {
        while let Some(&ticket) = self.waiting.front() {
            let Some(mut call) = self.slots[ticket.slot].call else {
                return;
            };
            match start(&mut self.session, &mut call) {
                Ok(()) => {
                    self.slots[ticket.slot].call = Some(call);
                    self.find_by(call.id, ticket);
                    self.set(ticket, Stage::Begun);
                    woken.extend(self.slots[ticket.slot].waker.take());
                }
                Err(NotNow::Full) => return,
                Err(why) => {
                    let why = cannot_begin(why, &self.ours, self.session.server());
                    self.finish(ticket, Err(why), woken);
                }
            }
            self.waiting.pop_front();
        }
    }

    /// Has the deadline of a stream minded from now on, without haste.
    fn wake_by(&mut self, deadline: Deadline) {
        if let Then::Wake(Some(driver)) = self.arm(deadline) {
            driver.wake();
        }
    }

    /// Has the driver woken by a deadline.
    fn arm(&mut self, deadline: Deadline) -> Then {
        if !deadline.is_timed() || deadline >= self.alarm {
            return Then::Nothing;
        }
        self.alarm = deadline;
        Then::Wake(self.driver.clone())
    }
}

/// Begins a call or a stream, if there is room.
fn start(session: &mut ClientSession, call: &mut Call) -> Result<(), NotNow> {
    match call.window {
        None => call.id = session.start(call.method)?,
        Some(window) => {
            let (id, credit) = session.open(call.method, window)?;
            (call.id, call.window) = (id, Some(credit));
        }
    }
    Ok(())
}

/// How long the driver goes on for what is still to be sent, when nobody can call any more.
pub(super) const COURTESY: Duration = Duration::from_millis(100);
