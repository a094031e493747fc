//! Both ends of a conversation and what is on its way between them, stepped in any order, and what must hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::scenario::{Outcome, Scenario, Step};
use crate::Deadline;
use crate::proto::client::{Calls, Ticket};
use crate::proto::wire::{self, Code, Failure};
use crate::proto::{Party, ServerSession};

mod client;
mod server;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Call {
    ticket: Option<Ticket>,
    /// Of a request that was sent.
    id: Option<u32>,
    deadline: Option<Duration>,
    pub(crate) outcome: Option<Outcome>,
    /// The client has got an answer.
    answered: bool,
    /// The server has got the request, and so often it was answered.
    arrived: bool,
    answers: u32,
    /// Of a stream: the items that were sent, that have come, and that the consumer has taken.
    sent: u32,
    come: u32,
    taken: u32,
}

/// A request that a handler has.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Handling {
    id: u32,
    call: u32,
    deadline: Option<Duration>,
    cancelled: bool,
}

/// Both ends, what is on its way between them, and what must hold.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Pair {
    scenario: Scenario,
    now: Duration,
    client: Calls<usize>,
    server: ServerSession,
    ours: Party,
    to_server: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    pub(crate) calls: Vec<Call>,
    handling: Vec<Handling>,
    welcomed: bool,
    draining: bool,
    /// The server has closed, and the client knows.
    closing: bool,
    pub(crate) closed: bool,
}

impl Pair {
    pub(crate) fn new(scenario: Scenario) -> Pair {
        let party = |service: &str| Party {
            codec: "c".to_owned(),
            service: service.to_owned(),
            max_in_flight: u32::try_from(scenario.in_flight).unwrap_or(u32::MAX),
            ..Party::default()
        };
        let theirs = party(if scenario.compatible { "s" } else { "other" });
        let mut pair = Pair {
            scenario,
            now: Duration::ZERO,
            client: Calls::new(Arc::new(theirs)),
            server: ServerSession::new(scenario.in_flight),
            ours: party("s"),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            calls: Vec::new(),
            handling: Vec::new(),
            welcomed: false,
            draining: false,
            closing: false,
            closed: false,
        };
        pair.pump(true);
        pair
    }

