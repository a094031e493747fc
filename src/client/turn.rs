//! Whose turn it is to read: the hand-over between the threads that share a connection.
//!
//! There is no reader thread. Whoever waits for an answer and finds nobody reading becomes the reader; what it
//! reads for others it leaves with them and wakes them; when it leaves, with its own answer or without, it wakes
//! one of those who still wait, to be the reader after it. So a caller that is alone pays for no thread hop, and no
//! answer lies unread while somebody waits for it.
//!
//! Two rules make that so, and both hold whenever the lock is free:
//!
//! * If somebody waits and nobody reads, one of those who wait is awake, and looks again before it sleeps. Only who
//!   leaves can break that, and so [`Turn::leave`] wakes another.
//! * Whoever is woken to read does so. A thread that is sending does not, and so it is not chosen: it may be held up
//!   until somebody reads.
//!
//! Nothing here knows a stream, a session or a clock. The primitives come from `super::sync`, so that
//! `tests/model/` can go through every order in which the threads can run.

use std::collections::VecDeque;

use super::sync::{Deadline, Mutex, MutexGuard, Thread, briefly, current, park};

/// What is read, and what is made of it.
pub(super) trait Source: Sized {
    /// What the lock guards besides the turns.
    type Shared;
    /// What a waiter gets.
    type Answer;
    /// Why there will be no more answers.
    type End: Clone;
    /// What is received into; taken under the lock.
    type Buffer;
    /// What was received.
    type Received;

    fn buffer(&self, shared: &mut Self::Shared) -> Self::Buffer;

    /// Receives one message, or the end. Called by one thread at a time, and without the lock.
    fn receive(&self, buffer: Self::Buffer, deadline: Deadline) -> Self::Received;

    /// Hands what was received to whom it concerns; false if nothing came by the deadline.
    fn dispatch(&self, turn: &mut Turn<Self>, received: Self::Received) -> bool;
}

/// Why somebody waits no longer, without what it waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over<E> {
    TimedOut,
    Ended(E),
}

/// What comes of waiting.
type Waited<S> = Result<<S as Source>::Answer, Over<<S as Source>::End>>;

/// The turns of one connection, behind their lock.
pub(super) struct Turns<S: Source>(Mutex<Turn<S>>);

/// Whose turn it is to read, and who waits for what.
pub(super) struct Turn<S: Source> {
    pub(super) shared: S::Shared,
    /// Somebody is reading.
    reading: bool,
    waiters: Vec<Waiter<S::Answer>>,
    next_ticket: u64,
    ended: Option<S::End>,
}

struct Waiter<A> {
    ticket: u64,
    /// The thread, once it has slept: one that has not need not be woken.
    thread: Option<Thread>,
    /// The call whose answer it waits for; `None`: for room to begin one.
    call: Option<u32>,
    /// It waits, and reads if it is woken and nobody else does. If not, it still sends its request.
    waits: bool,
    answer: Option<A>,
    /// What comes after the answer.
    more: Option<Box<More<A>>>,
}

/// Of a stream, what its consumer has not come for. Not in every waiter, as a call has none.
struct More<A>(VecDeque<A>);

impl<A> Default for More<A> {
    fn default() -> Self {
        More(VecDeque::new())
    }
}

/// A call that has begun: its place among those who wait, and its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    ticket: u64,
    pub(super) id: u32,
    /// There was no room at first.
    pub(super) waited: bool,
}

