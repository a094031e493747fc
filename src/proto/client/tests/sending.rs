//! What becomes of the messages of calls: which are sent alone, which are taken back, and what fails with them.

use std::io;
use std::time::Duration;

use super::*;
use crate::proto::tests::messages::{reply_to, written};
use crate::proto::wire::{self, Identity};

const SOON: u64 = 60_000_000_000;

fn greeted() -> Client {
    welcomed(64)
}

/// Pushes a call that has a deadline, and may be sent alone.
fn push(calls: &mut Client) -> (Ticket, Pushed) {
    let deadline = Deadline::after_time(SOON, Duration::ZERO);
    let (ticket, blank) = calls.begin(REPLY, deadline).unwrap();
    let mut blank = blank.unwrap();
    blank.begin(None);
    calls.mind(ticket);
    (ticket, calls.push(ticket, blank, true).unwrap())
}

fn push_alone(calls: &mut Client) -> (Ticket, Queued) {
    match push(calls) {
        (ticket, Pushed::Send(queued)) => (ticket, queued),
        (_, pushed) => panic!("{pushed:?}"),
    }
}

/// Has something to be sent that is no call's.
fn owe(calls: &mut Client) -> Whose {
    let ticket = start(calls, REPLY).unwrap();
    assert!(give_up(calls, ticket));
    Whose::Due(cancel(ticket))
}

#[test]
fn what_its_caller_sends_is_not_for_the_writer() {
    let mut calls = greeted();
    let (ticket, queued) = push_alone(&mut calls);
    let due = owe(&mut calls);
    assert!(calls.is_sending() && !calls.has_unsent());
    assert!(taken(&mut calls).is_empty());
    assert!(calls.is_sending());
    calls.sent_alone(queued, true, &mut Woken::default());
    assert_eq!(calls.table.slot(ticket).stage, Stage::Sent);
    assert!(!calls.is_sending() && (calls.takes_again() || calls.has_unsent()));
    assert_eq!(taken(&mut calls), [due]);
    assert!(!(calls.takes_again() || calls.has_unsent()));
}

#[test]
fn what_its_caller_cannot_send_is_the_next_for_the_writer() {
    let mut calls = greeted();
    let (ticket, queued) = push_alone(&mut calls);
    let whose = queued.whose;
    calls.sent_alone(queued, false, &mut Woken::default());
    assert_eq!(calls.table.slot(ticket).stage, Stage::Queued);
    assert!((calls.takes_again() || calls.has_unsent()));
    let (_, pushed) = push(&mut calls);
    assert!(!matches!(pushed, Pushed::Send(_)));
    let taken = taken(&mut calls);
    assert_eq!((taken[0], taken.len()), (whose, 2));
}

/// Its cancellation goes out behind it, or nothing of it does, and its place is free.
#[test]
fn what_is_over_before_it_is_sent_is_cancelled_behind_it() {
    for sent in [true, false] {
        let mut calls = greeted();
        let (ticket, queued) = push_alone(&mut calls);
        calls.handle_timeout(u64::MAX, &mut Woken::default());
        assert!(taken(&mut calls).is_empty());
        calls.sent_alone(queued, sent, &mut Woken::default());
        match sent {
            true => assert_eq!(taken(&mut calls), [Whose::Due(cancel(ticket))]),
            false => assert!(taken(&mut calls).is_empty()),
        }
        assert!(!calls.has_unsent());
        assert_eq!(calls.unanswered(), usize::from(sent));
    }
}

#[test]
fn nobody_sends_by_himself_what_others_are_ahead_of_or_about_to_join() {
    let mut calls = greeted();
    owe(&mut calls);
    assert!(!matches!(push(&mut calls).1, Pushed::Send(_)));

    let mut calls = greeted();
    let nothing = Asked::Nothing { method: 1 };
    let (ticket, blank) = calls.begin(nothing, Deadline::NEVER).unwrap();
    let (other, _) = calls.begin(nothing, Deadline::NEVER).unwrap();
    let mut blank = blank.unwrap();
    blank.begin(None);
    let pushed = calls.push(ticket, blank, true);
    assert!(matches!(pushed, Ok(Pushed::Queued)), "{pushed:?}");
    assert!(!give_up(&mut calls, other));
}

