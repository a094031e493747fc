//! Which calls are offered room, and when.

use std::time::Duration;

use super::*;
use crate::proto::tests::messages::{refusal_with, reply_to, written};
use crate::proto::wire;

/// A call that waits for room, and is woken by its number.
fn wait(client: &mut Client, number: u32) -> Ticket {
    let (ticket, blank) = client.begin(REPLY, Deadline::NEVER).unwrap();
    assert!(blank.is_none());
    *client.waker(ticket) = Some(number);
    ticket
}

fn begun(client: &mut Client, ticket: Ticket) -> Option<Ticket> {
    match client.poll_begun(ticket, &mut None) {
        Poll::Ready(begun) => Some(begun.unwrap().0),
        Poll::Pending => None,
    }
}

#[test]
fn room_is_offered_in_the_order_of_those_that_wait_for_it() {
    let mut client = welcomed(1);
    let first = start(&mut client, REPLY).unwrap();
    let waiting = [1, 2, 3].map(|number| wait(&mut client, number));
    assert_eq!(hear(&mut client, &reply_to(first.id())), Ok(vec![1]));
    // Others do not take what it was offered, be they new or not.
    assert!(start(&mut client, REPLY).is_none());
    assert_eq!(begun(&mut client, waiting[1]), None);
    let second = begun(&mut client, waiting[0]).unwrap();
    // It is not sent after all: the next is offered its place.
    let mut woken = Woken::default();
    assert!(!client.give_up(second, &mut woken).0);
    assert_eq!(numbers(woken), [2]);
    // Nor does this one take it.
    let mut woken = Woken::default();
    assert!(!client.give_up(waiting[1], &mut woken).0);
    assert_eq!(numbers(woken), [3]);
    assert!(begun(&mut client, waiting[2]).is_some());
}

/// What is not polled keeps no other waiting for long.
#[test]
fn an_offer_that_is_not_taken_is_passed_on() {
    let mut client = welcomed(1);
    let first = start(&mut client, REPLY).unwrap();
    let waiting = [1, 2, 3, 4].map(|number| wait(&mut client, number));
    assert_eq!(client.poll_timeout(), Deadline::NEVER);
    assert_eq!(hear(&mut client, &reply_to(first.id())), Ok(vec![1]));
    assert_eq!(client.poll_timeout(), Deadline::NOW, "what time is it?");
    let mut now = 1_000_000_000;
    for expected in [vec![], vec![2, 3], vec![4]] {
        let mut woken = Woken::default();
        client.handle_timeout(now, &mut woken);
        assert_eq!(numbers(woken), expected);
        let offer = Duration::from_millis(10);
        assert_eq!(client.poll_timeout(), Deadline::after_time(now, offer));
        now += 10_000_000;
    }
    // One whose offer is an old one takes what is not offered to others, and waits in its old position if all is.
    assert_eq!(begun(&mut client, waiting[0]), None);
    assert!(begun(&mut client, waiting[3]).is_some());
    client.handle_timeout(now, &mut Woken::default());
    assert_eq!(client.poll_timeout(), Deadline::NEVER);
}

/// A call that looks by itself is offered nothing, and has its old position when it waits again.
#[test]
fn a_call_that_stands_aside_keeps_its_position() {
    let mut client = welcomed(1);
    let first = start(&mut client, REPLY).unwrap();
    let waiting = [1, 2].map(|number| wait(&mut client, number));
    assert_eq!(begun(&mut client, waiting[0]), None);
    client.step_aside(waiting[0]);
    let mut woken = Woken::default();
    assert!(client.give_up(first, &mut woken).0);
    client.line_up(waiting[0]);
    assert_eq!(hear(&mut client, &reply_to(first.id())), Ok(vec![1]));
    assert!(begun(&mut client, waiting[0]).is_some());
    assert_eq!(begun(&mut client, waiting[1]), None);
}

#[test]
fn all_that_wait_hear_that_there_will_be_no_room() {
    let going_away = written(|out| wire::going_away(out, None));
    for message in [going_away, refusal_with(Code::Incompatible)] {
        let mut client = client();
        let first = start(&mut client, REPLY).unwrap();
        let waiting = [1, 2, 3].map(|number| wait(&mut client, number));
        assert_eq!(hear(&mut client, &message), Ok(vec![1, 2, 3]));
        for ticket in waiting {
            let begun = client.poll_begun(ticket, &mut None);
            assert!(matches!(begun, Poll::Ready(Err(_))));
        }
        assert!(hear(&mut client, &reply_to(first.id())).is_ok());
        assert!(over(&mut client, first).is_ok());
    }
}

#[test]
fn the_end_is_that_of_those_that_wait_too() {
    let mut client = client();
    let first = start(&mut client, REPLY).unwrap();
    let waiting = wait(&mut client, 1);
    let mut woken = Woken::default();
    client.end(End::broken(), &mut woken);
    assert_eq!(numbers(woken), [1]);
    let begun = client.poll_begun(waiting, &mut None);
    let unsent = CallError::Disconnected { sent: false };
    assert!(matches!(begun, Poll::Ready(Err(error)) if error == unsent));
    let sent = CallError::Disconnected { sent: true };
    assert_eq!(over(&mut client, first).unwrap_err(), sent);
}
