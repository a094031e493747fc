//! What a thread does that waits: it reads, or sleeps while another does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::link::Link;
use super::sync::{
    ATTEMPT, MutexGuard, TRY_AGAIN, Thread, briefly, has_passed, park, unless_it_panics, within,
};
use super::turn::{For, Locked, Turn, Wakes};
use crate::Deadline;
use crate::proto::client::{Calls, Ticket};

impl Link {
    /// Waits until `look` finds what it looks for. `None`: the deadline has passed.
    #[inline]
    pub(super) fn wait<'a, T>(
        &'a self,
        mut turn: MutexGuard<'a, Turn>,
        ticket: Ticket,
        what: For,
        deadline: Deadline,
        mut look: impl FnMut(&mut Calls<Thread>) -> Poll<T>,
    ) -> (Locked<'a>, Option<T>) {
        let (mut in_time, mut waited) = (true, false);
        let mut woken = Wakes::default();
        let found = loop {
            // It may have come in the last moment.
            if let Poll::Ready(found) = look(&mut turn.calls) {
                break Some(found);
            }
            // There may always be something to read that is not the answer.
            if !in_time || (waited && has_passed(deadline)) {
                *turn.calls.waker(ticket) = None;
                break None;
            }
            waited = true;
            if turn.reading {
                // Waits to be woken: by an answer, by room, or to read.
                turn.falls_asleep(ticket);
                drop(turn);
                woken.wake();
                in_time = park(deadline);
                turn = self.turn.lock();
            } else if what == For::Message {
                (turn, in_time) = self.read(turn, &mut woken, None, deadline);
            } else {
                turn = self
                    .read(turn, &mut woken, Some(ticket), briefly(deadline))
                    .0;
            }
        };
        let mut turn = Locked { turn, woken };
        turn.hand_over();
        (turn, found)
    }

    /// Reads what has come, without waiting, if no other thread reads; whether there was anything. For a thread that
    /// cannot send: what it does not read may be what its peer waits for.
    pub(super) fn read_if_none_does(&self) -> bool {
        let turn = self.turn.lock();
        if turn.reading || turn.calls.ended().is_some() {
            return false;
        }
        let mut woken = Wakes::default();
        let (turn, came) = self.read(turn, &mut woken, None, Deadline::NOW);
        Locked { turn, woken }.hand_over();
        came
    }

    /// Reads one message, and hands it on. False if none came by the deadline. A call that waits for room is not offered
    /// any while this thread reads, and looks afterwards.
    #[inline]
    fn read<'a>(
        &'a self,
        mut turn: MutexGuard<'a, Turn>,
        woken: &mut Wakes,
        for_room: Option<Ticket>,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Turn>, bool) {
        turn.reading = true;
        if let Some(ticket) = for_room {
            turn.calls.step_aside(ticket);
        }
        let mut message = turn.calls.buffer();
        let is_behind = turn.calls.is_behind();
        drop(turn);
        woken.wake();
        // It has no other owner: those that a blob still holds are not taken.
        let buffer = Arc::make_mut(&mut message);
        let received = match is_behind {
            false => self.receive(buffer, deadline),
            true => self.receive_and_flush(buffer, deadline),
        };
        let mut turn = self.turn.lock();
        turn.reading = false;
        if let Some(ticket) = for_room {
            turn.calls.line_up(ticket);
        }
        let came = self.dispatch(&mut turn.calls, woken, received, message);
        (turn, came)
    }

    /// Receives a message; says where in the buffer it begins.
    #[inline]
    fn receive(&self, buffer: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        // The others wait for what this thread reads, whatever becomes of it.
        unless_it_panics(|| self.stream.recv_in_place(buffer, deadline))
    }

    /// Receives, and tries now and then to send what is due.
    #[cold]
    fn receive_and_flush(
        &self,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        loop {
            // Not at once: there are transports in which a message is sent when it is received.
            let is_behind = deadline != Deadline::NOW && self.is_behind(within(ATTEMPT, deadline));
            let by = match is_behind {
                true => within(TRY_AGAIN, deadline),
                false => deadline,
            };
            let received = self.receive(buffer, by);
            if by == deadline || !received.as_ref().is_err_and(is_late) {
                return received;
            }
        }
    }

    /// Hands what was received to the calls; false if nothing came by the deadline.
    #[inline]
    fn dispatch(
        &self,
        calls: &mut Calls<Thread>,
        Wakes(woken): &mut Wakes,
        received: io::Result<Option<usize>>,
        message: Arc<Vec<u8>>,
    ) -> bool {
        match received {
            Ok(Some(begins)) => {
                calls.received(message, begins, woken);
            }
            Ok(None) => calls.broke(None, woken),
            Err(error) if is_late(&error) => {
                calls.keep(message);
                return false;
            }
            Err(error) => calls.broke(Some(&error), woken),
        }
        if !calls.is_usable() {
            self.unusable.store(true, Ordering::Release);
        }
        true
    }
}

fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}
