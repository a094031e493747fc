//! The client's end: what it begins, gives up and takes, and what it makes of what arrives.

use std::time::Duration;

use super::super::scenario::Outcome;
use super::super::{METHOD, dropped};
use super::{Call, Pair, size_of_item};
use crate::proto::wire::{self, Code, control};
use crate::proto::{ClientEvent, NotNow};

impl Pair {
    pub(super) fn start(&mut self, sent: bool) {
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

    pub(super) fn give_up(&mut self, n: usize) {
        let id = self.calls[n].id.expect("a call that has begun");
        assert!(self.client.give_up(id), "a call that waits is given up");
        assert!(!self.client.give_up(id), "and only once");
        self.end(n, Outcome::GivenUp);
        self.send_due(true);
    }

    /// Sends what is due, or tries to in vain.
    fn send_due(&mut self, sent: bool) {
        while let Some(due) = self.client.next_due() {
            if !sent {
                self.client.keep(due);
                assert!(self.client.has_due());
                return;
            }
            if !self.closing {
                let mut out = Vec::new();
                due.write(&mut out);
                self.to_server.push_back(out);
            }
        }
    }

    pub(super) fn take(&mut self, n: usize, sent: bool) {
        let call = &mut self.calls[n];
        let id = call.id.expect("a stream");
        let size = size_of_item(call.taken);
        call.taken += 1;
        self.client.take(id, size);
        self.send_due(sent);
    }

    pub(super) fn at_client(&mut self, bytes: &[u8]) {
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
            ClientEvent::Refused { failure, unmet } => {
                assert_eq!(unmet, !self.welcomed);
                let arrived = self.calls.iter().any(|call| call.arrived);
                assert!(!(unmet && arrived), "nothing was carried out");
                self.end_all(Outcome::Refused(failure.code));
            }
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

    /// The client learns that the server has closed.
    fn end_all(&mut self, outcome: Outcome) {
        assert!(self.closing && self.to_client.is_empty());
        self.closed = true;
        for call in self.calls.iter_mut().filter(|call| call.outcome.is_none()) {
            call.outcome = Some(outcome);
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        let open = |call: &&Call| call.id.is_some() && !call.answered;
        self.calls.iter().filter(open).count()
    }
}
