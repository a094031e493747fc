//! Many at once: connections opened and left, and more than may be.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use pipetalk::{CallError, ClientOptions, Stream};

use crate::calls::bytes::{self, *};
use super::driver::{self, Client};
use super::town::{MAX_MESSAGE, Raw, Reply, Request, Town, encoded};
use util::{allow_many_descriptors, here, limit, rounds_or, slowness, soon, until};

#[test]
fn connections_opened_and_left_at_once_are_nothing() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options).memory(32 << 20);
        for number in 0..rounds_or(3_000, 300) {
            let stranger = town.stranger();
            match number % 4 {
                0 => {}
                1 => stranger.says(&hello()),
                2 => {
                    stranger.says(&hello());
                    stranger.says(&bytes::request(
                        1,
                        FOR_EVER,
                        &encoded(&Request::UntilCancelled),
                    ));
                }
                _ => stranger.says(b""),
            }
        }
        town.assert_unharmed();
    }
}

#[test]
fn connections_opened_and_kept_cost_little_and_go_away() {
    let _limit = limit(here!());
    allow_many_descriptors();
    let crowd = rounds_or(1_000, 150);
    let town = Town::new()
        .memory(crowd as usize * (32 << 10))
        .threads(crowd as usize);
    let mut all: Vec<Raw> = Vec::new();
    for number in 0..crowd {
        all.push(if number % 2 == 0 {
            town.guest()
        } else {
            town.stranger()
        });
    }
    until("all of them are in", || town.connections() == crowd + 1);
    for guest in all.iter().step_by(50) {
        guest.assert_goes_on();
    }
    drop(all);
    town.assert_unharmed();
}

#[test]
fn one_connection_too_many_is_told_so() {
    let _limit = limit(here!());
    let town = Town::with(|options| options.connections(3));
    let in_time = [town.guest(), town.guest()];
    for _ in 0..50 {
        town.stranger().assert_refused(OVER_LIMIT, "connections");
        // Whether it has said hello by then or not, a client of this crate hears the same.
        let error = Client::<Request, Reply>::connect(town.place.name())
            .and_then(|client| client.call(&Request::Echo(1)))
            .unwrap_err();
        match &error {
            CallError::Refused(text) => assert!(text.contains("connections"), "{error}"),
            _ => panic!("{error:?}"),
        }
        assert!(!error.was_sent());
    }
    for guest in &in_time {
        guest.assert_goes_on();
    }
    drop(in_time);
    town.assert_unharmed();
    drop(town.guest());
    town.assert_unharmed();
}

/// Those who ask and leave are not forgotten before their requests are: what waits for a busy pool is bounded by
/// the number of connections.
#[test]
fn requests_of_those_who_left_do_not_pile_up() {
    let _limit = limit(here!());
    let most = 8;
    let town = Town::with_pool(2, |options| options.connections(most).in_flight(4))
        .memory(most * 4 * (MAX_MESSAGE / 4) + 6 * MAX_MESSAGE);
    // One of the two threads stands at the gate; the neighbour has the other for itself, nearly.
    let busy = town.guest();
    busy.says(&bytes::request(1, FOR_EVER, &encoded(&Request::Gate)));
    until("one thread is busy", || town.gate.seen() == 1);
    let large = encoded(&Request::Text("x".repeat(MAX_MESSAGE / 4)));
    for _ in 0..rounds_or(300, 60) {
        let raw = town.stranger();
        let soon = util::soon();
        let _ = raw.0.send(&hello(), soon);
        for id in 0..4 {
            // The server may refuse it meanwhile.
            let _ = raw.0.send(&bytes::request(id, FOR_EVER, &large), soon);
        }
    }
    town.gate.open();
    drop((busy, large));
    town.assert_unharmed();
}

