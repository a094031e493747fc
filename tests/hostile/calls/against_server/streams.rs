//! Streams: what is asked for, how much of it, and what is not taken.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use pipetalk::{Deadline, Stream};

use crate::calls::bytes::{self, *};
use super::super::driver::{ENDS_HANDLERS, ONE_BY_ONE};
use super::super::town::{MAX_MESSAGE, PROMPT, Raw, Reply, Request, Town, echo, echoed, encoded};
use util::{here, limit, rounds_or, until};

/// As much as there can be.
const MOST: u32 = i32::MAX as u32;

fn opens(id: u32, credit: u32, what: &Request) -> Vec<u8> {
    bytes::open(id, FOR_EVER, credit, &encoded(what))
}

#[track_caller]
fn assert_items(raw: &Raw, id: u32, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let payload = encoded(&Reply::Echo(number));
        assert_eq!(raw.hears(), Said::Item { id, payload });
    }
}

#[test]
fn items_come_as_far_as_the_credit_goes_and_no_further() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        guest.says(&opens(7, 0, &Request::Echo(10)));
        guest.assert_goes_on();
        guest.says(&credit(7, 3));
        assert_items(&guest, 7, 0..3);
        guest.assert_goes_on();
        guest.says(&credit(7, 0));
        guest.says(&credit(7, 1));
        assert_items(&guest, 7, 3..4);
        guest.assert_goes_on();
        guest.says(&credit(7, 20));
        assert_items(&guest, 7, 4..10);
        assert_eq!(guest.hears(), Said::End { id: 7 });
        // It crosses the end.
        guest.says(&credit(7, u32::MAX));
        guest.says(&cancel(7));
        guest.assert_goes_on();
        // The number is free again.
        guest.says(&opens(7, 1, &Request::Echo(1)));
        assert_items(&guest, 7, 0..1);
        assert_eq!(guest.hears(), Said::End { id: 7 });
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_large_item_takes_the_credit_of_those_behind_it() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    let size = 10_000;
    guest.says(&opens(7, 1, &Request::Large(size)));
    let large = |said| matches!(said, Said::Item { id: 7, payload } if payload.len() > size);
    assert!(large(guest.hears()));
    guest.says(&credit(7, 9));
    guest.assert_goes_on();
    guest.says(&credit(7, 1));
    assert!(large(guest.hears()));
    guest.assert_goes_on();
    guest.says(&cancel(7));
    guest.assert_fails(7, CANCELLED, "");
    drop(guest);
    town.assert_unharmed();
}

#[test]
fn a_stream_that_breaks_the_protocol_ends_the_connection() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let waits = Request::UntilCancelled;
        for (then, words) in [
            (opens(7, 1, &waits), "an id that is in use"),
            (bytes::request(7, FOR_EVER, b""), "an id that is in use"),
            (credit(7, MOST), "more credit than there can be"),
            (credit(7, u32::MAX), "more credit than there can be"),
            (opens(8, MOST + 1, &waits), "more credit than there can be"),
            (opens(8, u32::MAX, &waits), "more credit than there can be"),
        ] {
            let guest = town.guest();
            let seen = town.gate.seen();
            guest.says(&opens(7, 1, &waits));
            until("it runs", || town.gate.seen() > seen);
            guest.says(&then);
            guest.assert_refused(MALFORMED, words);
        }
        town.assert_unharmed();
    }
}

#[test]
fn credit_for_a_call_is_refused() {
    let _limit = limit(here!());
    let town = Town::with_pool(2, |options| options);
    let guest = town.guest();
    guest.says(&bytes::request(7, FOR_EVER, &encoded(&Request::Gate)));
    guest.says(&credit(7, 1));
    guest.assert_refused(MALFORMED, "credit for what is no stream");
    town.gate.open();
    town.assert_unharmed();
}

