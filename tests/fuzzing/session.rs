//! Two sessions stepped against each other in memory, in any order and with a clock that moves when it is told to,
//! and each of them against a peer that sends anything: `fuzz/` finds orders, and the unit tests of
//! `src/session.rs`, which is private, go through all the short ones.

use std::collections::VecDeque;
use std::time::Duration;

use crate::session::{ClientEvent, ClientSession, NotNow, Party, ServerEvent, ServerSession};
use crate::wire::{self, Code, Failure, Message, control};

/// A method of the service; the sessions do not care which.
const METHOD: u32 = 1;

/// What can happen in a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// How many calls the client makes.
    pub(crate) calls: u32,
    /// From which of them on they are control requests.
    pub(crate) control_from: u32,
    /// From which of them on they are streams, if not control requests, with a window of so many credits, and how
    /// many items each has at most.
    pub(crate) streams_from: u32,
    pub(crate) window: u32,
    pub(crate) items: u32,
    /// How many requests the server takes at once.
    pub(crate) in_flight: usize,
    pub(crate) compatible: bool,
    /// The client may give up each call, or fail to send its request.
    pub(crate) give_up: bool,
    pub(crate) unsend: bool,
    /// Each call has a deadline, which passes at some time.
    pub(crate) deadlines: bool,
    /// The server may say that it ends, and goodbye when it has answered all.
    pub(crate) going_away: bool,
    /// The server may end the conversation.
    pub(crate) refusal: Option<Code>,
}

