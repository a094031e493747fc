//! Much at once, for long.

use std::sync::Barrier;
use std::thread;

use pipetalk::{Deadline, Listener, Stream};

use crate::harness::*;
use util::{MANY_CLIENTS, allow_many_descriptors, is_wine, many};

/// How many messages go, both directions together.
fn messages() -> usize {
    many(if is_wine() { 4_000 } else { 20_000 }) as usize
}

/// The sizes of the messages, the same at both ends.
fn sizes(direction: usize, sender: usize) -> impl FnMut() -> usize {
    let mut state = (direction * 2 + sender + 1) as u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let random = (state >> 33) as usize;
        let most = match random % 20 {
            0 => return 0,
            1..=9 => 64,
            10..=15 => 4 << 10,
            16..=18 => 64 << 10,
            _ => 256 << 10,
        };
        (random / 20) % (most + 1)
    }
}

pub(crate) fn stress_full_duplex_one_sender_each_way<T: Transport>() {
    let each = messages() / 2;
    let Pair { client, server, .. } = pair::<T>();
    let ends = [(&client, &server), (&server, &client)];
    thread::scope(|scope| {
        for (direction, (from, to)) in ends.into_iter().enumerate() {
            scope.spawn(move || {
                let mut size = sizes(direction, 0);
                for n in 0..each {
                    from.send(&content(n, size()), soon()).unwrap();
                }
            });
            scope.spawn(move || {
                let mut size = sizes(direction, 0);
                let mut message = Vec::new();
                for n in 0..each {
                    let received = to.recv_message(&mut message, soon()).unwrap();
                    assert_eq!(
                        received,
                        Some(size()),
                        "message {n} of direction {direction}"
                    );
                    assert!(
                        is_content(n, &message),
                        "message {n} of direction {direction}"
                    );
                }
            });
        }
    });
    client.close();
    assert_ended(&server);
}

pub(crate) fn stress_full_duplex_two_senders_each_way<T: Transport>() {
    const SENDERS: usize = 2;
    /// In front of each message: who sent it, and which it is.
    const HEAD: usize = 5;
    let each = messages() / 2 / SENDERS;
    let Pair { client, server, .. } = pair::<T>();
    let ends = [(&client, &server), (&server, &client)];
    thread::scope(|scope| {
        for (direction, (from, to)) in ends.into_iter().enumerate() {
            for sender in 0..SENDERS {
                scope.spawn(move || {
                    let mut size = sizes(direction, sender);
                    for n in 0..each {
                        let mut message = (n as u32).to_le_bytes().to_vec();
                        message.push(sender as u8);
                        message.extend_from_slice(&content(n, size()));
                        from.send(&message, soon()).unwrap();
                    }
                });
            }
            scope.spawn(move || {
                let mut sizes: Vec<_> = (0..SENDERS).map(|s| sizes(direction, s)).collect();
                let mut next = [0; SENDERS];
                let mut message = Vec::new();
                for _ in 0..each * SENDERS {
                    to.recv_message(&mut message, soon())
                        .unwrap()
                        .expect("not the end");
                    let (head, rest) = message.split_at(HEAD);
                    let n = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
                    let sender = usize::from(head[4]);
                    assert_eq!(n, next[sender], "of sender {sender}, direction {direction}");
                    next[sender] += 1;
                    assert_eq!(
                        rest.len(),
                        sizes[sender](),
                        "message {n} of sender {sender}"
                    );
                    assert!(is_content(n, rest), "message {n} of sender {sender}");
                }
            });
        }
    });
    server.close();
    assert_ended(&client);
}

pub(crate) fn stress_clients_at_once<T: Transport>() {
    allow_many_descriptors();
    let (listener, dialer) = T::listen(&Setup::default());
    let all_ready = Barrier::new(MANY_CLIENTS);
    let patient = || Deadline::after(4 * A_WHILE);
    let thread = || thread::Builder::new().stack_size(128 << 10);
    thread::scope(|scope| {
        for n in 0..MANY_CLIENTS {
            let (dialer, all_ready) = (&dialer, &all_ready);
            let client = move || {
                all_ready.wait();
                let client = dialer.dial(patient()).unwrap();
                for round in 0..3 {
                    let request = content(n + round, 50 + n % 500);
                    client.send(&request, patient()).unwrap();
                    let mut reply = Vec::new();
                    client
                        .recv_message(&mut reply, patient())
                        .unwrap()
                        .expect("a reply");
                    assert!(reply == request, "client {n}");
                }
            };
            thread().spawn_scoped(scope, client).unwrap();
        }
        for _ in 0..MANY_CLIENTS {
            let stream = listener.accept(patient()).unwrap();
            let serve = move || {
                let mut message = Vec::new();
                while stream
                    .recv_message(&mut message, patient())
                    .unwrap()
                    .is_some()
                {
                    stream.send(&message, patient()).unwrap();
                }
            };
            thread().spawn_scoped(scope, serve).unwrap();
        }
    });
    let after = connect::<T>(&listener, &dialer);
    assert_works(&after.0, &after.1);
}
