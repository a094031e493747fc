//! Futures that are dropped half-way: their operations go on.

use std::io::ErrorKind;
use std::sync::Arc;

use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
use pipetalk::{Deadline, Error, ListenOptions};

use crate::overlapped::harness::*;

/// How many futures are dropped in each of these.
fn drops() -> usize {
    rounds(10_000) as usize
}

#[test]
fn receives_that_are_dropped_lose_nothing() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let mut rng = Rng::new();
        let sizes: Vec<_> = (0..drops() / 2).map(|_| rng.size(100_000)).collect();
        let sender = async {
            for (n, &size) in sizes.iter().enumerate() {
                send(&client, &content(n, size)).await;
            }
            client.close();
        };
        let mut rng = rng.fork();
        let receiver = async {
            let (mut next, mut dropped) = (0, 0);
            // What has come of the message at the head, in parts.
            let mut come = Vec::new();
            loop {
                let polls = 1 + rng.in_range(0..3);
                let ended = if rng.one_in(3) {
                    let mut buf = vec![0xee; rng.in_range(0..3_000)];
                    let recv = server.recv(&mut buf, Deadline::NEVER);
                    match begin(polls, recv).await {
                        None => None,
                        Some(part) => match part.unwrap() {
                            None => break,
                            Some(part) => {
                                come.extend_from_slice(&buf[..part.len]);
                                Some(part.last)
                            }
                        },
                    }
                } else {
                    let mut message = Vec::with_capacity(rng.in_range(0..5_000));
                    let recv = server.recv_message(&mut message, Deadline::NEVER);
                    match begin(polls, recv).await {
                        None => None,
                        Some(received) => match received.unwrap() {
                            None => break,
                            Some(_) => {
                                come.append(&mut message);
                                Some(true)
                            }
                        },
                    }
                };
                match ended {
                    None => dropped += 1,
                    Some(false) => {}
                    Some(true) => {
                        assert!(come == content(next, sizes[next]), "message {next}");
                        come.clear();
                        next += 1;
                    }
                }
            }
            assert_eq!((next, come.len()), (sizes.len(), 0));
            assert!(dropped > 0);
        };
        tokio::join!(sender, receiver);
    });
}

#[test]
fn sends_that_are_dropped_send_all() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let mut rng = Rng::new();
        let sizes: Vec<_> = (0..drops() / 2).map(|_| rng.size(100_000)).collect();
        let sender = async {
            for (n, &size) in sizes.iter().enumerate() {
                let mut message = content(n, size);
                // With nobody else sending it has begun when it has been polled once.
                let sent = client.send(&message, Deadline::NEVER);
                let _ = begin(1 + rng.in_range(0..3), sent).await;
                // It has its own copy.
                message.fill(0xdd);
                // Waits for it.
                send(&client, b"").await;
            }
            client.close();
        };
        let receiver = async {
            for (n, &size) in sizes.iter().enumerate() {
                assert!(recv(&server).await == Some(content(n, size)), "message {n}");
                assert_eq!(recv(&server).await.as_deref(), Some(&b""[..]));
            }
            assert_eq!(recv(&server).await, None);
        };
        tokio::join!(sender, receiver);
    });
}

#[test]
fn a_send_waits_for_the_dropped_one_before_it() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let huge = content(0, HUGE);
        begin_and_drop(client.send(&huge, Deadline::NEVER)).await;
        // Its turn does not come, and nothing of it is sent.
        assert_eq!(
            kind(client.send(b"late", in_a_moment()).await),
            ErrorKind::TimedOut
        );
        assert_eq!(
            kind(client.send(b"late", Deadline::NOW).await),
            ErrorKind::TimedOut
        );
        begin_and_drop(client.send(b"dropped", Deadline::NEVER)).await;
        let sender = async { send(&client, b"next").await };
        let receiver = async {
            assert!(recv(&server).await.as_ref() == Some(&huge));
            assert_eq!(recv(&server).await.as_deref(), Some(&b"next"[..]));
        };
        tokio::join!(sender, receiver);
        assert_works(&client, &server).await;
    });
}

