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
//! However many threads wait, whatever one of them does costs the same: who waits for room is woken one at a time, as
//! there is room, and wakes the next if there is still some when it has got it or given up.
//!
//! Nothing here knows a stream, a session or a clock. The primitives come from `super::sync`, so that
//! `tests/proto/model/` can go through every order in which the threads can run.

use std::collections::{BTreeMap, VecDeque};

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

    /// Whether a call could begin, or be told why it cannot.
    fn has_room(shared: &Self::Shared) -> bool;
}

/// Why somebody waits no longer, without what it waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over<E> {
    TimedOut,
    Ended(E),
}

/// What comes of waiting.
type Waited<S> = Result<<S as Source>::Answer, Over<<S as Source>::End>>;

/// The same of waiting until something can be done, with the lock; and whether it had to wait.
type Done<'a, S, T> = (
    MutexGuard<'a, Turn<S>>,
    Result<T, Over<<S as Source>::End>>,
    bool,
);

/// The turns of one connection, behind their lock.
pub(super) struct Turns<S: Source>(Mutex<Turn<S>>);

/// Whose turn it is to read, and who waits for what.
pub(super) struct Turn<S: Source> {
    pub(super) shared: S::Shared,
    /// Somebody is reading.
    reading: bool,
    waiters: Vec<Waiter<S::Answer>>,
    /// The places among them that nobody has.
    free: Vec<usize>,
    /// Whose call it is, by the lower half of its id, which no other has meanwhile.
    of_call: Vec<usize>,
    /// Those of whom one is to read if nobody does: who waits, and has no answer.
    to_read: Vec<usize>,
    /// Who sleeps until there is room, in the order in which they came.
    for_room: BTreeMap<u64, usize>,
    next_in_order: u64,
    ended: Option<S::End>,
}

struct Waiter<A> {
    /// The thread, once it has slept: one that has not need not be woken.
    thread: Option<Thread>,
    /// The call whose answer it waits for; `None`: for room to begin one, or for another message.
    call: Option<u32>,
    /// Its place among those of whom one is to read; if it has none, it does not wait, but still sends its request.
    reads: Option<usize>,
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
    place: usize,
    pub(super) id: u32,
    /// There was no room at first.
    pub(super) waited: bool,
}

/// What is waited for until it can be done.
enum For {
    /// Room, which is for one of those who wait.
    Room,
    /// What a message says to all.
    Word,
}

