//! What clients may make a server hold whose handlers block: threads, and what nobody reads.

use pipetalk::Stream;

use crate::ALLOCATOR;
use crate::calls::bytes::{self, *};
use super::driver;
use super::town::{MAX_MESSAGE, Raw, Reply, Request, Town, echo, encoded, threads};
use util::{allow_many_descriptors, here, is_wine, limit, soon, until};

fn opens(id: u32, what: &Request) -> Vec<u8> {
    bytes::open(id, FOR_EVER, 0, &encoded(what))
}

/// The next thing that the other end says; `None` when it has closed, in whichever way.
fn hears_or_fails(raw: &Raw) -> Option<Said> {
    let mut message = Vec::new();
    let heard = raw.0.recv_message(&mut message, soon());
    heard.ok().flatten().map(|_| bytes::read(&message))
}

/// How many of so many answers are errors for that reason, in these words; the others are counted by `is_other`.
fn refusals(guest: &Raw, answers: u32, words: &str, is_other: impl Fn(&Said) -> bool) -> u32 {
    let mut refused = 0;
    for _ in 0..answers {
        match guest.hears() {
            Said::Error { failure, .. } => {
                assert_eq!(failure.code, OVER_LIMIT, "{failure:?}");
                assert!(failure.text.contains(words), "{failure:?}");
                refused += 1;
            }
            other => assert!(is_other(&other), "{other:?}"),
        }
    }
    refused
}

/// A few hundred kB of requests for streams, each of whose handlers has a thread: there is an end to those.
#[test]
fn handlers_of_streams_have_so_many_threads_and_no_more() {
    const LIMIT: u32 = 20;
    const GUESTS: u32 = 30;
    const STREAMS: u32 = 20;
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options.stream_handlers(LIMIT as usize))
            .memory(64 << 20)
            .threads(200);
        let before = threads();
        let guests: Vec<Raw> = (0..GUESTS).map(|_| town.guest()).collect();
        let mut refused = 0;
        for guest in &guests {
            for id in 0..STREAMS {
                guest.says(&opens(id, &Request::Gate));
            }
            // It is answered behind all of these.
            guest.says(&echo(99, 1));
            let mut answered = false;
            while !answered {
                match guest.hears() {
                    Said::Error { failure, .. } => {
                        assert_eq!(failure.code, OVER_LIMIT);
                        assert!(failure.text.contains("of all clients"), "{failure:?}");
                        refused += 1;
                    }
                    other => {
                        assert!(matches!(other, Said::Reply { id: 99, .. }), "{other:?}");
                        answered = true;
                    }
                }
            }
        }
        // Each has one at least, and all of them together no more than that beyond.
        until("those run that may", || {
            town.gate.seen() == u64::from(GUESTS * STREAMS - refused)
        });
        let running = GUESTS * STREAMS - refused;
        assert!((LIMIT..=LIMIT + GUESTS).contains(&running), "{running}");
        if let (Some(before), Some(now)) = (before, threads()) {
            // For each connection one or two, for each handler one, and one that sends.
            let most = before as u32 + 3 * GUESTS + running;
            assert!(now as u32 <= most, "{now} threads, {before} before");
        }
        // Somebody else has the first one as well, at once.
        let other = town.guest();
        other.says(&bytes::open(1, FOR_EVER, 5, &encoded(&Request::Echo(1))));
        assert!(matches!(other.hears(), Said::Item { id: 1, .. }));
        assert_eq!(other.hears(), Said::End { id: 1 });
        town.gate.open();
        drop((guests, other));
        town.assert_unharmed();
    }
}

/// Streams whose sinks have been handed on have no threads, however many there are.
#[test]
fn idle_streams_have_no_threads() {
    let _limit = limit(here!());
    let town = Town::with(|options| options.stream_handlers(2))
        .memory(64 << 20)
        .threads(100);
    let guests: Vec<Raw> = (0..10).map(|_| town.guest()).collect();
    for (guest, number) in guests.iter().zip(1..) {
        for id in 0..50 {
            // One after the other, as the handlers do not know that they are not to be slow.
            guest.says(&bytes::open(id, FOR_EVER, 1, &encoded(&Request::Keep)));
            until("it is handed on", || {
                town.gate.kept() == (number - 1) * 50 + id as usize + 1
            });
        }
    }
    // For each guest the connection's own, as before; what was idle for a while has gone.
    until("the threads have gone", || {
        threads().is_none_or(|threads| threads == driver::threads(0) + guests.len())
    });
    // They go on all the same.
    town.gate.send_to_kept();
    for guest in &guests {
        for _ in 0..50 {
            assert!(matches!(guest.hears(), Said::Item { .. }));
        }
    }
    until("the threads have gone again", || {
        threads().is_none_or(|threads| threads == driver::threads(0) + guests.len())
    });
    drop(guests);
    town.gate.open();
    town.assert_unharmed();
}

