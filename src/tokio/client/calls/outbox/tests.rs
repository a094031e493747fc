#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use super::super::super::slot::{Asked, Then};
use super::*;
use crate::Deadline;
use crate::proto::wire;
use crate::proto::{Due, Party};

/// Calls of which the hello has been sent.
fn greeted() -> Calls {
    let mut calls = Calls::new(Arc::new(Party::default()), true, true);
    calls.greet();
    let mut cx = Context::from_waker(Waker::noop());
    calls.driven_by(&mut cx, &mut Vec::new());
    assert_eq!(taken(&mut calls), [Whose::Nobody]);
    let welcome = Party {
        max_in_flight: 64,
        ..Party::default()
    };
    let mut message = Vec::new();
    wire::welcome(&mut message, &welcome.identity());
    receive(&mut calls, message);
    calls
}

fn receive(calls: &mut Calls, message: Vec<u8>) {
    calls
        .received(Ok(true), Arc::new(message), &mut Vec::new())
        .unwrap();
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

/// Has something to be sent that is no call's.
fn owe(calls: &mut Calls) -> Whose {
    let id = calls.session.start(1).unwrap();
    assert!(calls.session.give_up(id));
    Whose::Due(Due::Cancel { id })
}

/// What the writer takes, which is sent then.
fn taken(calls: &mut Calls) -> Vec<Whose> {
    let mut batch = Vec::new();
    assert_eq!(calls.take_batch(&mut batch), !batch.is_empty());
    let owners = batch.iter().map(|queued| queued.whose).collect();
    if !batch.is_empty() {
        calls.sent(&mut batch, &mut Vec::new());
    }
    owners
}

#[test]
fn what_its_caller_sends_is_not_for_the_writer() {
    let mut calls = greeted();
    let (ticket, queued) = push_alone(&mut calls);
    let due = owe(&mut calls);
    assert!(calls.is_sending() && !calls.has_unsent());
    assert!(taken(&mut calls).is_empty());
    assert!(calls.is_sending());
    calls.sent_alone(queued, true, &mut Vec::new());
    assert_eq!(calls.slots[ticket.slot].stage, Stage::Sent);
    assert!(!calls.is_sending() && calls.is_to_be_polled_again());
    assert_eq!(taken(&mut calls), [due]);
    assert!(!calls.is_to_be_polled_again());
}

#[test]
fn what_its_caller_cannot_send_is_the_next_for_the_writer() {
    let mut calls = greeted();
    let (ticket, queued) = push_alone(&mut calls);
    let whose = queued.whose;
    calls.sent_alone(queued, false, &mut Vec::new());
    assert_eq!(calls.slots[ticket.slot].stage, Stage::Queued);
    assert!(calls.is_to_be_polled_again());
    let (_, then) = push(&mut calls);
    assert!(!matches!(then, Then::Send(_)));
    let taken = taken(&mut calls);
    assert_eq!((taken[0], taken.len()), (whose, 2));
}

/// Its cancellation goes out behind it, or nothing of it does, and its place is free.
#[test]
fn what_is_over_before_it_is_sent_is_cancelled_behind_it() {
    for sent in [true, false] {
        let mut calls = greeted();
        let (_, queued) = push_alone(&mut calls);
        calls.expire(u64::MAX, &mut Vec::new());
        assert!(taken(&mut calls).is_empty());
        let Whose::Call(_, Some(id)) = queued.whose else {
            panic!("{queued:?}")
        };
        calls.sent_alone(queued, sent, &mut Vec::new());
        match sent {
            true => assert_eq!(taken(&mut calls), [Whose::Due(Due::Cancel { id })]),
            false => assert!(taken(&mut calls).is_empty()),
        }
        assert!(!calls.has_unsent());
        assert_eq!(calls.session.unanswered(), usize::from(sent));
    }
}

#[test]
fn nobody_sends_by_himself_what_others_are_ahead_of_or_about_to_join() {
    let mut calls = greeted();
    owe(&mut calls);
    assert!(!matches!(push(&mut calls).1, Then::Send(_)));

    let mut calls = greeted();
    let (ticket, _, _) = calls.begin(Asked::Nothing, Deadline::NEVER).unwrap();
    let other = calls.begin(Asked::Nothing, Deadline::NEVER).unwrap();
    let mut blank = calls.blank(ticket);
    wire::notify(blank.out.bytes(), 1);
    assert!(!matches!(calls.push(ticket, blank), Ok(Then::Send(_))));
    drop(calls.abandon(other.0, &mut Vec::new()));

    // Nobody sends what cannot be sent at once.
    let mut calls = greeted();
    calls.tries = false;
    assert!(!matches!(push(&mut calls).1, Then::Send(_)));
}

/// A batch of three calls and something that is due, of which the second call cannot be sent.
fn batch_that_fails(calls: &mut Calls) -> Vec<Queued> {
    let due = owe(calls);
    for _ in 0..3 {
        let (_, then) = push(calls);
        assert!(!matches!(then, Then::Send(_)));
    }
    let mut batch = Vec::new();
    assert!(calls.take_batch(&mut batch));
    assert_eq!((batch.len(), batch[0].whose), (4, due));
    batch
}

/// Nothing is lost of what stood behind a message that the transport does not take, and no place.
#[test]
fn what_is_behind_a_message_that_is_too_large_is_sent_still() {
    for first in [0, 2] {
        let mut calls = greeted();
        let mut batch = batch_that_fails(&mut calls);
        let whose: Vec<Whose> = batch.iter().map(|queued| queued.whose).collect();
        // One that is given up meanwhile is not sent any more.
        let Whose::Call(given_up, _) = whose[3] else {
            panic!("{whose:?}")
        };
        drop(calls.abandon(given_up, &mut Vec::new()));
        let error = crate::Error::TooLarge { limit: 1, size: 2 };
        let failed = Failed {
            sent: first,
            doubtful: 1,
            error: error.into(),
        };
        assert!(calls.not_sent(&mut batch, failed, &mut Vec::new()));
        let expected = match first {
            // What is due does not fit: which it does in any transport.
            0 => vec![whose[1], whose[2]],
            _ => vec![],
        };
        assert_eq!(taken(&mut calls), expected);
        // That which is due has its place until it is answered, and so has each that was sent.
        assert_eq!(calls.session.unanswered(), 1 + expected.len().max(1));
    }
}

/// However many are taken back, and wherever they stand, the line is no longer than twice those that are in it.
#[test]
fn a_line_does_not_grow_with_those_that_have_left() {
    let mut calls = greeted();
    calls.sending = true;
    let kept: Vec<Ticket> = (0..20).map(|_| push(&mut calls).0).collect();
    for _ in 0..10_000 {
        let (ticket, _) = push(&mut calls);
        drop(calls.abandon(ticket, &mut Vec::new()));
        assert_eq!(calls.outbox.len(), 20);
        assert!(calls.outbox.tickets.len() < 200);
    }
    for ticket in kept.iter().step_by(2) {
        drop(calls.abandon(*ticket, &mut Vec::new()));
    }
    let order: Vec<Whose> = taken(&mut calls);
    let of = |whose: &Whose| match whose {
        Whose::Call(ticket, _) => *ticket,
        other => panic!("{other:?}"),
    };
    let expected: Vec<Ticket> = kept.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(order.iter().map(of).collect::<Vec<_>>(), expected);
}

/// A server may answer what it has not been sent: nothing of it is sent then.
#[test]
fn what_is_answered_before_it_is_sent_is_not_sent() {
    let mut calls = greeted();
    calls.sending = true;
    let (ticket, _) = push(&mut calls);
    let id = calls.slots[ticket.slot].call.unwrap().id;
    let mut message = Vec::new();
    wire::reply(&mut message, id);
    receive(&mut calls, message);
    assert_eq!(calls.slots[ticket.slot].stage, Stage::Over);
    drop(calls.abandon(ticket, &mut Vec::new()));
    calls.sending = false;
    assert!(!calls.has_unsent() && taken(&mut calls).is_empty());
}
