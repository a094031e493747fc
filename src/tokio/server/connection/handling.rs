//! The handlers of a connection: how they begin, and how their requests are answered, whatever becomes of them.

use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use ::tokio::task::AbortHandle;

use super::super::core::Core;
use super::super::job::{Ending, Job, Made, Reply, Slot, poll};
use super::super::state::{Place, State, Waiting};
use super::{Connection, Request, What};
use crate::Deadline;
use crate::proto::wire::{self, Code, Failure};
use crate::server::Call;
use crate::server::budget::SMALL;
use crate::server::buffer::Buffer;
use crate::server::call::Caller;
use crate::server::job::{OwnFailure, failure};
use crate::server::streams;

impl<Q, F> Connection<Q, F>
where
    Q: Send + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    /// Starts the handler of a request, and gives a buffer for the next message.
    pub(super) fn start(&self, request: Request<Q>, place: Place<F>, waker: &Waker) -> Buffer {
        let core = &self.core;
        let Request {
            id,
            method,
            asked,
            timeout,
            lease,
        } = request;
        let held = match (&asked, &lease) {
            (What::Encoded(payload), None) => payload.message.len(),
            _ => 0,
        };
        let Place {
            cancelled,
            mut out,
            mut slot,
        } = place;
        if let Some(id) = id {
            wire::reply(out.bytes(), id);
        }
        let mut ending = Ending {
            id,
            job: None,
            deadline: timeout.map_or(Deadline::NEVER, Deadline::after),
            cancelled,
            span: self.span(method),
            lease,
            held,
        };
        if ending.is_too_late() {
            ending.cancelled.store(true, Ordering::Release);
            core.answer(slot, ending, (out, Ok(())).into());
            return match asked {
                What::Encoded(payload) => payload.message,
                What::Decoded(_) => Buffer::default(),
            };
        }
        let mut buffer = None;
        let begin = |slot: &mut Slot<F>| {
            let (request, received_in) = match asked {
                What::Encoded(payload) => (self.shared.decode)(method, payload),
                What::Decoded(decoded) => {
                    decoded.unwrap_or_else(|panicked| resume_unwind(Box::new(panicked)))
                }
            };
            buffer = received_in;
            let request = match request {
                Ok(request) => request,
                Err(error) => return Err((out, Err(error))),
            };
            let call = Call {
                caller: Arc::clone(core) as Arc<dyn Caller>,
                deadline: ending.deadline,
                cancelled: Arc::clone(&ending.cancelled),
                inline: false,
            };
            slot.set(Some((self.shared.start)(request, call, out)));
            Ok(())
        };
        let mut cx = Context::from_waker(waker);
        let polled = ending.span.run(|| poll(&mut slot, &mut cx, begin));
        match polled {
            Poll::Ready(reply) => core.answer(slot, ending, reply),
            Poll::Pending => {
                ending.job = Some(core.enlist(&ending));
                Job::spawn(Arc::clone(core), ending, slot);
            }
        }
        buffer.unwrap_or_default()
    }
}

impl<F> Core<F> {
    /// Puts a handler that waits on the list.
    fn enlist(&self, ending: &Ending) -> u64 {
        let mut state = self.state.lock();
        let number = state.next_job;
        state.next_job += 1;
        state.jobs.push(Waiting {
            number,
            id: ending.id,
            deadline: ending.deadline,
            cancelled: Arc::clone(&ending.cancelled),
            answered: false,
            held: ending.held,
            task: None,
        });
        state.held += ending.held;
        number
    }

    /// Notes the task of a handler that waits, to end it when nobody waits for it any more.
    pub(in super::super) fn has_task(&self, job: Option<u64>, task: AbortHandle) {
        let mut state = self.state.lock();
        let closed = state.closed && self.aborts;
        let mut jobs = state.jobs.iter_mut();
        if let Some(waiting) = jobs.find(|waiting| Some(waiting.number) == job) {
            // It may have happened already.
            if waiting.answered || closed {
                task.abort();
            }
            waiting.task = Some(task);
        }
    }

