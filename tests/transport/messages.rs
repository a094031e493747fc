//! M1 to M3 and M5 to M8: messages, in whole and in parts.

use std::io::IoSlice;
use std::thread;

use pipetalk::{Error, Part, Stream};

use crate::harness::*;

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

pub(crate) fn m02_a_buffer_of_nothing_waits_for_a_message<T: Transport>() {
    both_ways::<T>(|from, to| {
        let messages: [&[u8]; 4] = [b"hello", b"", &content(2, 10_000), &content(3, 60_000)];
        for message in messages {
            assert_times_out("an empty recv", |deadline| to.recv(&mut [], deadline));
            thread::scope(|scope| {
                let waiting = scope.spawn(|| part(&to, &mut []));
                send(&from, message);
                let last = message.is_empty();
                assert_eq!(waiting.join().unwrap(), Part { len: 0, last });
            });
            if !message.is_empty() {
                assert_eq!(recv(&to).unwrap(), message);
            }
        }
        from.close();
        assert_eq!(to.recv(&mut [], soon()).unwrap(), None);
    });
}

/// However the message is received then, and whatever is asked before.
pub(crate) fn m02_what_a_buffer_of_nothing_has_seen_is_received<T: Transport>() {
    let setup = Setup {
        max_message: Some(20_000),
        ..Setup::default()
    };
    both_ways_with::<T>(&setup, |from, to| {
        let see = |last| assert_eq!(part(&to, &mut []), Part { len: 0, last });
        // In parts.
        send(&from, b"hello");
        see(false);
        send(&from, b"behind");
        until("both wait", || to.peek().unwrap().unwrap().bytes >= 11);
        assert_eq!(to.peek().unwrap().unwrap().message, Some(5));
        assert_eq!(ours(to.transact(b"?", &mut [0; 8], soon())), Error::Busy);
        let mut buf = [0; 4];
        assert_eq!(
            part(&to, &mut buf),
            Part {
                len: 4,
                last: false
            }
        );
        see(false);
        assert_eq!(to.peek().unwrap().unwrap().message, Some(1));
        assert_eq!(part(&to, &mut buf), Part { len: 1, last: true });
        assert_eq!(&buf, b"oell");
        assert_eq!(recv(&to).unwrap(), b"behind");
        // Large, and over the limit.
        for size in [10_000, 20_000] {
            send(&from, &content(size, size));
            see(false);
            assert_eq!(to.peek().unwrap().unwrap().message, Some(size));
            let mut half = vec![0; size / 2];
            assert_eq!(
                part(&to, &mut half),
                Part {
                    len: size / 2,
                    last: false
                }
            );
            let rest = recv(&to).unwrap();
            half.extend_from_slice(&rest);
            assert!(is_content(size, &half), "{size} bytes");
        }
        let too_large = |size| Error::TooLarge {
            limit: 20_000,
            size,
        };
        send(&from, &content(0, 20_001));
        see(false);
        let received = to.recv_message(&mut Vec::new(), soon());
        assert_eq!(ours(received), too_large(20_001));
        // The last thing before the end.
        send(&from, b"last");
        see(false);
        from.close();
        assert_eq!(to.peek().unwrap().unwrap().message, Some(4));
        assert_eq!(recv(&to).unwrap(), b"last");
        assert_ended(&to);
    });
}

/// What fits into one read is told too.
pub(crate) fn m04_a_small_message_over_the_limit_is_told_after_a_look<T: Transport>() {
    let setup = Setup {
        max_message: Some(3),
        ..Setup::default()
    };
    both_ways_with::<T>(&setup, |from, to| {
        for _ in 0..2 {
            send(&from, b"four");
            send(&from, b"two");
            assert!(!part(&to, &mut []).last);
            let received = to.recv_message(&mut Vec::new(), soon());
            assert_eq!(ours(received), Error::TooLarge { limit: 3, size: 4 });
            assert_eq!(recv(&to).unwrap(), b"two");
        }
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
