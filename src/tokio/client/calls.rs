//! The calls of one connection: who waits for what, and what is still to be sent.
//!
//! Nothing here reads, writes or waits. A call goes through these stages, each with the lock held:
//!
//! ```text
//! begin --> Waiting (for room) --> Begun --push--> Queued --take--> Sending --> Sent --> Over --> claimed
//!    |                               ^  |            ^            ^
//!    +-------------------------------+  +--> Held ---+            |
//!                                       +---------push------------+
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
mod room;
mod timing;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::slot::{Asked, Blank, Call, Me, Next, Slot, Spare, Stage, Then, Ticket};
use crate::Deadline;
use crate::client::common::{
    Answer, End, UNASKED, UNASKED_NOTIFICATION, breaks_protocol, call_failed, cannot_begin,
    cannot_receive, check_size, late,
};
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::wire;
use crate::proto::{ClientEvent, ClientSession, NotNow, Party};
use outbox::Line;
use room::Room;
use timing::Timetable;

/// What is behind the lock of a connection.
#[derive(Debug)]
pub(super) struct Calls {
    ours: Arc<Party>,
    session: ClientSession,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Which slot a call of the session's is in, by its place there.
    slot_of: Vec<usize>,
    /// Those that wait for room.
    room: Room,
    /// The first message, until it is sent.
    hello: Option<Outgoing>,
    /// Those whose messages are to be sent, and those whose messages wait for the welcome.
    outbox: Line,
    held: Line,
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
    ended: Option<End>,
    /// Nobody can call any more: the driver ends when all is sent.
    pub(super) closing: bool,
    /// When the first deadline passes that somebody waits with, or earlier.
    pub(super) alarm: Deadline,
    times: Timetable,
    /// Whether the runtime has timers.
    timers: bool,
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
    pub(super) fn new(ours: Arc<Party>, tries: bool, timers: bool) -> Calls {
        Calls {
            ours,
            session: ClientSession::default(),
            slots: Vec::new(),
            free: Vec::new(),
            slot_of: Vec::new(),
            room: Room::default(),
            hello: None,
            outbox: Line::default(),
            held: Line::default(),
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
            times: Timetable::default(),
            timers,
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
        self.hello = Some(out);
    }

    /// Enters a call, a stream, or a notification. It has begun if there is room, and waits if not.
    pub(super) fn begin(
        &mut self,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<(Ticket, bool, Then), CallError> {
        self.check_open()?;
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
        let begun = match self.has_free_room() {
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
                self.wait_for_room(ticket);
                Ok((ticket, true, self.arm(ticket)))
            }
            Err(why) => Err(cannot_begin(why, &self.ours, self.session.server())),
        }
    }

    fn check_open(&self) -> Result<(), CallError> {
        match &self.ended {
            Some(end) => Err(end.of_unsent()),
            None if self.unsent_fails => Err(CallError::Disconnected { sent: false }),
            None => Ok(()),
        }
    }

    /// Ready when a call has begun that had to wait.
    pub(super) fn poll_begun(
        &mut self,
        ticket: Ticket,
        me: &mut Me<'_>,
    ) -> Poll<Result<(), CallError>> {
        let slot = &mut self.slots[ticket.slot];
        match slot.stage {
            Stage::Waiting => self.poll_room(ticket, me),
            Stage::Over => Poll::Ready(slot.take_result().map(drop)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// What the message of a call begins as that has begun.
    pub(super) fn blank(&mut self, ticket: Ticket) -> Blank {
        let call = self.slots[ticket.slot].call;
        Blank {
            out: self.spare_out.take(),
            id: call.map_or(0, |call| call.id),
            credit: call.and_then(|call| call.window).unwrap_or(0),
        }
    }

    /// Queues the message of a call that has begun.
    pub(super) fn push(&mut self, ticket: Ticket, blank: Blank) -> Result<Then, CallError> {
        self.check_open()?;
        let out = blank.out;
        let size = out.len();
        let limit = self.session.server().map(Party::takes);
        let most = limit.unwrap_or(u32::MAX).min(crate::MAX_MESSAGE as u32);
        if let Err(error) = check_size(size, most) {
            self.keep_out(out);
            return Err(error);
        }
        let slot = &mut self.slots[ticket.slot];
        slot.size = size;
        let unasked = match slot.call {
            Some(_) => UNASKED,
            None => UNASKED_NOTIFICATION,
        };
        let then = match slot.timed {
            true => Then::Nothing,
            false => self.arm(ticket),
        };
        if limit.is_none() && size > unasked {
            // A server that is sent too much ends the connection: it says first how much that is.
            self.set(ticket, Stage::Held);
            self.slots[ticket.slot].message = Some(out);
            self.held.push_back(ticket);
            return Ok(then);
        }
        self.set(ticket, Stage::Queued);
        if matches!(then, Then::Nothing) && self.is_first_and_last() {
            return Ok(Then::Send(self.take_alone(ticket, out)));
        }
        self.slots[ticket.slot].message = Some(out);
        self.outbox.push_back(ticket);
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
        me: &mut Me<'_>,
    ) -> Poll<Result<Option<Answer>, CallError>> {
        let slot = &mut self.slots[ticket.slot];
        let deadline = slot.deadline;
        let result = match slot.stage {
            Stage::Over => slot.take_result(),
            _ => match self.wait(ticket, me) {
                Poll::Ready(why) => Err(why),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.leave_by(ticket, me);
        Poll::Ready(result.map_err(|error| late(error, deadline)))
    }

    /// Ready when the request for a stream is sent. An error: its ticket is no longer good.
    pub(super) fn poll_open(
        &mut self,
        ticket: Ticket,
        ends: Deadline,
        me: &mut Me<'_>,
    ) -> Poll<Result<(), CallError>> {
        let slot = &mut self.slots[ticket.slot];
        if slot.open {
            // From now on it is the stream that has a time, and no longer its opening.
            if slot.deadline != ends || !slot.timed {
                slot.deadline = ends;
                if let Then::Wake(driver) = self.arm(ticket) {
                    me.driver = driver;
                }
            }
            return Poll::Ready(Ok(()));
        }
        let why = match slot.stage {
            Stage::Over => slot.take_result().err(),
            _ => match self.wait(ticket, me) {
                Poll::Ready(why) => Some(why),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.leave_by(ticket, me);
        Poll::Ready(Err(why.unwrap_or(CallError::Disconnected { sent: false })))
    }

    /// Ready with what a stream has next. After its end its ticket is no longer good.
    pub(super) fn poll_next(&mut self, ticket: Ticket, me: &mut Me<'_>) -> (Poll<Next>, Then) {
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
            _ => match self.wait(ticket, me) {
                Poll::Ready(why) => Next::Failed(why),
                Poll::Pending => return (Poll::Pending, Then::Nothing),
            },
        };
        self.leave_by(ticket, me);
        (Poll::Ready(next), Then::Nothing)
    }

    /// The consumer of a stream has an item: gives back the credit for it, when enough has come together.
    fn took(&mut self, id: u32, size: usize) -> Then {
        self.session.take(id, size);
        // Where something else waits to be sent, somebody is about to.
        match self.session.has_due() && !self.sending && self.outbox.len() == 0 {
            true => Then::Flush(self.driver.clone()),
            false => Then::Nothing,
        }
    }

    /// Waits to be woken, or gives up at once where there is no time to wait.
    fn wait(&mut self, ticket: Ticket, me: &mut Me<'_>) -> Poll<CallError> {
        let slot = &mut self.slots[ticket.slot];
        if slot.deadline == Deadline::NOW {
            let sent = self.withdraw(ticket);
            // Somebody may have waited for its place, and its cancellation may have to be sent.
            me.driver = self.driver.clone();
            return Poll::Ready(CallError::TimedOut { sent });
        }
        match &mut slot.waker {
            Some(waker) if waker.will_wake(me.waker) => {}
            waker => match me.clone.take() {
                Some(clone) => me.left = waker.replace(clone),
                None => me.lacks = true,
            },
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

    /// A call whose future is dropped. Gives what it was to be woken by.
    pub(super) fn abandon(&mut self, ticket: Ticket, woken: &mut Vec<Waker>) -> Option<Waker> {
        self.withdraw(ticket);
        let waker = self.leave(ticket);
        self.offer_room(woken);
        // It may have been woken to read what has come since it has read.
        if self.has_unsent() || self.unread {
            woken.extend(self.driver.clone());
        }
        waker
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
        if self.timers {
            self.offer_room(woken);
        } else {
            self.pass_on_room(0, woken);
        }
    }

    pub(super) fn driver(&self) -> Option<&Waker> {
        self.driver.as_ref()
    }

    /// A buffer to receive into.
    pub(super) fn buffer(&mut self) -> Arc<Vec<u8>> {
        self.spare.take()
    }

    /// What was received. An error: there will be no more answers.
    pub(super) fn received(
        &mut self,
        received: io::Result<bool>,
        message: Arc<Vec<u8>>,
        woken: &mut Vec<Waker>,
    ) -> Result<(), End> {
        match received {
            Ok(true) => {}
            Ok(false) => return Err(End::broken()),
            Err(error) => return Err(End::new(cannot_receive(&error))),
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
            Ok(ClientEvent::Welcome) => {
                self.keep(message);
                self.release_held(woken);
            }
            Ok(ClientEvent::Nothing | ClientEvent::GoingAway) => self.keep(message),
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
            Ok(ClientEvent::Goodbye) => return Err(End::goodbye()),
            Ok(ClientEvent::Refused { failure, unmet }) => {
                let theirs = self.session.server();
                return Err(End::refused(&failure, unmet, &self.ours, theirs));
            }
            Err(malformed) => return Err(End::new(breaks_protocol(malformed))),
        }
        self.offer_room(woken);
        Ok(())
    }

    /// Whether calls can still begin here.
    pub(super) fn is_usable(&self) -> bool {
        self.ended.is_none() && !self.deaf && !self.session.is_going_away()
    }

    /// There will be no more answers. Of several reasons the first counts.
    pub(super) fn end(&mut self, end: End, woken: &mut Vec<Waker>) {
        let end = self.ended.get_or_insert(end).clone();
        self.hello = None;
        self.outbox = Line::default();
        self.held = Line::default();
        self.session.forget_due();
        self.alarm = Deadline::NEVER;
        self.fail_waiting(&end.of_unsent(), woken);
        for slot in 0..self.slots.len() {
            let Slot {
                stage,
                serial,
                size,
                ..
            } = self.slots[slot];
            let why = match stage {
                Stage::Waiting | Stage::Held | Stage::Queued => end.of_unsent(),
                Stage::Sending | Stage::Sent => end.of_sent(size),
                // It finds out when it pushes.
                Stage::Begun | Stage::Free | Stage::Over => continue,
            };
            if let Some(out) = self.slots[slot].message.take() {
                self.keep_out(out);
            }
            self.finish(Ticket { slot, serial }, Err(why), woken);
        }
        woken.extend(self.driver.clone());
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    // ------------------------------------------------------------ within

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = &mut self.slots[ticket.slot];
        (slot.serial == ticket.serial).then_some(slot)
    }

    fn enter(&mut self, stage: Stage, call: Option<Call>, deadline: Deadline) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::new());
            self.slots.len() - 1
        });
        let place = &mut self.slots[slot];
        place.serial += 1;
        (place.stage, place.call) = (stage, call);
        (place.deadline, place.timed) = (deadline, false);
        self.awake += usize::from(place.is_awake());
        Ticket {
            slot,
            serial: place.serial,
        }
    }

    /// Ends a ticket. Gives what it was to be woken by.
    fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        self.set(ticket, Stage::Free);
        let slot = &mut self.slots[ticket.slot];
        slot.serial += 1;
        slot.open = false;
        if slot.is_stream() {
            slot.items = VecDeque::new();
        }
        slot.result = Ok(None);
        self.free.push(ticket.slot);
        slot.waker.take()
    }

    /// The same, for whoever has looked what has become of it.
    fn leave_by(&mut self, ticket: Ticket, me: &mut Me<'_>) {
        if let Some(waker) = self.leave(ticket) {
            me.left = Some(waker);
        }
        // It may have been woken to read what has come since it has read.
        if self.unread {
            me.driver = self.driver.clone();
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
        if self.slots[ticket.slot].message.is_some() {
            // It was answered before it was sent.
            self.take_out(ticket);
        }
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
                self.stop_waiting_for_room(ticket);
                false
            }
            Stage::Begun => {
                self.unsend(ticket);
                false
            }
            Stage::Held | Stage::Queued => {
                self.take_out(ticket);
                self.unsend(ticket);
                false
            }
            Stage::Sending | Stage::Sent => {
                if let Some(call) = slot.call {
                    // Its cancellation is due then.
                    self.session.give_up(call.id);
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
