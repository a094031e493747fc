//! M1 to M15: messages, in whole and in parts.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pipetalk::{
    ConnectOptions, Deadline, Error, Listener, LocalListener, MAX_MESSAGE, Part, Stream, Waiting,
};

use crate::harness::*;
use crate::util::Actor;

fn part<S: Stream>(stream: &S, buf: &mut [u8]) -> Part {
    stream
        .recv(buf, soon())
        .unwrap()
        .expect("a part, not the end")
}

/// Around every size at which something changes: a header, a page, a buffer.
const SIZES: [usize; 21] = [
    0, 1, 2, 3, 4, 5, 60, 64, 511, 512, 513, 1_023, 1_024, 1_025, 4_092, 4_096, 4_100, 65_532,
    65_536, 65_540, 300_000,
];

pub(crate) fn m01_each_send_arrives_as_one_message<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(|| {
                for (n, size) in SIZES.into_iter().cycle().take(SIZES.len() * 5).enumerate() {
                    send(&from, &content(n, size));
                }
            });
            for (n, size) in SIZES.into_iter().cycle().take(SIZES.len() * 5).enumerate() {
                let message = recv(&to).unwrap();
                assert_eq!(message.len(), size, "message {n}");
                assert!(is_content(n, &message), "message {n} of {size} bytes");
            }
        });
        drop(from);
        assert_ended(&to);
    });
}

pub(crate) fn m01_messages_that_wait_together_stay_apart<T: Transport>() {
    both_ways::<T>(|from, to| {
        for n in 0..200 {
            send(&from, &content(n, n % 7));
        }
        for n in 0..200 {
            assert_eq!(recv(&to).unwrap(), content(n, n % 7), "message {n}");
        }
    });
}

pub(crate) fn m01_pieces_arrive_as_one_message<T: Transport>() {
    both_ways::<T>(|from, to| {
        for (pieces, size) in [
            (0, 0),
            (1, 0),
            (3, 0),
            (1, 5),
            (7, 100),
            (3_000, 1),
            (40, 9_000),
        ] {
            let whole = content(pieces, pieces * size);
            let slices: Vec<_> = match size {
                0 => vec![IoSlice::new(&[]); pieces],
                _ => whole.chunks(size).map(IoSlice::new).collect(),
            };
            thread::scope(|scope| {
                scope.spawn(|| from.send_vectored(&slices, soon()).unwrap());
                assert!(recv(&to).unwrap() == whole, "{pieces} pieces of {size}");
            });
        }
        // Empty pieces between others are nothing.
        let pieces = [&b""[..], b"a", b"", b"bc", b""].map(IoSlice::new);
        from.send_vectored(&pieces, soon()).unwrap();
        assert_eq!(recv(&to).unwrap(), b"abc");
    });
}

pub(crate) fn m02_a_short_buffer_takes_a_message_in_parts<T: Transport>() {
    both_ways::<T>(|from, to| {
        let message = content(2, 1_000);
        send(&from, &message);
        send(&from, b"next");
        let mut buf = [0; 300];
        for at in [0, 300, 600] {
            assert_eq!(
                part(&to, &mut buf),
                Part {
                    len: 300,
                    last: false
                }
            );
            assert_eq!(buf, message[at..at + 300]);
        }
        assert_eq!(
            part(&to, &mut buf),
            Part {
                len: 100,
                last: true
            }
        );
        assert_eq!(buf[..100], message[900..]);
        assert_eq!(part(&to, &mut buf), Part { len: 4, last: true });
        assert_eq!(&buf[..4], b"next");
    });
}

pub(crate) fn m02_a_buffer_that_fits_exactly_takes_the_last_part<T: Transport>() {
    both_ways::<T>(|from, to| {
        for (size, buffer) in [(300, 300), (600, 300), (1, 1), (3, 1), (8_192, 4_096)] {
            let message = content(size, size);
            send(&from, &message);
            let mut received = Vec::new();
            let mut buf = vec![0; buffer];
            for n in 1..=size / buffer {
                let part = part(&to, &mut buf);
                assert_eq!(
                    part,
                    Part {
                        len: buffer,
                        last: n == size / buffer
                    },
                    "{size}, part {n}"
                );
                received.extend_from_slice(&buf);
            }
            assert!(received == message);
        }
    });
}