/// The same at a standstill: every thread of the pool is busy, and nobody is answered.
#[test]
fn what_waits_for_a_pool_at_a_standstill_is_bounded() {
    let _limit = limit(here!());
    let most = 8;
    let town = Town::with_pool(1, |options| options.connections(most).in_flight(4))
        .memory(most * 4 * (MAX_MESSAGE / 4) + 8 * MAX_MESSAGE);
    let busy = town.guest();
    busy.says(&bytes::request(1, FOR_EVER, &encoded(&Request::Gate)));
    until("the thread is busy", || town.gate.seen() == 1);
    let large = encoded(&Request::Text("x".repeat(MAX_MESSAGE / 4)));
    thread::scope(|scope| {
        let flooders: Vec<_> = (0..4)
            .map(|flooder| {
                let (town, large) = (&town, &large);
                scope.spawn(move || {
                    for _ in 0..rounds_or(40, 10) {
                        let raw = town.stranger();
                        let soon = pipetalk::Deadline::after(Duration::from_millis(50));
                        let _ = raw.0.send(&hello(), soon);
                        for id in 0..8 {
                            let message = if flooder % 2 == 0 {
                                bytes::request(id, FOR_EVER, large)
                            } else {
                                notification(large)
                            };
                            let _ = raw.0.send(&message, soon);
                        }
                    }
                })
            })
            .collect();
        for flooder in flooders {
            flooder.join().unwrap();
        }
        // Soon enough for the neighbour, who waits like everybody.
        town.gate.open();
    });
    drop((busy, large));
    town.assert_unharmed();
}

/// However few may be in flight, and from the very first call on.
#[test]
fn clients_of_this_crate_wait_their_turn() {
    let _limit = limit(here!());
    let town = Town::with_pool(4, |options| options.in_flight(1));
    let calls = AtomicU32::new(0);
    for _ in 0..rounds_or(20, 5) {
        let client: Client<Request, Reply> =
            driver::connect(ClientOptions::new(), town.place.name()).unwrap();
        thread::scope(|scope| {
            for number in 0..16 {
                let (client, calls) = (&client, &calls);
                scope.spawn(move || {
                    let reply = client.call(&Request::Echo(number));
                    assert_eq!(reply, Ok(Reply::Echo(number)));
                    calls.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
    }
    town.assert_unharmed();
}

/// With as many connected as may be, one that has been idle for long gives way: nobody is kept out for ever.
#[test]
fn who_has_been_idle_for_long_gives_way_when_there_is_no_room() {
    let _limit = limit(here!());
    let idle_time = Duration::from_secs(1) * slowness();
    for pool in driver::pools([0, 3]) {
        let town = Town::with_pool(pool, |options| {
            options.connections(5).idle_when_full(idle_time)
        });
        // These two wait for something.
        let calls = town.guest();
        calls.says(&bytes::request(1, FOR_EVER, &encoded(&Request::Gate)));
        let streams = town.guest();
        streams.says(&bytes::open(1, FOR_EVER, 0, &encoded(&Request::Gate)));
        until("they wait", || town.gate.seen() == 2);
        // Both of these are to lose their place, and this one does not notice.
        let options = ClientOptions::new().reconnect(true);
        let comes_back: Client<Request, Reply> =
            driver::connect(options, town.place.name()).unwrap();
        assert_eq!(comes_back.call(&Request::Echo(1)), Ok(Reply::Echo(1)));
        let idle = town.guest();
        let newcomers = [latecomer(&town), latecomer(&town)];
        assert_eq!(idle.hears(), Said::Other(GOODBYE));
        assert_eq!(idle.hears_or_end(), None);
        for newcomer in newcomers {
            newcomer.assert_goes_on();
        }
        assert_eq!(comes_back.call(&Request::Echo(2)), Ok(Reply::Echo(2)));
        town.gate.open();
        assert!(matches!(calls.hears(), Said::Reply { id: 1, .. }));
        assert!(matches!(streams.hears(), Said::End { id: 1 }));
        drop((calls, streams, idle, comes_back));
        town.assert_unharmed();
    }
}

/// A guest that is let in when there is room for one.
fn latecomer(town: &Town) -> Raw {
    let mut guest = None;
    until("there is room for another one", || {
        let stranger = town.stranger();
        let _ = stranger.0.send(&hello(), soon());
        guest = match stranger.hears() {
            Said::Welcome => Some(stranger),
            Said::Refusal(failure) if failure.text == "connections" => None,
            other => panic!("{other:?}"),
        };
        guest.is_some()
    });
    guest.unwrap()
}
