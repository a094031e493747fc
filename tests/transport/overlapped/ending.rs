//! Closing, from both sides, while somebody waits or not.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use pipetalk::tokio::{LocalStream, Stream};
use pipetalk::{Deadline, Error};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use crate::overlapped::harness::*;

/// What a task comes to that has to end promptly.
async fn promptly<R>(task: JoinHandle<R>) -> R {
    timeout(Duration::from_secs(10), task)
        .await
        .unwrap()
        .unwrap()
}

#[test]
fn closing_wakes_everybody_who_waits() {
    let _limit = limit(here!());
    type End = fn(&LocalStream);
    on_each(async || {
        for end in [(|s| s.close()) as End, |s| s.abort()] {
            let (client, _server, _listener) = pair().await;
            let client = Arc::new(client);
            let mut receivers = Vec::new();
            let mut senders = Vec::new();
            for _ in 0..3 {
                let stream = Arc::clone(&client);
                receivers.push(tokio::spawn(async move {
                    stream.recv_message(&mut Vec::new(), Deadline::NEVER).await
                }));
                let stream = Arc::clone(&client);
                senders.push(tokio::spawn(async move {
                    stream.send(&content(0, HUGE), Deadline::NEVER).await
                }));
            }
            for _ in 0..20 {
                yield_now().await;
            }
            end(&client);
            for receiver in receivers {
                assert_eq!(ours(promptly(receiver).await), Error::Closed);
            }
            for sender in senders {
                assert_eq!(ours(promptly(sender).await), Error::Closed);
            }
            assert_eq!(ours(client.send(b"?", soon()).await), Error::Closed);
            assert_eq!(ours(client.peek()), Error::Closed);
            client.close();
        }
    });
}

#[test]
fn after_close_every_message_is_read_and_then_the_end() {
    let _limit = limit(here!());
    on_each(async || {
        for by_server in [false, true] {
            let (client, server, _listener) = pair().await;
            let (from, to) = if by_server {
                (&server, &client)
            } else {
                (&client, &server)
            };
            send(to, b"unread").await;
            for n in 0..20 {
                send(from, &content(n, n * 100)).await;
            }
            from.close();
            for n in 0..20 {
                assert_eq!(recv(to).await, Some(content(n, n * 100)));
            }
            assert_eq!(recv(to).await, None);
            assert_eq!(to.recv(&mut [0; 8], soon()).await.unwrap(), None);
            assert_eq!(to.peek().unwrap(), None);
            assert_eq!(kind(to.send(b"?", soon()).await), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn a_writer_that_goes_in_the_middle_of_a_message_is_truncated() {
    let _limit = limit(here!());
    on_each(async || {
        for in_parts in [false, true] {
            let (client, server, _listener) = pair().await;
            let huge = content(0, HUGE);
            begin_and_drop(client.send(&huge, Deadline::NEVER)).await;
            let mut buf = [0; 100];
            let part = server.recv(&mut buf, soon()).await.unwrap().unwrap();
            assert_eq!((part.len, part.last), (100, false));
            assert_eq!(buf, huge[..100]);
            drop(client);
            let truncated = loop {
                if !in_parts {
                    break server.recv_message(&mut Vec::new(), soon()).await.map(drop);
                }
                match server.recv(&mut buf, soon()).await {
                    Ok(Some(part)) => assert!(!part.last),
                    other => break other.map(drop),
                }
            };
            assert_eq!(ours(truncated), Error::Truncated);
            assert_eq!(recv(&server).await, None);
        }
    });
}

#[test]
fn a_send_to_a_peer_that_goes_is_a_broken_pipe() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let sender = tokio::spawn(async move { client.send(&content(0, HUGE), soon()).await });
        for _ in 0..20 {
            yield_now().await;
        }
        server.close();
        assert_eq!(kind(promptly(sender).await), ErrorKind::BrokenPipe);
    });
}

#[test]
fn aborting_drops_what_is_unread() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, listener) = pair().await;
        send(&server, b"unread").await;
        server.abort();
        assert_eq!(recv(&client).await, None);
        drop((client, server, listener));
    });
}

#[test]
fn a_final_reply_is_never_lost_by_closing_at_once() {
    let _limit = limit(here!());
    on_each(async || {
        for _ in 0..rounds_or(300, 100) {
            let (client, server, _listener) = pair().await;
            let serve = async move {
                let request = recv(&server).await.unwrap();
                send(&server, &request).await;
            };
            let ask = async {
                send(&client, b"hello").await;
                assert_eq!(recv(&client).await.as_deref(), Some(&b"hello"[..]));
                assert_eq!(recv(&client).await, None);
            };
            tokio::join!(serve, ask);
        }
    });
}
