//! What a client makes of answers, of welcomes and of refusals.

use std::collections::HashSet;

use super::*;
use crate::proto::tests::messages::{end_of, item_of, refusal_with, reply_to};
use crate::proto::wire;

#[test]
fn an_answer_to_no_request_is_refused() {
    let no_request = Err(Malformed("an answer to no request"));
    for id in [0, 1, 0x0001_0000, u32::MAX] {
        assert_eq!(hear(&mut client(), &reply_to(id)), no_request);
    }
    let mut client = client();
    let id = start(&mut client, REPLY).unwrap().id();
    for other in [id ^ 1, id ^ 0x0001_0000, id & 0xffff] {
        assert_eq!(hear(&mut client, &reply_to(other)), no_request);
    }
    assert!(hear(&mut client, &reply_to(id)).is_ok());
    assert_eq!(hear(&mut client, &reply_to(id)), no_request);
}

#[test]
fn a_request_that_was_not_sent_cannot_be_answered() {
    let mut client = client();
    let (ticket, blank) = client.begin(REPLY, Deadline::NEVER).unwrap();
    drop(blank);
    assert!(!give_up(&mut client, ticket));
    assert!(give_up(&mut client, ticket), "it is gone");
    assert_eq!(client.unanswered(), 0);
    assert!(hear(&mut client, &reply_to(ticket.id())).is_err());
    // Taking it back once more does not take back the call that has its place now.
    let next = start(&mut client, REPLY).unwrap();
    give_up(&mut client, ticket);
    assert!(hear(&mut client, &reply_to(next.id())).is_ok());
    assert!(over(&mut client, next).unwrap().is_some());
}

#[test]
fn a_place_is_kept_until_the_late_answer_has_come() {
    let mut client = client();
    let ticket = start(&mut client, REPLY).unwrap();
    *client.waker(ticket) = Some(1);
    assert!(give_up(&mut client, ticket));
    assert!(start(&mut client, REPLY).is_none());
    assert_eq!(hear(&mut client, &reply_to(ticket.id())), Ok(vec![]));
    assert_eq!(client.unanswered(), 0);
    assert!(start(&mut client, REPLY).is_some());
}

#[test]
fn an_answer_wakes_its_own_call() {
    let mut client = welcomed(3);
    let tickets = [(); 3].map(|()| start(&mut client, REPLY).unwrap());
    for (number, ticket) in (0..).zip(tickets) {
        *client.waker(ticket) = Some(number);
    }
    for number in [2, 0, 1] {
        let ticket = tickets[number];
        assert!(client.poll_over(ticket).is_pending());
        let woken = hear(&mut client, &reply_to(ticket.id()));
        assert_eq!(woken, Ok(vec![number as u32]));
        assert_eq!(over(&mut client, ticket).unwrap().unwrap().payload(), b"");
    }
}

/// However often that is tried in vain, and whatever else happens to the place.
#[test]
fn a_call_that_is_given_up_stays_due_to_be_told_of_until_it_is_answered() {
    let mut client = welcomed(2);
    let tickets = [REPLY, items(9)].map(|asked| start(&mut client, asked).unwrap());
    assert!(!client.has_due());
    for ticket in tickets {
        assert!(give_up(&mut client, ticket));
        let cancel = cancel(ticket);
        for _ in 0..3 {
            let due = client.next_due().unwrap();
            assert_eq!(due, cancel);
            assert_eq!(client.next_due(), None);
            client.keep_due(due);
            assert!(client.has_due());
        }
        assert_eq!(client.next_due(), Some(cancel));
        assert!(!client.has_due());
        // Not sent after all, and answered meanwhile.
        client.keep_due(cancel);
        let id = ticket.id();
        let answer = match ticket == tickets[0] {
            true => reply_to(id),
            false => end_of(id),
        };
        assert_eq!(hear(&mut client, &answer), Ok(vec![]));
        assert_eq!(client.next_due(), None);
        client.keep_due(cancel);
        assert_eq!(client.next_due(), None);
    }
}

/// A place owes one thing at most, whatever has become of it.
#[test]
fn no_more_is_due_than_there_are_places() {
    let mut client = client();
    for round in 0..1000 {
        let ticket = start(&mut client, items(1)).unwrap();
        assert!(hear(&mut client, &item_of(ticket.id(), 8)).is_ok());
        take_item(&mut client, ticket);
        assert!(give_up(&mut client, ticket));
        assert!(hear(&mut client, &end_of(ticket.id())).is_ok());
        assert_eq!(client.due.len(), 1, "{round}");
    }
    assert_eq!(client.next_due(), None);
    let ticket = start(&mut client, items(1)).unwrap();
    assert!(hear(&mut client, &item_of(ticket.id(), 8)).is_ok());
    take_item(&mut client, ticket);
    assert_eq!(client.next_due(), Some(credit(ticket, 1)));
    client.keep_due(credit(ticket, 1));
    assert!(give_up(&mut client, ticket));
    assert_eq!(client.next_due(), Some(cancel(ticket)));
    assert_eq!(client.next_due(), None);
}

