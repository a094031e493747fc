//! A model of the hand-over between the threads that share a client's connection (`src/client/turn.rs`, the same
//! file): loom runs each test in every order in which its threads can take their turns.
//!
//! Shown for every order: each call ends with its own answer, or as the model says it must; nobody sleeps for ever
//! (loom reports that as a deadlock); at most one thread reads at a time. Most tests with two threads go through all
//! orders there are. With three, and where that would take minutes, an order has two to four preemptions at most, as
//! each test says; `LOOM_MAX_PREEMPTIONS` sets another bound for all.
//!
//! That the model sees what it is there to see was tried by breaking `turn.rs`: a test fails without the wake-up in
//! any of `leave`, `give`, `abandon` and `read_if_nobody_does`, if those who time out or get room do not call `leave`,
//! if a thread that sends is chosen to read, if a request that is not sent is noticed by messages only, and if the
//! reader does not say that it reads. (Without the wake-ups in `end` each who leaves still wakes the next.)

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "../src/client/turn.rs"]
#[allow(
    dead_code,
    reason = "the file is a module of the crate, which uses all of it"
)]
mod turn;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::{Arc, Condvar};
use loom::thread::{self, JoinHandle};

use sync::{CLOCK, Deadline, Mutex};
use turn::{Begun, Over, Source, Turn, Turns};

/// What `turn.rs` waits with, made of loom's primitives.
mod sync {
    pub(super) use loom::sync::MutexGuard;
    use loom::sync::{Arc, Condvar};
    use std::cell::RefCell;

    /// As the crate's own: without poisoning.
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// A thread with its token. loom's own `park` may lose a token that comes while the thread waits for a lock.
    #[derive(Clone)]
    pub(super) struct Thread(Arc<(Mutex<bool>, Condvar)>);

    loom::thread_local! {
        static CURRENT: RefCell<Option<Thread>> = RefCell::new(None);
    }

    pub(super) fn current() -> Thread {
        let new = || Thread(Arc::new((Mutex::new(false), Condvar::new())));
        CURRENT.with(|current| current.borrow_mut().get_or_insert_with(new).clone())
    }

    impl Thread {
        pub(super) fn unpark(&self) {
            let (token, given) = &*self.0;
            *token.lock() = true;
            given.notify_one();
        }
    }

    /// There is one deadline that is neither now nor never, and it passes when the clock is told so.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Deadline {
        Now,
        At,
        Never,
    }

    #[derive(Default)]
    pub(super) struct Clock {
        passed: bool,
        sleepers: Vec<Thread>,
        /// A little while ends when the deadline passes. Without it, no little while is short enough to matter.
        pub(super) little_whiles: bool,
    }

    loom::lazy_static! {
        pub(super) static ref CLOCK: Mutex<Clock> = Mutex::new(Clock::default());
    }

    impl Clock {
        /// The deadline passes. Who receives by it has to be told besides.
        pub(super) fn pass(&mut self) {
            self.passed = true;
            self.sleepers.drain(..).for_each(|thread| thread.unpark());
        }
    }

    impl Deadline {
        pub(super) const NOW: Deadline = Deadline::Now;

        pub(super) fn has_passed(self) -> bool {
            match self {
                Deadline::Now => true,
                Deadline::At => CLOCK.lock().passed,
                Deadline::Never => false,
            }
        }
    }

    pub(super) fn briefly(deadline: Deadline) -> Deadline {
        if CLOCK.lock().little_whiles {
            Deadline::At
        } else {
            deadline
        }
    }

    /// False, without waiting, if the deadline has passed.
    pub(super) fn park(deadline: Deadline) -> bool {
        let thread = current();
        if deadline == Deadline::At {
            let mut clock = CLOCK.lock();
            if clock.passed {
                return false;
            }
            clock.sleepers.push(thread.clone());
        }
        let (token, given) = &*thread.0;
        let mut token = token.lock();
        while !std::mem::take(&mut *token) {
            token = given.wait(token).unwrap();
        }
        true
    }
}

// ---------------------------------------------------------------- the connection

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Answer(u32),
    /// One of the items of a stream.
    Item(u32, u32),
    /// Nobody may begin a call any more.
    GoingAway,
}

/// A connection as its client sees it; a call's number is its id and its answer.
struct Wire {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Default)]
struct Line {
    to_client: VecDeque<Message>,
    closed: bool,
    /// Somebody receives.
    receiving: bool,
    /// The numbers of the requests that the server has, and of the answers that were received.
    requests: Vec<u32>,
    received: Vec<u32>,
}