/// While a handler looks whether it is cancelled, the server receives ahead: what concerns streams counts at once.
#[test]
fn credit_and_cancellations_count_while_a_call_is_handled() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    guest.says(&opens(7, 1, &Request::Echo(9)));
    assert_items(&guest, 7, 0..1);
    guest.says(&bytes::request(
        1,
        FOR_EVER,
        &encoded(&Request::UntilCancelled),
    ));
    until("it runs", || town.gate.seen() == 1);
    guest.says(&credit(7, 2));
    assert_items(&guest, 7, 1..3);
    // More than requests may wait for their turn: these do not.
    for _ in 0..200 {
        guest.says(&credit(7, 0));
    }
    guest.says(&credit(7, 1));
    assert_items(&guest, 7, 3..4);
    guest.says(&cancel(7));
    guest.assert_fails(7, CANCELLED, "");
    // What waits for its turn gets what comes for it in its turn.
    guest.says(&opens(8, 0, &Request::Echo(1)));
    guest.says(&credit(8, 1));
    guest.says(&opens(9, 0, &Request::Echo(1)));
    guest.says(&cancel(9));
    guest.says(&credit(9, 1));
    guest.says(&cancel(1));
    let mut said = [(); 4].map(|()| guest.hears());
    if ONE_BY_ONE {
        assert!(matches!(said[0], Said::Error { id: 1, .. }), "{said:?}");
    }
    said.sort_by_key(|said| format!("{said:?}"));
    let cancelled = |said: &Said, of| matches!(said, Said::Error { id, failure } if *id == of && failure.code == CANCELLED);
    assert!(matches!(&said[0], Said::End { id: 8 }), "{said:?}");
    assert!(cancelled(&said[1], 1) && cancelled(&said[2], 9), "{said:?}");
    assert!(matches!(&said[3], Said::Item { id: 8, .. }), "{said:?}");
    guest.assert_goes_on();

    // And what breaks the protocol does so in its turn.
    guest.says(&opens(7, 1, &Request::UntilCancelled));
    guest.says(&bytes::request(
        1,
        FOR_EVER,
        &encoded(&Request::UntilCancelled),
    ));
    until("both run", || town.gate.seen() == 3);
    guest.says(&credit(7, MOST));
    if ONE_BY_ONE {
        guest.says(&cancel(1));
        guest.assert_fails(1, CANCELLED, "");
    }
    guest.assert_refused(MALFORMED, "more credit than there can be");
    town.assert_unharmed();
}

#[test]
fn floods_of_credit_are_nothing() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        guest.says(&opens(7, 0, &Request::UntilCancelled));
        for number in 0..rounds_or(20_000, 2_000) {
            guest.says(&credit([7, 8, number][number as usize % 3], number % 2));
        }
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn streams_count_as_requests_in_flight() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options.in_flight(3));
        let guest = town.guest();
        for id in 0..3 {
            guest.says(&opens(id, 1, &Request::UntilCancelled));
        }
        until("they run", || town.gate.seen() == 3);
        for id in 3..100 {
            guest.says(&opens(id, 1, &Request::UntilCancelled));
            guest.assert_fails(id, OVER_LIMIT, "requests in flight");
            guest.says(&echo(id, 1));
            guest.assert_fails(id, OVER_LIMIT, "requests in flight");
        }
        guest.says(&cancel(1));
        guest.assert_fails(1, CANCELLED, "");
        guest.says(&echo(1, 1));
        assert_eq!(guest.hears(), echoed(1, 1));
        drop(guest);
        town.assert_unharmed();
    }
}

/// A handler that does not notice that its stream is over keeps its thread: there is a limit to these.
#[test]
fn handlers_of_streams_that_are_over_do_not_pile_up() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options.in_flight(2));
        let guest = town.guest();
        for id in 0..4 {
            guest.says(&opens(id, 1, &Request::Gate));
            until("it runs", || town.gate.seen() > u64::from(id));
            guest.says(&cancel(id));
            guest.assert_fails(id, CANCELLED, "");
        }
        guest.says(&opens(9, 1, &Request::Gate));
        if ENDS_HANDLERS {
            until("it runs", || town.gate.seen() == 5);
            guest.says(&cancel(9));
            guest.assert_fails(9, CANCELLED, "");
        } else {
            guest.assert_fails(9, OVER_LIMIT, "handlers of streams");
        }
        guest.assert_goes_on();
        town.gate.open();
        guest.says(&opens(9, 1, &Request::Echo(0)));
        assert_eq!(guest.hears(), Said::End { id: 9 });
        drop(guest);
        town.assert_unharmed();
    }
}

