//! What a server makes of streams: items, credit and ends.

use super::messages::{at, cancellation_of, credit_of, greeted, open_with, request_with, written};
use crate::proto::ServerEvent;
use crate::proto::wire::{self, Code, Failure, Identity, Malformed, control};

#[test]
fn a_server_pays_for_each_item_and_waits_for_credit() {
    let mut server = greeted(2);
    let ours = Identity::default();
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let event = ServerEvent::Open {
        id: 1,
        method: 1,
        timeout: None,
        payload: b"",
    };
    assert_eq!(server.receive(&ours, &open_with(1, 0)), Ok(event));
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let credit = Ok(ServerEvent::Credit { id: 1 });
    assert_eq!(server.receive(&ours, &credit_of(1, 2)), credit);
    assert!(
        server.pay(1, 1024).is_some()
            && server.pay(1, 5000).is_some()
            && server.pay(1, 8).is_none()
    );
    assert_eq!(server.receive(&ours, &credit_of(1, 4)), credit);
    assert!(!server.may_send(1));
    assert_eq!(server.receive(&ours, &credit_of(1, 1)), credit);
    assert!(server.may_send(1));
    // What comes after the end is late.
    assert!(server.answer(1));
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let nothing = Ok(ServerEvent::Nothing);
    assert_eq!(server.receive(&ours, &credit_of(1, u32::MAX)), nothing);
    // Of a call there are no items.
    at(&mut server, &request_with(1, 1)).unwrap();
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let wrong = Err(Malformed("credit for what is no stream"));
    assert_eq!(server.receive(&ours, &credit_of(1, 1)), wrong);
}

#[test]
fn more_credit_than_there_can_be_is_refused() {
    let over = Err(Malformed("more credit than there can be"));
    let most = i32::MAX as u32;
    for credit in [most + 1, u32::MAX] {
        assert_eq!(at(&mut greeted(1), &open_with(1, credit)), over);
    }
    for (credit, more) in [(most, 1), (1, most), (0, most + 1), (5, u32::MAX)] {
        let mut server = greeted(1);
        at(&mut server, &open_with(1, credit)).unwrap();
        assert_eq!(at(&mut server, &credit_of(1, more)), over);
    }
}

#[test]
fn a_stream_is_a_request_in_flight() {
    let mut server = greeted(1);
    let ours = Identity::default();
    at(&mut server, &open_with(1, 1)).unwrap();
    assert_eq!(server.in_flight(), 1);
    let in_use = Err(Malformed("an id that is in use"));
    assert_eq!(at(&mut server, &open_with(1, 1)), in_use);
    let failure = Failure::new(Code::OverLimit, "requests in flight");
    let over = Ok(ServerEvent::Reject { id: 2, failure });
    assert_eq!(server.receive(&ours, &open_with(2, 1)), over);
    let cancel = cancellation_of(1);
    assert_eq!(
        server.receive(&ours, &cancel),
        Ok(ServerEvent::Cancel { id: 1 })
    );
    assert!(server.answer(1));
    server.answered();
    let control = written(|out| wire::open(out, 3, control::INFO, None, 1));
    let failure = Failure::new(Code::UnknownMethod, "no control request is a stream");
    let rejected = Ok(ServerEvent::Reject { id: 3, failure });
    assert_eq!(server.receive(&ours, &control), rejected);
    assert_eq!(server.in_flight(), 0);
}