/// What the lock of the turns guards besides: as a session, which calls there are.
#[derive(Default)]
struct Calls {
    next: u32,
    unanswered: Vec<u32>,
    limit: usize,
    going_away: bool,
    given_up: Vec<u32>,
}

impl Wire {
    fn change(&self, change: impl FnOnce(&mut Line)) {
        change(&mut self.line.lock());
        self.changed.notify_all();
    }

    fn deliver(&self, message: Message) {
        self.change(|line| line.to_client.push_back(message));
    }
}

impl Source for Wire {
    type Shared = Calls;
    type Answer = u32;
    type End = &'static str;
    type Buffer = ();
    /// `Err`: nothing came in time. `Ok(None)`: the end.
    type Received = Result<Option<Message>, ()>;

    fn buffer(&self, _: &mut Calls) {}

    fn receive(&self, _: (), deadline: Deadline) -> Self::Received {
        let mut line = self.line.lock();
        assert!(!line.receiving, "two threads receive");
        line.receiving = true;
        let received = loop {
            if let Some(message) = line.to_client.pop_front() {
                if let Message::Answer(id) = message {
                    line.received.push(id);
                    self.changed.notify_all();
                }
                break Ok(Some(message));
            }
            if line.closed {
                break Ok(None);
            }
            if deadline.has_passed() {
                break Err(());
            }
            line = self.changed.wait(line).unwrap();
        };
        line.receiving = false;
        received
    }

    fn dispatch(&self, turn: &mut Turn<Wire>, received: Self::Received) -> bool {
        match received {
            Ok(Some(Message::Answer(id))) => {
                let calls = &mut turn.shared;
                let place = calls.unanswered.iter().position(|other| *other == id);
                calls.unanswered.swap_remove(place.expect("a call"));
                turn.give(id, id);
            }
            Ok(Some(Message::Item(id, item))) => turn.give(id, item),
            Ok(Some(Message::GoingAway)) => turn.shared.going_away = true,
            Ok(None) => turn.end("closed"),
            Err(()) => return false,
        }
        turn.wake_for_room();
        true
    }
}

/// A client that threads share.
#[derive(Clone)]
struct Client(Arc<(Turns<Wire>, Wire)>);

type Ended = Result<u32, Over<&'static str>>;

impl Client {
    fn new(limit: usize) -> Client {
        let calls = Calls {
            limit,
            ..Calls::default()
        };
        let wire = Wire {
            line: Mutex::new(Line::default()),
            changed: Condvar::new(),
        };
        Client(Arc::new((Turns::new(calls), wire)))
    }

    fn turns(&self) -> &Turns<Wire> {
        &self.0.0
    }

    fn wire(&self) -> &Wire {
        &self.0.1
    }

    /// One call, as `Link::call` makes it; false from `send`: the request could not be sent.
    fn call(&self, deadline: Deadline, send: impl FnOnce(&Client, u32) -> bool) -> Ended {
        let begun = self.turns().begin(self.wire(), deadline, |calls| {
            if calls.going_away {
                return Some(Err("going away"));
            }
            if calls.unanswered.len() == calls.limit {
                return None;
            }
            calls.next += 1;
            calls.unanswered.push(calls.next);
            Some(Ok(calls.next))
        })?;
        if !send(self, begun.id) {
            let mut turn = self.turns().lock();
            turn.shared.unanswered.retain(|id| *id != begun.id);
            turn.abandon(begun);
            return Err(Over::Ended("not sent"));
        }
        let answer = self.turns().wait(
            self.wire(),
            begun,
            deadline,
            |_| (),
            |calls| calls.given_up.push(begun.id),
        );
        if let Ok(answer) = answer {
            assert_eq!(answer, begun.id, "somebody else's answer");
        }
        answer
    }

    /// Opens a stream whose items are these: how often they come, and when, is the server's affair.
    fn open(&self) -> Begun {
        let begun = self.turns().begin(self.wire(), Deadline::Never, |calls| {
            calls.next += 1;
            calls.unanswered.push(calls.next);
            Some(Ok(calls.next))
        });
        begun.unwrap()
    }

    /// What a stream has next, as `Feed::next` takes it.
    fn next(&self, stream: Begun, deadline: Deadline) -> Ended {
        self.turns().next(self.wire(), stream, deadline, |_, _| ())
    }

