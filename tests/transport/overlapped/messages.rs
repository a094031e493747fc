//! Whole messages and parts of them.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
use pipetalk::{ConnectOptions, Deadline, Error, ListenOptions, Part, ReadMode};

use crate::overlapped::harness::*;

/// Around every size at which something changes: the first read, a buffer that is kept, the pipe's own.
const SIZES: [usize; 18] = [
    0, 1, 7, 1_023, 1_024, 1_025, 2_047, 2_048, 2_049, 4_096, 10_000, 65_535, 65_536, 65_537,
    131_072, 300_000, 1_000_000, HUGE,
];

#[test]
fn messages_of_every_size_arrive_whole_both_ways() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        for (from, to) in [(&client, &server), (&server, &client)] {
            let sender = async {
                for (n, size) in SIZES.into_iter().enumerate() {
                    send(from, &content(n, size)).await;
                }
            };
            let receiver = async {
                for (n, size) in SIZES.into_iter().enumerate() {
                    assert!(recv(to).await == Some(content(n, size)), "{size} bytes");
                }
            };
            tokio::join!(sender, receiver);
        }
    });
}

#[test]
fn messages_are_taken_in_parts_of_every_size() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        for room in [1, 2, 7, 1_000, 1_024, 1_025, 5_000, 70_000] {
            let sizes: Vec<_> = SIZES.into_iter().filter(|size| size / room < 300).collect();
            let sender = async {
                for (n, &size) in sizes.iter().enumerate() {
                    send(&client, &content(n, size)).await;
                }
            };
            let receiver = async {
                for (n, &size) in sizes.iter().enumerate() {
                    let mut message = Vec::new();
                    loop {
                        let mut buf = vec![0xee; room];
                        let part = server.recv(&mut buf, soon()).await.unwrap();
                        let Part { len, last, .. } = part.expect("a part, not the end");
                        assert!(last || len == room, "a part of {len} that is not the last");
                        message.extend_from_slice(&buf[..len]);
                        if last {
                            break;
                        }
                    }
                    assert!(message == content(n, size), "{size} bytes by {room}");
                }
            };
            tokio::join!(sender, receiver);
        }
    });
}

#[test]
fn a_part_and_then_the_rest_as_a_whole() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        for size in [10, 1_024, 2_000, 70_000] {
            let message = content(size, size);
            let sender = async {
                send(&client, &message).await;
                send(&client, b"next").await;
            };
            let receiver = async {
                let mut buf = [0; 4];
                let part = server.recv(&mut buf, soon()).await.unwrap().unwrap();
                assert_eq!((part.len, part.last), (4, false));
                assert_eq!(buf, message[..4]);
                // Nothing is taken by nothing.
                let part = server.recv(&mut [], soon()).await.unwrap().unwrap();
                assert_eq!((part.len, part.last), (0, false));
                assert_eq!(recv(&server).await.as_deref(), Some(&message[4..]));
                assert_eq!(recv(&server).await.as_deref(), Some(&b"next"[..]));
            };
            tokio::join!(sender, receiver);
        }
    });
}

#[test]
fn an_empty_message_is_one_and_then_comes_the_end() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let receiver = async {
            assert_eq!(recv(&server).await.as_deref(), Some(&[][..]));
            let part = server.recv(&mut [0; 8], soon()).await.unwrap().unwrap();
            assert_eq!((part.len, part.last), (0, true));
            assert_eq!(recv(&server).await, None);
            assert_eq!(recv(&server).await, None);
        };
        let sender = async {
            // Once while the receive waits.
            tokio::task::yield_now().await;
            send(&client, b"").await;
            send(&client, b"").await;
            client.close();
        };
        tokio::join!(receiver, sender);
    });
}

#[test]
fn a_message_over_the_limit_is_dropped_and_the_next_is_intact() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair_with(&ListenOptions::new().max_message(2_000)).await;
        for size in [2_001, 2_049, 70_000, HUGE] {
            let sender = async {
                send(&client, &content(0, size)).await;
                send(&client, &content(1, 2_000)).await;
                send(&client, b"in parts").await;
            };
            let receiver = async {
                let too_large = server.recv_message(&mut Vec::new(), soon()).await;
                assert_eq!(ours(too_large), Error::TooLarge { limit: 2_000, size });
                assert!(recv(&server).await == Some(content(1, 2_000)));
                assert_eq!(recv(&server).await.as_deref(), Some(&b"in parts"[..]));
            };
            tokio::join!(sender, receiver);
        }
        // A small one, which has come as a whole.
        let (client, server, _listener) = pair_with(&ListenOptions::new().max_message(4)).await;
        send(&client, b"hello").await;
        send(&client, b"you").await;
        let too_large = server.recv_message(&mut Vec::new(), soon()).await;
        assert_eq!(ours(too_large), Error::TooLarge { limit: 4, size: 5 });
        assert_eq!(recv(&server).await.as_deref(), Some(&b"you"[..]));
    });
}

