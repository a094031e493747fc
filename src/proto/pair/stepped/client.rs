//! The client's end: what it begins, gives up and takes, and what it makes of what arrives.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::super::scenario::Outcome;
use super::super::{METHOD, answer_to, request_of};
use super::{Call, Pair, size_of_item};
use crate::base::clock::nanoseconds;
use crate::proto::call_error::CallError;
use crate::proto::client::{Asked, Next, Ticket};
use crate::proto::wire::{self, Code, Message, control};
use crate::proto::woken::Woken;
use crate::{Deadline, Error};

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
        let asked = match self.is_stream(n) {
            true => Asked::Items {
                method,
                window: self.scenario.window,
            },
            false => Asked::Reply { method },
        };
        let mut call = Call {
            ticket: None,
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
        let by = deadline.map_or(Deadline::NEVER, Pair::deadline);
        if let Err(why) = self.client.may_begin(method) {
            let begun = self.client.begin(asked, by);
            assert!(begun.is_err(), "a call that may not begin");
            call.outcome = Some(Outcome::NotBegun(why));
            self.calls.push(call);
            return;
        }
        if !self.client.has_room() {
            let room = if self.welcomed {
                self.scenario.in_flight
            } else {
                1
            };
            assert!(self.unanswered() >= room, "there is room for a call");
            return;
        }
        let (ticket, blank) = self.client.begin(asked, by).expect("a call");
        let mut blank = blank.expect("a call that need not wait");
        *self.client.waker(ticket) = Some(n as usize);
        if !sent && n % 2 == 0 {
            assert!(!self.withdraw(ticket), "it was not sent");
            call.outcome = Some(Outcome::Unsent);
            self.calls.push(call);
            return;
        }
        blank.begin(deadline.map(|deadline| deadline - self.now));
        blank.out.bytes().extend_from_slice(&n.to_le_bytes());
        self.client.mind(ticket);
        self.client
            .push(ticket, blank, false)
            .expect("a message that is pushed");
        call.ticket = Some(ticket);
        self.calls.push(call);
        if sent {
            self.pump(true);
        } else {
            self.fail_to_send(n as usize);
        }
    }

    /// The transport does not take the request.
    fn fail_to_send(&mut self, n: usize) {
        let (mut batch, mut woken) = (Vec::new(), Woken::default());
        assert!(self.client.take_batch(&mut batch));
        // What is due is ahead of it, and is not lost.
        let place = batch.len() - 1;
        let error = Error::TooLarge { limit: 1, size: 2 }.into();
        let due: Vec<Vec<u8>> = batch.iter().map(Pair::bytes).take(place).collect();
        assert!(
            self.client
                .not_sent(&mut batch, (place, 1), &error, &mut woken)
        );
        self.carry(due);
        assert_eq!(woken_by(woken), [n]);
        let over = self.client.poll_over(self.ticket(n));
        assert!(matches!(over, Poll::Ready(Err(CallError::TooLarge { .. }))));
        self.end(n, Outcome::Unsent);
    }

    fn ticket(&self, n: usize) -> Ticket {
        self.calls[n].ticket.expect("a call that has begun")
    }

    /// Gives a call up without a word; says whether it was sent.
    fn withdraw(&mut self, ticket: Ticket) -> bool {
        let mut woken = Woken::default();
        let (sent, _) = self.client.give_up(ticket, &mut woken);
        assert!(woken_by(woken).is_empty(), "no call waits for its room");
        sent
    }

    pub(super) fn give_up(&mut self, n: usize) {
        let ticket = self.ticket(n);
        assert!(self.withdraw(ticket), "a call that was sent");
        self.end(n, Outcome::GivenUp);
        // The ticket is no longer good.
        assert!(self.withdraw(ticket) && self.client.wake(ticket).is_none());
        self.pump(true);
    }

    /// The time has come at which the next call is late.
    pub(super) fn expire(&mut self) {
        let passed = |call: &Call| call.deadline.is_some_and(|at| at <= self.now);
        let late = |call: &Call| call.outcome.is_none() && passed(call);
        let late = (0..self.calls.len()).filter(|n| late(&self.calls[*n]));
        let late: Vec<usize> = late.collect();
        let mut woken = Woken::default();
        self.client
            .handle_timeout(nanoseconds(self.now), &mut woken);
        let mut woken = woken_by(woken);
        woken.sort_unstable();
        assert_eq!(woken, late);
        for n in late {
            let error = self.error_of(n);
            assert_eq!(error, Some(CallError::TimedOut { sent: true }));
            self.end(n, Outcome::GivenUp);
        }
        self.pump(true);
    }

    /// Sends what there is to send, or tries to in vain.
    pub(super) fn pump(&mut self, sent: bool) {
        let mut batch = Vec::new();
        while self.client.take_batch(&mut batch) {
            assert!(self.client.is_sending() && !self.client.has_unsent());
            let mut woken = Woken::default();
            if !sent {
                let late = std::io::ErrorKind::TimedOut.into();
                let goes_on = self.client.not_sent(&mut batch, (0, 1), &late, &mut woken);
                assert!(goes_on && self.client.has_unsent());
                return;
            }
            self.carry(batch.iter().map(Pair::bytes).collect());
            self.client.sent_batch(&mut batch, &mut woken);
            for n in woken_by(woken) {
                // A stream is open.
                *self.client.waker(self.ticket(n)) = Some(n);
            }
        }
        assert!(!self.client.has_unsent());
    }

    fn bytes(queued: &crate::proto::client::Queued) -> Vec<u8> {
        queued.out.plain().expect("a message in one piece").to_vec()
    }

    fn carry(&mut self, messages: Vec<Vec<u8>>) {
        for message in messages {
            if let Some((id, payload)) = request_of(&message) {
                let n = u32::from_le_bytes(payload.try_into().expect("a number"));
                self.calls[n as usize].id = Some(id);
            }
            if !self.closing {
                self.to_server.push_back(message);
            }
        }
    }

    pub(super) fn take(&mut self, n: usize, sent: bool) {
        let next = self.client.poll_next(self.ticket(n));
        let Poll::Ready(Next::Item(item)) = next else {
            panic!("{next:?}");
        };
        let call = &mut self.calls[n];
        assert_eq!(item.size, size_of_item(call.taken));
        assert_eq!(
            item.payload()[4..8],
            call.taken.to_le_bytes(),
            "in their order"
        );
        call.taken += 1;
        self.pump(sent);
    }

    pub(super) fn at_client(&mut self, bytes: &[u8]) {
        let mut woken = Woken::default();
        let message = Arc::new(bytes.to_vec());
        self.client.received(message, 0, &mut woken);
        let woken = woken_by(woken);
        match wire::parse(bytes).expect("a message") {
            Message::Goodbye => {
                let open = |call: &&Call| call.outcome.is_none();
                let none_carried_out = self.calls.iter().filter(open).all(|call| !call.arrived);
                assert!(none_carried_out, "all that was read is answered");
                return self.end_all(Outcome::Ended);
            }
            Message::Refusal(_, failure) if failure.code != Code::Incompatible => {
                let arrived = self.calls.iter().any(|call| call.arrived);
                assert!(self.welcomed || !arrived, "nothing was carried out");
                return self.end_all(Outcome::Refused(failure.code));
            }
            _ => assert!(self.client.ended().is_none()),
        }
        match wire::parse(bytes).expect("a message") {
            Message::Welcome(_) | Message::Refusal(..) => {
                assert!(!self.welcomed, "a second welcome");
                self.welcomed = true;
                assert!(self.client.server().is_some());
            }
            Message::GoingAway { .. } => {
                assert!(!self.client.is_usable());
            }
            message => {
                let (id, is_last) = answer_to(&message).expect("an answer");
                self.answered(id, is_last, &message, woken);
            }
        }
    }

    /// An answer has come, or an item.
    fn answered(&mut self, id: u32, is_last: bool, message: &Message<'_>, woken: Vec<usize>) {
        let n = self.unanswered_call(id);
        if is_last {
            assert!(!self.calls[n].answered, "each call is answered once");
            self.calls[n].answered = true;
        }
        if self.calls[n].outcome.is_some() {
            assert_eq!(self.calls[n].outcome, Some(Outcome::GivenUp));
            assert!(woken.is_empty(), "a call that was given up hears nothing");
            return;
        }
        assert_eq!(woken, [n], "the call that waits for it");
        match message {
            Message::Item { payload, .. } => {
                let call = &mut self.calls[n];
                assert_eq!(payload[..4], (n as u32).to_le_bytes());
                assert_eq!(payload[4..8], call.come.to_le_bytes(), "in order");
                call.come += 1;
                *self.client.waker(self.ticket(n)) = Some(n);
            }
            Message::Reply { payload, .. } => {
                assert_eq!(*payload, (n as u32).to_le_bytes(), "somebody else's reply");
                let Poll::Ready(Ok(Some(answer))) = self.client.poll_over(self.ticket(n)) else {
                    panic!("no reply");
                };
                assert_eq!(answer.payload(), *payload);
                self.end(n, Outcome::Reply);
            }
            Message::Error { failure, .. } => {
                if failure.code != Code::Incompatible {
                    assert_eq!(failure.text, n.to_string(), "somebody else's failure");
                }
                let code = match self.error_of(n).expect("a failure") {
                    CallError::Panicked => Code::Panicked,
                    CallError::Cancelled => Code::Cancelled,
                    CallError::Unavailable => Code::Unavailable,
                    CallError::Incompatible(_) => Code::Incompatible,
                    error => panic!("{error}"),
                };
                assert_eq!(code, failure.code);
                self.end(n, Outcome::Failed(code));
            }
            _ => {
                assert_eq!(self.calls[n].come, self.calls[n].sent, "all have come");
                assert_eq!(self.error_of(n), None);
                self.end(n, Outcome::Items(self.calls[n].come));
            }
        }
    }

    /// What a call has failed with that is over, or the end of a stream, behind the items that are still to be taken.
    fn error_of(&mut self, n: usize) -> Option<CallError> {
        let ticket = self.ticket(n);
        if !self.is_stream(n as u32) {
            let Poll::Ready(Err(error)) = self.client.poll_over(ticket) else {
                panic!("a call that has not failed");
            };
            return Some(error);
        }
        for _ in self.calls[n].taken..self.calls[n].come {
            let next = self.client.poll_next(ticket);
            assert!(matches!(next, Poll::Ready(Next::Item(_))), "{next:?}");
        }
        match self.client.poll_next(ticket) {
            Poll::Ready(Next::End) => None,
            Poll::Ready(Next::Failed(error)) => Some(error),
            next => panic!("{next:?}"),
        }
    }

    /// The one call with this id that is not answered.
    fn unanswered_call(&self, id: u32) -> usize {
        let calls = self.calls.iter().enumerate();
        let mut found = calls
            .filter(|(_, call)| call.id == Some(id) && !call.answered)
            .map(|(n, _)| n);
        let n = found.next().expect("a call with this id");
        assert_eq!(found.next(), None, "two calls with one id");
        n
    }

    fn end(&mut self, n: usize, outcome: Outcome) {
        let before = self.calls[n].outcome.replace(outcome);
        assert_eq!(before, None, "each call ends once");
    }

    /// The client learns that the server has closed.
    fn end_all(&mut self, outcome: Outcome) {
        assert!(self.closing && self.to_client.is_empty());
        assert!(self.client.ended().is_some());
        self.closed = true;
        for n in 0..self.calls.len() {
            if self.calls[n].outcome.is_none() {
                assert!(self.error_of(n).is_some());
                self.end(n, outcome);
            }
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        let open = |call: &&Call| call.id.is_some() && !call.answered;
        self.calls.iter().filter(open).count()
    }
}

fn woken_by(mut woken: Woken<usize>) -> Vec<usize> {
    let mut calls = Vec::new();
    woken.drain(|n| calls.push(n));
    calls
}
