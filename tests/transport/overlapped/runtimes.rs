//! Streams without the runtime that they were made in, and threads that end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
use pipetalk::{Deadline, Error, ListenOptions};

use crate::overlapped::harness::*;

/// Polls a future by hand until it is ready: there is no runtime here.
fn by_hand<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::yield_now(),
        }
    }
}

#[test]
fn streams_work_without_the_runtime_that_they_were_made_in() {
    let _limit = limit(here!());
    let (client, server, listener) = several().block_on(pair());
    let huge = content(0, HUGE);
    by_hand(async {
        let send = async {
            client.send(&huge, Deadline::NEVER).await.unwrap();
            client.close();
        };
        let receive = async {
            let mut message = Vec::new();
            let received = server.recv_message(&mut message, Deadline::NEVER).await;
            assert_eq!(received.unwrap(), Some(HUGE));
            assert!(message == huge);
            let ended = server.recv_message(&mut message, Deadline::NEVER).await;
            assert_eq!(ended.unwrap(), None);
        };
        tokio::join!(send, receive);
    });
    drop((client, server, listener));
}

#[test]
fn what_is_pending_may_be_dropped_with_the_runtime_or_after_it() {
    let _limit = limit(here!());
    for runtime in [single as fn() -> _, several] {
        let runtime = runtime();
        let (client, server, listener) = runtime.block_on(pair());
        let (client, server, listener) = (Arc::new(client), Arc::new(server), Arc::new(listener));
        let task = (
            Arc::clone(&client),
            Arc::clone(&server),
            Arc::clone(&listener),
        );
        runtime.spawn(async move {
            let (client, server, listener) = task;
            let huge = content(0, HUGE);
            tokio::join!(
                async { drop(client.send(&huge, Deadline::NEVER).await) },
                async { drop(client.recv(&mut [0; 8], Deadline::NEVER).await) },
                async { drop(listener.accept(Deadline::NEVER).await) },
                async { drop(server.send(b"hello", Deadline::NEVER).await) },
            );
        });
        runtime.block_on(tokio::task::yield_now());
        drop(runtime);
        drop((client, server, listener));
    }
}

#[test]
fn a_receive_that_was_begun_on_a_thread_that_ended_loses_nothing() {
    let _limit = limit(here!());
    let runtime = several();
    for round in 0..rounds_or(300, 100) as usize {
        let (client, server, _listener) = runtime.block_on(pair());
        let receiver = thread::spawn(move || {
            let mut message = Vec::new();
            let received = single().block_on(async {
                begin(1, server.recv_message(&mut message, Deadline::NEVER)).await
            });
            (server, received.map(|received| (received, message)))
        });
        let message = content(round, 3_000);
        // Before the thread ends, or while it does, or afterwards.
        let (server, received) = if round % 2 == 0 {
            let ended = receiver.join().unwrap();
            runtime.block_on(send(&client, &message));
            ended
        } else {
            runtime.block_on(send(&client, &message));
            receiver.join().unwrap()
        };
        runtime.block_on(async {
            match received {
                Some((received, bytes)) => {
                    assert_eq!(received.unwrap(), Some(3_000));
                    assert!(bytes == message);
                }
                None => assert!(recv(&server).await == Some(message)),
            }
            assert_works(&client, &server).await;
        });
    }
}

#[test]
fn an_accept_that_was_begun_on_a_thread_that_ended_loses_no_client() {
    let _limit = limit(here!());
    let runtime = several();
    for round in 0..rounds_or(300, 100) {
        let name = PortableName::new();
        let listener = runtime.block_on(async { LocalListener::bind(&*name).unwrap() });
        let listener = thread::spawn(move || {
            let accept = listener.accept(Deadline::NEVER);
            let accepted = single().block_on(begin(1, accept));
            (listener, accepted)
        });
        let (client, (listener, accepted)) = if round % 2 == 0 {
            let listener = listener.join().unwrap();
            (runtime.block_on(LocalStream::connect(&*name)), listener)
        } else {
            let client = runtime.block_on(LocalStream::connect(&*name));
            (client, listener.join().unwrap())
        };
        runtime.block_on(async {
            let server = match accepted {
                Some(server) => server.unwrap(),
                None => listener.accept(soon()).await.unwrap(),
            };
            assert_works(&client.unwrap(), &server).await;
        });
    }
}

#[test]
fn a_send_that_was_begun_on_a_thread_that_ended_is_whole_or_the_end() {
    let _limit = limit(here!());
    let runtime = several();
    for round in 0..rounds_or(100, 30) as usize {
        let (client, server, _listener) = runtime.block_on(pair());
        let message = content(round, HUGE);
        let huge = message.clone();
        let client = thread::spawn(move || {
            single().block_on(begin_and_drop(client.send(&huge, Deadline::NEVER)));
            client
        });
        let client = client.join().unwrap();
        let (sent, received) = runtime.block_on(async {
            let mut received = Vec::new();
            let (sent, result) = tokio::join!(
                client.send(b"next", soon()),
                server.recv_message(&mut received, soon())
            );
            (sent, result.map(|len| len.map(|_| received)))
        });
        match sent {
            // The one before has gone, and this one too.
            Ok(()) => {
                assert!(received.unwrap() == Some(message));
                assert_eq!(
                    runtime.block_on(recv(&server)).as_deref(),
                    Some(&b"next"[..])
                );
            }
            // It has been cancelled.
            sent => {
                assert_eq!(ours(sent), Error::Poisoned);
                match received {
                    Ok(None) => {}
                    received => assert_eq!(ours(received), Error::Truncated),
                }
            }
        }
    }
}

#[test]
fn a_send_that_fits_and_was_begun_on_a_thread_that_ended_is_sent_all_the_same() {
    const BUFFER: usize = 64 << 10;
    let _limit = limit(here!());
    let runtime = several();
    let options = ListenOptions::new().buffer_size(BUFFER);
    for round in 0..rounds_or(100, 30) as usize {
        let (client, server, _listener) = runtime.block_on(pair_with(&options));
        let first = content(round, BUFFER);
        runtime.block_on(send(&client, &first));
        let second = content(round + 1, 1 + round * 600);
        let waits = second.clone();
        let client = thread::spawn(move || {
            single().block_on(begin_and_drop(client.send(&waits, Deadline::NEVER)));
            client
        });
        let client = client.join().unwrap();
        runtime.block_on(async {
            let receive = async {
                assert!(recv(&server).await == Some(first));
                assert!(recv(&server).await == Some(second));
                assert_eq!(recv(&server).await.as_deref(), Some(&b"next"[..]));
            };
            tokio::join!(send(&client, b"next"), receive);
            assert_works(&client, &server).await;
        });
    }
}

#[test]
fn tasks_get_their_turn_while_another_never_has_to_wait() {
    let _limit = limit(here!());
    single().block_on(async {
        let (client, server, _listener) = pair().await;
        let flood = tokio::spawn(async move {
            let mut message = Vec::new();
            loop {
                client.send(b"and on", soon()).await.unwrap();
                server.recv_message(&mut message, soon()).await.unwrap();
            }
        });
        // On one thread, this comes to its end only if the other lets it.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        flood.abort();
    });
}