    /// A handler's future was dropped before it was ready.
    pub(in super::super) fn dropped(&self, ending: Ending) {
        let mut state = self.state.lock();
        let answered = state.end_job(ending.job);
        if let Some(id) = ending
            .id
            .filter(|id| !answered && state.talk.session.answer(*id))
        {
            state.fail(id, &Failure::new(Code::Cancelled, ""));
            state.talk.session.answered();
        }
        state.running.finish(&ending.cancelled);
        state.wake();
        drop(state);
        ending.span.end_request(Some(Some(Code::Cancelled)));
    }

    /// Answers a request, whatever has become of its handler, and takes back the place of the handler's future.
    pub(in super::super) fn answer(&self, slot: Slot<F>, ending: Ending, reply: Reply) {
        let Reply {
            mut out,
            handled,
            made,
        } = reply;
        let Ending {
            id,
            job,
            deadline,
            cancelled,
            span,
            mut lease,
            held: _,
        } = ending;
        // One that did not wait is in time, and a look at the clock would cost as much as a lock does.
        let late = || job.is_some() && !deadline.is_never() && deadline.has_passed();
        let unwanted = id.is_some() && (cancelled.load(Ordering::Acquire) || late());
        // Until it counts where it is queued.
        let mut counts = None;
        let (is_out, counted) = match made {
            Made::Here if out.len() > SMALL => {
                counts = self.holder.budget().count(out.len());
                (counts.is_none(), 0)
            }
            Made::Here => (false, 0),
            Made::Elsewhere(counted) => (false, counted.leave()),
            Made::TooMuch => (true, 0),
        };
        let mut state = self.state.lock();
        state.keep_slot(slot);
        let limit = match id {
            Some(_) => state.client_takes,
            None => u32::MAX,
        };
        let size = out.len();
        let mut failure = failure(handled, unwanted, size, limit);
        if failure.is_none() && is_out {
            failure = OwnFailure::over_limit("replies that wait to be read");
        }
        let code = failure.as_ref().map(|failure| failure.code);
        let answered = state.end_job(job);
        match id {
            Some(id) if !answered && state.talk.session.answer(id) => {
                if let Some(failure) = &failure {
                    out.clear();
                    failure.write(out.bytes(), id);
                } else if let Some(lease) = lease.take_if(|_| size > SMALL) {
                    // A large request makes for a large reply, often, and the one's share is then the other's.
                    out.keep_until_sent(lease);
                }
                state.push(out);
                state.talk.session.answered();
            }
            // A notification, or a request that was cancelled and answered.
            _ => state.keep(out),
        }
        // It is counted where it is queued, if it is.
        state.talk.streams.unsent.remove(counted);
        state.running.finish(&cancelled);
        if job.is_some() {
            state.wake();
        }
        // Before it can be sent, and its client ask for another one.
        drop(counts);
        drop(state);
        span.end_request(Some(code));
    }

    /// A client cancels a request, or a stream; who is to know.
    pub(in super::super) fn cancel(&self, state: &mut State<F>, id: u32) -> Option<streams::Waker> {
        state.running.cancel(id);
        self.abort(state, |job| job.id == Some(id));
        self.abort_streams(state, |stream| stream.id == id);
        state.talk.streams.cancel(id)
    }

    /// Ends the tasks of handlers for which nobody waits any more, and answers in their place.
    pub(in super::super) fn abort(&self, state: &mut State<F>, which: impl Fn(&Waiting) -> bool) {
        if !self.aborts {
            // A thread cannot be ended: it answers when it sees what has happened.
            return;
        }
        for place in 0..state.jobs.len() {
            let job = &state.jobs[place];
            if !which(job) {
                continue;
            }
            job.cancelled.store(true, Ordering::Release);
            if let Some(task) = &job.task {
                task.abort();
            }
            let id = job.id.filter(|_| !job.answered);
            state.jobs[place].answered = true;
            if let Some(id) = id.filter(|id| state.talk.session.answer(*id)) {
                state.fail(id, &Failure::new(Code::Cancelled, ""));
                state.talk.session.answered();
            }
        }
    }
}
