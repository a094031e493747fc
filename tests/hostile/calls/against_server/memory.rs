//! How much a server holds of what clients send it, and of what they do not read.

use std::time::Duration;

use pipetalk::{ClientOptions, Deadline, Stream};

use crate::calls::bytes::{self, *};
use super::super::driver::{self, Client};
use super::super::town::{MAX_MESSAGE, Raw, Reply, Request, Town, encoded};
use util::{A_MOMENT, here, limit, rounds, skip, until};

/// The text that a request asks to be sent.
fn large(id: u32, size: usize) -> Vec<u8> {
    bytes::request(id, FOR_EVER, &encoded(&Request::Large(size)))
}

/// A request that is nearly as large as may be.
fn largest() -> String {
    "x".repeat(MAX_MESSAGE - 64)
}

#[test]
fn a_client_that_does_not_read_is_not_asked_for_more() {
    let _limit = limit(here!());
    const SIZE: usize = 200 << 10;
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        for id in 0..60 {
            guest.says(&large(id, SIZE));
        }
        until("some are handled", || town.gate.handled() > 10);
        // It gets all of it once it reads.
        let mut answered: Vec<u32> = (0..60)
            .map(|_| match guest.hears() {
                Said::Reply { id, payload } if payload.len() > SIZE => id,
                other => panic!("{other:?}"),
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..60).collect::<Vec<_>>());
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// However many streams it has: an item is queued when the one before has gone.
#[test]
fn streams_of_a_client_that_does_not_read_queue_little() {
    let _limit = limit(here!());
    const STREAMS: usize = 30;
    const SIZE: usize = 256 << 10;
    for pool in driver::pools([0, 2]) {
        // Each handler has the text itself, and one message that is to be sent.
        let most = STREAMS * 2 * (SIZE + 1024) + (4 << 20);
        let town = Town::with_pool(pool, |options| options)
            .memory(most)
            .threads(STREAMS);
        let guest = town.guest();
        let asked = encoded(&Request::Large(SIZE));
        for id in 0..STREAMS {
            guest.says(&open(id as u32, FOR_EVER, 1 << 20, &asked));
        }
        until("all have begun", || town.gate.handled() > STREAMS as u64);
        let mut heard = [0; STREAMS];
        // None is forgotten.
        while heard.contains(&0) {
            match guest.hears() {
                Said::Item { id, .. } => heard[id as usize] += 1,
                other => panic!("{other:?}"),
            }
        }
        drop(guest);
        town.assert_unharmed();
    }
}

/// They wait for each other, and nobody for ever.
#[test]
fn large_requests_wait_for_their_share() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options.memory(2 * MAX_MESSAGE))
            // Every client has its own request, what it is encoded in, its reply, and what that is compared with.
            .memory(8 * 8 * MAX_MESSAGE);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let client: Client<Request, Reply> =
                        driver::connect(ClientOptions::new(), town.place.name()).unwrap();
                    for _ in 0..rounds(8) {
                        let reply = client.call(&Request::Text(largest())).unwrap();
                        assert!(reply == Reply::Text(largest()));
                    }
                });
            }
        });
        town.assert_unharmed();
    }
}

/// One message at a time, whatever its size.
#[test]
fn a_message_larger_than_all_of_the_memory_is_taken() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| {
            options.memory(1000).memory_of_one_client(10)
        })
        .memory(8 * MAX_MESSAGE);
        let client: Client<Request, Reply> =
            driver::connect(ClientOptions::new(), town.place.name()).unwrap();
        for _ in 0..3 {
            let reply = client.call(&Request::Text(largest())).unwrap();
            assert!(reply == Reply::Text(largest()));
        }
        drop(client);
        town.assert_unharmed();
    }
}

/// While others wait for the memory, nobody has half an hour to send a message.
#[test]
fn a_client_that_stops_in_a_large_message_holds_up_others_for_seconds() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| {
            options
                .memory(MAX_MESSAGE)
                .send_timeout(Duration::from_secs(3600))
        })
        .memory(10 * MAX_MESSAGE);
        let mut stuck = Vec::new();
        for _ in 0..2 {
            let Some(raw) = half_of(
                &town,
                &bytes::request(1, FOR_EVER, &encoded(&Request::Text(largest()))),
            ) else {
                skip(
                    here!(),
                    "a pipe takes a message in one piece, or none of it",
                );
                return;
            };
            stuck.push(raw);
        }
        let client: Client<Request, Reply> =
            driver::connect(ClientOptions::new(), town.place.name()).unwrap();
        assert!(client.call(&Request::Text(largest())).unwrap() == Reply::Text(largest()));
        drop(client);
        drop(stuck);
        town.assert_unharmed();
    }
}

/// A guest that has sent a message but for its last bytes.
#[cfg(unix)]
fn half_of(town: &Town, message: &[u8]) -> Option<std::os::unix::net::UnixStream> {
    use std::io::{Read, Write};

    let mut socket = std::os::unix::net::UnixStream::connect(town.place.name()).unwrap();
    let mut bytes = Vec::new();
    for message in [&hello()[..], message] {
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(message);
    }
    bytes.truncate(bytes.len() - 10);
    socket.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // As much as there is room for: the server may make it wait.
    let until = Deadline::after(A_MOMENT);
    while sent < bytes.len() && !until.has_passed() {
        sent += socket.write(&bytes[sent..]).unwrap_or(0);
    }
    socket.set_nonblocking(false).unwrap();
    socket.read_exact(&mut [0; 4]).unwrap();
    Some(socket)
}

#[cfg(windows)]
fn half_of(_: &Town, _: &[u8]) -> Option<Raw> {
    None
}

/// They have half an hour to read, unless others have too little room therefore.
#[test]
fn clients_that_do_not_read_are_cut_off_when_the_server_has_too_much_to_send() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 8]) {
        let town = Town::with_pool(pool, |options| {
            options
                .memory(MAX_MESSAGE)
                .send_timeout(Duration::from_secs(3600))
        })
        .memory(16 * MAX_MESSAGE);
        let deaf: Vec<Raw> = (0..6)
            .map(|number| {
                let guest = town.guest();
                guest.says(&match number % 2 {
                    0 => large(1, MAX_MESSAGE - 64),
                    _ => open(
                        1,
                        FOR_EVER,
                        1 << 20,
                        &encoded(&Request::Large(MAX_MESSAGE - 64)),
                    ),
                });
                guest
            })
            .collect();
        until("they are asked no more", || town.gate.handled() > 6);
        let client: Client<Request, Reply> =
            driver::connect(ClientOptions::new(), town.place.name()).unwrap();
        // Until then a large reply may be refused.
        until("there is room for those who read", || {
            client.call(&Request::Large(MAX_MESSAGE - 64)).is_ok()
        });
        // Those who have been refused, or do not hold up anybody, may stay.
        until("some of them are gone", || town.connections() < 8);
        drop((client, deaf));
        town.assert_unharmed();
    }
}

/// Nobody waits for a request that is not received.
#[test]
fn a_server_ends_while_clients_wait_for_memory() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options.memory(1));
        let guests: Vec<Raw> = (0..4).map(|_| town.guest()).collect();
        for guest in &guests {
            let text = bytes::request(1, FOR_EVER, &encoded(&Request::Text(largest())));
            let _ = guest.0.send(&text, Deadline::after(A_MOMENT));
        }
        drop(town);
        drop(guests);
    }
}