/// As much credit as there can be, and nobody who reads: the server keeps little.
#[test]
fn credit_without_end_costs_the_server_little() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options).memory(8 << 20);
        let guest = town.guest();
        let streams = 40;
        for id in 0..streams {
            guest.says(&opens(id, MOST, &Request::Large(10_000)));
        }
        until("all of them run", || {
            town.gate.handled() >= u64::from(streams)
        });
        // All have sent what they can by the time that others have been served for a while.
        for _ in 0..100 {
            town.connections();
        }
        drop(guest);
        town.assert_unharmed();
    }
}

/// Who opens and cancels and never reads is cut off, as who asks and never reads.
#[test]
fn a_flood_of_streams_with_no_reads_is_cut_off() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        for what in [
            Request::Echo(3),
            Request::UntilCancelled,
            Request::Large(MAX_MESSAGE / 2),
        ] {
            let town = Town::with_pool(pool, |options| {
                options
                    .send_timeout(Duration::from_millis(200))
                    .in_flight(8)
            })
            .memory(16 * MAX_MESSAGE);
            let guest = town.guest();
            let started = Instant::now();
            let cut_off = (0..).find_map(|id| {
                assert!(started.elapsed() < 4 * PROMPT, "it is not cut off");
                let send = |message: &[u8]| guest.0.send(message, Deadline::after(PROMPT));
                send(&opens(id, 1, &what))
                    .and_then(|()| send(&cancel(id)))
                    .err()
            });
            assert_ne!(cut_off.map(|error| error.kind()), Some(ErrorKind::TimedOut));
            drop(guest);
            town.assert_unharmed();
        }
    }
}

#[test]
fn who_leaves_stops_his_streams() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options).memory(8 << 20);
        for _ in 0..rounds_or(50, 5) {
            let guest = town.guest();
            guest.says(&opens(1, 1, &Request::UntilCancelled));
            guest.says(&opens(2, MOST, &Request::Large(10_000)));
            guest.says(&opens(3, 0, &Request::Large(10_000)));
            assert!(matches!(guest.hears(), Said::Item { id: 2, .. }));
        }
        town.assert_unharmed();
    }
}

#[test]
fn a_stream_that_cannot_be_is_named() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    for method in [1_u32, 77, 0xffff_ff00, u32::MAX] {
        let fixed = [method, FOR_EVER, 1].map(u32::to_le_bytes).concat();
        let payload = encoded(&Request::Echo(1));
        guest.says(&message(OPEN, 0, 3, &[], &fixed, &payload));
        guest.assert_fails(3, 7, "");
    }
    for payload in [&[][..], &[200], &claim(u64::MAX)] {
        guest.says(&bytes::open(3, FOR_EVER, 1, payload));
        guest.assert_fails(3, MALFORMED, "the request cannot be decoded");
    }
    // What a later version may add.
    let unknown = fields(&[(9, b"trace"), (250, &[0; 300])]);
    let fixed = [0, FOR_EVER, 0].map(u32::to_le_bytes).concat();
    guest.says(&message(
        OPEN,
        0xff,
        3,
        &unknown,
        &fixed,
        &encoded(&Request::Echo(1)),
    ));
    guest.says(&message(
        CREDIT,
        0xff,
        3,
        &unknown,
        &1_u32.to_le_bytes(),
        &[],
    ));
    assert_items(&guest, 3, 0..1);
    assert_eq!(guest.hears(), Said::End { id: 3 });
    // A client that does not fit.
    let stranger = town.stranger();
    stranger.says(&opening(HELLO, &[(1, b"another codec")]));
    assert!(matches!(stranger.hears(), Said::Refusal(_)));
    stranger.says(&opens(1, 1, &Request::Echo(1)));
    stranger.assert_fails(1, INCOMPATIBLE, "");
    drop((guest, stranger));
    town.assert_unharmed();
}
