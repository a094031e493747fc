//! M9 to M11: what stops in the middle of a message: a writer that closes or dies, a call that times out.

use std::io::{self, ErrorKind, IoSlice};
use std::thread;
use std::time::Duration;

use pipetalk::{Deadline, Error, Listener, Part, Stream};

use crate::harness::*;
use util::Actor;

pub(crate) fn m09_a_writer_that_closes_in_mid_message_is_truncated<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            let sending = scope.spawn(|| from.send(&content(9, HUGE), soon()));
            let mut buf = vec![0; 1_000];
            assert_eq!(
                part(&to, &mut buf),
                Part {
                    len: 1_000,
                    last: false
                }
            );
            assert!(is_content(9, &buf));
            from.close();
            let closed = kind(sending.join().unwrap());
            assert!(
                matches!(closed, ErrorKind::NotConnected | ErrorKind::BrokenPipe),
                "{closed:?}"
            );
            // What came before the cut may be received, but never a last part, and never the end before
            // it was said that the message is cut.
            let error = loop {
                // Looking takes nothing, bad news neither.
                let _ = to.peek();
                match to.recv(&mut buf, soon()) {
                    Ok(Some(part)) => assert!(!part.last),
                    Ok(None) => panic!("a clean end in the middle of a message"),
                    Err(error) => break error,
                }
            };
            assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            // After which it is just closed.
            assert_ended(&to);
        });
    });
}

pub(crate) fn m09_a_whole_receive_is_whole_or_truncated<T: Transport>() {
    let size = 1 << 20;
    let message = content(9, size);
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    for round in 0..rounds(300) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let (from, message) = (&from, &message);
            let sending = scope.spawn(move || from.send(message, soon()));
            let mut receiver_rng = rng.fork();
            let receiving = scope.spawn(move || {
                receiver_rng.shake();
                let mut message = Vec::new();
                let received = to.recv_message(&mut message, soon());
                assert_ended(&to);
                received.map(|len| len.map(|_| message))
            });
            rng.shake();
            rng.shake();
            from.close();
            let sent = sending.join().unwrap();
            match receiving.join().unwrap() {
                Ok(Some(received)) => assert!(received == *message, "not whole"),
                // It had not begun.
                Ok(None) => assert!(sent.is_err(), "what was sent never came"),
                Err(error) => {
                    assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
                    assert!(sent.is_err(), "what was sent came in part");
                }
            }
        });
    }
}

pub(crate) fn m09_a_process_that_dies_in_mid_message_is_truncated<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut writer = Actor::start("send without end", &[place.name()]);
    let stream = listener.accept(soon()).unwrap();
    assert_eq!(writer.says(), "connected");
    assert_eq!(recv(&stream).unwrap(), b"a whole one");
    let mut buf = [0; 100];
    assert_eq!(
        part(&stream, &mut buf),
        Part {
            len: 100,
            last: false
        }
    );
    writer.kill();
    let error = loop {
        match stream.recv(&mut buf, soon()) {
            Ok(Some(part)) => assert!(!part.last),
            other => break other.expect_err("not a clean end"),
        }
    };
    assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
    assert_ended(&stream);
}

/// Where the message at `n` of a round is told from the others: by its first bytes.
fn numbered(n: u64, len: usize) -> Vec<u8> {
    let mut message = content(n as usize, len.max(8));
    message[..8].copy_from_slice(&n.to_le_bytes());
    message
}

pub(crate) fn m10_a_send_that_timed_out_never_leaves_half_a_message<T: Transport>() {
    let setup = Setup {
        buffer_size: Some(64 << 10),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let mut rng = Rng::new();
    let (mut timed_out, mut poisonings) = (0, 0);
    for round in 0..rounds_or(2_000, 1_000) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        let mut sender_rng = rng.fork();
        let (sent, late, poisoned, received) = thread::scope(|scope| {
            let sending = scope.spawn(move || {
                let rng = &mut sender_rng;
                let (mut sent, mut late, mut poisoned) = (Vec::new(), 0, false);
                for n in 0..12 {
                    let message = numbered(n, rng.size(400_000) * (1 + rng.in_range(0..2)));
                    let timeout = Duration::from_micros(rng.in_range(0..700) as u64);
                    match from.send(&message, Deadline::after(timeout)) {
                        Ok(()) => {
                            assert!(!poisoned, "sent on a poisoned connection");
                            sent.push(message);
                        }
                        Err(error) if error.kind() == ErrorKind::TimedOut => {
                            assert!(!poisoned, "waited on a poisoned connection");
                            late += 1;
                        }
                        Err(error) => {
                            assert_eq!(Error::of(&error), Some(&Error::Poisoned), "{error:?}");
                            assert!(late > 0, "poisoned by nothing");
                            if !poisoned {
                                assert_closed_by_poison(&from);
                            }
                            poisoned = true;
                        }
                    }
                    rng.shake();
                }
                (sent, late, poisoned)
            });
            let mut received = Vec::new();
            loop {
                rng.shake();
                let in_parts = rng.one_in(2);
                match recv_somehow(&to, in_parts) {
                    Ok(Some(message)) => received.push(message),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
                        break;
                    }
                }
            }
            assert_ended(&to);
            let (sent, late, poisoned) = sending.join().unwrap();
            (sent, late, poisoned, received)
        });
        // Whatever was said to be sent has come, nothing else has, and nothing in pieces.
        assert_eq!(received.len(), sent.len(), "round {round}, {late} late");
        assert!(received == sent, "round {round}, {late} late");
        timed_out += late;
        poisonings += u32::from(poisoned);
    }
    assert!(
        timed_out > 0 && poisonings > 0,
        "the timing was never shaken enough"
    );
}