#[test]
fn the_failure_of_a_dropped_send_is_told_to_the_next() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        begin_and_drop(client.send(&content(0, HUGE), Deadline::NEVER)).await;
        server.close();
        assert_eq!(
            kind(client.send(b"next", soon()).await),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn a_send_that_waited_until_its_deadline_closes_for_good() {
    let _limit = limit(here!());
    on_each(async || {
        for deadline in [Deadline::NOW, in_a_moment()] {
            let (client, server, _listener) = pair().await;
            let huge = content(0, HUGE);
            assert_eq!(
                kind(client.send(&huge, deadline).await),
                ErrorKind::TimedOut
            );
            assert_eq!(ours(client.send(b"next", soon()).await), Error::Poisoned);
            assert_eq!(
                ours(client.recv(&mut [0; 8], soon()).await),
                Error::Poisoned
            );
            // The peer sees the end, and no message made of two.
            let received = server.recv_message(&mut Vec::new(), soon()).await;
            match received {
                Ok(None) => {}
                other => assert_eq!(ours(other), Error::Truncated),
            }
        }
    });
}

/// A pipe that holds so much, and is full up to a little.
async fn nearly_full() -> (LocalStream, LocalStream, LocalListener) {
    let (client, server, listener) = pair_with(&ListenOptions::new().buffer_size(BUFFER)).await;
    send(&client, &content(0, BUFFER - 10)).await;
    (client, server, listener)
}

const BUFFER: usize = 64 << 10;

/// What has not begun is taken back, however its time ends.
#[test]
fn a_send_that_has_not_begun_leaves_the_connection_as_it_was() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = nearly_full().await;
        let waits = content(1, 1_000);
        for polls in 1..4 {
            let _ = begin(polls, client.send(&waits, Deadline::NOW)).await;
            let next = client.send(b"too much by now", in_a_moment()).await;
            assert_eq!(kind(next), ErrorKind::TimedOut);
        }
        assert!(recv(&server).await == Some(content(0, BUFFER - 10)));
        // One that was dropped while it was being cancelled may go on.
        send(&client, b"next").await;
        loop {
            let message = recv(&server).await.unwrap();
            if message == b"next" {
                break;
            }
            assert!(message == waits);
        }
        assert_works(&client, &server).await;
    });
}

/// Its request is not sent, so that no reply can come.
#[test]
fn a_transaction_that_is_dropped_before_its_request_fits_takes_it_back() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = nearly_full().await;
        let request = content(1, 1_000);
        let mut reply = [0; 8];
        begin_and_drop(client.transact(&request, &mut reply, Deadline::NEVER)).await;
        let late = client.transact(&request, &mut reply, in_a_moment()).await;
        assert_eq!(kind(late), ErrorKind::TimedOut);
        assert!(recv(&server).await == Some(content(0, BUFFER - 10)));
        assert_works(&client, &server).await;

        // Of a larger one, a part may have gone.
        begin_and_drop(client.transact(&content(1, HUGE), &mut reply, Deadline::NEVER)).await;
        assert_eq!(ours(client.send(b"next", soon()).await), Error::Poisoned);
    });
}

#[test]
fn a_send_that_is_dropped_while_it_is_cancelled_closes_for_good() {
    let _limit = limit(here!());
    on_each(async || {
        for polls in 1..4 {
            let (client, _server, _listener) = pair().await;
            let huge = content(0, HUGE);
            // The deadline has passed when it is polled.
            let _ = begin(polls, client.send(&huge, Deadline::NOW)).await;
            assert_eq!(ours(client.send(b"next", soon()).await), Error::Poisoned);
        }
    });
}