/// A place is used more often than the generation of an id can count; a ticket stays what it is.
#[test]
fn ids_are_used_again_when_they_have_run_out() {
    let mut client = client();
    let mut woken = Woken::default();
    let first = start(&mut client, REPLY).unwrap();
    for n in 0_u32..200_000 {
        let ticket = match n {
            0 => first,
            _ => start(&mut client, REPLY).unwrap(),
        };
        assert_eq!(ticket.id() == first.id(), n % 0x1_0000 == 0, "{n}");
        assert_eq!(ticket == first, n == 0);
        if n % 3 == 0 {
            assert!(give_up(&mut client, ticket));
        }
        let message = Arc::new(reply_to(ticket.id()));
        client.hear(Arc::clone(&message), 0, &mut woken).unwrap();
        if n % 3 != 0 {
            assert!(over(&mut client, ticket).is_ok());
        }
        // The answer of any earlier call but the one with the same id is known for what it is.
        assert!(client.hear(message, 0, &mut woken).is_err());
        assert_eq!(client.unanswered(), 0);
    }
}

#[test]
fn the_room_is_what_the_server_says() {
    let mut client = client();
    assert!(start(&mut client, REPLY).is_some());
    assert!(start(&mut client, REPLY).is_none());
    assert_eq!(hear(&mut client, &welcome_with(3)), Ok(vec![]));
    assert_eq!(client.server().unwrap().max_in_flight, 3);
    assert!(start(&mut client, REPLY).is_some());
    assert!(start(&mut client, REPLY).is_some());
    assert!(start(&mut client, REPLY).is_none());
    // Notifications take none.
    let nothing = Asked::Nothing { method: 1 };
    assert!(start(&mut client, nothing).is_some());
    assert_eq!(client.unanswered(), 3);
}

#[test]
fn a_server_that_takes_nothing_is_sent_one_request_at_a_time() {
    let mut client = welcomed(0);
    assert!(start(&mut client, REPLY).is_some());
    assert!(start(&mut client, REPLY).is_none());
}

/// An answer that is not claimed has its place as well.
#[test]
fn a_client_never_has_more_calls_than_there_are_places() {
    let mut client = welcomed(u32::MAX);
    let calls = (0..MAX_IN_FLIGHT).map(|_| start(&mut client, REPLY).unwrap());
    let calls: HashSet<Ticket> = calls.collect();
    let ids: HashSet<u32> = calls.iter().map(|ticket| ticket.id()).collect();
    assert_eq!(ids.len(), MAX_IN_FLIGHT);
    assert!(start(&mut client, REPLY).is_none());
    let mut calls = calls.into_iter();
    let (first, second) = (calls.next().unwrap(), calls.next().unwrap());
    let mut woken = Woken::default();
    for ticket in [first, second] {
        client.received(Arc::new(reply_to(ticket.id())), 0, &mut woken);
    }
    assert!(start(&mut client, REPLY).is_none());
    assert!(over(&mut client, first).is_ok());
    assert!(start(&mut client, REPLY).is_some());
    assert!(start(&mut client, REPLY).is_none());
    // No message says that there is room, and so the time is asked for.
    let (waiting, blank) = client.begin(REPLY, Deadline::NEVER).unwrap();
    assert!(blank.is_none());
    *client.waker(waiting) = Some(7);
    client.handle_timeout(1, &mut woken);
    assert_eq!(client.poll_timeout(), Deadline::NEVER);
    assert!(over(&mut client, second).is_ok());
    assert_eq!(client.poll_timeout(), Deadline::NOW);
    client.handle_timeout(1, &mut woken);
    assert_eq!(numbers(woken), [7]);
    assert!(client.poll_begun(waiting, &mut None).is_ready());
}

#[test]
fn a_second_welcome_is_refused() {
    let second = Err(Malformed("a second welcome"));
    for first in [welcome_with(1), refusal_with(Code::Incompatible)] {
        for again in [welcome_with(1), refusal_with(Code::Incompatible)] {
            let mut client = client();
            assert_eq!(hear(&mut client, &first), Ok(vec![]));
            assert_eq!(hear(&mut client, &again), second);
        }
    }
}

/// A limit may be reached, or the protocol broken, at any time after the welcome.
#[test]
fn a_refusal_after_the_welcome_says_why() {
    for first in [welcome_with(1), refusal_with(Code::Incompatible)] {
        let mut client = client();
        hear(&mut client, &first).unwrap();
        let message = Arc::new(refusal_with(Code::OverLimit));
        client.received(message, 0, &mut Woken::default());
        let refused = NotNow::Refused(Code::OverLimit);
        assert_eq!(client.may_begin(1), Err(refused));
        assert_eq!(client.may_begin(wire::control::INFO), Err(refused));
        let why = CallError::Refused("over the server's limit: why".to_owned());
        assert_eq!(client.begin(REPLY, Deadline::NEVER).unwrap_err(), why);
        // A call that was sent before may have been carried out.
        let sent = client.ended().unwrap().of_sent(0);
        assert_eq!(sent, CallError::Disconnected { sent: true });
    }
}
