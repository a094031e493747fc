//! A request on its way through a handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::budget::SMALL;
use super::buffer::Buffer;
use super::call::Call;
use super::connection::{COURTESY, Connection, End};
use super::handler::{HandleError, Payload};
use super::share::Hold;
use crate::Deadline;
use crate::base::caught::{Panicked, caught};
use crate::base::clock;
use crate::codec::outgoing::Outgoing;
use crate::proto::wire::{self, Code, Failure};
use crate::transport::carrier::Carrier;

/// What is asked for.
pub(super) struct Request {
    /// `None`: a notification.
    pub(super) id: Option<u32>,
    pub(super) method: u32,
    pub(super) payload: Payload,
    /// It has waited for its turn, or may have.
    pub(super) waited: bool,
}

/// A request on its way to a thread of the pool. What it holds of its connection goes last.
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) request: Request,
    pub(super) hold: Hold,
}

impl Job {
    /// Whether its client has not too much to read already.
    pub(super) fn may_begin(&self) -> bool {
        let connection = self.hold.connection();
        !connection.is_some_and(|connection| connection.holds_up())
    }

    pub(super) fn run(self) {
        let Job {
            hold,
            call,
            request,
        } = self;
        let Some(connection) = hold.connection() else {
            return;
        };
        let mut out = connection.state().blank();
        let served = call.serve(connection, None, request, &mut out);
        drop(call);
        match served {
            // The connection's own thread waits for the next message, which it need not do any more.
            Err(_) => connection.close(),
            Ok(buffer) => {
                let mut state = connection.state();
                state.keep(buffer);
                state.keep_out(out);
                drop(state);
                if connection.shared.is_draining() && connection.in_flight() == 0 {
                    connection.part(Deadline::after(COURTESY));
                }
            }
        }
    }
}

impl Call {
    /// Handles a request and answers it, whatever becomes of the handler. Gives back what it was received into, and leaves
    /// `out`, into which the reply is written, empty.
    ///
    /// Without a stream the reply is [handed over](Connection::hand_over).
    pub(super) fn serve(
        &self,
        connection: &Connection,
        stream: Option<&dyn Carrier>,
        request: Request,
        out: &mut Outgoing,
    ) -> Result<Buffer, End> {
        let Request {
            id,
            method,
            mut payload,
            waited,
        } = request;
        if let Some(id) = id {
            wire::reply(out.bytes(), id);
        }
        let span = connection.span(method);
        let handler = &connection.shared.handler;
        let handled = if id.is_some() && self.is_too_late(waited) {
            Ok(Ok(()))
        } else {
            caught(|| span.run(|| handler.handle(method, &payload, self, out)))
        };
        let answered = match id {
            Some(id) => {
                // A large request makes for a large reply, often, and the one's share is then the other's.
                if let Some(lease) = payload.lease.take_if(|_| out.len() > SMALL) {
                    out.keep_until_sent(lease);
                }
                self.answer(connection, stream, id, handled, out)
            }
            None => {
                let failure = failure(handled, false, 0, u32::MAX);
                out.clear();
                let mut state = connection.state();
                state.running.finish(&self.cancelled);
                if self.inline {
                    connection.has_handled(state, clock::recently());
                }
                Ok(failure.map(|failure| failure.code))
            }
        };
        span.end_request(answered.as_ref().ok().copied());
        answered.map(|_| payload.message)
    }

    /// Whether the request has waited too long for its turn.
    #[inline]
    fn is_too_late(&self, waited: bool) -> bool {
        // One that is handled as it comes has not waited at all, unless it was to be done before it came.
        let waited = waited || !self.deadline.is_timed();
        self.cancelled.load(Ordering::Acquire) || (waited && self.deadline.has_passed())
    }

    /// Sends the reply that is in `out`, or why there is none, and says with which failure.
    #[inline]
    fn answer(
        &self,
        connection: &Connection,
        stream: Option<&dyn Carrier>,
        id: u32,
        handled: Handled,
        out: &mut Outgoing,
    ) -> Result<Option<Code>, End> {
        let recently = clock::recently();
        let unwanted =
            self.cancelled.load(Ordering::Acquire) || self.deadline.has_passed_since(recently);
        let size = out.len();
        let mut failure = failure(handled, unwanted, size, connection.client_takes());
        let mut counted = None;
        if size > SMALL && failure.is_none() {
            counted = connection.holder.budget().count(size);
            if counted.is_none() {
                failure = OwnFailure::over_limit("replies that wait to be read");
            }
        }
        if let Some(failure) = &failure {
            out.clear();
            failure.write(out.bytes(), id);
        }
        // Who has the answer may use the id again. If that is read by the thread that sends this, there is time.
        if !self.inline {
            connection.state().talk.session.answer(id);
        }
        let sent = if counted.is_some() {
            connection.hand_over_large(stream, out, counted)
        } else {
            let most = connection.shared.options.send_timeout;
            connection.hand_over(stream, out, Deadline::about_from(recently, most))
        };
        let mut state = connection.state();
        if self.inline {
            state.talk.session.answer(id);
        }
        state.talk.session.answered();
        state.running.finish(&self.cancelled);
        if self.inline {
            connection.has_handled(state, recently);
        }
        sent.map_err(|_| End::Gone)?;
        Ok(failure.map(|failure| failure.code))
    }
}