#[test]
fn peek_counts_what_a_receive_has_begun_to_read() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        assert_eq!(server.peek().unwrap().unwrap().message, None);
        begin_and_drop(server.recv_message(&mut Vec::new(), Deadline::NEVER)).await;
        assert_eq!(server.peek().unwrap().unwrap().message, None);
        send(&client, &content(0, 3_000)).await;
        send(&client, b"next").await;
        // It is in the operation's hands in part, and in the pipe.
        let seen = server.peek().unwrap().unwrap();
        assert_eq!((seen.message, seen.bytes), (Some(3_000), 3_004));
        assert_eq!(
            ours(server.transact(b"?", &mut [0; 8], soon()).await),
            Error::Busy
        );
        let mut buf = [0; 100];
        server.recv(&mut buf, soon()).await.unwrap();
        assert_eq!(server.peek().unwrap().unwrap().message, Some(2_900));
        assert!(recv(&server).await.unwrap() == content(0, 3_000)[100..]);
        assert_eq!(server.peek().unwrap().unwrap().message, Some(4));
        assert_eq!(recv(&server).await.as_deref(), Some(&b"next"[..]));

        begin_and_drop(server.recv_message(&mut Vec::new(), Deadline::NEVER)).await;
        client.close();
        assert_eq!(server.peek().unwrap(), None);
        assert_eq!(recv(&server).await, None);
    });
}

#[test]
fn several_messages_go_in_order_and_pieces_as_one() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let messages: Vec<_> = (0..200).map(|n| content(n, n * 20)).collect();
        let slices: Vec<_> = messages.iter().map(|m| IoSlice::new(m)).collect();
        let sender = async {
            client.send_all(&slices, soon()).await.unwrap();
            client.send_vectored(&slices, soon()).await.unwrap();
        };
        let receiver = async {
            for message in &messages {
                assert_eq!(recv(&server).await.as_ref(), Some(message));
            }
            assert!(recv(&server).await == Some(messages.concat()));
        };
        tokio::join!(sender, receiver);
    });
}

#[test]
fn a_request_and_its_reply_are_one() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let serve = async {
            while let Some(mut request) = recv(&server).await {
                request.reverse();
                send(&server, &request).await;
            }
        };
        let ask = async {
            for size in [1, 1_000, 70_000] {
                let request = content(size, size);
                let mut reply = vec![0; size];
                let part = client.transact(&request, &mut reply, soon()).await;
                assert!(part.unwrap().unwrap().last);
                reply.reverse();
                assert!(reply == request);
            }
            let mut reply = [0; 2];
            let part = client.transact(b"hello", &mut reply, soon()).await.unwrap();
            assert!(!part.unwrap().last);
            assert_eq!(&reply, b"ol");
            let busy = client.transact(b"?", &mut reply, soon()).await;
            assert_eq!(ours(busy), Error::Busy);
            assert_eq!(recv(&client).await.as_deref(), Some(&b"leh"[..]));
            client.close();
        };
        tokio::join!(serve, ask);
    });
}

/// Also where an earlier receive has begun to read, and the message has gone there.
#[test]
fn an_empty_message_that_waits_is_no_reply() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, _listener) = pair().await;
        for round in 0..rounds_or(500, 100) {
            if round % 2 == 0 {
                begin_and_drop(client.recv(&mut [0; 8], Deadline::NEVER)).await;
            }
            send(&server, b"").await;
            let mut reply = [0; 8];
            let busy = client.transact(b"?", &mut reply, soon()).await;
            assert_eq!(ours(busy), Error::Busy);
            assert_eq!(recv(&client).await.as_deref(), Some(&b""[..]));
            let serve = async {
                assert_eq!(recv(&server).await.as_deref(), Some(&b"?"[..]));
                send(&server, b"reply").await;
            };
            let (part, ()) = tokio::join!(client.transact(b"?", &mut reply, soon()), serve);
            assert_eq!(part.unwrap(), Some(Part { len: 5, last: true }));
        }
    });
}

