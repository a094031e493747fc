//! The calls that one end of a connection makes: which wait for what, and what is still to be sent.
//!
//! Nothing here reads, writes, waits or looks at a clock. A driver hands in messages, the time and what became of sending,
//! and takes out messages to send, results, and the wakers of those whose calls have changed. A call goes through these
//! stages, in one entry of one table:
//!
//! ```text
//! begin --> Waiting (for room) --> Begun --push--> Queued --take--> Sending --> Sent --> Over --> claimed
//!    |                               ^  |            ^                ^          ^
//!    +-------------------------------+  +--> Held ---+                |          |
//!                                       +----- push, to send alone ---+          |
//!                                       +----- sent (by its caller) -------------+
//! ```
//!
//! A message that no other is ahead of, or about to join, need not be queued: its caller sends it. A blocking driver
//! never queues requests.
//!
//! A call that fails goes to `Over` from wherever it is. One that is given up leaves at once: its message is taken back
//! if it is still queued; otherwise the peer is told, and the place is free again when the late answer has come. That each
//! request is answered exactly once is what makes an id safe to use again.
//!
//! A stream goes the same way. Its items wait with it until they are claimed one by one; its answer, which is its end,
//! comes behind them.

mod answer;
mod due;
mod end;
mod hearing;
mod line;
mod outbox;
mod owing;
mod room;
mod slot;
mod spare;
mod table;
#[cfg(test)]
mod tests;
mod timetable;
mod timing;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use super::call_error::CallError;
use super::credit::Window;
use super::party::Party;
use super::wire::{self, Code, control};
use super::woken::Woken;
use crate::Deadline;
use crate::codec::outgoing::Outgoing;
pub use answer::ServerInfo;
pub(crate) use answer::{Answer, drain};
pub(crate) use end::{End, NotNow, not_sent};
use end::{cannot_begin, check_size};
use line::Line;
use room::Room;
pub(crate) use slot::{Asked, Blank, Next, Pushed, Queued, Ticket};
use slot::{Slot, Stage};
use spare::{Buffers, Spare};
pub(crate) use table::MAX_IN_FLIGHT;
use table::Table;
use timetable::Timetable;

/// How many requests a client may have unanswered before it knows what the server allows, which may be no more.
const BEFORE_WELCOME: usize = 1;

/// The calls of one connection. `W` is what wakes the caller of one.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Calls<W> {
    ours: Arc<Party>,
    server: Option<Party>,
    /// What the server has said against this client.
    refused: Option<Code>,
    going_away: bool,
    /// How many ids may be unanswered.
    max_in_flight: usize,
    table: Table<W>,
    /// How many ids the server has not answered, those of calls that were given up among them.
    unanswered: usize,
    /// How many calls have a ticket that is good.
    entered: usize,
    /// How many calls are about to send something, or have an answer and may call again: as long as there are any it
    /// is worth waiting for more to send.
    awake: usize,
    room: Room,
    /// The first message, until it is sent.
    hello: Option<Outgoing>,
    /// The places of calls for which something is [due](due::Due), each once.
    due: VecDeque<u16>,
    /// The calls whose messages are to be sent, and those whose messages wait for the welcome.
    outbox: Line,
    held: Line,
    /// Messages are being sent, or are to be sent once the peer makes room.
    sending: bool,
    /// What is being sent is a message that its caller sends alone.
    alone: bool,
    /// Another was to send meanwhile, and could not.
    again: bool,
    /// The peer takes no more messages. What it had sent before may still come.
    deaf: bool,
    /// And what has come by then has been read: it was not said why.
    unsent_fails: bool,
    ended: Option<End>,
    times: Timetable,
    /// When the first of the deadlines in the timetable passes, or earlier.
    alarm: Deadline,
    spare: Buffers,
    spare_out: Spare<Outgoing>,
}

