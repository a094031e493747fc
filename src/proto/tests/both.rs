//! What holds for both sides: who may send what, who understands whom, and what is no message at all.

use std::sync::Arc;

use super::messages::{
    at, cancellation_of, credit_of, end_of, greeted, hello_from, item_of, notification_of,
    open_with, refusal_with, reply_to, request_with, welcome_with, written,
};
use crate::proto::call_error::CallError;
use crate::proto::client::Calls;
use crate::proto::wire::{self, Code, Failure, Identity, Malformed};
use crate::proto::woken::Woken;
use crate::proto::{Party, ServerSession, compatible};

/// How a message breaks the protocol that is the first that a client gets.
fn why_it_ends(message: &[u8]) -> Option<String> {
    let mut client = Calls::<()>::new(Arc::default());
    client.received(Arc::new(message.to_vec()), 0, &mut Woken::default());
    match client.ended()?.of_sent(0) {
        CallError::Protocol(why) => Some(why),
        other => panic!("{other}"),
    }
}

#[test]
fn each_side_refuses_the_messages_of_its_own() {
    let failure = Failure::new(Code::Panicked, "");
    let of_a_client = [
        hello_from(&Identity::default()),
        request_with(1, 1),
        notification_of(1),
        cancellation_of(1),
        open_with(1, 1),
        credit_of(1, 1),
    ];
    for message in of_a_client {
        assert_eq!(
            why_it_ends(&message),
            Some("the server sent a message that only a client sends".to_owned())
        );
    }
    let of_a_server = [
        welcome_with(1),
        refusal_with(Code::Denied),
        reply_to(1),
        written(|out| wire::error(out, 1, &failure)),
        item_of(1, 8),
        end_of(1),
        written(|out| wire::going_away(out, None)),
        written(wire::goodbye),
    ];
    for message in of_a_server {
        assert_eq!(
            at(&mut greeted(1), &message),
            Err(Malformed("a message that only a server sends"))
        );
    }
}

#[test]
fn somebody_who_does_not_say_takes_a_message_of_any_size() {
    let of = |max_message| Party {
        max_message,
        ..Party::default()
    };
    let sizes = [0, 1, 16 << 20].map(|max_message| of(max_message).takes());
    assert_eq!(sizes, [u32::MAX, 1, 16 << 20]);
}

#[test]
fn who_understands_whom() {
    let of = |codec, service, fingerprint| Identity {
        codec,
        service,
        fingerprint,
        ..Identity::default()
    };
    let ours = of("c", "s", 5);
    assert!(compatible(&ours, &of("c", "s", 5)));
    assert!(compatible(&ours, &of("c", "s", 0)));
    assert!(compatible(&of("c", "s", 0), &ours));
    assert!(!compatible(&ours, &of("c", "s", 6)));
    assert!(!compatible(&ours, &of("c", "t", 5)));
    assert!(!compatible(&ours, &of("d", "s", 5)));
    // Versions are for people to read, limits for each to keep.
    let other = Identity {
        version: "2",
        max_message: 1,
        max_in_flight: 1,
        features: u64::MAX,
        ..ours
    };
    assert!(compatible(&ours, &other));
}

#[test]
fn what_is_malformed_is_refused_by_both() {
    for message in [&b""[..], b"\x10", b"PTLK", b"PTLK\x01\x02", &[0x7f; 20]] {
        assert!(why_it_ends(message).is_some());
        assert!(at(&mut greeted(1), message).is_err());
        assert!(at(&mut ServerSession::new(1), message).is_err());
    }
}
