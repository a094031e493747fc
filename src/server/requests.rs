//! What a connection makes of each message that it receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::MutexGuard;

use super::budget::SMALL;
use super::buffer::Buffer;
use super::call::{Call, Caller};
use super::connection::{Connection, End};
use super::control;
use super::emit::wake;
use super::handler::Payload;
use super::job::{Job, Request};
use super::outlet::State;
use super::share::Hold;
use super::shared::Shared;
use super::streams::Line;
use crate::base::clock;
use crate::codec::outgoing::Outgoing;
use crate::proto::wire::{self, Code, Failure};
use crate::proto::{Party, ServerEvent};
use crate::trace::Span;
use crate::transport::carrier::Carrier;
use crate::{Deadline, Stream};

/// What the connection's own thread handles requests with, one after the other.
pub(super) struct InTurn {
    pub(super) call: Call,
    /// What replies are written into.
    pub(super) out: Outgoing,
}

/// What a client asks for.
pub(super) struct Asked {
    pub(super) method: u32,
    pub(super) payload: Payload,
    pub(super) timeout: Option<Duration>,
}

impl Connection {
    /// Does what a message asks for, and gives a buffer for the next one.
    pub(super) fn receive(
        self: &Arc<Self>,
        stream: &dyn Carrier,
        message: Buffer,
        start: usize,
        turn: &mut InTurn,
    ) -> Result<Buffer, End> {
        let ours = self.shared.ours.identity();
        let mut state = self.state();
        if state.evicted {
            // It came too late.
            return Err(End::Gone);
        }
        state.idle_since = None;
        let event = state
            .talk
            .session
            .receive(&ours, &message[start..])
            .map_err(End::Malformed)?;
        match event {
            ServerEvent::Nothing => {}
            ServerEvent::Credit { id } => {
                let waker = state.talk.credit(id);
                drop(state);
                wake(waker);
            }
            ServerEvent::Open {
                id,
                method,
                timeout,
                payload,
            } => {
                let start = message.len() - payload.len();
                drop(state);
                let lease = self.lease_of(&message);
                let asked = Asked {
                    method,
                    payload: Payload::new(message, start, lease),
                    timeout,
                };
                return self.open_stream(id, asked);
            }
            ServerEvent::Hello => {
                let mut out = state.blank();
                state.talk.session.greet(&ours, out.bytes());
                let takes = state.talk.session.client().map_or(u32::MAX, Party::takes);
                drop(state);
                self.peer.ask_again(|| stream.peer());
                self.outlet.set_takes(takes);
                // Not by way of the outbox: items could overtake it there, and a client may stay away from those.
                self.send_now(&mut out, self.patience())
                    .map_err(|_| End::Gone)?;
            }
            ServerEvent::Reject { id, failure } => {
                drop(state);
                self.fail(id, &failure)?;
            }
            ServerEvent::Cancel { id } => {
                let waker = state.cancel(id);
                drop(state);
                self.outlet.is_queued();
                wake(waker);
            }
            ServerEvent::Request {
                id,
                method,
                payload,
                ..
            } if method >= wire::control::FIRST => {
                drop(state);
                self.control(id, method, payload)?;
            }
            ServerEvent::Request { id, .. } if self.shared.is_draining() => {
                state.talk.session.answer(id);
                drop(state);
                let told = self.fail(id, &Failure::new(Code::Unavailable, "ending"));
                self.state().talk.session.answered();
                told?;
            }
            ServerEvent::Request {
                id,
                method,
                timeout,
                payload,
            } => {
                let start = message.len() - payload.len();
                let lease = self.lease_of(&message);
                let asked = Asked {
                    method,
                    payload: Payload::new(message, start, lease),
                    timeout,
                };
                return self.run(stream, state, turn, Some(id), asked);
            }
            ServerEvent::Notify { method, payload } => {
                let start = message.len() - payload.len();
                let lease = self.lease_of(&message);
                let asked = Asked {
                    method,
                    payload: Payload::new(message, start, lease),
                    timeout: None,
                };
                return self.run(stream, state, turn, None, asked);
            }
        }
        Ok(message)
    }

