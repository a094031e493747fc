//! Too much: messages and replies over a limit, more requests than may be in flight, floods, and nobody who reads.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use pipetalk::{Deadline, Stream};

use crate::calls::bytes::{self, *};
use super::super::driver;
use super::super::town::{MAX_MESSAGE, PROMPT, Raw, Request, Town, echo, encoded};
use util::{here, limit, until};

#[test]
fn a_message_over_the_limit_ends_the_connection_and_names_it() {
    let _limit = limit(here!());
    let town = Town::new();
    for before in [false, true] {
        let raw = if before {
            town.guest()
        } else {
            town.stranger()
        };
        let large = vec![REQUEST; MAX_MESSAGE + 1];
        // The server need not have read all of it to refuse it.
        let _ = raw.0.send(&large, Deadline::after(PROMPT));
        let failure = raw.assert_refused(TOO_LARGE, "over the server's limit");
        assert_eq!(failure.limit, MAX_MESSAGE as u64);
        assert_eq!(failure.size, MAX_MESSAGE as u64 + 1);
    }
    // One that is just as large as may be.
    let guest = town.guest();
    let fits = "x".repeat(MAX_MESSAGE - 22);
    let request = bytes::request(1, FOR_EVER, &encoded(&Request::Text(fits)));
    assert!(request.len() <= MAX_MESSAGE && request.len() > MAX_MESSAGE - 16);
    guest.says(&request);
    // It would be counted with what the server needs for it.
    drop(request);
    assert!(matches!(guest.hears(), Said::Reply { id: 1, .. }));
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}

/// While a handler looks whether it is cancelled, the server receives ahead.
#[test]
fn a_message_over_the_limit_is_named_behind_a_request_too() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    let waits = encoded(&Request::UntilCancelled);
    guest.says(&bytes::request(1, 300, &waits));
    until("it runs", || town.gate.seen() == 1);
    let _ = guest
        .0
        .send(&vec![REQUEST; MAX_MESSAGE + 1], Deadline::after(PROMPT));
    if driver::ONE_BY_ONE {
        guest.assert_fails(1, CANCELLED, "");
    }
    guest.assert_refused(TOO_LARGE, "over the server's limit");
    town.assert_unharmed();
}

#[test]
fn a_reply_over_the_clients_limit_is_an_error() {
    let _limit = limit(here!());
    let town = Town::new();
    let stranger = town.stranger();
    stranger.says(&fitting(HELLO, &[(5, &1000_u32.to_le_bytes())]));
    assert_eq!(stranger.hears(), Said::Welcome);
    stranger.says(&bytes::request(
        1,
        FOR_EVER,
        &encoded(&Request::Large(2_000)),
    ));
    match stranger.hears() {
        Said::Error { id: 1, failure } => {
            assert_eq!(
                (failure.code, failure.limit),
                (TOO_LARGE, 1000),
                "{failure:?}"
            );
            assert!(failure.size > 2_000, "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    stranger.assert_goes_on();
    drop(stranger);
    town.assert_unharmed();
}

#[test]
fn more_requests_than_may_be_in_flight_are_told_so() {
    let _limit = limit(here!());
    let town = Town::with_pool(3, |options| options.in_flight(2));
    let guest = town.guest();
    let gate = encoded(&Request::Gate);
    guest.says(&bytes::request(1, FOR_EVER, &gate));
    guest.says(&bytes::request(2, FOR_EVER, &gate));
    for id in 3..100 {
        guest.says(&bytes::request(id, FOR_EVER, &gate));
        guest.assert_fails(id, OVER_LIMIT, "requests in flight");
    }
    town.gate.open();
    let mut answered = [guest.hears(), guest.hears()].map(|said| match said {
        Said::Reply { id, .. } => id,
        other => panic!("{other:?}"),
    });
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}

/// Says the same again and again without ever listening, until it is cut off.
fn flood(raw: &Raw, message: &[u8]) -> usize {
    let started = Instant::now();
    for sent in 0.. {
        match raw.0.send(message, Deadline::after(PROMPT)) {
            Ok(()) => assert!(started.elapsed() < 4 * PROMPT, "it is not cut off"),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::TimedOut, "it is not cut off");
                return sent;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_flood_of_requests_with_no_reads_is_cut_off() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| {
            options.send_timeout(Duration::from_millis(200))
        });
        let small = echo(1, 1);
        let middling = bytes::request(2, FOR_EVER, &encoded(&Request::Text("x".repeat(5_000))));
        let to_large = bytes::request(3, FOR_EVER, &encoded(&Request::Large(MAX_MESSAGE / 2)));
        for message in [small, middling, to_large] {
            let guest = town.guest();
            if pool > 0 {
                // With the same id all the time it would be refused for that.
                let fixed = [1_u32.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
                let mut id = 0;
                let started = Instant::now();
                while guest
                    .0
                    .send(
                        &[
                            &[REQUEST, 0, 0, 0],
                            &u32::to_le_bytes(id)[..],
                            &fixed,
                            &message[16..],
                        ]
                        .concat(),
                        Deadline::after(PROMPT),
                    )
                    .is_ok()
                {
                    id += 1;
                    assert!(started.elapsed() < 4 * PROMPT, "it is not cut off");
                }
            } else {
                assert!(flood(&guest, &message) > 0);
            }
            drop(guest);
            town.assert_unharmed();
        }
    }
}

#[test]
fn a_flood_of_cancellations_is_nothing() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let floods = util::rounds_or(30_000, 3_000);
        guest.says(&bytes::request(
            1,
            FOR_EVER,
            &encoded(&Request::UntilCancelled),
        ));
        until("it runs", || town.gate.seen() == 1);
        for id in 2..floods {
            guest.says(&cancel(id));
        }
        guest.says(&cancel(1));
        guest.assert_fails(1, CANCELLED, "");
        for id in 0..floods {
            guest.says(&cancel(id));
        }
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// Nobody answers a notification, so that nothing but the server itself can slow the flood down.
#[test]
fn a_flood_of_notifications_waits_for_the_handlers() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 1]) {
        let town = Town::with_pool(pool, |options| options);
        let flooder = town.guest();
        let neighbourly = town.guest();
        drop(neighbourly);
        let large = notification(&encoded(&Request::Text("x".repeat(MAX_MESSAGE / 16))));
        flooder.says(&notification(&encoded(&Request::Text(
            "the first".to_owned(),
        ))));
        // A gate on the one thread of the pool would hold up the neighbour, who is to be answered all the while.
        let handled = town.gate.handled();
        let flood = util::rounds_or(1_000, 200);
        for _ in 0..flood {
            flooder.says(&large);
        }
        flooder.assert_goes_on();
        assert!(town.gate.handled() >= handled + u64::from(flood));
        drop(flooder);
        town.assert_unharmed();
    }
}

#[test]
fn stopping_is_prompt_whoever_does_not_read() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 64]) {
        let town = Town::with_pool(pool, |options| options);
        let deaf: Vec<Raw> = (0..40)
            .map(|_| {
                let guest = town.guest();
                guest.says(&bytes::request(
                    1,
                    FOR_EVER,
                    &encoded(&Request::Large(MAX_MESSAGE / 2)),
                ));
                guest
            })
            .collect();
        let started = Instant::now();
        // The neighbour notices, as it should: so it moves out first.
        drop(town);
        let took = started.elapsed();
        assert!(took < Duration::from_millis(2_500), "it took {took:?}");
        drop(deaf);
    }
}
