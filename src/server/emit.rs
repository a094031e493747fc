//! How a connection that has threads drives its streams: the handler of each runs on a thread of its own, so that the
//! connection's thread goes on receiving requests, credit and cancellations; and one thread sends what all have to say,
//! so that no handler ever waits for a client that does not read, but only for credit.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{MappedMutexGuard, MutexGuard};

use super::call::Call;
use super::connection::{Buffer, COURTESY, Connection, End};
use super::handler::Payload;
use super::sink::Opening;
use super::streams::{Conversation, Line, Outflow, Waker, settle};
use crate::Deadline;
use crate::caught::caught;
use crate::wire::{Code, Failure};

/// How long handlers have to notice that their streams are over, if there are too many of them.
pub(crate) const TO_NOTICE: Duration = Duration::from_secs(1);

impl Line for Connection {
    fn lock(&self) -> MappedMutexGuard<'_, Conversation> {
        MutexGuard::map(self.state.lock(), |state| &mut state.talk)
    }

    fn is_queued(&self) {
        self.queued.notify_one();
    }

    fn client_takes(&self) -> u32 {
        Connection::client_takes(self)
    }

    fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }
}

impl Connection {
    /// Opens a stream, and gives a buffer for the next message.
    pub(super) fn open_stream(
        self: &Arc<Self>,
        id: u32,
        method: u32,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Buffer, End> {
        let why_not = if self.shared.is_draining() {
            Some(Failure::new(Code::Unavailable, "ending"))
        } else if self.was_cancelled(id) {
            Some(Failure::new(Code::Cancelled, ""))
        } else if !self.has_sender() {
            Some(Failure::new(Code::OverLimit, "threads"))
        } else if !self.has_room_for_handler() {
            Some(Failure::new(Code::OverLimit, "handlers of streams"))
        } else {
            None
        };
        if let Some(failure) = why_not {
            self.state.lock().talk.session.answer(id);
            let told = self.fail(id, &failure);
            self.state.lock().talk.session.answered();
            told?;
            return Ok(payload.message);
        }
        let mut state = self.state.lock();
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, Some(id));
        let serial = state.talk.streams.open(id);
        drop(state);
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let call = Call {
            caller: Arc::clone(self) as _,
            deadline,
            cancelled,
            inline: false,
        };
        let line: Arc<dyn Line> = Arc::clone(self) as _;
        let opening = Opening::new(Outflow::new(line, serial, deadline));
        let handle = move |connection: &Arc<Connection>| {
            connection.handle_stream(&call, serial, method, payload, opening);
            connection.handlers.done();
        };
        if self.spawn("pipetalk-stream", handle).is_err() {
            self.handlers.done();
            let failure = Failure::new(Code::OverLimit, "threads");
            Outflow::new(Arc::clone(self) as _, serial, deadline).fail(&failure);
        }
        Ok(self.state.lock().spare())
    }

    /// Whether there is a thread that sends items, which begins with the first stream.
    fn has_sender(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        state.sending = state.sending || self.spawn("pipetalk-items", Self::send_items).is_ok();
        state.sending
    }

    /// Counts another handler. A stream may have ended whose handler has not noticed, or has more to do: these do not
    /// count as requests any more, but there is an end to them as well.
    fn has_room_for_handler(&self) -> bool {
        let limit = self.shared.options.max_in_flight.saturating_mul(2);
        self.handlers.add_by(limit, Deadline::after(TO_NOTICE))
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        run: impl FnOnce(&Arc<Connection>) + Send + 'static,
    ) -> std::io::Result<()> {
        let connection = Arc::clone(self);
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || run(&connection)).map(drop)
    }

    fn handle_stream(
        &self,
        call: &Call,
        serial: u64,
        method: u32,
        payload: Payload,
        opening: Opening,
    ) {
        let span = self.span(method);
        let handler = &self.shared.handler;
        let handled = caught(|| span.run(|| handler.open(method, &payload, call, opening)));
        let failed = settle(self, serial, handled);
        let mut state = self.state.lock();
        state.running.finish(&call.cancelled);
        state.keep(payload.message);
        drop(state);
        span.end_request(Some(failed));
    }

    /// Sends what the streams have to say, until the connection ends.
    fn send_items(self: &Arc<Self>) {
        let mut state = self.state.lock();
        loop {
            let Some(mut outbound) = state.talk.streams.next() else {
                if state.talk.streams.is_closed() {
                    return;
                }
                self.queued.wait(&mut state);
                continue;
            };
            if outbound.last {
                state.talk.session.answer(outbound.id);
            }
            drop(state);
            // A client may stay away from its streams for as long as it likes: that costs the server what is queued,
            // and this thread. If it is a reply that waits behind this, the reply's patience ends the connection.
            if self
                .send_now(&mut outbound.message, Deadline::NEVER)
                .is_err()
            {
                return;
            }
            state = self.state.lock();
            let last = outbound.last;
            if last {
                state.talk.session.answered();
            }
            let waker = state.talk.sent(outbound);
            if waker.is_some() || last {
                drop(state);
                wake(waker);
                if last && self.shared.is_draining() && self.in_flight() == 0 {
                    return self.part(Deadline::after(COURTESY));
                }
                state = self.state.lock();
            }
        }
    }

    /// Ends all streams, and whoever sends them.
    pub(super) fn stop_streams(&self) {
        let wakers = self.state.lock().talk.streams.close();
        self.queued.notify_all();
        wake(wakers);
    }
}

/// Wakes whom the streams have named. Nobody holds a lock of the connection meanwhile.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(|waker| waker.wake());
}