pub(crate) fn m02_each_part_but_the_last_fills_the_buffer<T: Transport>() {
    both_ways::<T>(|from, to| {
        let message = content(9, 3_000_000);
        thread::scope(|scope| {
            // The sender has to wait for us in the middle of it.
            scope.spawn(|| send(&from, &message));
            let mut buf = vec![0; 70_001];
            let mut at = 0;
            loop {
                let Part { len, last } = part(&to, &mut buf);
                assert!(buf[..len] == message[at..at + len], "at {at}");
                at += len;
                assert_eq!(last, at == message.len());
                if last {
                    break;
                }
                assert_eq!(len, buf.len(), "at {at}");
            }
        });
    });
}

pub(crate) fn m02_a_buffer_of_nothing_takes_nothing<T: Transport>() {
    both_ways::<T>(|from, to| {
        send(&from, b"hello");
        for _ in 0..3 {
            assert_eq!(
                part(&to, &mut []),
                Part {
                    len: 0,
                    last: false
                }
            );
        }
        assert_eq!(recv(&to).unwrap(), b"hello");
        // The whole of an empty message fits.
        send(&from, b"");
        send(&from, b"behind");
        assert_eq!(part(&to, &mut []), Part { len: 0, last: true });
        assert_eq!(recv(&to).unwrap(), b"behind");
    });
}

pub(crate) fn m03_a_receive_grows_its_vector_to_fit_and_no_further<T: Transport>() {
    both_ways::<T>(|from, to| {
        let mut message = Vec::new();
        let size = 700_001;
        thread::scope(|scope| {
            scope.spawn(|| send(&from, &content(3, size)));
            assert_eq!(to.recv_message(&mut message, soon()).unwrap(), Some(size));
        });
        assert!(is_content(3, &message));
        let capacity = message.capacity();
        assert!(
            capacity <= size + (64 << 10),
            "a capacity of {capacity} for {size} bytes"
        );
        // And a vector that fits is used as it is.
        let at = message.as_ptr();
        for small in [10, 5_000, 0, 60_000] {
            send(&from, &content(small, small));
            assert_eq!(to.recv_message(&mut message, soon()).unwrap(), Some(small));
            assert!(is_content(small, &message) && message.len() == small);
            assert_eq!((message.capacity(), message.as_ptr()), (capacity, at));
        }
    });
}

pub(crate) fn m04_a_message_over_the_limit_is_told_and_the_next_is_intact<T: Transport>() {
    let setup = Setup {
        max_message: Some(1_000),
        ..Setup::default()
    };
    both_ways_with::<T>(&setup, |from, to| {
        assert_eq!(to.max_message(), 1_000);
        let mut message = Vec::new();
        for size in [1_001, 1_000, 5_000, 0, 40_000, 999, 1_001, 1_001] {
            send(&from, &content(size, size));
            let received = to.recv_message(&mut message, soon());
            if size > 1_000 {
                assert_eq!(ours(received), Error::TooLarge { limit: 1_000, size });
                assert!(message.is_empty() && message.capacity() < 40_000);
            } else {
                assert_eq!(received.unwrap(), Some(size));
                assert!(is_content(size, &message));
            }
        }
    });
}

pub(crate) fn m04_a_message_over_limit_and_buffers_is_told_while_it_comes<T: Transport>() {
    let setup = Setup {
        max_message: Some(1_000),
        ..Setup::default()
    };
    both_ways_with::<T>(&setup, |from, to| {
        let size = 5_000_000;
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&from, &content(4, size));
                send(&from, b"next");
                drop(from);
            });
            let received = to.recv_message(&mut Vec::new(), soon());
            assert_eq!(ours(received), Error::TooLarge { limit: 1_000, size });
            assert_eq!(recv(&to).unwrap(), b"next");
            assert_ended(&to);
        });
    });
}

