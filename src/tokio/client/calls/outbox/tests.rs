#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use super::super::super::slot::{Asked, Then};
use super::*;
use crate::outgoing::Outgoing;
use crate::session::Party;
use crate::{Deadline, wire};

/// Calls of which the hello has been sent.
fn greeted() -> Calls {
    let mut calls = Calls::new(Arc::new(Party::default()), true);
    calls.greet();
    let mut cx = Context::from_waker(Waker::noop());
    calls.driven_by(&mut cx, &mut Vec::new());
    assert_eq!(taken(&mut calls), [None]);
    calls
}

/// Pushes a call that has a deadline, which is minded already.
fn push(calls: &mut Calls) -> (Ticket, Then) {
    let deadline = Deadline::after(Duration::from_secs(60));
    calls.alarm = deadline;
    let asked = Asked::Reply { method: 1 };
    let (ticket, _, _) = calls.begin(asked, deadline).unwrap();
    let mut blank = calls.blank(ticket);
    wire::request(blank.out.bytes(), blank.id, 1, None);
    let then = calls.push(ticket, blank).unwrap();
    (ticket, then)
}

fn push_alone(calls: &mut Calls) -> (Ticket, Queued) {
    match push(calls) {
        (ticket, Then::Send(queued)) => (ticket, queued),
        (_, then) => panic!("{then:?}"),
    }
}

/// Adds to what is to be sent something that is nobody's.
fn push_credit(calls: &mut Calls) {
    calls.outbox.push_back(Queued {
        out: Outgoing::default(),
        owner: None,
    });
}

/// What the writer takes, which is sent then.
fn taken(calls: &mut Calls) -> Vec<Option<Ticket>> {
    let mut batch = Vec::new();
    assert_eq!(calls.take_batch(&mut batch), !batch.is_empty());
    let owners = batch.iter().map(|queued| queued.owner).collect();
    if !batch.is_empty() {
        calls.sent(&mut batch, &mut Vec::new());
    }
    owners
}

#[test]
fn what_its_caller_sends_is_not_for_the_writer() {
    let mut calls = greeted();
    let (ticket, queued) = push_alone(&mut calls);
    push_credit(&mut calls);
    assert!(calls.is_sending() && !calls.has_unsent());
    assert!(taken(&mut calls).is_empty());
    assert!(calls.is_sending());
    calls.sent_alone(queued, true, &mut Vec::new());
    assert_eq!(calls.slots[ticket.slot].stage, Stage::Sent);
    assert!(!calls.is_sending() && calls.is_to_be_polled_again());
    assert_eq!(taken(&mut calls), [None]);
    assert!(!calls.is_to_be_polled_again());
}

#[test]
fn what_its_caller_cannot_send_is_the_next_for_the_writer() {
    let mut calls = greeted();
    let (ticket, queued) = push_alone(&mut calls);
    push_credit(&mut calls);
    calls.sent_alone(queued, false, &mut Vec::new());
    assert_eq!(calls.slots[ticket.slot].stage, Stage::Queued);
    assert!(calls.is_to_be_polled_again());
    assert_eq!(taken(&mut calls), [Some(ticket), None]);
}

/// Its cancellation goes out behind it, or nothing of it does.
#[test]
fn what_is_over_before_it_is_sent_is_cancelled_behind_it() {
    for sent in [true, false] {
        let mut calls = greeted();
        let (_, queued) = push_alone(&mut calls);
        calls.expire(u64::MAX, &mut Vec::new());
        assert!(taken(&mut calls).is_empty());
        calls.sent_alone(queued, sent, &mut Vec::new());
        assert_eq!(taken(&mut calls), [None]);
        assert!(!calls.has_unsent());
    }
}

#[test]
fn nobody_sends_by_himself_what_others_are_ahead_of_or_about_to_join() {
    let mut calls = greeted();
    push_credit(&mut calls);
    assert!(!matches!(push(&mut calls).1, Then::Send(_)));

    let mut calls = greeted();
    let (ticket, _, _) = calls.begin(Asked::Nothing, Deadline::NEVER).unwrap();
    let other = calls.begin(Asked::Nothing, Deadline::NEVER).unwrap();
    let mut blank = calls.blank(ticket);
    wire::notify(blank.out.bytes(), 1);
    assert!(!matches!(calls.push(ticket, blank), Ok(Then::Send(_))));
    calls.abandon(other.0, &mut Vec::new());

    // Nobody sends what cannot be sent at once.
    let mut calls = greeted();
    calls.tries = false;
    assert!(!matches!(push(&mut calls).1, Then::Send(_)));
}