    /// Carries out a request, at once or in its turn, and gives a buffer for the next message.
    #[inline]
    fn run(
        self: &Arc<Self>,
        stream: &dyn Carrier,
        mut state: MutexGuard<'_, State>,
        turn: &mut InTurn,
        id: Option<u32>,
        asked: Asked,
    ) -> Result<Buffer, End> {
        let Asked {
            method,
            payload,
            timeout,
        } = asked;
        let Some(pool) = &self.shared.pool else {
            let InTurn { call, out } = turn;
            let recently = clock::recently();
            state.running.begin(&call.cancelled, id);
            state.handling.since = Some(recently);
            if out.capacity() == 0 {
                *out = state.blank();
            }
            drop(state);
            self.shared.see_to_it();
            let about = |timeout| Deadline::about_from(recently, timeout);
            call.deadline = timeout.map_or(Deadline::NEVER, about);
            let waited = self.ahead.has_waited();
            if waited {
                self.catch_up(id, &call.cancelled);
                call.deadline = self.deadline_of_what_waited(timeout);
            }
            let request = Request {
                id,
                method,
                payload,
                waited,
            };
            return call.serve(self, Some(stream), request, out);
        };
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, id);
        drop(state);
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        // Requests are never that many, but nobody answers notifications.
        self.jobs.add_below(self.shared.options.max_in_flight);
        let payload = self.leased(payload);
        pool.give(
            self.holder.connection(),
            Job {
                call: Call {
                    caller: Arc::clone(self) as Arc<dyn Caller>,
                    deadline,
                    cancelled,
                    inline: false,
                },
                request: Request {
                    id,
                    method,
                    payload,
                    waited: true,
                },
                hold: Hold::new(Arc::clone(self), &self.jobs),
            },
        );
        Ok(self.state().spare())
    }

    /// A request with its share of the server's memory, as it has to wait for its turn: only what is small needs none.
    fn leased(&self, mut payload: Payload) -> Payload {
        let size = payload.message.len();
        if payload.lease.is_none() && size > SMALL / self.shared.options.max_in_flight {
            let is_closed = || self.state().running.is_closed();
            let lease = self.holder.lease(size).wait(Deadline::NEVER, is_closed);
            payload.lease = lease.map(Box::new);
        }
        payload
    }

    /// Sees whether a request that has begun, and may have waited for its turn, was cancelled meanwhile.
    #[cold]
    pub(super) fn catch_up(&self, id: Option<u32>, cancelled: &AtomicBool) {
        if id.is_some() && self.ahead.came().cancelled {
            cancelled.store(true, Ordering::Release);
        }
        self.look_ahead();
    }

    /// The deadline of a request that has waited, as far as it is known.
    #[cold]
    pub(super) fn deadline_of_what_waited(&self, timeout: Option<Duration>) -> Deadline {
        timeout.map_or(Deadline::NEVER, |timeout| match self.ahead.came().by {
            Some(by) => Deadline::after_time(by, timeout),
            None => Deadline::after(timeout),
        })
    }

    /// What every server answers, whatever its service.
    fn control(&self, id: u32, method: u32, payload: &[u8]) -> Result<(), End> {
        self.state().talk.session.answer(id);
        let span = self.span(method);
        let answered = span.run(|| self.answer_control(id, method, payload));
        self.state().talk.session.answered();
        span.end_request(answered.as_ref().ok().copied());
        answered.map(drop)
    }

    /// The span of a request.
    pub(super) fn span(&self, method: u32) -> Span {
        let Shared { ours, methods, .. } = &*self.shared;
        let span = Span::of_request(&ours.service, methods, method);
        span.peer(|| self.peer.get().pid);
        span
    }

    /// Answers a control request, and says with which failure if not with a reply.
    fn answer_control(&self, id: u32, method: u32, payload: &[u8]) -> Result<Option<Code>, End> {
        // Asked again: on Windows the system knows the user only once something was received.
        let peer = || {
            let asked = self.stream().and_then(|stream| stream.peer().ok());
            asked.unwrap_or_else(|| self.peer.get().clone())
        };
        let may = || self.shared.options.may_control(&peer());
        match control::asked(method, payload, may).map_err(End::Malformed)? {
            control::Asked::Info => {
                let info = self.shared.info();
                self.reply(id, |out| wire::info(out, &info))?;
            }
            control::Asked::Drain(timeout) => {
                self.reply(id, |_| {})?;
                self.shared.handle().drain(timeout);
            }
            control::Asked::Stop => {
                self.reply(id, |_| {})?;
                self.shared.handle().stop();
            }
            control::Asked::No(failure) => {
                self.fail(id, &failure)?;
                return Ok(Some(failure.code));
            }
        }
        Ok(None)
    }
}