    /// Leaves a stream, as `Feed` does when it is dropped.
    fn leave(&self, stream: Begun) {
        let mut turn = self.turns().lock();
        turn.shared.given_up.push(stream.id);
        turn.abandon(stream);
    }

    /// A call of another thread.
    fn spawn(
        &self,
        deadline: Deadline,
        send: impl FnOnce(&Client, u32) -> bool + 'static,
    ) -> JoinHandle<Ended> {
        let client = self.clone();
        thread::spawn(move || client.call(deadline, send))
    }

    fn pass_the_deadline(&self) {
        CLOCK.lock().pass();
        // Who was about to wait for a message is waiting once the lock is had.
        self.wire().change(|_| {});
    }

    fn close(&self) {
        self.wire().change(|line| line.closed = true);
        self.turns().lock().end("closed");
    }
}

/// The server answers as soon as it has the request.
fn answered(client: &Client, id: u32) -> bool {
    client.wire().deliver(Message::Answer(id));
    true
}

/// The server answers once it has two requests, in this order.
fn answered_together(order: [u32; 2]) -> impl FnOnce(&Client, u32) -> bool {
    move |client, id| {
        client.wire().change(|line| {
            line.requests.push(id);
            if line.requests.len() == 2 {
                line.to_client.extend(order.map(Message::Answer));
            }
        });
        true
    }
}

/// The server never answers.
fn unanswered(_: &Client, _: u32) -> bool {
    true
}

fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    let orders = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

// ---------------------------------------------------------------- what must hold

