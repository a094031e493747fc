//! What a server makes of hellos, requests, cancellations and notifications.

use super::messages::{
    at, cancellation_of, greeted, hello_from, notification_of, request_with, welcome_with,
};
use crate::proto::wire::{Code, Failure, Identity, Malformed, control};
use crate::proto::{ServerEvent, ServerSession};

#[test]
fn nothing_comes_before_the_hello_and_it_comes_once() {
    let before = Err(Malformed("a message before the hello"));
    for message in [
        request_with(1, control::INFO),
        notification_of(1),
        cancellation_of(1),
        welcome_with(1),
    ] {
        let mut server = ServerSession::new(1);
        assert_eq!(at(&mut server, &message), before);
        assert!(server.client().is_none());
    }
    let hello = hello_from(&Identity::default());
    assert_eq!(
        at(&mut greeted(1), &hello),
        Err(Malformed("a second hello"))
    );
}

#[test]
fn an_id_that_is_in_use_is_refused_and_may_be_used_once_answered() {
    let mut server = greeted(2);
    let request = request_with(7, 1);
    assert!(at(&mut server, &request).is_ok());
    assert!(server.answer(7));
    assert!(at(&mut server, &request).is_ok());
    assert_eq!(server.in_flight(), 2, "an answer is still being sent");
    server.answered();
    assert_eq!(server.in_flight(), 1);
    assert_eq!(
        at(&mut server, &request),
        Err(Malformed("an id that is in use"))
    );
}

#[test]
fn a_request_over_the_limit_is_answered_with_the_name_of_the_limit() {
    let mut server = greeted(1);
    at(&mut server, &request_with(1, 1)).unwrap();
    let over = request_with(2, control::INFO);
    for _ in 0..3 {
        let event = server.receive(&Identity::default(), &over);
        let failure = Failure::new(Code::OverLimit, "requests in flight");
        assert_eq!(event, Ok(ServerEvent::Reject { id: 2, failure }));
        assert_eq!(server.in_flight(), 1);
    }
    assert!(!server.answer(2));
    assert!(server.answer(1));
    assert!(at(&mut server, &over).is_ok());
}

#[test]
fn a_cancellation_counts_once_for_each_request_and_never_without_one() {
    let mut server = greeted(2);
    let cancel = cancellation_of(1);
    let ours = Identity::default();
    assert_eq!(server.receive(&ours, &cancel), Ok(ServerEvent::Nothing));
    at(&mut server, &request_with(1, 1)).unwrap();
    let event = Ok(ServerEvent::Cancel { id: 1 });
    assert_eq!(server.receive(&ours, &cancel), event);
    assert_eq!(server.in_flight(), 1, "it is to be answered all the same");
    assert!(server.answer(1));
    assert_eq!(server.receive(&ours, &cancel), Ok(ServerEvent::Nothing));
}

#[test]
fn a_notification_counts_only_where_it_can_be_understood() {
    let ours = Identity::default();
    let mut server = greeted(1);
    let event = ServerEvent::Notify {
        method: 1,
        payload: b"",
    };
    assert_eq!(server.receive(&ours, &notification_of(1)), Ok(event));
    // Nobody would learn what became of it.
    assert_eq!(
        server.receive(&ours, &notification_of(control::STOP)),
        Ok(ServerEvent::Nothing)
    );
    let other = Identity {
        service: "other",
        ..ours
    };
    let mut server = ServerSession::new(1);
    let hello = hello_from(&other);
    server.receive(&ours, &hello).unwrap();
    assert_eq!(
        server.receive(&ours, &notification_of(1)),
        Ok(ServerEvent::Nothing)
    );
}

/// Whatever their number, ids are found again, and no more are taken than there may be.
#[test]
fn however_many_requests_are_unanswered_each_is_known() {
    const MANY: u32 = 1_000;
    let mut server = greeted(MANY as usize);
    // No order of theirs.
    let ids = |n: u32| n.wrapping_mul(0x9E37_79B9);
    for n in 0..MANY {
        assert!(at(&mut server, &request_with(ids(n), 1)).is_ok());
        let in_use = Err(Malformed("an id that is in use"));
        assert_eq!(at(&mut server, &request_with(ids(n / 2), 1)), in_use);
    }
    assert_eq!(server.in_flight(), MANY as usize);
    for n in (0..MANY).rev().step_by(3) {
        assert!(server.answer(ids(n)) && !server.answer(ids(n)));
        server.answered();
        assert!(at(&mut server, &request_with(ids(n), 1)).is_ok());
    }
    for n in 0..MANY {
        assert!(server.answer(ids(n)));
        server.answered();
    }
    assert_eq!(server.in_flight(), 0);
}
