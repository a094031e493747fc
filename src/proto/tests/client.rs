//! What a client makes of answers, of welcomes and of the room that it has.

use std::collections::HashSet;

use super::messages::{end_of, item_of, refusal_with, reply_to, welcome_with};
use crate::proto::wire::{self, Code, Failure, Malformed, control};
use crate::proto::{ClientEvent, ClientSession, Due, MAX_IN_FLIGHT, NotNow};

#[test]
fn an_answer_to_no_request_is_refused() {
    let no_request = Err(Malformed("an answer to no request"));
    for id in [0, 1, 0x0001_0000, u32::MAX] {
        assert_eq!(ClientSession::default().receive(&reply_to(id)), no_request);
    }
    let mut client = ClientSession::default();
    let id = client.start(1).unwrap();
    for other in [id ^ 1, id ^ 0x0001_0000, id & 0xffff] {
        assert_eq!(client.receive(&reply_to(other)), no_request);
    }
    assert!(client.receive(&reply_to(id)).is_ok());
    assert_eq!(client.receive(&reply_to(id)), no_request);
}

#[test]
fn a_request_that_was_not_sent_cannot_be_answered() {
    let mut client = ClientSession::default();
    let id = client.start(1).unwrap();
    client.unsend(id);
    client.unsend(id);
    assert_eq!(client.unanswered(), 0);
    assert!(client.receive(&reply_to(id)).is_err());
    // Taking it back once more does not take back the call that has its place now.
    let next = client.start(1).unwrap();
    client.unsend(id);
    assert!(client.receive(&reply_to(next)).is_ok());
}

#[test]
fn a_place_is_kept_until_the_late_answer_has_come() {
    let mut client = ClientSession::default();
    let id = client.start(1).unwrap();
    assert!(client.give_up(id));
    assert_eq!(client.start(1), Err(NotNow::Full));
    assert_eq!(client.receive(&reply_to(id)), Ok(ClientEvent::Nothing));
    assert!(!client.give_up(id));
    assert!(client.start(1).is_ok());
}

/// However often that is tried in vain, and whatever else happens to the place.
#[test]
fn a_call_that_is_given_up_stays_due_to_be_told_of_until_it_is_answered() {
    let mut client = ClientSession::default();
    client.receive(&welcome_with(2)).unwrap();
    let ids = [client.start(1).unwrap(), client.open(1, 9).unwrap().0];
    assert!(!client.has_due());
    for id in ids {
        assert!(client.give_up(id));
        for _ in 0..3 {
            let due = client.next_due().unwrap();
            assert_eq!(due, Due::Cancel { id });
            assert_eq!(client.next_due(), None);
            client.keep(due);
            assert!(client.has_due());
        }
        assert_eq!(client.next_due(), Some(Due::Cancel { id }));
        assert!(!client.has_due());
        // Not sent after all, and answered meanwhile.
        client.keep(Due::Cancel { id });
        let answer = match id == ids[0] {
            true => reply_to(id),
            false => end_of(id),
        };
        assert_eq!(client.receive(&answer), Ok(ClientEvent::Nothing));
        assert_eq!(client.next_due(), None);
        client.keep(Due::Cancel { id });
        assert_eq!(client.next_due(), None);
    }
}

/// A place owes one thing at most, whatever has become of it.
#[test]
fn no_more_is_due_than_there_are_places() {
    let mut client = ClientSession::default();
    for round in 0..1000 {
        let (id, _) = client.open(1, 1).unwrap();
        assert!(client.receive(&item_of(id, 8)).is_ok());
        client.take(id, 8);
        assert!(client.give_up(id));
        assert!(client.receive(&end_of(id)).is_ok());
        assert_eq!(client.due.len(), 1, "{round}");
    }
    assert_eq!(client.next_due(), None);
    let (id, _) = client.open(1, 1).unwrap();
    assert!(client.receive(&item_of(id, 8)).is_ok());
    client.take(id, 8);
    let credit = Due::Credit { id, more: 1 };
    assert_eq!(client.next_due(), Some(credit));
    client.keep(credit);
    assert!(client.give_up(id));
    assert_eq!(client.next_due(), Some(Due::Cancel { id }));
    assert_eq!(client.next_due(), None);
}

/// A place is used more often than it can count.
#[test]
fn ids_are_used_again_when_they_have_run_out() {
    let mut client = ClientSession::default();
    let mut message = Vec::new();
    let mut first = None;
    for n in 0_u32..200_000 {
        let id = client.start(1).unwrap();
        assert_eq!(id == *first.get_or_insert(id), n % 0x1_0000 == 0, "{n}");
        if n % 3 == 0 {
            assert!(client.give_up(id));
        }
        message.clear();
        wire::reply(&mut message, id);
        let event = match n % 3 {
            0 => ClientEvent::Nothing,
            _ => ClientEvent::Reply { id, payload: b"" },
        };
        assert_eq!(client.receive(&message), Ok(event));
        // The answer of any earlier call but the one with the same id is known for what it is.
        assert!(client.receive(&message).is_err());
        assert_eq!(client.unanswered(), 0);
    }
}

#[test]
fn the_room_is_what_the_server_says() {
    let mut client = ClientSession::default();
    assert!(client.start(1).is_ok());
    assert_eq!(client.start(1), Err(NotNow::Full));
    assert_eq!(client.receive(&welcome_with(3)), Ok(ClientEvent::Welcome));
    assert_eq!(client.server().unwrap().max_in_flight, 3);
    assert!(client.start(1).is_ok());
    assert!(client.start(1).is_ok());
    assert_eq!(client.start(1), Err(NotNow::Full));
}

#[test]
fn a_server_that_takes_nothing_is_sent_one_request_at_a_time() {
    let mut client = ClientSession::default();
    client.receive(&welcome_with(0)).unwrap();
    assert!(client.start(1).is_ok());
    assert_eq!(client.start(1), Err(NotNow::Full));
}

#[test]
fn a_client_never_has_more_calls_than_there_are_places() {
    let mut client = ClientSession::default();
    client.receive(&welcome_with(u32::MAX)).unwrap();
    let ids: HashSet<u32> = (0..MAX_IN_FLIGHT)
        .map(|_| client.start(1).unwrap())
        .collect();
    assert_eq!(ids.len(), MAX_IN_FLIGHT);
    assert_eq!(client.start(1), Err(NotNow::Full));
    assert!(
        client
            .receive(&reply_to(*ids.iter().next().unwrap()))
            .is_ok()
    );
    assert!(client.start(1).is_ok());
}

#[test]
fn a_second_welcome_is_refused() {
    let second = Err(Malformed("a second welcome"));
    for first in [welcome_with(1), refusal_with(Code::Incompatible)] {
        for again in [welcome_with(1), refusal_with(Code::Incompatible)] {
            let mut client = ClientSession::default();
            assert_eq!(client.receive(&first), Ok(ClientEvent::Welcome));
            assert_eq!(client.receive(&again), second);
        }
    }
}

/// A limit may be reached, or the protocol broken, at any time after the welcome.
#[test]
fn a_refusal_after_the_welcome_says_why() {
    for first in [welcome_with(1), refusal_with(Code::Incompatible)] {
        let mut client = ClientSession::default();
        client.receive(&first).unwrap();
        let why = Failure::new(Code::OverLimit, "why");
        assert_eq!(
            client.receive(&refusal_with(Code::OverLimit)),
            Ok(ClientEvent::Refused {
                failure: why,
                unmet: false
            })
        );
        let refused = Err(NotNow::Refused(Code::OverLimit));
        assert_eq!(client.start(1), refused);
        assert_eq!(client.start(control::INFO), refused);
    }
}