pub(crate) fn m04_a_dropped_message_is_not_seen_in_parts_either<T: Transport>() {
    let setup = Setup {
        max_message: Some(10),
        ..Setup::default()
    };
    both_ways_with::<T>(&setup, |from, to| {
        send(&from, &content(1, 3_000));
        send(&from, &content(2, 3_000));
        send(&from, b"next");
        let received = to.recv_message(&mut Vec::new(), soon());
        assert_eq!(
            ours(received),
            Error::TooLarge {
                limit: 10,
                size: 3_000
            }
        );
        // In parts, the limit is the caller's buffer: this is the second message.
        let mut buf = [0; 2_000];
        assert_eq!(
            part(&to, &mut buf),
            Part {
                len: 2_000,
                last: false
            }
        );
        assert!(is_content(2, &buf));
        assert_eq!(
            part(&to, &mut buf),
            Part {
                len: 1_000,
                last: true
            }
        );
        assert_eq!(recv(&to).unwrap(), b"next");
    });
}

pub(crate) fn m04_what_no_receiver_could_take_is_refused_by_the_sender<T: Transport>() {
    both_ways::<T>(|from, to| {
        // Pages that are never touched cost nothing.
        let message = vec![0; MAX_MESSAGE + 1];
        let refused = Error::TooLarge {
            limit: MAX_MESSAGE,
            size: MAX_MESSAGE + 1,
        };
        assert_eq!(ours(from.send(&message, Deadline::NOW)), refused);
        let pieces = [&message[..MAX_MESSAGE], &message[..1]].map(IoSlice::new);
        assert_eq!(ours(from.send_vectored(&pieces, Deadline::NOW)), refused);
        assert_eq!(
            ours(from.transact(&message, &mut [0; 4], Deadline::NOW)),
            refused
        );
        assert_works(&from, &to);
    });
}

pub(crate) fn m05_an_empty_message_is_not_the_end<T: Transport>() {
    both_ways::<T>(|from, to| {
        send(&from, b"");
        assert_eq!(recv(&to).as_deref(), Some(&b""[..]));
        send(&from, b"");
        assert_eq!(part(&to, &mut [0; 16]), Part { len: 0, last: true });
        for message in [&b"a"[..], b"", b"", b"b", b""] {
            send(&from, message);
        }
        for message in [&b"a"[..], b"", b"", b"b", b""] {
            assert_eq!(recv(&to).as_deref(), Some(message));
        }
        assert_works(&from, &to);
    });
}

pub(crate) fn m05_an_empty_message_wakes_a_receiver_that_waits<T: Transport>() {
    both_ways::<T>(|from, to| {
        let mut rng = Rng::new();
        for _ in 0..rounds(200) {
            thread::scope(|scope| {
                let mut sender_rng = rng.fork();
                let from = &from;
                scope.spawn(move || {
                    sender_rng.shake();
                    send(from, b"");
                });
                rng.shake();
                assert_eq!(recv(&to).as_deref(), Some(&b""[..]));
            });
        }
    });
}

pub(crate) fn m06_an_empty_message_then_close_is_a_message_then_the_end<T: Transport>() {
    both_ways::<T>(|from, to| {
        send(&from, b"");
        drop(from);
        assert_eq!(recv(&to).as_deref(), Some(&b""[..]));
        assert_ended(&to);
    });
    both_ways::<T>(|from, to| {
        send(&from, b"data");
        send(&from, b"");
        from.close();
        assert_eq!(part(&to, &mut [0; 16]), Part { len: 4, last: true });
        assert_eq!(part(&to, &mut [0; 16]), Part { len: 0, last: true });
        assert_ended(&to);
    });
}

