//! How a connection that has threads drives its streams: the handler of each runs on a [thread for streams](super::crew),
//! so that the connection's thread goes on receiving requests, credit and cancellations; and while there is something to
//! send, another one sends it, so that no handler ever waits for a client that does not read, but only for credit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budget::StreamPlace;
use super::buffer::Buffer;
use super::call::Call;
use super::connection::{COURTESY, Connection, End};
use super::handler::Payload;
use super::requests::Asked;
use super::share::Hold;
use super::sink::Opening;
use super::streams::{Line, Outflow, Waker, settle};
use crate::Deadline;
use crate::base::caught::caught;
use crate::proto::wire::{Code, Failure};

/// How long handlers have to notice that their streams are over, if there are too many of them.
pub(crate) const TO_NOTICE: Duration = Duration::from_secs(1);

/// How long a thread that has sent items waits for more, before there is none.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

impl Connection {
    /// Opens a stream, and gives a buffer for the next message.
    pub(super) fn open_stream(self: &Arc<Self>, id: u32, asked: Asked) -> Result<Buffer, End> {
        let Asked {
            method,
            payload,
            timeout,
        } = asked;
        let (mut deadline, mut over) = (timeout.map_or(Deadline::NEVER, Deadline::after), false);
        if self.ahead.has_waited() {
            deadline = self.deadline_of_what_waited(timeout);
            over = deadline.has_passed() || self.was_cancelled_before(id);
        }
        let (hold, place) = match self.room_for_handler(over) {
            Ok(room) => room,
            Err(failure) => {
                self.state().talk.session.answer(id);
                let told = self.fail(id, &failure);
                self.state().talk.session.answered();
                told?;
                return Ok(payload.message);
            }
        };
        let mut state = self.state();
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, Some(id));
        let serial = state.talk.streams.open(id);
        drop(state);
        let line = || Arc::clone(&self.outlet) as Arc<dyn Line>;
        let handling = Handling {
            opening: Opening::new(Outflow::new(line(), serial, deadline)),
            call: Call {
                caller: Arc::clone(self) as _,
                deadline,
                cancelled,
                inline: false,
            },
            serial,
            method,
            payload,
            _place: place,
            hold,
        };
        if self.shared.crew.run(move || handling.run()).is_err() {
            let failure = Failure::new(Code::OverLimit, "threads");
            Outflow::new(line(), serial, deadline).fail(&failure);
        }
        Ok(self.state().spare())
    }

    /// Whether a stream that has waited for its turn was cancelled meanwhile.
    fn was_cancelled_before(&self, id: u32) -> bool {
        let mut state = self.state();
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, Some(id));
        drop(state);
        self.catch_up(Some(id), &cancelled);
        self.state().running.finish(&cancelled);
        cancelled.load(Ordering::Acquire)
    }

    /// Counts another handler, or says why there can be none.
    ///
    /// A stream may have ended whose handler has not noticed, or has more to do: these do not count as requests any more,
    /// but there is an end to them as well.
    fn room_for_handler(
        self: &Arc<Self>,
        over: bool,
    ) -> Result<(Hold, StreamPlace), Failure<'static>> {
        let over_limit = |what| Failure::new(Code::OverLimit, what);
        if self.shared.is_draining() {
            return Err(Failure::new(Code::Unavailable, "ending"));
        }
        if over {
            return Err(Failure::new(Code::Cancelled, ""));
        }
        let limit = self.shared.options.max_in_flight.saturating_mul(2);
        let before = self.handlers.add_by(limit, Deadline::after(TO_NOTICE));
        let before = before.ok_or(over_limit("handlers of streams"))?;
        let hold = Hold::new(Arc::clone(self), &self.handlers);
        let most = self.shared.options.stream_handlers;
        let place = self.holder.begin_stream(most, before == 0);
        let place = place.ok_or(over_limit("handlers of streams of all clients"))?;
        match self.shared.crew.make_ready() {
            Ok(()) => Ok((hold, place)),
            Err(_) => Err(over_limit("threads")),
        }
    }

    /// Has something send what the streams have to say.
    pub(super) fn start_to_send(hold: Hold) {
        let Some(connection) = hold.connection() else {
            return;
        };
        let crew = Arc::clone(&connection.shared.crew);
        let sending = Sending { hold, begun: false };
        let _ = crew.run(move || sending.run());
    }

    /// Sends what the streams have to say, until they have no more to say for a while.
    fn send_items(&self) {
        while let Some(mut outbound) = self.outlet.next() {
            let last = outbound.last;
            if last {
                self.state().talk.session.answer(outbound.id);
            }
            // A client may stay away from its streams for as long as it likes: that costs the server what is queued,
            // and this thread. If it is a reply that waits behind this, the reply's patience ends the connection.
            let owes = self.owes(outbound.message.len());
            let sent = self.send_now(&mut outbound.message, Deadline::NEVER);
            drop(owes);
            if sent.is_err() {
                return;
            }
            let mut state = self.state();
            if last {
                state.talk.session.answered();
            }
            let waker = state.talk.sent(outbound);
            let wakers = state.talk.relieved();
            drop(state);
            wake(waker);
            wake(wakers);
            wake(self.holder.budget().relieved());
            if last && self.shared.is_draining() && self.in_flight() == 0 {
                return self.part(Deadline::after(COURTESY));
            }
        }
    }
}

/// The handler of a stream, on its way. What it holds of its connection goes last.
struct Handling {
    opening: Opening,
    call: Call,
    serial: u64,
    method: u32,
    payload: Payload,
    _place: StreamPlace,
    hold: Hold,
}

impl Handling {
    fn run(self) {
        let Handling {
            hold,
            _place,
            opening,
            call,
            serial,
            method,
            payload,
        } = self;
        let Some(connection) = hold.connection() else {
            return;
        };
        let span = connection.span(method);
        let handler = &connection.shared.handler;
        let handled = caught(|| span.run(|| handler.open(method, &payload, &call, opening)));
        let failed = settle(&*connection.outlet, serial, handled);
        let mut state = connection.state();
        state.running.finish(&call.cancelled);
        state.keep(payload.message);
        drop(state);
        drop(call);
        span.end_request(Some(failed));
    }
}

/// What sends the items of a connection.
struct Sending {
    hold: Hold,
    begun: bool,
}

impl Sending {
    fn run(mut self) {
        self.begun = true;
        if let Some(connection) = self.hold.connection() {
            connection.send_items();
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // There can be no thread for it. Locks may be hold where it was asked for, so that no more is done here.
        if let Some(connection) = self.hold.connection().filter(|_| !self.begun) {
            connection.shut();
        }
    }
}

/// Wakes whom the streams have named. Nobody holds a lock of the connection meanwhile.
#[inline]
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(|waker| waker.wake());
}

/// The same where there is nearly always nobody.
#[cfg(feature = "tokio")]
#[inline]
pub(crate) fn wake_any(wakers: Vec<Waker>) {
    if !wakers.is_empty() {
        wake(wakers);
    }
}