impl<S: Source> Turns<S> {
    pub(super) fn new(shared: S::Shared) -> Turns<S> {
        Turns(Mutex::new(Turn {
            shared,
            reading: false,
            waiters: Vec::new(),
            free: Vec::new(),
            of_call: Vec::new(),
            to_read: Vec::new(),
            for_room: BTreeMap::new(),
            next_in_order: 0,
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
        start: impl FnMut(&mut S::Shared) -> Option<Result<u32, S::End>>,
    ) -> Result<Begun, Over<S::End>> {
        let (mut turn, begun, waited) = self.until(source, For::Room, deadline, start);
        begun.map(|id| Begun {
            place: turn.enter(Some(id)),
            id,
            waited,
        })
    }

    /// Waits for something that a message [says to all](Turn::wake_all_for_word), until `heard` gives it.
    pub(super) fn hear<T>(
        &self,
        source: &S,
        deadline: Deadline,
        mut heard: impl FnMut(&mut S::Shared) -> Option<T>,
    ) -> Result<T, Over<S::End>> {
        let ready = |shared: &mut S::Shared| heard(shared).map(Ok);
        self.until(source, For::Word, deadline, ready).1
    }

    /// Waits until `ready` gives something; whether it had to wait.
    #[inline]
    fn until<'a, T>(
        &'a self,
        source: &S,
        what: For,
        deadline: Deadline,
        mut ready: impl FnMut(&mut S::Shared) -> Option<Result<T, S::End>>,
    ) -> Done<'a, S, T> {
        let mut turn = self.lock();
        let mut waiting = None;
        let result = loop {
            if let Some(why) = &turn.ended {
                break Err(Over::Ended(why.clone()));
            }
            if let Some(result) = ready(&mut turn.shared) {
                break result.map_err(Over::Ended);
            }
            if deadline.has_passed() && waiting.is_some() {
                break Err(Over::TimedOut);
            }
            let (place, order) = *waiting.get_or_insert_with(|| turn.queue());
            turn = if turn.reading {
                if matches!(what, For::Room) {
                    turn.for_room.insert(order, place);
                }
                self.sleep(turn, place, deadline).0
            } else {
                // It looks when it has read: the room that there is by then is for others to be woken for.
                turn.for_room.remove(&order);
                // No message says that a request could not be sent, which makes room too.
                self.read(source, turn, briefly(deadline)).0
            };
        };
        if let Some((place, order)) = waiting {
            turn.for_room.remove(&order);
            turn.leave(place);
            // It may have been woken for room that it does not take, or not all of.
            turn.wake_for_room();
        }
        (turn, result, waiting.is_some())
    }

    /// Waits for the answer to a call, of which `sent` is told that its request has been sent; if that says so, `before`
    /// is done first. If no answer comes by the deadline, `give_up` is told before anything else happens.
    #[inline]
    pub(super) fn wait(
        &self,
        source: &S,
        begun: Begun,
        deadline: Deadline,
        sent: impl FnOnce(&mut S::Shared) -> bool,
        before: impl FnOnce(),
        give_up: impl FnOnce(&mut S::Shared),
    ) -> Waited<S> {
        let mut turn = self.lock();
        if sent(&mut turn.shared) {
            drop(turn);
            before();
            turn = self.lock();
        }
        let (mut turn, over) = self.wait_for_answer(source, turn, begun.place, deadline);
        if matches!(over, Err(Over::TimedOut)) {
            give_up(&mut turn.shared);
        }
        turn.leave(begun.place);
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
        // It may have been another thread the last time.
        turn.waiters[begun.place].thread = None;
        let (mut turn, over) = self.wait_for_answer(source, turn, begun.place, deadline);
        turn.is_to_read(begun.place, false);
        then(&mut turn.shared, &over);
        turn.wake_next_reader();
        over
    }

    #[inline]
    fn wait_for_answer<'a>(
        &'a self,
        source: &S,
        mut turn: MutexGuard<'a, Turn<S>>,
        place: usize,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Turn<S>>, Waited<S>) {
        let has_none = turn.waiters[place].answer.is_none();
        turn.is_to_read(place, has_none);
        let (mut in_time, mut waited) = (true, false);
        let over = loop {
            // It may have come in the last moment.
            if let Some(answer) = turn.waiters[place].take() {
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
                self.sleep(turn, place, deadline)
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
        place: usize,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Turn<S>>, bool) {
        turn.waiters[place].thread.get_or_insert_with(current);
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
        self.leave(begun.place);
        self.wake_for_room();
    }

    /// Hands an answer to the call that waits for it. A stream may be given several, which it takes in their order.
    #[inline]
    pub(super) fn give(&mut self, call: u32, answer: S::Answer) {
        let Some(&place) = self.of_call.get(lower_half(call)) else {
            return;
        };
        let waiter = &mut self.waiters[place];
        if waiter.call != Some(call) {
            return;
        }
        match &waiter.answer {
            None => waiter.answer = Some(answer),
            Some(_) => waiter.more.get_or_insert_default().0.push_back(answer),
        }
        waiter.wake();
        self.is_to_read(place, false);
    }

    /// There may be room for another call.
    #[inline]
    pub(super) fn wake_for_room(&mut self) {
        if self.for_room.is_empty() || !S::has_room(&self.shared) {
            return;
        }
        if let Some((_, place)) = self.for_room.pop_first() {
            self.waiters[place].wake();
        }
    }

    /// A message has said something to all that [wait](Turns::hear) for it, and there may be room for many calls.
    pub(super) fn wake_all_for_word(&self) {
        let begin = |waiter: &&Waiter<_>| waiter.call.is_none();
        self.waiters.iter().filter(begin).for_each(Waiter::wake);
    }

    /// There will be no more answers. Of several reasons the first counts.
    pub(super) fn end(&mut self, why: S::End) {
        self.ended.get_or_insert(why);
        self.waiters.iter().for_each(Waiter::wake);
    }

    /// Whether a stream has something next.
    pub(super) fn has_next(&self, begun: Begun) -> bool {
        self.ended.is_some() || self.waiters[begun.place].answer.is_some()
    }

    /// Why there will be no more answers, if that is so.
    pub(super) fn ended(&self) -> Option<&S::End> {
        self.ended.as_ref()
    }

    /// Enters somebody who waits to begin, and says in which order it came.
    fn queue(&mut self) -> (usize, u64) {
        let place = self.enter(None);
        self.is_to_read(place, true);
        self.next_in_order += 1;
        (place, self.next_in_order)
    }

    #[inline]
    fn enter(&mut self, call: Option<u32>) -> usize {
        let place = match self.free.pop() {
            Some(place) => {
                self.waiters[place].call = call;
                place
            }
            None => {
                self.waiters.push(Waiter {
                    thread: None,
                    call,
                    reads: None,
                    answer: None,
                    more: None,
                });
                self.waiters.len() - 1
            }
        };
        if let Some(call) = call {
            let at = lower_half(call);
            if self.of_call.len() <= at {
                self.of_call.resize(at + 1, 0);
            }
            self.of_call[at] = place;
        }
        place
    }

    #[inline]
    fn leave(&mut self, place: usize) {
        self.is_to_read(place, false);
        let waiter = &mut self.waiters[place];
        (waiter.thread, waiter.call, waiter.answer) = (None, None, None);
        waiter.more = None;
        self.free.push(place);
        self.wake_next_reader();
    }

    /// Whether somebody is among those of whom one is to read if nobody does.
    #[inline]
    fn is_to_read(&mut self, place: usize, is: bool) {
        match (self.waiters[place].reads, is) {
            (None, true) => {
                self.waiters[place].reads = Some(self.to_read.len());
                self.to_read.push(place);
            }
            (Some(at), false) => {
                self.waiters[place].reads = None;
                self.to_read.swap_remove(at);
                if let Some(&moved) = self.to_read.get(at) {
                    self.waiters[moved].reads = Some(at);
                }
            }
            _ => {}
        }
    }

    /// Wakes somebody who waits to become the reader, if nobody reads. Who has an answer has been woken, and wakes
    /// another when it leaves.
    #[inline]
    fn wake_next_reader(&self) {
        if self.reading {
            return;
        }
        if let Some(&place) = self.to_read.last() {
            self.waiters[place].wake();
        }
    }
}

/// Which place of its connection a call has: no two have the same at a time.
#[inline]
fn lower_half(call: u32) -> usize {
    call as usize & 0xFFFF
}