pub(crate) fn m07_writers_on_several_threads_never_interleave<T: Transport>() {
    const WRITERS: u8 = 4;
    let each = rounds(400);
    both_ways::<T>(|from, to| {
        let mut rng = Rng::new();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (from, mut rng) = (&from, rng.fork());
                scope.spawn(move || {
                    for n in 0..each {
                        let mut message = vec![writer; 5 + rng.size(100_000)];
                        message[1..5].copy_from_slice(&n.to_le_bytes());
                        if rng.one_in(3) {
                            let (head, tail) = message.split_at(rng.in_range(0..message.len()));
                            let pieces = [head, tail].map(IoSlice::new);
                            from.send_vectored(&pieces, soon()).unwrap();
                        } else {
                            send(from, &message);
                        }
                    }
                });
            }
            let mut next = [0; WRITERS as usize];
            for _ in 0..u32::from(WRITERS) * each {
                let message = recv(&to).unwrap();
                let writer = message[0];
                let n = u32::from_le_bytes(message[1..5].try_into().unwrap());
                assert_eq!(n, next[usize::from(writer)], "of writer {writer}");
                next[usize::from(writer)] += 1;
                assert!(
                    message[5..].iter().all(|&byte| byte == writer),
                    "writer {writer}, {n}"
                );
            }
        });
    });
}

pub(crate) fn m08_a_message_larger_than_every_buffer_arrives_whole<T: Transport>() {
    let setup = Setup {
        buffer_size: Some(64 << 10),
        ..Setup::default()
    };
    both_ways_with::<T>(&setup, |from, to| {
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&from, &content(8, HUGE));
                send(&from, b"behind it");
            });
            let message = recv(&to).unwrap();
            assert_eq!(message.len(), HUGE);
            assert!(is_content(8, &message));
            assert_eq!(recv(&to).unwrap(), b"behind it");
        });
    });
}

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

pub(crate) fn m09_a_process_that_dies_in_mid_message_is_truncated() {
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
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

pub(crate) fn m13_peek_says_what_waits_and_takes_nothing<T: Transport>() {
    both_ways::<T>(|from, to| {
        let nothing = Waiting {
            bytes: 0,
            message: None,
        };
        assert_eq!(to.peek().unwrap(), Some(nothing));
        send(&from, &content(1, 10));
        until("a message waits", || {
            to.peek().unwrap().unwrap().message.is_some()
        });
        for _ in 0..3 {
            assert_eq!(
                to.peek().unwrap(),
                Some(Waiting {
                    bytes: 10,
                    message: Some(10)
                })
            );
        }
        assert_eq!(
            part(&to, &mut [0; 4]),
            Part {
                len: 4,
                last: false
            }
        );
        assert_eq!(
            to.peek().unwrap(),
            Some(Waiting {
                bytes: 6,
                message: Some(6)
            })
        );
        send(&from, &content(2, 100));
        until("both wait", || to.peek().unwrap().unwrap().bytes >= 106);
        let both = to.peek().unwrap().unwrap();
        assert_eq!(both.message, Some(6));
        assert!(both.bytes <= 106 + 4, "{both:?}");
        let mut buf = [0; 200];
        assert_eq!(part(&to, &mut buf), Part { len: 6, last: true });
        assert_eq!(buf[..6], content(1, 10)[4..]);
        assert_eq!(to.peek().unwrap().unwrap().message, Some(100));
        assert_eq!(recv(&to).unwrap(), content(2, 100));
        assert_eq!(to.peek().unwrap(), Some(nothing));
    });
}

pub(crate) fn m13_peek_of_a_large_message_says_all_of_it<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(|| send(&from, &content(5, 2_000_000)));
            until("a message waits", || {
                to.peek().unwrap().unwrap().message.is_some()
            });
            assert_eq!(to.peek().unwrap().unwrap().message, Some(2_000_000));
            let mut buf = vec![0; 999_999];
            assert!(!part(&to, &mut buf).last);
            assert_eq!(to.peek().unwrap().unwrap().message, Some(1_000_001));
            let mut rest = vec![0; 1_000_001];
            assert_eq!(
                part(&to, &mut rest),
                Part {
                    len: 1_000_001,
                    last: true
                }
            );
            buf.extend_from_slice(&rest);
            assert!(is_content(5, &buf));
        });
    });
}