impl<S: Source> Turns<S> {
    pub(super) fn new(shared: S::Shared) -> Turns<S> {
        Turns(Mutex::new(Turn {
            shared,
            reading: false,
            waiters: Vec::new(),
            next_ticket: 0,
            ended: None,
        }))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Turn<S>> {
        self.0.lock()
    }

    /// Begins a call as soon as `start` gives an id or a reason not to; while it gives neither there is no room.
    /// Then the request is sent, and one of [`wait`](Self::wait) and [`Turn::abandon`] has to follow; or, of a
    /// stream, any number of [`next`](Self::next), and then `abandon`.
    #[inline]
    pub(super) fn begin(
        &self,
        source: &S,
        deadline: Deadline,
        mut start: impl FnMut(&mut S::Shared) -> Option<Result<u32, S::End>>,
    ) -> Result<Begun, Over<S::End>> {
        let mut turn = self.lock();
        let mut waiting = None;
        let begun = loop {
            if let Some(why) = &turn.ended {
                break Err(Over::Ended(why.clone()));
            }
            if let Some(started) = start(&mut turn.shared) {
                break started.map_err(Over::Ended);
            }
            if deadline.has_passed() && waiting.is_some() {
                break Err(Over::TimedOut);
            }
            let ticket = *waiting.get_or_insert_with(|| turn.enter(None));
            turn = if turn.reading {
                self.sleep(turn, ticket, deadline).0
            } else {
                // No message says that a request could not be sent, which makes room too.
                self.read(source, turn, briefly(deadline)).0
            };
        };
        if let Some(ticket) = waiting {
            turn.leave(ticket);
        }
        begun.map(|id| Begun {
            ticket: turn.enter(Some(id)),
            id,
            waited: waiting.is_some(),
        })
    }

    /// Waits for the answer to a call, of which `sent` is told that its request has been sent. If none comes by the
    /// deadline, `give_up` is told before anything else happens.
    #[inline]
    pub(super) fn wait(
        &self,
        source: &S,
        begun: Begun,
        deadline: Deadline,
        sent: impl FnOnce(&mut S::Shared),
        give_up: impl FnOnce(&mut S::Shared),
    ) -> Waited<S> {
        let mut turn = self.lock();
        sent(&mut turn.shared);
        let (mut turn, over) = self.wait_for_answer(source, turn, begun.ticket, deadline);
        if matches!(over, Err(Over::TimedOut)) {
            give_up(&mut turn.shared);
        }
        turn.leave(begun.ticket);
        over
    }

    /// Waits for what a stream has next. Whatever comes of it, more may be waited for; `then` is told what it is before
    /// anything else happens.
    pub(super) fn next(
        &self,
        source: &S,
        begun: Begun,
        deadline: Deadline,
        then: impl FnOnce(&mut S::Shared, &Waited<S>),
    ) -> Waited<S> {
        let mut turn = self.lock();
        if let Some(me) = turn.waiter(begun.ticket) {
            // It may have been another thread the last time.
            me.thread = None;
        }
        let (mut turn, over) = self.wait_for_answer(source, turn, begun.ticket, deadline);
        if let Some(me) = turn.waiter(begun.ticket) {
            me.waits = false;
        }
        then(&mut turn.shared, &over);
        turn.wake_next_reader();
        over
    }

    #[inline]
    fn wait_for_answer<'a>(
        &'a self,
        source: &S,
        mut turn: MutexGuard<'a, Turn<S>>,
        ticket: u64,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Turn<S>>, Waited<S>) {
        if let Some(waiter) = turn.waiter(ticket) {
            waiter.waits = true;
        }
        let (mut in_time, mut waited) = (true, false);
        let over = loop {
            // It may have come in the last moment.
            if let Some(answer) = turn.waiter(ticket).and_then(Waiter::take) {
                break Ok(answer);
            }
            if let Some(why) = &turn.ended {
                break Err(Over::Ended(why.clone()));
            }
            // There may always be something to read that is not the answer.
            if !in_time || (waited && deadline.has_passed()) {
                break Err(Over::TimedOut);
            }
            waited = true;
            (turn, in_time) = if turn.reading {
                self.sleep(turn, ticket, deadline)
            } else {
                self.read(source, turn, deadline)
            };
        };
        (turn, over)
    }

    /// Reads what has come, without waiting, if nobody else reads; whether there was anything. For a thread that
    /// cannot send: what it does not read may be what its peer waits for.
    pub(super) fn read_if_nobody_does(&self, source: &S) -> bool {
        let turn = self.lock();
        if turn.reading || turn.ended.is_some() {
            return false;
        }
        let (turn, came) = self.read(source, turn, Deadline::NOW);
        turn.wake_next_reader();
        came
    }