/// The next message, received in whole or in parts.
fn recv_somehow<S: Stream>(stream: &S, in_parts: bool) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    if !in_parts {
        let received = stream.recv_message(&mut message, soon())?;
        return Ok(received.map(|_| message));
    }
    let mut buf = vec![0; 5_000];
    loop {
        let Some(part) = stream.recv(&mut buf, soon())? else {
            assert!(message.is_empty(), "an end in the middle of a message");
            return Ok(None);
        };
        message.extend_from_slice(&buf[..part.len]);
        if part.last {
            return Ok(Some(message));
        }
        thread::yield_now();
    }
}

/// A poisoned end sends no more, and receives nothing that could be taken for something.
fn assert_closed_by_poison<S: Stream>(stream: &S) {
    assert_eq!(kind(stream.send(b"more", soon())), ErrorKind::BrokenPipe);
    if let Err(error) = stream.recv(&mut [0; 8], soon()) {
        assert!(
            matches!(Error::of(&error), Some(Error::Poisoned | Error::Closed)),
            "{error:?}"
        );
    }
}

/// A connection of which one end has sent a part of a message when its deadline passed.
fn poisoned<T: Transport>(forth: bool) -> (T::Stream, T::Stream) {
    let (listener, dialer) = T::listen(&Setup::default());
    let mut timeout = Duration::from_millis(100);
    loop {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if forth {
            (client, server)
        } else {
            (server, client)
        };
        let begun = thread::scope(|scope| {
            // The peer has taken a part of it, so that the rest cannot be taken back.
            let reading = scope.spawn(|| to.recv(&mut [0; 100], soon()));
            let timed_out = from.send(&content(1, HUGE), Deadline::after(timeout));
            assert_eq!(kind(timed_out), ErrorKind::TimedOut);
            from.close();
            reading.join().unwrap()
        });
        match begun {
            Ok(Some(part)) => {
                assert_eq!(
                    part,
                    Part {
                        len: 100,
                        last: false
                    }
                );
                return (from, to);
            }
            // The peer was too slow to take anything before the deadline.
            _ => timeout *= 2,
        }
    }
}

pub(crate) fn m10_a_send_that_stopped_half_way_closes_for_good<T: Transport>() {
    for forth in [true, false] {
        let (from, to) = poisoned::<T>(forth);
        for _ in 0..2 {
            assert_eq!(ours(from.send(b"more", soon())), Error::Poisoned);
            let pieces = [&b"mo"[..], b"re"].map(IoSlice::new);
            assert_eq!(ours(from.send_vectored(&pieces, soon())), Error::Poisoned);
            assert_closed_by_poison(&from);
        }
        let mut buf = vec![0; 64 << 10];
        let error = loop {
            match to.recv(&mut buf, soon()) {
                Ok(Some(part)) => assert!(!part.last),
                other => break other.expect_err("not a clean end"),
            }
        };
        assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
        assert_eq!(kind(to.send(b"answer", soon())), ErrorKind::BrokenPipe);
    }
}

pub(crate) fn m11_a_receive_that_timed_out_loses_nothing<T: Transport>() {
    let messages = rounds(6_000) as usize;
    both_ways::<T>(|from, to| {
        let mut rng = Rng::new();
        let mut timed_out = 0;
        let sizes: Vec<_> = (0..messages).map(|_| rng.size(200_000)).collect();
        thread::scope(|scope| {
            let (mut sender_rng, sizes, from) = (rng.fork(), &sizes, &from);
            scope.spawn(move || {
                for (n, &size) in sizes.iter().enumerate() {
                    sender_rng.dawdle();
                    send(from, &content(n, size));
                }
            });
            let mut message = Vec::new();
            let mut buf = vec![0; 50_000];
            for (n, &size) in sizes.iter().enumerate() {
                let in_parts = rng.one_in(2);
                let mut got = 0;
                let give_up = soon();
                loop {
                    rng.shake();
                    assert!(
                        !give_up.has_passed(),
                        "message {n} of {size} bytes never came"
                    );
                    let deadline = match rng.in_range(0..4) {
                        0 => Deadline::NOW,
                        _ => Deadline::after(Duration::from_micros(rng.in_range(1..300) as u64)),
                    };
                    let received = if in_parts {
                        let most = rng.in_range(1..buf.len());
                        to.recv(&mut buf[..most], deadline).map(|part| {
                            let Part { len, last } = part.expect("a part, not the end");
                            assert!(last || len == most, "a part that ends nowhere");
                            message.truncate(got);
                            message.extend_from_slice(&buf[..len]);
                            got += len;
                            last
                        })
                    } else {
                        to.recv_message(&mut message, deadline).map(|len| {
                            got = len.expect("a message, not the end");
                            true
                        })
                    };
                    match received {
                        Ok(true) => break,
                        Ok(false) => {}
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::TimedOut, "message {n}: {error}");
                            timed_out += 1;
                        }
                    }
                }
                assert_eq!(got, size, "message {n}");
                assert!(
                    is_content(n, &message[..got]),
                    "message {n} of {size} bytes"
                );
            }
        });
        assert!(timed_out > 0, "the timing was never shaken enough");
    });
}
