//! What a client that was let in says, and a server cannot understand.

use std::time::Instant;

use crate::calls::bytes::{self, *};
use super::super::driver;
use super::super::town::{MAX_MESSAGE, PROMPT, Request, Town, Tree, echo, echoed, encoded};
use util::{here, limit};

#[test]
fn a_guest_who_says_what_he_may_not_is_refused() {
    let _limit = limit(here!());
    let town = Town::new();
    let broken_fields = message(REQUEST, 0, 1, b"\x01\xff\xff", &[0; 8], &[]);
    let fields_too_long = [&[REQUEST, 0, 0xff, 0xff], &[0; 12][..]].concat();
    for (then, words) in [
        (hello(), "a second hello"),
        (Vec::new(), "ends too early"),
        (vec![REQUEST], "ends too early"),
        (echo(1, 1)[..15].to_vec(), "ends too early"),
        (broken_fields, "ends too early"),
        (fields_too_long, "ends too early"),
        ([cancel(1), vec![0]].concat(), "goes on where it should end"),
        (message(0x7f, 0, 1, &[], &[], &[]), "unknown kind"),
        (message(0xff, 0, 1, &[], &[], &[]), "unknown kind"),
        (vec![0; 4096], "unknown kind"),
        (welcome(), "only a server sends"),
        (fitting(REFUSAL, &[]), "only a server sends"),
        (reply(1, b"\0"), "only a server sends"),
        (error(1, 1, "no"), "only a server sends"),
        (going_away(), "only a server sends"),
        (item(1, b"\0"), "only a server sends"),
        (end(1), "only a server sends"),
        (bytes::open(1, 0, 0, b"")[..19].to_vec(), "ends too early"),
        (
            bytes::open(1, 0, 1 << 31, b""),
            "more credit than there can be",
        ),
        (
            [credit(1, 1), vec![0]].concat(),
            "goes on where it should end",
        ),
    ] {
        let guest = town.guest();
        guest.says(&then);
        guest.assert_refused(MALFORMED, words);
    }
    town.assert_unharmed();
}

#[test]
fn what_a_later_version_may_add_is_skipped() {
    let _limit = limit(here!());
    let town = Town::new();
    let stranger = town.stranger();
    stranger.says(&fitting(
        HELLO,
        &[(200, b"what?"), (255, b""), (200, &[7; 1000])],
    ));
    assert_eq!(stranger.hears(), Said::Welcome);
    let unknown = fields(&[(9, b"trace"), (250, &[0; 300])]);
    let fixed = [0_u32.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
    let payload = encoded(&Request::Echo(8));
    stranger.says(&message(REQUEST, 0xff, 5, &unknown, &fixed, &payload));
    assert_eq!(stranger.hears(), echoed(5, 8));
    stranger.says(&message(CANCEL, 0x80, 5, &unknown, &[], &[]));
    stranger.says(&message(NOTIFY, 0x0f, 5, &unknown, &[0; 4], &payload));
    stranger.assert_goes_on();
    drop(stranger);
    town.assert_unharmed();
}

/// `Request::Text` and its like, with a payload of one's own behind.
fn payload(of: &Request, behind: &[u8]) -> Vec<u8> {
    [&encoded(of)[..1], behind].concat()
}

#[test]
fn payloads_that_claim_too_much_are_malformed() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let text = Request::Text(String::new());
        let units = Request::Units(Vec::new());
        let branches = vec![1; MAX_MESSAGE / 2];
        let mut id = 0;
        for (of, behind) in [
            // Nine bytes that claim a huge string.
            (&text, claim(u64::MAX)),
            (&text, claim(1 << 40)),
            (&text, claim(1 << 30)),
            // Five bytes, or nine, of elements that take none.
            (&units, claim(u32::MAX.into())),
            (&units, claim(u64::MAX)),
            // Deeper than any stack.
            (&Request::Tree(Tree::Leaf), branches),
            // More than there should be.
            (&Request::Gate, vec![0]),
            (&Request::Echo(0), vec![0; 1000]),
            // Less, and nonsense.
            (&text, vec![3, b'a']),
            (&text, vec![1, 0xff]),
        ] {
            id += 1;
            let started = Instant::now();
            let payload = payload(of, &behind);
            guest.says(&bytes::request(id, FOR_EVER, &payload));
            guest.assert_fails(id, MALFORMED, "the request cannot be decoded");
            assert!(started.elapsed() < PROMPT);
        }
        for unknown in [&[][..], &[200], &[0xff; 64]] {
            guest.says(&bytes::request(99, FOR_EVER, unknown));
            guest.assert_fails(99, MALFORMED, "the request cannot be decoded");
        }
        // As notifications they are nothing.
        guest.says(&notification(&payload(&text, &claim(u64::MAX))));
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_method_that_nobody_has_is_named() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    for method in [1_u32, 77, 0xffff_feff, 0xffff_ff55, u32::MAX] {
        let fixed = [method.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
        guest.says(&message(
            REQUEST,
            0,
            3,
            &[],
            &fixed,
            &encoded(&Request::Echo(1)),
        ));
        match guest.hears() {
            Said::Error { id: 3, failure } => assert!(failure.code == 7, "{method}: {failure:?}"),
            other => panic!("{method}: {other:?}"),
        }
    }
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}
