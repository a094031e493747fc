//! Items, credit and ends, and which of them break the protocol.

use super::messages::{
    at, cancellation_of, credit_of, end_of, greeted, item_of, open_with, reply_to, request_with,
    welcome_with, written,
};
use crate::proto::wire::{self, Code, Failure, Identity, Malformed, control};
use crate::proto::{ClientEvent, ClientSession, Due, ServerEvent};

#[test]
fn an_item_of_no_stream_is_refused() {
    let no_stream = Err(Malformed("an item of no stream"));
    let mut client = ClientSession::default();
    client.receive(&welcome_with(9)).unwrap();
    assert_eq!(client.receive(&item_of(0x1_0000, 8)), no_stream);
    let call = client.start(1).unwrap();
    assert_eq!(client.receive(&item_of(call, 8)), no_stream);
    assert!(client.give_up(call));
    assert_eq!(client.receive(&item_of(call, 8)), no_stream);
    let (id, _) = client.open(1, 9).unwrap();
    assert_eq!(client.receive(&item_of(id ^ 0x1_0000, 8)), no_stream);
    let end = end_of(id);
    assert_eq!(client.receive(&end), Ok(ClientEvent::Ended { id }));
    assert_eq!(client.receive(&item_of(id, 8)), no_stream);
    let no_request = Err(Malformed("an answer to no request"));
    assert_eq!(client.receive(&end), no_request);
}

#[test]
fn a_call_is_answered_by_a_reply_and_a_stream_by_its_end() {
    for given_up in [false, true] {
        let mut client = ClientSession::default();
        let id = client.start(1).unwrap();
        if given_up {
            assert!(client.give_up(id));
        }
        let end = end_of(id);
        let wrong = Err(Malformed("the end of what is no stream"));
        assert_eq!(client.receive(&end), wrong);

        let mut client = ClientSession::default();
        let (id, _) = client.open(1, 9).unwrap();
        if given_up {
            assert!(client.give_up(id));
        }
        let wrong = Err(Malformed("a reply to the request for a stream"));
        assert_eq!(client.receive(&reply_to(id)), wrong);
    }
}

#[test]
fn a_server_that_exceeds_the_window_breaks_the_protocol() {
    let beyond = Err(Malformed("an item beyond its credit"));
    for given_up in [false, true] {
        let mut client = ClientSession::default();
        let (id, credit) = client.open(1, 4).unwrap();
        assert_eq!(credit, 4);
        if given_up {
            assert!(client.give_up(id));
        }
        assert!(client.receive(&item_of(id, 3 << 10)).is_ok());
        // The last credit pays for a large item too.
        assert!(client.receive(&item_of(id, 9 << 10)).is_ok());
        assert_eq!(client.receive(&item_of(id, 8)), beyond);
    }
    let mut client = ClientSession::default();
    let (id, _) = client.open(1, 4).unwrap();
    for _ in 0..2 {
        assert!(client.receive(&item_of(id, 4 << 10)).is_ok());
        client.take(id, 4 << 10);
        assert_eq!(client.next_due(), Some(Due::Credit { id, more: 4 }));
    }
    assert!(client.receive(&item_of(id, 4 << 10)).is_ok());
    assert_eq!(client.receive(&item_of(id, 8)), beyond);
}

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
