//! How a connection ends, and what ends it.

use std::time::Instant;

use super::connection::Connection;
use super::core::Core;
use crate::Deadline;
use crate::base::clock;
use crate::proto::wire::{self, Code, Failure};
use crate::server::connection::COURTESY;
use crate::server::emit::wake;
use crate::tokio::transport::Stream;
use crate::transport::tokio::carrier::Carrier as _;

impl<F> Core<F> {
    /// Tells the client that the server ends.
    pub(super) fn go_away(&self, grace: Deadline) {
        let mut state = self.state.lock();
        let mut out = state.blank();
        wire::going_away(out.bytes(), grace.remaining());
        if state.talk.session.in_flight() == 0 {
            // Nothing is owed between this and goodbye.
            state.courtesy = out.len();
        }
        state.push(out);
        state.wake();
        // Whoever has nothing more to say may end its stream.
        let wakers = state.talk.streams.wakers();
        drop(state);
        wake(wakers);
    }

    /// Ends the connection in good order: everything that was read has been answered, and the client is told so.
    pub(super) fn part(&self) {
        self.state.lock().part(self.is_draining());
    }

    /// Ends the connection as soon as it has been said what became of the requests that are under way.
    pub(super) fn wind_up(&self) {
        let mut state = self.state.lock();
        state.running.close();
        self.abort(&mut state, |_| true);
        self.abort_streams(&mut state, |_| true);
        let wakers = state.end_streams();
        let all_answered = state.talk.session.in_flight() == 0;
        if all_answered {
            drop(state);
            self.part();
            state = self.state.lock();
        } else {
            // A thread is still at it, so that it cannot be said that all is answered.
            (state.parted, state.finished) = (true, true);
            state.finish_by = Instant::now().checked_add(COURTESY);
        }
        state.wake();
        drop(state);
        wake(wakers);
    }

    /// Ends the connection at once: nobody waits for any answer any more. Its task closes the stream.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.running.close();
        self.abort(&mut state, |_| true);
        (state.parted, state.finished, state.closed) = (true, true, true);
        (state.hello_by, state.heard) = (None, None);
        (state.read_by, state.owing, state.finish_by) = (None, None, None);
        state.drop_outbox();
        self.abort_streams(&mut state, |_| true);
        let wakers = state.talk.streams.close();
        state.wake();
        drop(state);
        wake(wakers);
    }

    /// Nobody waits for room any more.
    pub(super) fn sends_no_more(&self) {
        let mut state = self.state.lock();
        state.finished = true;
        let wakers = state.relieved();
        drop(state);
        wake(wakers);
    }

    /// Closes the stream: in good order, if goodbye has been said.
    pub(super) fn close_stream<S: Stream>(&self, stream: &S) {
        let courtesy = match self.state.lock() {
            state if state.parted => state.courtesy,
            _ => 0,
        };
        match courtesy {
            0 => stream.close(),
            courtesy => stream.part(courtesy),
        }
    }

    /// Nobody waits for any answer any more, but what was notified is still carried out. What was sent before is
    /// still there to be read, unless that was all.
    pub(super) fn client_has_gone(&self, all_read: bool) {
        let mut state = self.state.lock();
        state.running.client_has_gone();
        self.abort_streams(&mut state, |_| true);
        let wakers = state.talk.streams.close();
        state.finished = true;
        self.abort(&mut state, |job| job.id.is_some());
        if !all_read {
            state.drop_outbox();
        }
        drop(state);
        wake(wakers);
    }
}

impl<Q, F> Connection<Q, F> {
    /// Says why the connection ends.
    pub(super) fn refuse(&self, failure: &Failure<'_>) {
        let mut state = self.core.state.lock();
        let mut out = state.blank();
        wire::refusal(out.bytes(), &self.shared.ours.identity(), failure);
        state.push(out);
        state.finished = true;
        state.finish_by = Instant::now().checked_add(COURTESY);
    }

    /// Something's time has come, perhaps.
    pub(super) fn look_at_the_clock(&self) {
        let now = Instant::now();
        let has_come = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let core = &*self.core;
        let mut state = core.state.lock();
        if has_come(state.hello_by.take_if(|at| *at <= now)) {
            drop(state);
            self.refuse(&Failure::new(Code::OverLimit, "time for a hello"));
            state = core.state.lock();
            state.parted = true;
        }
        if has_come(state.read_by) || has_come(state.finish_by) || state.holds_up_others(now) {
            // A client that does not read is as good as gone.
            drop(state);
            return core.close();
        }
        let time = clock::now();
        core.abort(&mut state, |job| {
            job.id.is_some() && job.deadline.has_passed_at(time)
        });
        if has_come(state.idle_by(core.idle_timeout)) {
            if state.talk.session.in_flight() > 0 {
                state.heard = Some(now);
            } else {
                drop(state);
                core.part();
            }
        }
    }
}
