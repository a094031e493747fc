//! E1 to E6: how a connection ends, and what is still delivered.

use std::io::ErrorKind;
use std::thread;

use pipetalk::{Deadline, Stream};

use crate::harness::*;

pub(crate) fn e01_after_close_every_message_is_read_and_then_the_end<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    for round in 0..rounds(1_000) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        let messages = rng.in_range(0..20);
        thread::scope(|scope| {
            let mut sender_rng = rng.fork();
            scope.spawn(move || {
                for n in 0..messages {
                    send(&from, &content(n, n * n * 17));
                }
                sender_rng.shake();
                if round % 4 < 2 {
                    from.close();
                }
                drop(from);
            });
            rng.shake();
            for n in 0..messages {
                assert_eq!(
                    recv(&to).expect("a message, not the end"),
                    content(n, n * n * 17)
                );
            }
            assert_ended(&to);
        });
    }
}

pub(crate) fn e01_what_was_sent_waits_for_a_peer_that_reads_later<T: Transport>() {
    both_ways::<T>(|from, to| {
        for n in 0..50 {
            send(&from, &content(n, n));
        }
        drop(from);
        for n in 0..50 {
            assert_eq!(recv(&to).unwrap(), content(n, n));
        }
        assert_ended(&to);
    });
}

pub(crate) fn e02_closing_with_input_unread_loses_nothing_that_was_sent<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    for round in 0..rounds_or(1_000, 500) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        for n in 0..10 {
            send(&to, &content(n, n * 10));
            send(&from, &content(n, n * 100));
        }
        // One of what came is read in part, one not at all.
        from.recv(&mut [0; 3], soon()).unwrap();
        if round % 4 < 2 {
            from.close();
        }
        drop(from);
        for n in 0..10 {
            assert_eq!(
                recv(&to).expect("a message, not the end"),
                content(n, n * 100)
            );
        }
        assert_ended(&to);
        assert_eq!(kind(to.send(b"more", soon())), ErrorKind::BrokenPipe);
    }
}

pub(crate) fn e03_sending_to_a_closed_peer_is_a_broken_pipe<T: Transport>() {
    both_ways::<T>(|from, to| {
        drop(to);
        for size in [0, 1, 5_000, 1_000_000] {
            let sent = from.send(&content(size, size), soon());
            assert_eq!(kind(sent), ErrorKind::BrokenPipe, "{size} bytes");
        }
        assert_ended(&from);
        assert_eq!(
            kind(from.send(b"more", Deadline::NOW)),
            ErrorKind::BrokenPipe
        );
    });
}

pub(crate) fn e03_a_peer_that_closes_under_a_blocked_send_is_a_broken_pipe<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    let message = content(3, HUGE);
    for round in 0..rounds_or(300, 100) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let mut sender_rng = rng.fork();
            let message = &message;
            let sending = scope.spawn(move || {
                sender_rng.shake();
                from.send(message, Deadline::NEVER)
            });
            rng.shake();
            drop(to);
            assert_eq!(kind(sending.join().unwrap()), ErrorKind::BrokenPipe);
        });
    }
}

pub(crate) fn e04_a_final_reply_is_never_lost_by_closing_at_once<T: Transport>() {
    let requests = rounds_or(3_000, 1_500) as usize;
    let (listener, dialer) = T::listen(&Setup::default());
    thread::scope(|scope| {
        let mut rng = Rng::new();
        let mut server_rng = rng.fork();
        let listener = &listener;
        scope.spawn(move || {
            use pipetalk::Listener;
            for _ in 0..requests {
                let stream = listener.accept(soon()).unwrap();
                let request = recv(&stream).unwrap();
                send(&stream, &request.repeat(3));
                if server_rng.one_in(2) {
                    stream.close();
                }
            }
        });
        for n in 0..requests {
            let client = dialer.dial(soon()).unwrap();
            let request = content(n, n % 5_000);
            send(&client, &request);
            rng.shake();
            assert!(recv(&client).expect("the reply, not the end") == request.repeat(3));
            assert_ended(&client);
        }
    });
}

pub(crate) fn e04_a_peer_that_never_reads_holds_up_nobodys_close<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    let bystander = connect::<T>(&listener, &dialer);
    let silent: Vec<_> = (0..40)
        .map(|_| {
            let (client, server) = connect::<T>(&listener, &dialer);
            for n in 0..4 {
                send(&server, &content(n, 10_000));
            }
            (client, server)
        })
        .collect();
    let (clients, servers): (Vec<_>, Vec<_>) = silent.into_iter().unzip();
    promptly("closing forty", || {
        for (n, server) in servers.into_iter().enumerate() {
            if n % 2 == 0 {
                server.close();
            }
            drop(server);
        }
    });
    assert_works(&bystander.0, &bystander.1);
    // And nobody's close costs anybody else what was sent.
    for client in &clients {
        for n in 0..4 {
            assert_eq!(
                recv(client).expect("a message, not the end"),
                content(n, 10_000)
            );
        }
        assert_ended(client);
    }
    promptly("stopping", || drop(listener));
}

pub(crate) fn e05_abort_drops_what_is_unread<T: Transport>() {
    let Pair { client, server, .. } = pair::<T>();
    for n in 0..10 {
        send(&server, &content(n, 100));
    }
    promptly("aborting", || server.abort());
    let mut left = 0;
    while let Some(message) = recv(&client) {
        assert_eq!(message, content(left, 100));
        left += 1;
    }
    if T::ABORT_DROPS {
        assert_eq!(left, 0);
    }
    assert_ended(&client);
    assert_eq!(kind(client.send(b"more", soon())), ErrorKind::BrokenPipe);
    assert_eq!(
        kind(server.recv(&mut [0; 8], soon())),
        ErrorKind::NotConnected
    );
    assert_eq!(kind(server.send(b"more", soon())), ErrorKind::NotConnected);
}

pub(crate) fn e05_abort_wakes_whoever_waits<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    for round in 0..rounds(500) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (one, other) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let (one, other) = (&one, &other);
            let (mut one_rng, mut other_rng) = (rng.fork(), rng.fork());
            let here = scope.spawn(move || {
                one_rng.shake();
                one.recv(&mut [0; 8], Deadline::NEVER)
            });
            let there = scope.spawn(move || {
                other_rng.shake();
                other.recv(&mut [0; 8], Deadline::NEVER)
            });
            rng.shake();
            one.abort();
            assert_eq!(kind(here.join().unwrap()), ErrorKind::NotConnected);
            assert_eq!(there.join().unwrap().unwrap(), None);
        });
    }
}

pub(crate) fn e06_the_client_of_an_aborted_connection_never_sees_the_next_ones_data<
    T: Transport,
>() {
    let setup = Setup {
        instances: Some(1),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let mut old: Vec<T::Stream> = Vec::new();
    for round in 0..rounds(200) {
        let (client, server) = connect::<T>(&listener, &dialer);
        send(&server, format!("for {round} only").as_bytes());
        assert_eq!(
            recv(&client).unwrap(),
            format!("for {round} only").into_bytes()
        );
        // The old clients are still there, with the instance that is now another's.
        for old in old.iter().rev().take(3) {
            assert_ended(old);
            assert_eq!(kind(old.send(b"for whom?", soon())), ErrorKind::BrokenPipe);
        }
        send(&client, b"nothing else");
        assert_eq!(recv(&server).unwrap(), b"nothing else");
        server.abort();
        old.push(client);
    }
}