    /// What can happen next; nothing once all is over.
    pub(crate) fn possible(&self) -> Vec<Step> {
        let Scenario {
            give_up,
            unsend,
            going_away,
            refusal,
            ..
        } = self.scenario;
        let mut steps = Vec::new();
        let mut may = |may: bool, step| {
            if may {
                steps.push(step);
            }
        };
        let more = self.calls.len() < self.scenario.calls as usize && !self.closed;
        may(more, Step::Start);
        may(more && unsend, Step::StartUnsent);
        for (n, call) in self.calls.iter().enumerate() {
            may(give_up && call.outcome.is_none(), Step::GiveUp(n));
        }
        may(!self.to_server.is_empty(), Step::ToServer);
        may(!self.to_client.is_empty(), Step::ToClient);
        for n in 0..self.handling.len() {
            may(true, Step::Answer(n));
            may(n == 0, Step::Fail(n));
        }
        may(going_away && !self.draining && !self.closing, Step::GoAway);
        may(
            self.draining && self.handling.is_empty() && !self.closing,
            Step::Goodbye,
        );
        may(refusal.is_some() && !self.closing, Step::Refuse);
        may(self.next_deadline().is_some(), Step::Tick);
        for (n, handling) in self.handling.iter().enumerate() {
            let sent = self.calls[handling.call as usize].sent;
            let more = !handling.cancelled && sent < self.scenario.items;
            may(more && self.server.may_send(handling.id), Step::Item(n));
        }
        for (n, call) in self.calls.iter().enumerate() {
            let waits = call.outcome.is_none() && call.taken < call.come;
            may(waits, Step::Take(n));
            may(waits && unsend, Step::TakeUnsent(n));
        }
        steps
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Start => self.start(true),
            Step::StartUnsent => self.start(false),
            Step::GiveUp(n) => self.give_up(n),
            Step::ToServer => {
                let message = self.to_server.pop_front().expect("a message");
                self.at_server(&message);
            }
            Step::ToClient => {
                let message = self.to_client.pop_front().expect("a message");
                self.at_client(&message);
            }
            Step::Answer(n) => {
                let handling = self.handling.remove(n);
                let late = handling
                    .deadline
                    .is_some_and(|deadline| deadline <= self.now);
                let why_not = (handling.cancelled || late).then_some(Code::Cancelled);
                self.answer(handling.id, handling.call, why_not);
            }
            Step::Fail(n) => {
                let handling = self.handling.remove(n);
                self.answer(handling.id, handling.call, Some(Code::Panicked));
            }
            Step::GoAway => {
                self.draining = true;
                self.send_to_client(|out| wire::going_away(out, None));
            }
            Step::Goodbye => {
                self.send_to_client(wire::goodbye);
                self.close();
            }
            Step::Refuse => {
                let code = self.scenario.refusal.expect("a reason");
                let failure = Failure::new(code, "");
                let ours = self.ours.clone();
                self.send_to_client(|out| wire::refusal(out, &ours.identity(), &failure));
                self.close();
            }
            Step::Tick => {
                self.now = self.next_deadline().expect("a deadline");
                self.expire();
            }
            Step::Item(n) => self.item(n),
            Step::Take(n) => self.take(n, true),
            Step::TakeUnsent(n) => self.take(n, false),
        }
        self.check();
    }

    /// Lets everything happen that can, without another call, and checks that nobody waits then.
    pub(crate) fn settle(&mut self) {
        loop {
            let quiet =
                |step: &Step| matches!(step, Step::ToServer | Step::ToClient | Step::Answer(_));
            match self.possible().into_iter().find(quiet) {
                Some(step) => self.step(step),
                None => return self.check_settled(),
            }
        }
    }

    /// Whether nothing is on its way and nobody is at work.
    pub(crate) fn is_settled(&self) -> bool {
        self.to_server.is_empty() && self.to_client.is_empty() && self.handling.is_empty()
    }

    /// A deadline by the clock of the pair.
    fn deadline(at: Duration) -> Deadline {
        Deadline::after_time(0, at)
    }

    fn is_stream(&self, n: u32) -> bool {
        (self.scenario.streams_from..self.scenario.control_from).contains(&n)
    }

    fn next_deadline(&self) -> Option<Duration> {
        let calls = self.calls.iter().filter(|call| call.outcome.is_none());
        let here = calls.filter_map(|call| call.deadline);
        let there = self
            .handling
            .iter()
            .filter_map(|handling| handling.deadline);
        here.chain(there)
            .filter(|deadline| *deadline > self.now)
            .min()
    }

    /// What holds after every step.
    fn check(&self) {
        assert_eq!(self.client.unanswered(), self.unanswered());
        let deadlines = self.calls.iter().filter(|call| call.outcome.is_none());
        let deadlines = deadlines.filter_map(|call| call.deadline);
        let earliest = deadlines.map(Pair::deadline).min();
        assert!(self.client.poll_timeout() <= earliest.unwrap_or(Deadline::NEVER));
        assert!(self.server.in_flight() <= self.scenario.in_flight);
        if !self.closing {
            assert_eq!(self.server.in_flight(), self.handling.len());
        }
        assert!(self.calls.iter().all(|call| call.answers <= 1));
        for call in &self.calls {
            let outstanding = (call.taken..call.sent).map(|n| if is_large(n) { 3 } else { 1 });
            let outstanding: u32 = outstanding.sum();
            assert!(
                outstanding < self.scenario.window + 3,
                "a window and one item"
            );
        }
    }

    /// What holds when nothing is on its way.
    pub(crate) fn check_settled(&self) {
        assert!(self.is_settled());
        for call in &self.calls {
            assert!(call.outcome.is_some(), "a call that does not end");
            if call.id.is_some() && !self.closing {
                assert!(call.arrived && call.answers == 1 && call.answered);
            }
        }
        if !self.closing {
            assert_eq!((self.client.unanswered(), self.server.in_flight()), (0, 0));
        }
    }
}

/// Every third item is a large one.
fn is_large(item: u32) -> bool {
    item % 3 == 1
}

/// How long the message with an item is.
fn size_of_item(item: u32) -> usize {
    if is_large(item) { 3 << 10 } else { 16 }
}