/// A failure with a text of its own.
pub(crate) struct OwnFailure {
    pub(crate) code: Code,
    text: String,
    limit: u64,
    size: u64,
}

impl OwnFailure {
    /// The text names the limit.
    #[cold]
    pub(crate) fn over_limit(text: &str) -> Option<OwnFailure> {
        Some(OwnFailure {
            code: Code::OverLimit,
            text: text.to_owned(),
            limit: 0,
            size: 0,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, id: u32) {
        let OwnFailure {
            code, limit, size, ..
        } = *self;
        wire::error(
            out,
            id,
            &Failure {
                code,
                text: &self.text,
                limit,
                size,
            },
        );
    }
}

/// Why a request has no reply, if it has none; `size` is that of its reply.
#[inline]
pub(crate) fn failure(
    handled: Handled,
    unwanted: bool,
    size: usize,
    limit: u32,
) -> Option<OwnFailure> {
    let new = |code, text| {
        Some(OwnFailure {
            code,
            text,
            limit: 0,
            size: 0,
        })
    };
    match handled {
        _ if unwanted => new(Code::Cancelled, String::new()),
        Ok(Ok(())) if size <= limit as usize => None,
        Ok(Ok(())) => Some(OwnFailure {
            code: Code::TooLarge,
            text: "the reply is over the client's limit".to_owned(),
            limit: limit.into(),
            size: size as u64,
        }),
        Ok(Err(HandleError::UnknownMethod)) => new(Code::UnknownMethod, String::new()),
        Ok(Err(error)) => new(Code::Malformed, error.to_string()),
        // Its text is on the server's standard error, where it belongs.
        Err(Panicked) => new(Code::Panicked, String::new()),
    }
}

/// What came of a handler, or that it panicked.
pub(crate) type Handled = Result<Result<(), HandleError>, Panicked>;

/// What is being handled, or waits for it, each with the flag by which it is cancelled.
#[derive(Default)]
pub(crate) struct Running {
    places: Vec<Place>,
    /// Nobody waits for any answer any more.
    client_gone: bool,
    closed: bool,
}

struct Place {
    flag: Arc<AtomicBool>,
    held: Held,
}

/// What a place is taken by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Notification,
    Request(u32),
}

impl Running {
    /// A flag that nobody else has, for one request after the other.
    #[inline]
    pub(crate) fn flag(&mut self) -> Arc<AtomicBool> {
        let mut places = self.places.iter();
        let unused = places.find(|place| Arc::strong_count(&place.flag) == 1);
        if let Some(place) = unused {
            return Arc::clone(&place.flag);
        }
        let flag = Arc::default();
        self.places.push(Place {
            flag: Arc::clone(&flag),
            held: Held::Nothing,
        });
        flag
    }

    /// Begins a request, or a notification, which only the server's end cancels.
    #[inline]
    pub(crate) fn begin(&mut self, flag: &Arc<AtomicBool>, id: Option<u32>) {
        let cancelled = self.closed || (self.client_gone && id.is_some());
        flag.store(cancelled, Ordering::Release);
        self.hold(flag, id.map_or(Held::Notification, Held::Request));
    }

    #[inline]
    pub(crate) fn finish(&mut self, flag: &Arc<AtomicBool>) {
        self.hold(flag, Held::Nothing);
    }

    #[inline]
    fn hold(&mut self, flag: &Arc<AtomicBool>, held: Held) {
        let mut places = self.places.iter_mut();
        if let Some(place) = places.find(|place| Arc::ptr_eq(&place.flag, flag)) {
            place.held = held;
        }
    }

    /// Whether nothing is being handled, or waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        let mut places = self.places.iter();
        places.all(|place| place.held == Held::Nothing)
    }

    pub(crate) fn cancel(&self, id: u32) {
        self.cancel_all(|held| held == Held::Request(id));
    }

    /// Cancels the requests, and those that are still to come.
    pub(crate) fn client_has_gone(&mut self) {
        self.client_gone = true;
        self.cancel_all(|held| matches!(held, Held::Request(_)));
    }

    /// Cancels everything, and what is still to come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.cancel_all(|held| held != Held::Nothing);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn cancel_all(&self, which: impl Fn(Held) -> bool) {
        self.places
            .iter()
            .filter(|place| which(place.held))
            .for_each(|place| place.flag.store(true, Ordering::Release));
    }
}