#[test]
fn a_dropped_transaction_closes_for_good_once_it_has_sent() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        begin_and_drop(client.transact(b"?", &mut [0; 8], Deadline::NEVER)).await;
        assert_eq!(ours(client.send(b"next", soon()).await), Error::Poisoned);
        assert_eq!(recv(&server).await.as_deref(), Some(&b"?"[..]));
        assert_eq!(recv(&server).await, None);

        // One that has had to wait for its turn has sent nothing.
        let (client, server, _listener) = pair().await;
        let huge = content(0, HUGE);
        begin_and_drop(client.send(&huge, Deadline::NEVER)).await;
        begin_and_drop(client.transact(b"?", &mut [0; 8], Deadline::NEVER)).await;
        assert!(recv(&server).await == Some(huge));
        assert_works(&client, &server).await;
    });
}

#[test]
fn a_dropped_accept_loses_no_client() {
    let _limit = limit(here!());
    let each = rounds_or(2_000, 500);
    on_each(async || {
        let name = PortableName::new();
        let listener = LocalListener::bind(&*name).unwrap();
        let clients = async {
            for n in 0..each {
                let client = LocalStream::connect(&*name).await.unwrap();
                send(&client, &n.to_le_bytes()).await;
                assert_eq!(recv(&client).await.as_deref(), Some(&n.to_le_bytes()[..]));
            }
        };
        let serve = async {
            let mut rng = Rng::new();
            for n in 0..each {
                let server = loop {
                    let polls = 1 + rng.in_range(0..3);
                    if let Some(server) = begin(polls, listener.accept(Deadline::NEVER)).await {
                        break server.unwrap();
                    }
                };
                let message = recv(&server).await.unwrap();
                assert_eq!(message, n.to_le_bytes());
                send(&server, &message).await;
            }
        };
        tokio::join!(clients, serve);
    });
}

#[test]
fn streams_that_go_while_operations_are_pending_hurt_nobody() {
    let _limit = limit(here!());
    let each = rounds_or(5_000, 1_000) as usize;
    on_each(async || {
        let name = PortableName::new();
        let listener = LocalListener::bind(&*name).unwrap();
        let mut rng = Rng::new();
        for n in 0..each {
            let (client, server) =
                tokio::join!(LocalStream::connect(&*name), listener.accept(soon()));
            let (client, server) = (client.unwrap(), server.unwrap());
            begin_and_drop(server.recv_message(&mut Vec::new(), Deadline::NEVER)).await;
            // Too much for the pipe, now and then.
            let message = content(n, if rng.one_in(4) { 300_000 } else { 3_000 });
            let _ = begin(1, client.send(&message, Deadline::NEVER)).await;
            match rng.in_range(0..4) {
                0 => drop((client, server)),
                1 => drop((server, client)),
                2 => {
                    // The operation's result is still there for who is told of the end.
                    client.close();
                    let received = server.recv_message(&mut Vec::new(), soon()).await;
                    if let Ok(Some(len)) = received {
                        assert_eq!(len, message.len());
                    }
                }
                _ => assert!(recv(&server).await == Some(message)),
            }
        }
    });
}

#[test]
fn tasks_that_are_aborted_lose_nothing() {
    let _limit = limit(here!());
    let each = rounds_or(2_000, 400);
    several().block_on(async {
        let (client, server, _listener) = pair().await;
        let server = Arc::new(server);
        let sender = tokio::spawn(async move {
            for n in 0..each {
                send(&client, &n.to_le_bytes()).await;
                tokio::task::yield_now().await;
            }
        });
        let mut next = 0_u32;
        while next < each {
            let (got, mut come) = tokio::sync::mpsc::unbounded_channel();
            let stream = Arc::clone(&server);
            let receiver = tokio::spawn(async move {
                loop {
                    let mut message = Vec::new();
                    let received = stream.recv_message(&mut message, soon()).await;
                    if received.unwrap().is_none() {
                        break;
                    }
                    // No await between the receive and this.
                    got.send(message).unwrap();
                }
            });
            // On another thread than this perhaps, and anywhere.
            tokio::task::yield_now().await;
            if next % 2 == 0 {
                tokio::task::yield_now().await;
            }
            receiver.abort();
            while let Some(message) = come.recv().await {
                assert_eq!(message, next.to_le_bytes());
                next += 1;
            }
        }
        sender.await.unwrap();
    });
}