impl<W> Calls<W> {
    /// The calls of a connection that begins: the hello is the first message to send.
    pub(crate) fn new(ours: Arc<Party>) -> Calls<W> {
        let mut hello = Outgoing::default();
        wire::hello(hello.bytes(), &ours.identity());
        Calls {
            ours,
            server: None,
            refused: None,
            going_away: false,
            max_in_flight: BEFORE_WELCOME,
            table: Table::new(),
            unanswered: 0,
            entered: 0,
            awake: 0,
            room: Room::default(),
            hello: Some(hello),
            due: VecDeque::new(),
            outbox: Line::default(),
            held: Line::default(),
            sending: false,
            alone: false,
            again: false,
            deaf: false,
            unsent_fails: false,
            ended: None,
            times: Timetable::default(),
            alarm: Deadline::NEVER,
            spare: Buffers::default(),
            spare_out: Spare::default(),
        }
    }

    // ------------------------------------------------------------ for those who call

    /// Enters a call, a stream or a notification. It has begun, with a message to fill, or it [waits](Self::poll_begun)
    /// for room.
    #[inline(always)]
    pub(crate) fn begin(
        &mut self,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<(Ticket, Option<Blank>), CallError> {
        self.check_open()?;
        if matches!(asked, Asked::Nothing { .. }) {
            let (ticket, _) = self.enter(false, Stage::Begun, asked, deadline);
            return Ok((ticket, Some(self.blank(ticket, asked))));
        }
        if let Err(why) = self.may_begin(asked.method()) {
            return Err(self.why_not_now(why));
        }
        if self.has_free_room() && self.has_place() {
            let (ticket, blank) = self.start(asked, deadline);
            return Ok((ticket, Some(blank)));
        }
        Ok((self.wait_for_room(asked, deadline), None))
    }

    #[cold]
    fn why_not_now(&self, why: NotNow) -> CallError {
        cannot_begin(why, &self.ours, self.server.as_ref())
    }

    #[inline]
    fn check_open(&self) -> Result<(), CallError> {
        match &self.ended {
            Some(end) => Err(end.of_unsent()),
            None if self.unsent_fails => Err(CallError::Disconnected { sent: false }),
            None => Ok(()),
        }
    }

    /// Whether the server takes requests for a method. An incompatible client may still send control requests.
    #[inline]
    pub(crate) fn may_begin(&self, method: u32) -> Result<(), NotNow> {
        match self.refused {
            Some(Code::Incompatible) if method >= control::FIRST => {}
            Some(code) => return Err(NotNow::Refused(code)),
            None => {}
        }
        match self.going_away {
            true => Err(NotNow::GoingAway),
            false => Ok(()),
        }
    }

    /// Gives a call its id, and the message to fill. There has to be [a place](Self::has_place).
    #[inline(always)]
    fn start(&mut self, mut asked: Asked, deadline: Deadline) -> (Ticket, Blank) {
        self.unanswered += 1;
        let mut size = Window::default();
        if let Asked::Items { window, .. } = &mut asked {
            size = Window::new(*window);
            *window = size.size();
        }
        let (ticket, slot) = self.enter(true, Stage::Begun, asked, deadline);
        (slot.unanswered, slot.window, slot.open) = (true, size, false);
        (ticket, self.blank(ticket, asked))
    }

    #[inline(always)]
    fn blank(&mut self, ticket: Ticket, asked: Asked) -> Blank {
        Blank {
            asked,
            out: self.spare_out.blank(),
            id: ticket.id(),
            limit: self.server.as_ref().map(Party::takes),
        }
    }

    /// Ready when a call has begun that had to wait, with its new ticket. An error: its ticket is no longer good. `left`
    /// is what it was to be woken by.
    pub(crate) fn poll_begun(
        &mut self,
        ticket: Ticket,
        left: &mut Option<W>,
    ) -> Poll<Result<(Ticket, Blank), CallError>> {
        let slot = self.table.slot(ticket);
        let method = slot.asked.method();
        let why = if slot.stage != Stage::Waiting {
            let why = slot.take_result().err();
            why.unwrap_or(CallError::Disconnected { sent: false })
        } else if let Err(why) = self.may_begin(method) {
            self.stop_waiting_for_room(ticket);
            self.why_not_now(why)
        } else if self.is_room_of(ticket) && self.has_place() {
            self.takes_room(ticket);
            let slot = self.table.slot(ticket);
            let (asked, deadline) = (slot.asked, slot.deadline);
            *left = slot.waker.take();
            self.leave(ticket);
            return Poll::Ready(Ok(self.start(asked, deadline)));
        } else {
            self.line_up(ticket);
            return Poll::Pending;
        };
        *left = self.table.slot(ticket).waker.take();
        self.leave(ticket);
        Poll::Ready(Err(why))
    }

    /// Has the message of a call sent that has begun. If it is to be sent `alone`, its caller does so where no other
    /// message is ahead of it or about to join it.
    #[inline]
    pub(crate) fn push(
        &mut self,
        ticket: Ticket,
        blank: Blank,
        alone: bool,
    ) -> Result<Pushed, CallError> {
        self.check_open()?;
        let out = blank.out;
        let size = out.len();
        let limit = self.server.as_ref().map(Party::takes);
        let most = limit.unwrap_or(u32::MAX).min(crate::MAX_MESSAGE as u32);
        if let Err(error) = check_size(size, most) {
            self.spare_out.keep_out(out);
            return Err(error);
        }
        let slot = self.table.slot(ticket);
        slot.size = size;
        if slot.stage != Stage::Begun {
            // It is over before it was sent.
            self.spare_out.keep_out(out);
            return Ok(Pushed::Held);
        }
        if limit.is_none() && size > slot.asked.unasked() {
            // A server that is sent too much ends the connection: it says first how much that is.
            slot.message = Some(out);
            self.set(ticket, Stage::Held);
            self.held.push_back(ticket);
            return Ok(Pushed::Held);
        }
        self.set(ticket, Stage::Queued);
        if alone && self.awake == 0 && !self.has_to_send() && !self.sending && !self.deaf {
            return Ok(Pushed::Send(self.take_alone(ticket, out)));
        }
        self.table.slot(ticket).message = Some(out);
        self.outbox.push_back(ticket);
        Ok(Pushed::Queued)
    }

    /// Has a call wait for the welcome whose caller has the message, if that is too large to be sent before. Then
    /// [`poll_held`](Self::poll_held) has to follow.
    pub(crate) fn hold(&mut self, ticket: Ticket, blank: &Blank) -> Result<(), CallError> {
        let size = blank.out.len();
        if let Some(limit) = self.server.as_ref().map(Party::takes) {
            return check_size(size, limit);
        }
        let slot = self.table.slot(ticket);
        slot.size = size;
        if slot.stage == Stage::Begun && self.ended.is_none() {
            self.set(ticket, Stage::Held);
            self.held.push_back(ticket);
        }
        Ok(())
    }

    /// Ready when a message may be sent that was held, or why not; then it still has to be given up.
    pub(crate) fn poll_held(&mut self, ticket: Ticket) -> Poll<Result<(), CallError>> {
        if let Some(end) = &self.ended {
            return Poll::Ready(Err(end.of_unsent()));
        }
        let slot = self.table.slot(ticket);
        match slot.stage {
            Stage::Held => Poll::Pending,
            Stage::Over => Poll::Ready(slot.take_result().map(drop)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The caller has sent its message itself, of so many bytes, and gives it back, emptied.
    #[inline(always)]
    pub(crate) fn sent(&mut self, ticket: Ticket, size: usize, out: Outgoing) {
        self.spare_out.keep_empty(out);
        let slot = self.table.slot(ticket);
        slot.size = size;
        // The answer may have overtaken this.
        if slot.stage != Stage::Begun {
            return;
        }
        slot.open = true;
        self.awake -= usize::from(slot.is_awake());
        slot.stage = Stage::Sent;
        if self.ended.is_some() {
            self.sent_too_late(ticket);
        }
    }

    #[cold]
    fn sent_too_late(&mut self, ticket: Ticket) {
        let size = self.table.slot(ticket).size;
        let end = self.ended.as_ref().map(|end| end.of_sent(size));
        let why = end.map_or(Ok(None), Err);
        self.finish(ticket, why, &mut Woken::default());
    }

    /// Ready when a call is over; then its ticket is no longer good.
    #[inline(always)]
    pub(crate) fn poll_over(&mut self, ticket: Ticket) -> Poll<Result<Option<Answer>, CallError>> {
        let slot = self.table.slot(ticket);
        if slot.stage != Stage::Over {
            return Poll::Pending;
        }
        let result = slot.take_result();
        self.leave(ticket);
        Poll::Ready(result)
    }

    /// Ready when the request for a stream is sent; from then on it is the stream that has a deadline, and no longer its
    /// opening. An error: its ticket is no longer good.
    pub(crate) fn poll_open(
        &mut self,
        ticket: Ticket,
        ends: Deadline,
    ) -> Poll<Result<(), CallError>> {
        let slot = self.table.slot(ticket);
        if slot.open {
            if slot.deadline != ends {
                (slot.deadline, slot.timed) = (ends, false);
            }
            self.mind(ticket);
            return Poll::Ready(Ok(()));
        }
        self.poll_over(ticket)
            .map(|over| over.and(Err(CallError::Disconnected { sent: false })))
    }

    /// Ready with what a stream has next. After its end its ticket is no longer good.
    #[inline]
    pub(crate) fn poll_next(&mut self, ticket: Ticket) -> Poll<Next> {
        let slot = self.table.slot(ticket);
        let Some(item) = slot.items.pop_front() else {
            return self.poll_over(ticket).map(|over| match over {
                Ok(_) => Next::End,
                Err(why) => Next::Failed(why),
            });
        };
        if slot.is_live() && slot.unanswered {
            slot.window.take(item.size);
            if slot.window.is_due() {
                self.owe(ticket);
            }
        }
        Poll::Ready(Next::Item(item))
    }

    /// Whether a stream has something next.
    pub(crate) fn has_next(&mut self, ticket: Ticket) -> bool {
        let slot = self.table.slot(ticket);
        !slot.items.is_empty() || slot.stage == Stage::Over
    }

    /// What a call is to be woken by, which waits for something.
    #[inline]
    pub(crate) fn waker(&mut self, ticket: Ticket) -> &mut Option<W> {
        &mut self.table.slot(ticket).waker
    }

    /// Whether a call may still have to be woken.
    pub(crate) fn sleeps(&mut self, ticket: Ticket) -> bool {
        let slot = self.table.find(ticket);
        slot.is_some_and(|slot| slot.waker.is_some())
    }

    /// Takes what a call is to be woken by, if it still waits.
    pub(crate) fn wake(&mut self, ticket: Ticket) -> Option<W> {
        self.table.find(ticket)?.waker.take()
    }

    /// The same for the only call that there is, unless it is a stream, whose consumer may be busy.
    pub(crate) fn wake_if_alone(&mut self, ticket: Ticket) -> Option<W> {
        let alone = self.entered == 1;
        let slot = self.table.find(ticket);
        slot.filter(|slot| alone && !slot.is_stream())?.waker.take()
    }

    /// Gives a call up, if it is not claimed: its answer means nothing when it comes, and neither do more items. Says
    /// whether it was sent, of which the peer is [to be told](due::Due), and what it was to be woken by.
    pub(crate) fn give_up(&mut self, ticket: Ticket, woken: &mut Woken<W>) -> (bool, Option<W>) {
        let slot = self.table.find(ticket);
        let Some(slot) = slot.filter(|slot| slot.stage != Stage::GivenUp) else {
            return (true, None);
        };
        let waker = slot.waker.take();
        slot.result = Ok(None);
        let sent = self.withdraw(ticket);
        self.leave(ticket);
        self.offer_room(woken);
        (sent, waker)
    }

    /// Takes back the buffer of an answer that has been decoded.
    #[inline]
    pub(crate) fn keep(&mut self, message: Arc<Vec<u8>>) {
        self.spare.keep(message);
    }

    // ------------------------------------------------------------ for all

    /// Who the server is, once it has said so.
    #[inline]
    pub(crate) fn server(&self) -> Option<&Party> {
        self.server.as_ref()
    }

    /// How many ids are unanswered, those of calls that were given up among them.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether a call that may begin need not wait.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn has_room(&self) -> bool {
        self.has_free_room() && self.has_place()
    }

    /// Whether calls can still begin here.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.ended.is_none() && !self.deaf && !self.going_away
    }

    /// There will be no more answers. Of several reasons the first counts.
    pub(crate) fn end(&mut self, end: End, woken: &mut Woken<W>) {
        let end = self.ended.get_or_insert(end).clone();
        self.hello = None;
        self.outbox = Line::default();
        self.held = Line::default();
        self.alarm = Deadline::NEVER;
        self.forget_due();
        for ticket in self.table.all(Slot::is_live) {
            let slot = self.table.slot(ticket);
            let why = match slot.stage {
                Stage::Sending | Stage::Sent => end.of_sent(slot.size),
                // It finds out when its message is sent or pushed.
                Stage::Begun => continue,
                _ => end.of_unsent(),
            };
            self.fail_unsent_call(ticket, why, woken);
        }
    }

    /// Why there will be no more answers, if that is so.
    #[inline]
    pub(crate) fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    // ------------------------------------------------------------ within

    #[inline(always)]
    fn enter(
        &mut self,
        with_id: bool,
        stage: Stage,
        asked: Asked,
        deadline: Deadline,
    ) -> (Ticket, &mut Slot<W>) {
        let (ticket, slot) = self.table.enter(with_id);
        (slot.stage, slot.asked) = (stage, asked);
        (slot.deadline, slot.timed) = (deadline, false);
        self.awake += usize::from(slot.is_awake());
        self.entered += 1;
        (ticket, slot)
    }

    /// Ends a ticket. The slot is free, or will be when the late answer has come.
    #[inline(always)]
    fn leave(&mut self, ticket: Ticket) {
        if self.table.room() == 0 && self.room.is_waited_for() {
            // Only a driver can tell that there is room now.
            self.alarm = Deadline::NOW;
        }
        self.entered -= 1;
        let slot = self.table.slot(ticket);
        self.awake -= usize::from(slot.is_awake());
        slot.stage = Stage::GivenUp;
        if slot.is_stream() {
            slot.items = VecDeque::new();
        }
        if !slot.unanswered {
            slot.stage = Stage::Free;
            self.table.freed(ticket);
        }
    }

    #[inline]
    fn set(&mut self, ticket: Ticket, stage: Stage) {
        let slot = self.table.slot(ticket);
        self.awake -= usize::from(slot.is_awake());
        slot.stage = stage;
        self.awake += usize::from(slot.is_awake());
    }

    #[inline]
    fn finish(
        &mut self,
        ticket: Ticket,
        result: Result<Option<Answer>, CallError>,
        woken: &mut Woken<W>,
    ) {
        if self.table.slot(ticket).is_in_line() {
            // It was answered before it was sent, or has failed.
            self.take_out(ticket);
        }
        let slot = self.table.slot(ticket);
        self.awake -= usize::from(slot.is_awake());
        slot.stage = Stage::Over;
        self.awake += usize::from(slot.is_awake());
        slot.result = result;
        woken.add(slot.waker.take());
    }

    /// Fails a call that may wait for room, or be in a line of messages that is gone.
    fn fail_unsent_call(&mut self, ticket: Ticket, why: CallError, woken: &mut Woken<W>) {
        match self.table.slot(ticket).stage {
            Stage::Waiting => self.stop_waiting_for_room(ticket),
            Stage::Held | Stage::Queued => {
                self.take_message(ticket);
                self.unsend(ticket);
            }
            _ => {}
        }
        self.finish(ticket, Err(why), woken);
    }

    /// Stops waiting for an answer; whether the request was sent.
    fn withdraw(&mut self, ticket: Ticket) -> bool {
        match self.table.slot(ticket).stage {
            Stage::Waiting => self.stop_waiting_for_room(ticket),
            Stage::Begun => self.unsend(ticket),
            Stage::Held | Stage::Queued => {
                self.take_out(ticket);
                self.unsend(ticket);
            }
            Stage::Sending | Stage::Sent => {
                // Its cancellation is due then.
                self.owe(ticket);
                return true;
            }
            Stage::Free | Stage::Over | Stage::GivenUp => return true,
        }
        false
    }

    /// The request was not sent: its id cannot be answered.
    fn unsend(&mut self, ticket: Ticket) {
        let slot = self.table.slot(ticket);
        if std::mem::take(&mut slot.unanswered) {
            self.unanswered -= 1;
            if slot.stage == Stage::GivenUp {
                self.table.free(ticket);
            }
        }
    }
}
