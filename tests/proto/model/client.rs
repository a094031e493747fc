//! A connection as its client sees it, the client that threads share, and what its server does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::{Arc, Condvar};
use loom::thread::{self, JoinHandle};

use crate::model::sync::{CLOCK, Deadline, Mutex};
use crate::model::turn::{Begun, Over, Source, Turn, Turns};

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Answer(u32),
    /// One of the items of a stream.
    Item(u32, u32),
    /// Nobody may begin a call any more.
    GoingAway,
    /// So many calls may be under way from now on.
    Welcome(usize),
}

/// A connection as its client sees it; a call's number is its id and its answer.
pub(crate) struct Wire {
    pub(crate) line: Mutex<Line>,
    pub(crate) changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Line {
    pub(crate) to_client: VecDeque<Message>,
    pub(crate) closed: bool,
    /// Somebody receives.
    pub(crate) receiving: bool,
    /// The numbers of the requests that the server has, and of the answers that were received.
    pub(crate) requests: Vec<u32>,
    pub(crate) received: Vec<u32>,
}

/// What the lock of the turns guards besides: as a session, which calls there are.
#[derive(Default)]
pub(crate) struct Calls {
    next: u32,
    unanswered: Vec<u32>,
    limit: usize,
    going_away: bool,
    welcomed: bool,
    pub(crate) given_up: Vec<u32>,
}

impl Wire {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Line)) {
        change(&mut self.line.lock());
        self.changed.notify_all();
    }

    pub(crate) fn deliver(&self, message: Message) {
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
            Ok(Some(Message::Welcome(limit))) => {
                (turn.shared.limit, turn.shared.welcomed) = (limit, true);
                turn.wake_all_for_word();
            }
            Ok(None) => turn.end("closed"),
            Err(()) => return false,
        }
        turn.wake_for_room();
        true
    }

    fn has_room(calls: &Calls) -> bool {
        calls.going_away || calls.unanswered.len() < calls.limit
    }
}

/// A client that threads share.
#[derive(Clone)]
pub(crate) struct Client(Arc<(Turns<Wire>, Wire)>);

pub(crate) type Ended = Result<u32, Over<&'static str>>;

impl Client {
    pub(crate) fn new(limit: usize) -> Client {
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

    pub(crate) fn turns(&self) -> &Turns<Wire> {
        &self.0.0
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.0.1
    }

    /// One call, as `Link::call` makes it; false from `send`: the request could not be sent.
    pub(crate) fn call(
        &self,
        deadline: Deadline,
        send: impl FnOnce(&Client, u32) -> bool,
    ) -> Ended {
        let begun = self.turns().begin(self.wire(), deadline, |calls| {
            if calls.going_away {
                return Some(Err("going away"));
            }
            if calls.unanswered.len() >= calls.limit {
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
            |_| false,
            || (),
            |calls| calls.given_up.push(begun.id),
        );
        if let Ok(answer) = answer {
            assert_eq!(answer, begun.id, "somebody else's answer");
        }
        answer
    }

    /// Waits for the welcome.
    pub(crate) fn hear_the_welcome(&self, deadline: Deadline) -> Result<(), Over<&'static str>> {
        let heard = |calls: &mut Calls| calls.welcomed.then_some(());
        self.turns().hear(self.wire(), deadline, heard)
    }

    /// Opens a stream whose items are these: how often they come, and when, is the server's affair.
    pub(crate) fn open(&self) -> Begun {
        let begun = self.turns().begin(self.wire(), Deadline::Never, |calls| {
            calls.next += 1;
            calls.unanswered.push(calls.next);
            Some(Ok(calls.next))
        });
        begun.unwrap()
    }

    /// What a stream has next, as `Feed::next` takes it.
    pub(crate) fn next(&self, stream: Begun, deadline: Deadline) -> Ended {
        self.turns().next(self.wire(), stream, deadline, |_, _| ())
    }

    /// Leaves a stream, as `Feed` does when it is dropped.
    pub(crate) fn leave(&self, stream: Begun) {
        let mut turn = self.turns().lock();
        turn.shared.given_up.push(stream.id);
        turn.abandon(stream);
    }

    /// A call of another thread.
    pub(crate) fn spawn(
        &self,
        deadline: Deadline,
        send: impl FnOnce(&Client, u32) -> bool + 'static,
    ) -> JoinHandle<Ended> {
        let client = self.clone();
        thread::spawn(move || client.call(deadline, send))
    }

    pub(crate) fn pass_the_deadline(&self) {
        CLOCK.lock().pass();
        // Who was about to wait for a message is waiting once the lock is had.
        self.wire().change(|_| {});
    }

    pub(crate) fn close(&self) {
        self.wire().change(|line| line.closed = true);
        self.turns().lock().end("closed");
    }
}

/// The server answers as soon as it has the request.
pub(crate) fn answered(client: &Client, id: u32) -> bool {
    client.wire().deliver(Message::Answer(id));
    true
}

/// The server answers once it has two requests, in this order.
pub(crate) fn answered_together(order: [u32; 2]) -> impl FnOnce(&Client, u32) -> bool {
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
pub(crate) fn unanswered(_: &Client, _: u32) -> bool {
    true
}

/// How many preemptions an order has at most in a quick run.
const QUICK: usize = 2;

pub(crate) fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let test = std::thread::current();
    let _limit = util::limit(test.name().unwrap_or_default());
    let mut builder = loom::model::Builder::new();
    let preemptions = match util::is_quick() {
        true => Some(preemptions.unwrap_or(QUICK).min(QUICK)),
        false => preemptions,
    };
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