/// A batch of three calls and something that is due, of which the second call cannot be sent.
fn batch_that_fails(calls: &mut Client) -> Vec<Queued> {
    let due = owe(calls);
    for _ in 0..3 {
        let (_, pushed) = push(calls);
        assert!(!matches!(pushed, Pushed::Send(_)));
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
        let Whose::Call(given_up) = whose[3] else {
            panic!("{whose:?}")
        };
        give_up(&mut calls, given_up);
        let error = crate::Error::TooLarge { limit: 1, size: 2 };
        let goes_on = calls.not_sent(&mut batch, (first, 1), &error.into(), &mut Woken::default());
        assert!(goes_on);
        let expected = match first {
            // What is due does not fit: which it does in any transport.
            0 => vec![whose[1], whose[2]],
            _ => vec![],
        };
        assert_eq!(taken(&mut calls), expected);
        // That which is due has its place until it is answered, and so has each that was sent.
        assert_eq!(calls.unanswered(), 1 + expected.len().max(1));
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
        give_up(&mut calls, ticket);
        assert_eq!(calls.outbox.len(), 20);
        assert!(calls.outbox.tickets.len() < 200);
    }
    for ticket in kept.iter().step_by(2) {
        give_up(&mut calls, *ticket);
    }
    let order: Vec<Whose> = taken(&mut calls);
    let of = |whose: &Whose| match whose {
        Whose::Call(ticket) => *ticket,
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
    hear(&mut calls, &reply_to(ticket.id())).unwrap();
    assert_eq!(calls.table.slot(ticket).stage, Stage::Over);
    give_up(&mut calls, ticket);
    calls.sending = false;
    assert!(!calls.has_unsent() && taken(&mut calls).is_empty());
}

/// A send that gives up by its deadline is not the end, and what was not sent is sent later, in its order.
#[test]
fn what_is_late_is_sent_later() {
    let mut calls = greeted();
    let mut batch = batch_that_fails(&mut calls);
    let whose: Vec<Whose> = batch.iter().map(|queued| queued.whose).collect();
    let late = io::ErrorKind::TimedOut.into();
    assert!(calls.not_sent(&mut batch, (1, 1), &late, &mut Woken::default()));
    assert!(calls.is_usable());
    assert_eq!(taken(&mut calls), whose[1..]);
}

/// Of several that were sent in one go it is not known which a peer that is gone has received.
#[test]
fn what_a_peer_that_is_gone_may_have_received_counts_as_sent() {
    for (doubtful, sent) in [(1, [false, false]), (2, [true, true])] {
        let mut calls = greeted();
        calls.sending = true;
        let tickets = [(); 2].map(|()| push(&mut calls).0);
        let mut batch = Vec::new();
        calls.take_batch(&mut batch);
        let broken = io::ErrorKind::BrokenPipe.into();
        assert!(!calls.not_sent(&mut batch, (0, doubtful), &broken, &mut Woken::default()));
        assert!(calls.is_deaf() && !calls.is_usable() && !calls.has_unsent());
        calls.fail_unsent(&mut Woken::default());
        calls.end(End::broken(), &mut Woken::default());
        for (ticket, sent) in tickets.into_iter().zip(sent) {
            let error = over(&mut calls, ticket).unwrap_err();
            assert_eq!(error, CallError::Disconnected { sent });
        }
    }
}

/// A large message waits for the welcome, with its call or with its caller, and is sent then or is too large.
#[test]
fn a_large_message_waits_for_the_welcome() {
    for (takes, fits) in [(0, true), (1_000_000, true), (5_000, false)] {
        for queued in [true, false] {
            let mut calls = client();
            let (ticket, blank) = calls.begin(REPLY, Deadline::NEVER).unwrap();
            let mut blank = blank.unwrap();
            blank.begin(None);
            blank.out.bytes().resize(10_000, 0);
            assert_eq!(blank.may_be_sent(), Ok(false));
            *calls.waker(ticket) = Some(1);
            let mut kept = None;
            if queued {
                let pushed = calls.push(ticket, blank, true);
                assert!(matches!(pushed, Ok(Pushed::Held)));
            } else {
                assert_eq!(calls.hold(ticket, &blank), Ok(()));
                assert!(calls.poll_held(ticket).is_pending());
                kept = Some(blank);
            }
            assert!(taken(&mut calls).is_empty());
            let welcome = Identity {
                max_message: takes,
                max_in_flight: 1,
                ..Identity::default()
            };
            let message = Arc::new(written(|out| wire::welcome(out, &welcome)));
            let mut woken = Woken::default();
            let released = calls.received(message, 0, &mut woken);
            assert_eq!(released, queued && fits);
            // A caller that has the message is to send it.
            assert_eq!(numbers(woken).is_empty(), queued && fits);
            match (fits, kept) {
                (true, None) => assert_eq!(taken(&mut calls), [Whose::Call(ticket)]),
                (true, Some(blank)) => {
                    assert_eq!(calls.poll_held(ticket), Poll::Ready(Ok(())));
                    calls.sent(ticket, blank.out.len(), blank.out);
                }
                (false, kept) => {
                    let error = match kept {
                        Some(_) => match calls.poll_held(ticket) {
                            Poll::Ready(held) => held.unwrap_err(),
                            Poll::Pending => panic!("it waits"),
                        },
                        None => over(&mut calls, ticket).unwrap_err(),
                    };
                    assert!(matches!(error, CallError::TooLarge { limit: 5_000, .. }));
                    assert_eq!(calls.unanswered(), 0);
                    continue;
                }
            }
            assert_eq!(calls.table.slot(ticket).stage, Stage::Sent);
        }
    }
}