#[cfg(test)]
impl Scenario {
    pub(crate) const fn new(calls: u32, in_flight: usize) -> Scenario {
        Scenario {
            calls,
            control_from: u32::MAX,
            streams_from: u32::MAX,
            window: 1,
            items: 2,
            in_flight,
            compatible: true,
            give_up: false,
            unsend: false,
            deadlines: false,
            going_away: false,
            refusal: None,
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client begins its next call.
    Start,
    /// The same, and the request cannot be sent.
    StartUnsent,
    GiveUp(usize),
    /// The message at the head arrives.
    ToServer,
    ToClient,
    /// A handler returns; or fails.
    Answer(usize),
    Fail(usize),
    GoAway,
    Goodbye,
    Refuse,
    /// The clock moves to the next deadline.
    Tick,
    /// A handler sends an item.
    Item(usize),
    /// The consumer of a stream takes an item; or does, and credit cannot be sent.
    Take(usize),
    TakeUnsent(usize),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Reply,
    /// A stream, with so many items.
    Items(u32),
    Failed(Code),
    GivenUp,
    Unsent,
    NotBegun(NotNow),
    /// With the conversation, which the server ends in good order or for a reason.
    Ended,
    Refused(Code),
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Call {
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
    client: ClientSession,
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
        let mut hello = Vec::new();
        let theirs = party(if scenario.compatible { "s" } else { "other" });
        wire::hello(&mut hello, &theirs.identity());
        Pair {
            scenario,
            now: Duration::ZERO,
            client: ClientSession::default(),
            server: ServerSession::new(scenario.in_flight),
            ours: party("s"),
            to_server: VecDeque::from([hello]),
            to_client: VecDeque::new(),
            calls: Vec::new(),
            handling: Vec::new(),
            welcomed: false,
            draining: false,
            closing: false,
            closed: false,
        }
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
                let passed = |call: &Call| call.deadline.is_some_and(|at| at <= self.now);
                let late: Vec<usize> = (0..self.calls.len())
                    .filter(|n| self.calls[*n].outcome.is_none() && passed(&self.calls[*n]))
                    .collect();
                late.into_iter().for_each(|n| self.give_up(n));
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

    fn start(&mut self, sent: bool) {
        let n = self.calls.len() as u32;
        let method = if n < self.scenario.control_from {
            METHOD
        } else {
            control::INFO + n % 2
        };
        let deadline = self
            .scenario
            .deadlines
            .then(|| self.now + Duration::from_millis(10 + u64::from(n) * 5));
        let mut call = Call {
            id: None,
            deadline,
            outcome: None,
            answered: false,
            arrived: false,
            answers: 0,
            sent: 0,
            come: 0,
            taken: 0,
        };
        let started = if self.is_stream(n) {
            let opened = self.client.open(method, self.scenario.window);
            opened.map(|(id, credit)| (id, Some(credit)))
        } else {
            self.client.start(method).map(|id| (id, None))
        };
        match started {
            Ok((id, credit)) if sent => {
                call.id = Some(id);
                if !self.closing {
                    let timeout = deadline.map(|deadline| deadline - self.now);
                    let mut out = Vec::new();
                    match credit {
                        Some(credit) => wire::open(&mut out, id, method, timeout, credit),
                        None => wire::request(&mut out, id, method, timeout),
                    }
                    out.extend_from_slice(&n.to_le_bytes());
                    self.to_server.push_back(out);
                }
            }
            Ok((id, _)) => {
                self.client.unsend(id);
                call.outcome = Some(Outcome::Unsent);
            }
            Err(NotNow::Full) => {
                let room = if self.welcomed {
                    self.scenario.in_flight
                } else {
                    1
                };
                assert!(self.unanswered() >= room, "there is room for a call");
                return;
            }
            Err(why) => call.outcome = Some(Outcome::NotBegun(why)),
        }
        self.calls.push(call);
    }

    fn give_up(&mut self, n: usize) {
        let id = self.calls[n].id.expect("a call that has begun");
        assert!(self.client.give_up(id), "a call that waits is given up");
        assert!(!self.client.give_up(id), "and only once");
        self.end(n, Outcome::GivenUp);
        if !self.closing {
            let mut out = Vec::new();
            wire::cancel(&mut out, id);
            self.to_server.push_back(out);
        }
    }

    fn is_stream(&self, n: u32) -> bool {
        (self.scenario.streams_from..self.scenario.control_from).contains(&n)
    }

    fn item(&mut self, n: usize) {
        let Handling { id, call, .. } = self.handling[n];
        let number = &mut self.calls[call as usize].sent;
        let mut out = Vec::new();
        wire::item(&mut out, id);
        out.extend_from_slice(&call.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        // Every third is a large one.
        out.resize(if *number % 3 == 1 { 3 << 10 } else { 16 }, 0);
        *number += 1;
        assert!(self.server.pay(id, out.len()).is_some(), "there is credit");
        self.to_client.push_back(out);
    }

    fn take(&mut self, n: usize, sent: bool) {
        let call = &mut self.calls[n];
        let id = call.id.expect("a stream");
        let size = if call.taken % 3 == 1 { 3 << 10 } else { 16 };
        call.taken += 1;
        self.client.take(id, size);
        match self.client.credit_due(id) {
            Some(back) if !sent => self.client.keep_credit(id, back),
            Some(back) if !self.closing => {
                let mut out = Vec::new();
                wire::credit(&mut out, id, back);
                self.to_server.push_back(out);
            }
            _ => {}
        }
    }

    fn at_server(&mut self, bytes: &[u8]) {
        let identity = self.ours.identity();
        match self.server.receive(&identity, bytes).expect("a message") {
            ServerEvent::Hello => {
                let mut out = Vec::new();
                self.server.greet(&identity, &mut out);
                self.to_client.push_back(out);
            }
            ServerEvent::Request {
                id,
                method,
                timeout,
                payload,
            }
            | ServerEvent::Open {
                id,
                method,
                timeout,
                payload,
            } => {
                let call = self.arrive(id, payload);
                let opens = matches!(wire::parse(bytes), Ok(Message::Open { .. }));
                assert_eq!(opens, self.is_stream(call));
                if method >= control::FIRST {
                    self.answer(id, call, None);
                } else if self.draining {
                    self.answer(id, call, Some(Code::Unavailable));
                } else {
                    let deadline = timeout.map(|timeout| self.now + timeout);
                    self.handling.push(Handling {
                        id,
                        call,
                        deadline,
                        cancelled: false,
                    });
                }
            }
            ServerEvent::Reject { id, failure } => {
                assert_eq!(failure.code, Code::Incompatible, "a client knows the limit");
                assert!(!self.scenario.compatible);
                let (Ok(Message::Request { payload, .. }) | Ok(Message::Open { payload, .. })) =
                    wire::parse(bytes)
                else {
                    panic!("only a request is rejected");
                };
                let call = self.arrive(id, payload);
                self.calls[call as usize].answers += 1;
                self.send_to_client(|out| wire::error(out, id, &failure));
            }
            ServerEvent::Cancel { id } => {
                let handling = self.handling.iter_mut().find(|handling| handling.id == id);
                handling.expect("a request that is under way").cancelled = true;
            }
            ServerEvent::Nothing => {
                let (Ok(Message::Cancel { id }) | Ok(Message::Credit { id, .. })) =
                    wire::parse(bytes)
                else {
                    panic!("nothing else means nothing");
                };
                assert!(self.handling.iter().all(|handling| handling.id != id));
            }
            ServerEvent::Credit { id } => {
                assert!(self.handling.iter().any(|handling| handling.id == id));
            }
            ServerEvent::Notify { .. } => panic!("nobody sent one"),
        }
    }

    fn arrive(&mut self, id: u32, payload: &[u8]) -> u32 {
        let n = u32::from_le_bytes(payload.try_into().expect("a number"));
        let call = &mut self.calls[n as usize];
        assert_eq!(call.id, Some(id));
        assert!(!call.arrived, "each request arrives once");
        call.arrived = true;
        n
    }

    fn answer(&mut self, id: u32, call: u32, why_not: Option<Code>) {
        assert!(self.server.answer(id), "an unanswered request");
        assert!(!self.server.answer(id), "which is answered now");
        self.calls[call as usize].answers += 1;
        let text = call.to_string();
        let stream = self.is_stream(call);
        self.send_to_client(|out| match why_not {
            None if stream => wire::end(out, id),
            None => {
                wire::reply(out, id);
                out.extend_from_slice(&call.to_le_bytes());
            }
            Some(code) => wire::error(out, id, &Failure::new(code, &text)),
        });
        assert_eq!(self.server.in_flight(), self.handling.len() + 1);
        self.server.answered();
    }

    fn send_to_client(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.to_client.push_back(out);
    }

    fn at_client(&mut self, bytes: &[u8]) {
        match self.client.receive(bytes).expect("a message") {
            ClientEvent::Reply { id, payload } => {
                let n = u32::from_le_bytes(payload.try_into().expect("a number")) as usize;
                assert_eq!(self.calls[n].id, Some(id), "somebody else's reply");
                self.hear(n);
                self.end(n, Outcome::Reply);
            }
            ClientEvent::Item { id, payload } => {
                let (call, number) = (&payload[..4], &payload[4..8]);
                let n = u32::from_le_bytes(call.try_into().expect("a number")) as usize;
                let call = &mut self.calls[n];
                assert_eq!((call.id, call.outcome), (Some(id), None));
                assert_eq!(number, call.come.to_le_bytes(), "in order");
                call.come += 1;
            }
            ClientEvent::Ended { id } => {
                let n = self.waiting(id, |call| call.outcome.is_none());
                assert_eq!(self.calls[n].come, self.calls[n].sent, "all have come");
                self.hear(n);
                self.end(n, Outcome::Items(self.calls[n].come));
            }
            ClientEvent::Failed { id, failure } => {
                let n = self.waiting(id, |call| call.outcome.is_none());
                if failure.code != Code::Incompatible {
                    assert_eq!(failure.text, n.to_string(), "somebody else's failure");
                }
                self.hear(n);
                self.end(n, Outcome::Failed(failure.code));
            }
            ClientEvent::Nothing => {
                let (id, item) = dropped(bytes);
                let given_up = |call: &Call| call.outcome == Some(Outcome::GivenUp);
                let n = self.waiting(id, |call| given_up(call) && !call.answered);
                if !item {
                    self.hear(n);
                }
            }
            ClientEvent::Welcome => {
                assert!(!self.welcomed, "a second welcome");
                self.welcomed = true;
            }
            ClientEvent::GoingAway => assert!(self.client.is_going_away()),
            ClientEvent::Goodbye => {
                let open = |call: &&Call| call.outcome.is_none();
                let none_carried_out = self.calls.iter().filter(open).all(|call| !call.arrived);
                assert!(none_carried_out, "all that was read is answered");
                self.end_all(Outcome::Ended);
            }
            ClientEvent::Refused(failure) => self.end_all(Outcome::Refused(failure.code)),
        }
    }

    /// The one call with this id of which that holds.
    fn waiting(&self, id: u32, which: impl Fn(&Call) -> bool) -> usize {
        let mut calls = self.calls.iter().enumerate();
        let mut found = calls
            .by_ref()
            .filter(|(_, call)| call.id == Some(id) && which(call))
            .map(|(n, _)| n);
        let n = found.next().expect("a call with this id");
        assert_eq!(found.next(), None, "two calls with one id");
        n
    }

    fn hear(&mut self, n: usize) {
        assert!(!self.calls[n].answered, "each call is answered once");
        self.calls[n].answered = true;
    }

    fn end(&mut self, n: usize, outcome: Outcome) {
        let before = self.calls[n].outcome.replace(outcome);
        assert_eq!(before, None, "each call ends once");
    }

    fn unanswered(&self) -> usize {
        let open = |call: &&Call| call.id.is_some() && !call.answered;
        self.calls.iter().filter(open).count()
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

    /// The server closes; what it has sent is still on its way.
    fn close(&mut self) {
        self.closing = true;
        self.handling.clear();
        self.to_server.clear();
    }

    /// The client learns that the server has closed.
    fn end_all(&mut self, outcome: Outcome) {
        assert!(self.closing && self.to_client.is_empty());
        self.closed = true;
        for call in self.calls.iter_mut().filter(|call| call.outcome.is_none()) {
            call.outcome = Some(outcome);
        }
    }

    /// What holds after every step.
    fn check(&self) {
        assert_eq!(self.client.unanswered(), self.unanswered());
        assert!(self.server.in_flight() <= self.scenario.in_flight);
        if !self.closing {
            assert_eq!(self.server.in_flight(), self.handling.len());
        }
        assert!(self.calls.iter().all(|call| call.answers <= 1));
        for call in &self.calls {
            let outstanding = (call.taken..call.sent).map(|n| if n % 3 == 1 { 3 } else { 1 });
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

/// What the client drops: the id, and whether it is an item.
fn dropped(bytes: &[u8]) -> (u32, bool) {
    match wire::parse(bytes) {
        Ok(Message::Item { id, .. }) => (id, true),
        Ok(Message::Reply { id, .. } | Message::Error { id, .. } | Message::End { id }) => {
            (id, false)
        }
        _ => panic!("nothing else means nothing"),
    }
}

// ---------------------------------------------------------------- bytes from anywhere

/// A well-behaved pair in the order that the bytes choose, and each side alone with a peer that sends them.
pub(crate) fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    match how & 1 {
        0 => well_behaved(rest),
        _ => hostile(rest),
    }
}

fn well_behaved(data: &[u8]) {
    let Some((&[flags, in_flight], order)) = data.split_first_chunk() else {
        return;
    };
    let flag = |bit: u8| flags & 1 << bit != 0;
    let mut pair = Pair::new(Scenario {
        calls: u32::MAX,
        control_from: if flag(0) { 20 } else { u32::MAX },
        streams_from: if flag(7) { 2 } else { u32::MAX },
        window: u32::from(in_flight / 5 % 8) + 1,
        items: 9,
        in_flight: usize::from(in_flight % 5) + 1,
        compatible: !flag(1),
        give_up: flag(2),
        unsend: flag(3),
        deadlines: flag(4),
        going_away: flag(5),
        refusal: flag(6).then_some(Code::OverLimit),
    });
    for choice in order {
        let possible = pair.possible();
        let Some(count) = std::num::NonZero::new(possible.len()) else {
            break;
        };
        pair.step(possible[usize::from(*choice) % count]);
    }
    pair.settle();
}

/// What the sessions must make of a peer that sends anything: no panic, no answer to a call that does not wait, no
/// request more than the limit. A message that is refused ends the conversation, and the next one begins.
fn hostile(data: &[u8]) {
    const LIMIT: usize = 3;
    let ours = Party::default();
    let mut client = ClientSession::default();
    let mut waiting: Vec<u32> = Vec::new();
    let mut given_up: Vec<u32> = Vec::new();
    let mut streams: Vec<u32> = Vec::new();
    let mut server = ServerSession::new(LIMIT);
    let mut unanswered: Vec<u32> = Vec::new();
    let mut data = data;
    let mut message = Vec::new();
    while let Some((&[what, which], rest)) = data.split_first_chunk() {
        data = rest;
        let pick = |ids: &[u32]| {
            ids.get(usize::from(which) % ids.len().max(1))
                .copied()
                .unwrap_or_else(|| u32::from(which))
        };
        message.clear();
        match what % 20 {
            0 => match client.start(u32::from(which)) {
                Ok(id) => {
                    assert!(!waiting.contains(&id) && !given_up.contains(&id));
                    waiting.push(id);
                    streams.retain(|other| *other != id);
                }
                Err(NotNow::Full) => {
                    assert_eq!(client.unanswered(), waiting.len() + given_up.len())
                }
                Err(_) => {}
            },
            1 => {
                let id = pick(&waiting);
                assert_eq!(client.give_up(id), waiting.contains(&id));
                if waiting.contains(&id) {
                    waiting.retain(|other| *other != id);
                    given_up.push(id);
                }
            }
            2 => {
                let id = pick(&waiting);
                client.unsend(id);
                waiting.retain(|other| *other != id);
                given_up.retain(|other| *other != id);
            }
            3 => {
                let id = pick(&unanswered);
                let answered = server.answer(id);
                assert_eq!(answered, unanswered.contains(&id));
                if answered {
                    server.answered();
                }
                unanswered.retain(|other| *other != id);
            }
            4 => wire::reply(&mut message, pick(&waiting)),
            5 => wire::reply(&mut message, pick(&given_up)),
            6 => wire::error(
                &mut message,
                pick(&waiting),
                &Failure::new(Code::Panicked, ""),
            ),
            7 => wire::request(
                &mut message,
                u32::from(which % 8),
                METHOD,
                Some(Duration::MAX),
            ),
            8 => wire::cancel(&mut message, pick(&unanswered)),
            9 => wire::hello(&mut message, &ours.identity()),
            10 => wire::welcome(&mut message, &ours.identity()),
            11 => wire::goodbye(&mut message),
            13 => {
                if let Ok((id, credit)) = client.open(METHOD, u32::from(which)) {
                    assert!(!waiting.contains(&id) && !given_up.contains(&id));
                    assert!(credit > 0);
                    waiting.push(id);
                    streams.push(id);
                }
            }
            14 => {
                let id = pick(&waiting);
                client.take(id, usize::from(which) << 6);
                let credit = client.credit_due(id);
                assert!(credit.is_none() || streams.contains(&id));
            }
            15 => {
                let paid = server.may_send(pick(&unanswered));
                let price = server.pay(pick(&unanswered), usize::from(which) << 6);
                assert_eq!(price.is_some(), paid);
            }
            16 => {
                wire::item(&mut message, pick(&waiting));
                message.resize(8 + (usize::from(which) << 3), 0);
            }
            17 => wire::end(&mut message, pick(&given_up)),
            18 => wire::open(
                &mut message,
                u32::from(which % 8),
                METHOD,
                None,
                which.into(),
            ),
            19 => wire::credit(
                &mut message,
                pick(&unanswered),
                u32::from(which) << (which % 25),
            ),
            _ => {
                let (taken, rest) = data.split_at(usize::from(which % 64).min(data.len()));
                message.extend_from_slice(taken);
                data = rest;
            }
        }
        if what % 20 < 4 || (13..16).contains(&(what % 20)) {
            continue;
        }
        match client.receive(&message) {
            Ok(ClientEvent::Reply { id, .. } | ClientEvent::Failed { id, .. }) => {
                let place = waiting.iter().position(|waiting| *waiting == id);
                waiting.swap_remove(place.expect("the call waits"));
            }
            Ok(ClientEvent::Item { id, .. }) => {
                assert!(waiting.contains(&id) && streams.contains(&id));
            }
            Ok(ClientEvent::Ended { id }) => {
                assert!(streams.contains(&id));
                let place = waiting.iter().position(|waiting| *waiting == id);
                waiting.swap_remove(place.expect("the stream is open"));
            }
            Ok(ClientEvent::Nothing) => {
                let (id, item) = dropped(&message);
                let place = given_up.iter().position(|given_up| *given_up == id);
                let place = place.expect("the call was given up");
                if !item {
                    given_up.swap_remove(place);
                }
            }
            Ok(_) => {}
            Err(_) => {
                client = ClientSession::default();
                waiting.clear();
                given_up.clear();
                streams.clear();
            }
        }
        assert_eq!(client.unanswered(), waiting.len() + given_up.len());
        match server.receive(&ours.identity(), &message) {
            Ok(ServerEvent::Request { id, .. } | ServerEvent::Open { id, .. }) => {
                assert!(!unanswered.contains(&id));
                unanswered.push(id);
            }
            Ok(ServerEvent::Reject { id, .. }) => assert!(!unanswered.contains(&id)),
            Ok(ServerEvent::Cancel { id } | ServerEvent::Credit { id }) => {
                assert!(unanswered.contains(&id));
            }
            Ok(_) => {}
            Err(_) => {
                server = ServerSession::new(LIMIT);
                unanswered.clear();
            }
        }
        assert_eq!(server.in_flight(), unanswered.len());
        assert!(unanswered.len() <= LIMIT);
    }
    for id in unanswered {
        assert!(server.answer(id));
        server.answered();
    }
    assert_eq!(server.in_flight(), 0);
}