    /// Waits to be woken: by an answer, by room, or to read. False if the deadline has passed.
    fn sleep<'a>(
        &'a self,
        mut turn: MutexGuard<'a, Turn<S>>,
        ticket: u64,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Turn<S>>, bool) {
        if let Some(me) = turn.waiter(ticket) {
            me.thread.get_or_insert_with(current);
        }
        drop(turn);
        let in_time = park(deadline);
        (self.lock(), in_time)
    }

    /// Reads one message, and hands it on. False if none came by the deadline.
    #[inline]
    fn read<'a>(
        &'a self,
        source: &S,
        mut turn: MutexGuard<'a, Turn<S>>,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Turn<S>>, bool) {
        turn.reading = true;
        let buffer = source.buffer(&mut turn.shared);
        drop(turn);
        let received = source.receive(buffer, deadline);
        let mut turn = self.lock();
        turn.reading = false;
        let came = source.dispatch(&mut turn, received);
        (turn, came)
    }
}

impl<A> Waiter<A> {
    #[inline]
    fn take(&mut self) -> Option<A> {
        let answer = self.answer.take();
        if answer.is_some() {
            self.answer = self.more.as_mut().and_then(|more| more.0.pop_front());
        }
        answer
    }

    #[inline]
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl<S: Source> Turn<S> {
    /// Leaves a call whose request was not sent, or a stream: there may be room for another.
    pub(super) fn abandon(&mut self, begun: Begun) {
        self.leave(begun.ticket);
        self.wake_for_room();
    }

    /// Hands an answer to the call that waits for it. A stream may be given several, which it takes in their order.
    #[inline]
    pub(super) fn give(&mut self, call: u32, answer: S::Answer) {
        let mut waiters = self.waiters.iter_mut();
        if let Some(waiter) = waiters.find(|waiter| waiter.call == Some(call)) {
            match &waiter.answer {
                None => waiter.answer = Some(answer),
                Some(_) => waiter.more.get_or_insert_default().0.push_back(answer),
            }
            waiter.wake();
        }
    }

    /// There may be room for more calls.
    #[inline]
    pub(super) fn wake_for_room(&self) {
        self.waiters
            .iter()
            .filter(|waiter| waiter.call.is_none())
            .for_each(Waiter::wake);
    }

    /// There will be no more answers. Of several reasons the first counts.
    pub(super) fn end(&mut self, why: S::End) {
        self.ended.get_or_insert(why);
        self.waiters.iter().for_each(Waiter::wake);
    }

    /// Why there will be no more answers, if that is so.
    pub(super) fn ended(&self) -> Option<&S::End> {
        self.ended.as_ref()
    }

    #[inline]
    fn enter(&mut self, call: Option<u32>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiters.push(Waiter {
            ticket,
            thread: None,
            call,
            waits: call.is_none(),
            answer: None,
            more: None,
        });
        ticket
    }

    #[inline]
    fn leave(&mut self, ticket: u64) {
        let place = self.waiters.iter().position(|me| me.ticket == ticket);
        if let Some(place) = place {
            self.waiters.swap_remove(place);
        }
        self.wake_next_reader();
    }

    #[inline]
    fn waiter(&mut self, ticket: u64) -> Option<&mut Waiter<S::Answer>> {
        self.waiters.iter_mut().find(|me| me.ticket == ticket)
    }

    /// Wakes somebody who waits to become the reader, if nobody reads. Who has an answer has been woken, and wakes
    /// another when it leaves.
    #[inline]
    fn wake_next_reader(&self) {
        if self.reading {
            return;
        }
        let mut waiters = self.waiters.iter();
        if let Some(next) = waiters.find(|waiter| waiter.waits && waiter.answer.is_none()) {
            next.wake();
        }
    }
}