/// Replies that nobody reads hold up the requests of the same client, and cost the server little.
#[test]
fn replies_that_one_client_does_not_read_hold_up_its_own_requests() {
    let _limit = limit(here!());
    const REPLIES: u32 = 60;
    for pool in [0, 1, 3] {
        let town = Town::with_pool(pool, |options| options).memory((8 + 4 * pool) << 20);
        let guest = town.guest();
        for id in 0..REPLIES {
            guest.says(&bytes::request(
                id,
                FOR_EVER,
                &encoded(&Request::Large(MAX_MESSAGE - 100)),
            ));
        }
        until("some are handled", || town.gate.handled() > 1);
        for _ in 0..100 {
            town.connections();
        }
        // All of them come, once somebody reads.
        let large =
            |said: &Said| matches!(said, Said::Reply { payload, .. } if payload.len() > 1_000_000);
        assert_eq!(refusals(&guest, REPLIES, "", large), 0);
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// Replies that many clients do not read are bounded all together. What is too much is said in words.
#[test]
fn replies_that_many_clients_do_not_read_are_bounded() {
    const GUESTS: usize = 160;
    let _limit = limit(here!());
    if is_wine() {
        util::skip(here!(), "it would take minutes under Wine");
        return;
    }
    allow_many_descriptors();
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options)
            .memory(170 << 20)
            .threads(GUESTS * 3);
        let guests: Vec<Raw> = (0..GUESTS).map(|_| town.guest()).collect();
        for guest in &guests {
            for id in 0..3 {
                guest.says(&bytes::request(
                    id,
                    FOR_EVER,
                    &encoded(&Request::Large(MAX_MESSAGE - 100)),
                ));
            }
        }
        for _ in 0..300 {
            town.connections();
        }
        // Some of the replies are too much, or those are cut off for whom they are; some are there.
        let (mut large, mut refused, mut cut_off) = (0, 0, 0);
        for guest in &guests {
            for _ in 0..3 {
                match hears_or_fails(guest) {
                    Some(Said::Reply { .. }) => large += 1,
                    Some(Said::Error { failure, .. }) => {
                        assert_eq!(failure.code, OVER_LIMIT);
                        assert!(failure.text.contains("replies"), "{failure:?}");
                        refused += 1;
                    }
                    None => {
                        cut_off += 1;
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(
            large > 0 && refused + cut_off > 0,
            "{large} {refused} {cut_off}"
        );
        drop(guests);
        town.assert_unharmed();
    }
}

/// Clients that had something large once, and are idle since, do not each keep a buffer for it.
#[test]
fn idle_clients_keep_no_large_buffers() {
    const GUESTS: usize = 60;
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options)
            .memory(64 << 20)
            .threads(GUESTS * 2);
        let before = ALLOCATOR.live();
        let text = Request::Text("x".repeat(MAX_MESSAGE / 2));
        let guests: Vec<Raw> = (0..GUESTS)
            .map(|_| {
                let guest = town.guest();
                for id in 0..3 {
                    guest.says(&bytes::request(id, FOR_EVER, &encoded(&text)));
                    let expected = encoded(&Reply::Text("x".repeat(MAX_MESSAGE / 2)));
                    assert_eq!(
                        guest.hears(),
                        Said::Reply {
                            id,
                            payload: expected
                        }
                    );
                }
                guest
            })
            .collect();
        until("no more is kept than is allowed", || {
            let kept = ALLOCATOR.live().saturating_sub(before);
            kept < (18 << 20) + GUESTS * (64 << 10)
        });
        drop((guests, text));
        town.assert_unharmed();
    }
}