pub(crate) fn m13_peek_of_an_empty_message_and_of_the_end<T: Transport>() {
    both_ways::<T>(|from, to| {
        send(&from, b"");
        if T::PEEK_SEES_EMPTY {
            until("a message waits", || {
                to.peek().unwrap().unwrap().message == Some(0)
            });
        }
        assert_eq!(to.peek().unwrap().unwrap().bytes, 0);
        send(&from, b"last");
        drop(from);
        assert_eq!(recv(&to).unwrap(), b"");
        assert_eq!(
            to.peek().unwrap(),
            Some(Waiting {
                bytes: 4,
                message: Some(4)
            })
        );
        assert_eq!(recv(&to).unwrap(), b"last");
        until("the end is seen", || to.peek().unwrap().is_none());
        assert_ended(&to);
        assert_eq!(to.peek().unwrap(), None);
    });
}

pub(crate) fn m13_peek_never_waits_for_a_thread_that_receives<T: Transport>() {
    both_ways::<T>(|from, to| {
        let received = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(recv(&to).unwrap(), b"at last");
                received.store(true, Ordering::SeqCst);
            });
            for _ in 0..1_000 {
                let peeked = promptly("peeking", || to.peek().unwrap());
                assert_eq!(
                    peeked,
                    Some(Waiting {
                        bytes: 0,
                        message: None
                    })
                );
            }
            assert!(!received.load(Ordering::SeqCst));
            send(&from, b"at last");
        });
    });
}

/// Answers each message with itself, `times` over, until the end.
fn echo<S: Stream>(stream: &S, times: usize) {
    let mut message = Vec::new();
    while stream.recv_message(&mut message, soon()).unwrap().is_some() {
        stream.send(&message.repeat(times), soon()).unwrap();
    }
}

pub(crate) fn m14_transact_sends_and_receives_the_reply<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(|| echo(&to, 1));
            let mut reply = vec![0; 300_000];
            for (n, size) in SIZES.into_iter().cycle().take(SIZES.len() * 3).enumerate() {
                let request = content(n, size);
                let part = from.transact(&request, &mut reply, soon()).unwrap();
                assert_eq!(
                    part,
                    Some(Part {
                        len: size,
                        last: true
                    })
                );
                assert!(reply[..size] == request, "{size} bytes");
            }
            from.close();
        });
    });
}

pub(crate) fn m14_a_reply_over_the_buffer_continues_in_parts<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(|| echo(&to, 10));
            // Less than the pipe's buffers, and more.
            for size in [10, 20_000] {
                let request = content(size, size);
                let mut whole = vec![0; size * 10];
                let first = from.transact(&request, &mut whole[..size], soon()).unwrap();
                assert_eq!(
                    first,
                    Some(Part {
                        len: size,
                        last: false
                    })
                );
                // With the rest waiting, there is no room for another.
                let busy = from.transact(b"x", &mut [0; 8], soon());
                assert_eq!(ours(busy), Error::Busy);
                let rest = part(&from, &mut whole[size..]);
                assert_eq!(
                    rest,
                    Part {
                        len: size * 9,
                        last: true
                    }
                );
                assert!(whole == request.repeat(10), "{size} bytes");
            }
            from.close();
        });
    });
}

pub(crate) fn m14_with_unread_data_waiting_it_is_busy_and_nothing_is_sent<T: Transport>() {
    both_ways::<T>(|from, to| {
        send(&to, b"unasked");
        until("it waits", || {
            from.peek().unwrap().unwrap().message.is_some()
        });
        let busy = from.transact(b"request", &mut [0; 8], soon());
        assert_eq!(ours(busy), Error::Busy);
        assert_eq!(recv(&from).unwrap(), b"unasked");
        assert_eq!(
            to.peek().unwrap(),
            Some(Waiting {
                bytes: 0,
                message: None
            })
        );
        assert_works(&from, &to);
    });
}