#[test]
fn each_of_two_gets_its_answer() {
    explore(None, || {
        let client = Client::new(9);
        let other = client.spawn(Deadline::Never, answered);
        assert!(client.call(Deadline::Never, answered).is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn each_of_three_gets_its_answer() {
    explore(Some(3), || {
        let client = Client::new(9);
        let others = [(); 2].map(|()| client.spawn(Deadline::Never, answered));
        assert!(client.call(Deadline::Never, answered).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// Whoever reads first may read the other's answer.
#[test]
fn answers_come_in_any_order() {
    for order in [[1, 2], [2, 1]] {
        explore(None, move || {
            let client = Client::new(9);
            let other = client.spawn(Deadline::Never, answered_together(order));
            assert!(
                client
                    .call(Deadline::Never, answered_together(order))
                    .is_ok()
            );
            assert!(other.join().unwrap().is_ok());
        });
    }
}

/// Whoever reads when the deadline passes hands the reading over.
#[test]
fn a_reader_that_times_out_hands_over() {
    explore(Some(4), || {
        let client = Client::new(9);
        let late = client.spawn(Deadline::At, unanswered);
        let other = client.spawn(Deadline::Never, |client, id| {
            let client = client.clone();
            // The answer comes after the deadline.
            client.pass_the_deadline();
            answered(&client, id)
        });
        assert_eq!(late.join().unwrap(), Err(Over::TimedOut));
        assert!(other.join().unwrap().is_ok());
        assert_eq!(client.turns().lock().shared.given_up.len(), 1);
    });
}

/// A deadline and the answer meet: the call has one of the two, and its place is used accordingly.
#[test]
fn an_answer_comes_in_the_last_moment() {
    explore(Some(3), || {
        let client = Client::new(9);
        let late = client.spawn(Deadline::At, answered);
        let other = client.spawn(Deadline::Never, answered);
        client.pass_the_deadline();
        let given_up = match late.join().unwrap() {
            Ok(_) => 0,
            Err(over) => {
                assert_eq!(over, Over::TimedOut);
                1
            }
        };
        assert!(other.join().unwrap().is_ok());
        assert_eq!(client.turns().lock().shared.given_up.len(), given_up);
    });
}

#[test]
fn who_waits_for_room_gets_it() {
    explore(None, || {
        let client = Client::new(1);
        let other = client.spawn(Deadline::Never, answered);
        assert!(client.call(Deadline::Never, answered).is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn several_wait_for_room() {
    explore(Some(3), || {
        let client = Client::new(1);
        let others = [(); 2].map(|()| client.spawn(Deadline::Never, answered));
        assert!(client.call(Deadline::Never, answered).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// Who waits for room may read for somebody who waits for an answer, and learn that there is nothing to begin.
#[test]
fn who_may_not_begin_hands_over() {
    explore(None, || {
        let client = Client::new(1);
        let send = |client: &Client, id| {
            client.wire().deliver(Message::GoingAway);
            answered(client, id)
        };
        let other = client.spawn(Deadline::Never, send);
        let me = client.call(Deadline::Never, send);
        let other = other.join().unwrap();
        let refused = Err(Over::Ended("going away"));
        assert!(me.is_ok() || me == refused);
        assert!(other.is_ok() || other == refused);
        assert!(me.is_ok() || other.is_ok());
    });
}

/// The one who waits for room times out while it reads.
#[test]
fn who_waits_for_room_in_vain_hands_over() {
    explore(None, || {
        let client = Client::new(1);
        let first = client.spawn(Deadline::Never, |client, id| {
            client.pass_the_deadline();
            answered(client, id)
        });
        let second = client.call(Deadline::At, answered);
        assert!(first.join().unwrap().is_ok());
        assert!(second.is_ok() || second == Err(Over::TimedOut));
    });
}

/// There is room when a request cannot be sent, although no message says so.
#[test]
fn a_request_that_is_not_sent_makes_room() {
    explore(None, || {
        CLOCK.lock().little_whiles = true;
        let client = Client::new(1);
        let first = client.spawn(Deadline::Never, |_, _| false);
        let second = client.spawn(Deadline::Never, answered);
        assert_eq!(first.join().unwrap(), Err(Over::Ended("not sent")));
        // A little while later, for the one that reads.
        client.pass_the_deadline();
        assert!(second.join().unwrap().is_ok());
    });
}

/// The same while somebody reads whose answer does not come before the one that waits for room has sent.
#[test]
fn a_request_that_is_not_sent_makes_room_for_who_sleeps() {
    explore(Some(3), || {
        CLOCK.lock().little_whiles = true;
        let client = Client::new(2);
        let together = |client: &Client, id| {
            client.wire().change(|line| {
                line.requests.push(id);
                if line.requests.len() == 2 {
                    let both = line.requests.iter().map(|id| Message::Answer(*id));
                    line.to_client.extend(both);
                }
            });
            true
        };
        let others = [(); 2].map(|()| client.spawn(Deadline::Never, together));
        let me = client.call(Deadline::Never, |_, _| false);
        assert_eq!(me, Err(Over::Ended("not sent")));
        // For the case that it is the one that reads.
        client.pass_the_deadline();
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// A thread that cannot send until somebody has read is not waited for by those whose answers are there.
#[test]
fn who_sends_is_not_chosen_to_read() {
    explore(Some(3), || {
        let client = Client::new(9);
        let others = [(); 2].map(|()| client.spawn(Deadline::Never, answered));
        // The server takes this request when both its answers have been read.
        let held_up = client.call(Deadline::Never, |client, id| {
            let mut line = client.wire().line.lock();
            while line.received.len() < 2 {
                line = client.wire().changed.wait(line).unwrap();
            }
            drop(line);
            answered(client, id)
        });
        assert!(held_up.is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// The same where it waited for room before, and read meanwhile.
#[test]
fn who_gets_room_and_sends_hands_over() {
    explore(Some(3), || {
        let client = Client::new(2);
        // The server takes the third request when it has got rid of the answers to the others.
        let send = |client: &Client, id| {
            let mut line = client.wire().line.lock();
            while id == 3 && line.received.len() < 2 {
                line = client.wire().changed.wait(line).unwrap();
            }
            drop(line);
            answered(client, id)
        };
        let others = [(); 2].map(|()| client.spawn(Deadline::Never, send));
        assert!(client.call(Deadline::Never, send).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// The same where it tried to read before it went on waiting to send.
#[test]
fn who_has_read_and_sends_hands_over() {
    explore(Some(4), || {
        let client = Client::new(9);
        let other = client.spawn(Deadline::Never, answered);
        let held_up = client.call(Deadline::Never, |client, id| {
            client.turns().read_if_nobody_does(client.wire());
            let mut line = client.wire().line.lock();
            while line.received.is_empty() {
                line = client.wire().changed.wait(line).unwrap();
            }
            drop(line);
            answered(client, id)
        });
        assert!(held_up.is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

/// A thread that cannot send reads itself what its server waits to get rid of.
#[test]
fn who_cannot_send_reads() {
    explore(None, || {
        let client = Client::new(9);
        let other = client.spawn(Deadline::Never, answered);
        let held_up = client.call(Deadline::Never, |client, id| {
            // The server takes this request when the other's answer has been read, by whomever.
            loop {
                client.turns().read_if_nobody_does(client.wire());
                let mut line = client.wire().line.lock();
                while line.received.is_empty() && (line.to_client.is_empty() || line.receiving) {
                    line = client.wire().changed.wait(line).unwrap();
                }
                if !line.received.is_empty() {
                    break;
                }
                // Somebody is about to receive.
                drop(line);
                thread::yield_now();
            }
            answered(client, id)
        });
        assert!(held_up.is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn the_end_wakes_all() {
    explore(Some(2), || {
        let client = Client::new(2);
        let callers = [(); 3].map(|()| client.spawn(Deadline::Never, unanswered));
        client.close();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Err(Over::Ended("closed")));
        }
    });
}

/// What came before the end is still read.
#[test]
fn the_end_comes_after_the_answers() {
    explore(None, || {
        let client = Client::new(9);
        let send = |client: &Client, id| {
            client.wire().change(|line| {
                line.requests.push(id);
                line.to_client.push_back(Message::Answer(id));
                line.closed = line.requests.len() == 2;
            });
            true
        };
        let other = client.spawn(Deadline::Never, send);
        assert!(client.call(Deadline::Never, send).is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

// ---------------------------------------------------------------- streams

/// The items come while the other waits for its answer: whoever reads leaves them where they belong.
#[test]
fn a_consumer_and_a_caller_read_for_each_other() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, move |client, id| {
            client.wire().deliver(Message::Item(stream.id, 10));
            client.wire().deliver(Message::Answer(id));
            client.wire().deliver(Message::Item(stream.id, 11));
            true
        });
        assert_eq!(client.next(stream, Deadline::Never), Ok(10));
        assert_eq!(client.next(stream, Deadline::Never), Ok(11));
        assert!(other.join().unwrap().is_ok());
    });
}

/// A consumer that has its item reads no more: the caller has to.
#[test]
fn a_consumer_that_has_its_item_hands_over() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, move |client, id| {
            client.wire().deliver(Message::Item(stream.id, 10));
            client.wire().deliver(Message::Answer(id));
            true
        });
        assert_eq!(client.next(stream, Deadline::Never), Ok(10));
        // It stays away for ever.
        assert!(other.join().unwrap().is_ok());
    });
}

/// The same with one that leaves, or whose time is over.
#[test]
fn a_consumer_that_stops_waiting_hands_over() {
    explore(Some(3), || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, |client, id| {
            client.pass_the_deadline();
            answered(client, id)
        });
        assert_eq!(client.next(stream, Deadline::At), Err(Over::TimedOut));
        client.leave(stream);
        assert!(other.join().unwrap().is_ok());
    });
}

/// Two consumers, and whoever reads, reads for both.
#[test]
fn consumers_read_for_each_other() {
    explore(Some(3), || {
        let client = Client::new(9);
        let streams = [client.open(), client.open()];
        for item in [10, 11] {
            client.wire().deliver(Message::Item(streams[1].id, item));
            client.wire().deliver(Message::Item(streams[0].id, item));
        }
        let other = {
            let client = client.clone();
            thread::spawn(move || {
                assert_eq!(client.next(streams[0], Deadline::Never), Ok(10));
                assert_eq!(client.next(streams[0], Deadline::Never), Ok(11));
                client.leave(streams[0]);
            })
        };
        assert_eq!(client.next(streams[1], Deadline::Never), Ok(10));
        assert_eq!(client.next(streams[1], Deadline::Never), Ok(11));
        client.leave(streams[1]);
        other.join().unwrap();
    });
}

/// One that is taken from on another thread each time.
#[test]
fn a_consumer_moves_to_another_thread() {
    explore(Some(3), || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, move |client, id| {
            client.wire().deliver(Message::Item(stream.id, 10));
            client.wire().deliver(Message::Item(stream.id, 11));
            answered(client, id)
        });
        let consumer = client.clone();
        let consumer = thread::spawn(move || consumer.next(stream, Deadline::Never));
        assert_eq!(consumer.join().unwrap(), Ok(10));
        assert_eq!(client.next(stream, Deadline::Never), Ok(11));
        assert!(other.join().unwrap().is_ok());
    });
}

/// What has come is taken, and then comes the end.
#[test]
fn the_end_comes_after_the_items() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        client.wire().deliver(Message::Item(stream.id, 10));
        let other = client.spawn(Deadline::Never, |client, _| {
            client.wire().change(|line| line.closed = true);
            true
        });
        assert_eq!(client.next(stream, Deadline::Never), Ok(10));
        let ended = Err(Over::Ended("closed"));
        assert_eq!(client.next(stream, Deadline::Never), ended);
        assert_eq!(other.join().unwrap(), ended);
    });
}