#[test]
fn byte_read_mode_loses_the_boundaries_only() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = ListenOptions::new()
            .read_mode(ReadMode::Byte)
            .bind_tokio(&*name)
            .unwrap();
        let bytes = ConnectOptions::new().read_mode(ReadMode::Byte);
        let client = bytes.connect_tokio(&*name, soon()).await.unwrap();
        let server = listener.accept(soon()).await.unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            send(from, b"one").await;
            send(from, b"two").await;
            let mut received = Vec::new();
            while received.len() < 6 {
                let mut buf = [0; 4];
                let part = to.recv(&mut buf, soon()).await.unwrap().unwrap();
                assert!(part.last && part.len > 0);
                received.extend_from_slice(&buf[..part.len]);
            }
            assert_eq!(received, b"onetwo");
        }
        client.close();
        assert_eq!(server.recv(&mut [0; 4], soon()).await.unwrap(), None);
    });
}

#[test]
fn tasks_that_send_and_receive_at_once_never_interleave() {
    let _limit = limit(here!());
    const TASKS: usize = 4;
    let each = rounds_or(500, 100) as usize;
    on_each(async || {
        let (client, server, _listener) = pair().await;
        let (client, server) = (Arc::new(client), Arc::new(server));
        let mut tasks = Vec::new();
        for (from, to) in [(&client, &server), (&server, &client)] {
            for task in 0..TASKS {
                let from = Arc::clone(from);
                tasks.push(tokio::spawn(async move {
                    for n in 0..each {
                        let tag = task * each + n;
                        let mut message = (tag as u32).to_le_bytes().to_vec();
                        message.extend(content(tag, tag * 37 % 9_000));
                        send(&from, &message).await;
                    }
                    Vec::new()
                }));
                let to = Arc::clone(to);
                tasks.push(tokio::spawn(async move {
                    let mut tags = Vec::new();
                    for _ in 0..each {
                        let message = recv(&to).await.unwrap();
                        let (tag, rest) = message.split_first_chunk().unwrap();
                        let tag = u32::from_le_bytes(*tag) as usize;
                        assert!(rest == content(tag, tag * 37 % 9_000));
                        tags.push(tag);
                    }
                    tags
                }));
            }
        }
        let mut tags = Vec::new();
        for task in tasks {
            tags.extend(task.await.unwrap());
        }
        tags.sort_unstable();
        let all: Vec<_> = (0..TASKS * each).flat_map(|tag| [tag, tag]).collect();
        assert!(tags == all, "each message comes once at each end");
    });
}

#[test]
fn a_peer_that_blocks_and_one_that_waits_talk() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = LocalListener::bind(&*name).unwrap();
        let place = name.to_string();
        let blocking = std::thread::spawn(move || {
            use pipetalk::Stream;
            let stream = pipetalk::LocalStream::connect(&*place).unwrap();
            let mut message = Vec::new();
            while stream.recv_message(&mut message, soon()).unwrap().is_some() {
                stream.send(&message, soon()).unwrap();
            }
        });
        let server: LocalStream = listener.accept(soon()).await.unwrap();
        for (n, size) in SIZES.into_iter().enumerate() {
            let message = content(n, size);
            let (sent, received) = tokio::join!(server.send(&message, soon()), recv(&server));
            sent.unwrap();
            assert!(received.unwrap() == message, "{size} bytes");
        }
        drop(server);
        blocking.join().unwrap();
    });
}

#[test]
fn a_wait_gives_up_at_its_deadline() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, listener) = pair().await;
        for deadline in [Deadline::NOW, in_a_moment()] {
            let mut message = Vec::new();
            let received = server.recv_message(&mut message, deadline).await;
            assert_eq!(kind(received), ErrorKind::TimedOut);
            assert_eq!(
                kind(server.recv(&mut [0; 8], deadline).await),
                ErrorKind::TimedOut
            );
            assert_eq!(kind(listener.accept(deadline).await), ErrorKind::TimedOut);
        }
        // What comes is there at once for who does not want to wait.
        for n in 0..100 {
            send(&client, &content(n, n)).await;
            let mut message = Vec::new();
            let received = server.recv_message(&mut message, Deadline::NOW).await;
            assert_eq!(received.unwrap(), Some(n));
            assert_eq!(message, content(n, n));
            let none = server.recv_message(&mut message, Deadline::NOW).await;
            assert_eq!(kind(none), ErrorKind::TimedOut);
        }
    });
}
