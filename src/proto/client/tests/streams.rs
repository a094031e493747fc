//! Items, credit and ends, and which of them break the protocol.

use super::*;
use crate::proto::tests::messages::{end_of, item_of, reply_to};

#[test]
fn an_item_of_no_stream_is_refused() {
    let no_stream = Err(Malformed("an item of no stream"));
    let mut client = welcomed(9);
    assert_eq!(hear(&mut client, &item_of(0x1_0000, 8)), no_stream);
    let call = start(&mut client, REPLY).unwrap();
    assert_eq!(hear(&mut client, &item_of(call.id(), 8)), no_stream);
    assert!(give_up(&mut client, call));
    assert_eq!(hear(&mut client, &item_of(call.id(), 8)), no_stream);
    let ticket = start(&mut client, items(9)).unwrap();
    let id = ticket.id();
    assert_eq!(hear(&mut client, &item_of(id ^ 0x1_0000, 8)), no_stream);
    assert!(hear(&mut client, &end_of(id)).is_ok());
    assert_eq!(hear(&mut client, &item_of(id, 8)), no_stream);
    let no_request = Err(Malformed("an answer to no request"));
    assert_eq!(hear(&mut client, &end_of(id)), no_request);
    assert!(matches!(client.poll_next(ticket), Poll::Ready(Next::End)));
}

#[test]
fn a_call_is_answered_by_a_reply_and_a_stream_by_its_end() {
    for given_up in [false, true] {
        let mut client = welcomed(2);
        let call = start(&mut client, REPLY).unwrap();
        let stream = start(&mut client, items(9)).unwrap();
        if given_up {
            assert!(give_up(&mut client, call) && give_up(&mut client, stream));
        }
        let wrong = Err(Malformed("the end of what is no stream"));
        assert_eq!(hear(&mut client, &end_of(call.id())), wrong);
        let wrong = Err(Malformed("a reply to the request for a stream"));
        assert_eq!(hear(&mut client, &reply_to(stream.id())), wrong);
    }
}

#[test]
fn a_server_that_exceeds_the_window_breaks_the_protocol() {
    let beyond = Err(Malformed("an item beyond its credit"));
    for given_up in [false, true] {
        let mut client = client();
        let ticket = start(&mut client, items(4)).unwrap();
        if given_up {
            assert!(give_up(&mut client, ticket));
        }
        assert!(hear(&mut client, &item_of(ticket.id(), 3 << 10)).is_ok());
        // The last credit pays for a large item too.
        assert!(hear(&mut client, &item_of(ticket.id(), 9 << 10)).is_ok());
        assert_eq!(hear(&mut client, &item_of(ticket.id(), 8)), beyond);
    }
    let mut client = client();
    let ticket = start(&mut client, items(4)).unwrap();
    for _ in 0..2 {
        assert!(hear(&mut client, &item_of(ticket.id(), 4 << 10)).is_ok());
        take_item(&mut client, ticket);
        assert_eq!(client.next_due(), Some(credit(ticket, 4)));
    }
    assert!(hear(&mut client, &item_of(ticket.id(), 4 << 10)).is_ok());
    assert_eq!(hear(&mut client, &item_of(ticket.id(), 8)), beyond);
}

/// What has come before the end is taken before it, and earns no more credit.
#[test]
fn the_end_comes_behind_the_items() {
    let mut client = client();
    let ticket = start(&mut client, items(2)).unwrap();
    *client.waker(ticket) = Some(1);
    assert_eq!(hear(&mut client, &item_of(ticket.id(), 8)), Ok(vec![1]));
    assert_eq!(hear(&mut client, &item_of(ticket.id(), 8)), Ok(vec![]));
    assert_eq!(hear(&mut client, &end_of(ticket.id())), Ok(vec![]));
    assert!(client.has_next(ticket));
    take_item(&mut client, ticket);
    take_item(&mut client, ticket);
    assert!(!client.has_due());
    assert!(matches!(client.poll_next(ticket), Poll::Ready(Next::End)));
}

#[test]
fn a_window_is_at_least_one_credit() {
    let mut client = client();
    let (ticket, blank) = client.begin(items(0), Deadline::NEVER).unwrap();
    assert_eq!(blank.unwrap().asked, items(1));
    assert!(!give_up(&mut client, ticket));
}