pub(crate) fn m14_nobody_else_gets_the_reply<T: Transport>() {
    const THREADS: u64 = 4;
    let each = u64::from(rounds(500));
    both_ways::<T>(|from, to| {
        let served = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| echo(&to, 1));
            for thread in 0..THREADS {
                let (from, served) = (&from, &served);
                scope.spawn(move || {
                    for n in 0..each {
                        let request = (thread << 32 | n).to_le_bytes();
                        let mut reply = [0; 8];
                        let part = from.transact(&request, &mut reply, soon()).unwrap();
                        assert_eq!(part, Some(Part { len: 8, last: true }));
                        assert_eq!(reply, request);
                    }
                    if served.fetch_add(1, Ordering::SeqCst) + 1 == THREADS {
                        from.close();
                    }
                });
            }
        });
    });
}

pub(crate) fn m14_a_transaction_that_timed_out_closes_for_good<T: Transport>() {
    both_ways::<T>(|from, to| {
        assert_times_out("a transaction", |deadline| {
            from.transact(b"request", &mut [0; 8], deadline)
        });
        // A late reply would be taken for that of the next request.
        let next = kind(from.transact(b"next", &mut [0; 8], soon()));
        assert!(
            matches!(next, ErrorKind::BrokenPipe | ErrorKind::NotConnected),
            "{next:?}"
        );
        assert_eq!(recv(&to).unwrap(), b"request");
        assert_ended(&to);
    });
}

pub(crate) fn m14_a_peer_that_closes_without_a_reply_is_the_end<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(move || {
                assert_eq!(recv(&to).unwrap(), b"request");
                drop(to);
            });
            let reply = from.transact(b"request", &mut [0; 8], soon()).unwrap();
            assert_eq!(reply, None);
        });
        assert_eq!(
            kind(from.transact(b"next", &mut [0; 8], soon())),
            ErrorKind::BrokenPipe
        );
    });
}

pub(crate) fn m15_call_connects_asks_and_closes() {
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    thread::scope(|scope| {
        let listener = &listener;
        scope.spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let message = recv(&stream).unwrap();
                send(&stream, &message.repeat(2));
                assert_ended(&stream);
            }
        });
        let options = ConnectOptions::new();
        let mut reply = Vec::new();
        for size in [0, 10, 5_000, 700_000] {
            let request = content(size, size);
            let len = options
                .call(place.name(), &request, &mut reply, soon())
                .unwrap();
            assert_eq!(len, size * 2);
            assert!(reply == request.repeat(2));
        }
        let small = ConnectOptions::new().max_message(9);
        let too_large = small.call(place.name(), b"12345", &mut reply, soon());
        assert_eq!(ours(too_large), Error::TooLarge { limit: 9, size: 10 });
        listener.stop();
    });
}

pub(crate) fn m15_call_fails_by_one_deadline_and_in_words() {
    let place = Place::new();
    let options = ConnectOptions::new();
    let mut reply = Vec::new();
    let nobody = options.call(place.name(), b"?", &mut reply, soon());
    assert_eq!(kind(nobody), ErrorKind::NotFound);
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_times_out("a call", |deadline| {
        options.call(place.name(), b"?", &mut Vec::new(), deadline)
    });
    let stream = listener.accept(soon()).unwrap();
    assert_eq!(recv(&stream).unwrap(), b"?");
    assert_ended(&stream);
    thread::scope(|scope| {
        scope.spawn(|| {
            let stream = listener.accept(soon()).unwrap();
            assert_eq!(recv(&stream).unwrap(), b"no answer");
        });
        let ended = options.call(place.name(), b"no answer", &mut reply, soon());
        assert_eq!(kind(ended), ErrorKind::UnexpectedEof);
    });
}
