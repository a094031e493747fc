//! A request on its way through a handler.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::call::Call;
use super::connection::{Buffer, COURTESY, Connection, End};
use super::handler::{HandleError, Payload};
use crate::Deadline;
use crate::outgoing::Outgoing;
use crate::wire::{self, Code, Failure};

pub(super) struct Job {
    pub(super) connection: Arc<Connection>,
    /// `None`: a notification.
    pub(super) id: Option<u32>,
    pub(super) method: u32,
    pub(super) payload: Payload,
    pub(super) deadline: Deadline,
    pub(super) cancelled: Arc<AtomicBool>,
    /// What the reply is written into; with a pool that is got when its turn has come.
    pub(super) out: Outgoing,
}

impl Job {
    /// Handles the request and answers it, whatever becomes of the handler. Gives back what it was received into.
    pub(super) fn run(self, inline: bool) -> Result<Buffer, End> {
        let Job {
            connection,
            id,
            method,
            payload,
            deadline,
            cancelled,
            mut out,
        } = self;
        if let Some(id) = id {
            wire::reply(out.bytes(), id);
            if inline && connection.was_cancelled(id) {
                cancelled.store(true, Ordering::Release);
            }
        }
        let call = Call {
            connection,
            deadline,
            cancelled,
            inline,
        };
        let span = call.connection.span(method);
        let handler = &call.connection.shared.handler;
        let handled = if id.is_some() && call.is_too_late() {
            Ok(Ok(()))
        } else {
            // What a panic has left half-done is the handler's own affair, as it is with any thread that panics.
            panic::catch_unwind(AssertUnwindSafe(|| {
                span.run(|| handler.handle(method, &payload, &call, &mut out))
            }))
        };
        let answered = match id {
            Some(id) => call.answer(id, handled, out),
            None => {
                let failure = failure(handled, false, 0, u32::MAX);
                call.finish(out);
                Ok(failure.map(|failure| failure.code))
            }
        };
        span.end_request(answered.as_ref().ok().copied());
        answered.map(|_| payload.message)
    }

    /// As [`run`](Job::run), on a thread of the pool.
    pub(super) fn run_in_pool(mut self) {
        let connection = Arc::clone(&self.connection);
        self.out = connection.state.lock().blank();
        match self.run(false) {
            // The connection's own thread waits for the next message, which it need not do any more.
            Err(_) => connection.close(),
            Ok(buffer) => {
                connection.state.lock().keep(buffer);
                if connection.shared.is_draining() && connection.in_flight() == 0 {
                    connection.part(Deadline::after(COURTESY));
                }
            }
        }
        connection.share.done();
    }
}

impl Call {
    /// Whether the request has waited too long for its turn.
    #[inline]
    fn is_too_late(&self) -> bool {
        // One that is handled as it comes has not waited at all, unless it was to be done before it came.
        let waited = !self.inline || self.deadline.instant().is_none();
        self.cancelled.load(Ordering::Acquire) || (waited && self.deadline.has_passed())
    }

    /// Sends the reply that is in `out`, or why there is none, and says with which failure.
    #[inline]
    fn answer(self, id: u32, handled: Handled, mut out: Outgoing) -> Result<Option<Code>, End> {
        let now = Instant::now();
        let unwanted = self.cancelled.load(Ordering::Acquire) || self.deadline.has_passed_at(now);
        let failure = failure(handled, unwanted, out.len(), self.connection.client_takes());
        if let Some(failure) = &failure {
            out.clear();
            failure.write(out.bytes(), id);
        }
        let patience = Deadline::after_at(now, self.connection.shared.options.send_timeout);
        // Who has the answer may use the id again. If that is read by the thread that sends this, there is time.
        if !self.inline {
            let mut state = self.connection.state.lock();
            state.running.forget(id);
            state.session.answer(id);
        }
        let (sent, out) = self.connection.hand_over(out, patience);
        let mut state = self.connection.state.lock();
        if self.inline {
            state.running.forget(id);
            state.session.answer(id);
        }
        state.session.answered();
        if let Some(out) = out {
            state.keep_out(out);
        }
        state.running.keep(self.cancelled);
        sent.map_err(|_| End::Gone)?;
        Ok(failure.map(|failure| failure.code))
    }

    /// Ends a notification.
    fn finish(self, mut out: Outgoing) {
        out.clear();
        let mut state = self.connection.state.lock();
        state.keep_out(out);
        state.running.keep(self.cancelled);
    }
}

/// A failure with a text of its own.
struct OwnFailure {
    code: Code,
    text: String,
    limit: u64,
    size: u64,
}

impl OwnFailure {
    fn write(&self, out: &mut Vec<u8>, id: u32) {
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
fn failure(handled: Handled, unwanted: bool, size: usize, limit: u32) -> Option<OwnFailure> {
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
        Err(_panic) => new(Code::Panicked, String::new()),
    }
}

type Handled = thread::Result<Result<(), HandleError>>;

/// The requests that somebody handles, each with the flag by which it is cancelled.
#[derive(Default)]
pub(super) struct Running {
    requests: Vec<(u32, Arc<AtomicBool>)>,
    /// Nobody waits for any answer any more.
    ended: bool,
    spare: Vec<Arc<AtomicBool>>,
}

impl Running {
    #[inline]
    pub(super) fn begin(&mut self, id: Option<u32>) -> Arc<AtomicBool> {
        let flag = self.spare.pop().unwrap_or_default();
        flag.store(self.ended, Ordering::Release);
        if let Some(id) = id {
            self.requests.push((id, Arc::clone(&flag)));
        }
        flag
    }

    #[inline]
    pub(super) fn forget(&mut self, id: u32) {
        let mut requests = self.requests.iter();
        if let Some(place) = requests.position(|(running, _)| *running == id) {
            self.requests.swap_remove(place);
        }
    }

    #[inline]
    pub(super) fn keep(&mut self, mut flag: Arc<AtomicBool>) {
        if self.spare.len() < SPARE_FLAGS && Arc::get_mut(&mut flag).is_some() {
            self.spare.push(flag);
        }
    }

    pub(super) fn cancel(&self, id: u32) {
        let mut requests = self.requests.iter();
        if let Some((_, flag)) = requests.find(|(running, _)| *running == id) {
            flag.store(true, Ordering::Release);
        }
    }

    /// Cancels the requests that run, and those that are still to run.
    pub(super) fn end(&mut self) {
        self.ended = true;
        for (_, flag) in &self.requests {
            flag.store(true, Ordering::Release);
        }
    }
}

/// How many flags are kept.
const SPARE_FLAGS: usize = 2;
