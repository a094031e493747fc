//! M14 and M15: a request and its reply, on a connection and on one of its own.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pipetalk::{ConnectOptions, Deadline, Error, Listener, Part, Stream, Waiting};

use crate::harness::*;

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

/// A look does not show an empty message everywhere, but it is one.
pub(crate) fn m14_any_message_that_waits_is_busy_and_is_kept<T: Transport>() {
    both_ways::<T>(|from, to| {
        // Small enough for one system call with the reply, where there is one, and not.
        for request in [7, 100_000] {
            for unasked in [0, 1, 4_096, 5_000, 60_000] {
                let (request, unasked) = (content(1, request), content(2, unasked));
                send(&to, &unasked);
                for _ in 0..2 {
                    let busy = from.transact(&request, &mut [0; 8], soon());
                    assert_eq!(ours(busy), Error::Busy);
                }
                let message = from.peek().unwrap().unwrap().message;
                assert!(message == Some(unasked.len()) || unasked.is_empty());
                send(&to, b"behind");
                let mut received = Vec::new();
                loop {
                    let mut buf = [0; 3_000];
                    let Part { len, last } = part(&from, &mut buf);
                    received.extend_from_slice(&buf[..len]);
                    if last {
                        break;
                    }
                }
                assert!(received == unasked);
                let busy = from.transact(&request, &mut [0; 8], soon());
                assert_eq!(ours(busy), Error::Busy);
                assert_eq!(recv(&from).unwrap(), b"behind");
                // Nothing of the requests has gone.
                assert_eq!(
                    kind(to.recv(&mut [0; 8], Deadline::NOW)),
                    ErrorKind::TimedOut
                );
            }
        }
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

pub(crate) fn m15_call_connects_asks_and_closes<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
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
            let len = T::call_with(&options, place.name(), &request, &mut reply, soon()).unwrap();
            assert_eq!(len, size * 2);
            assert!(reply == request.repeat(2));
        }
        let small = ConnectOptions::new().max_message(9);
        let too_large = T::call_with(&small, place.name(), b"12345", &mut reply, soon());
        assert_eq!(ours(too_large), Error::TooLarge { limit: 9, size: 10 });
        listener.stop();
    });
}

pub(crate) fn m15_call_fails_by_one_deadline_and_in_words<T: Named>() {
    let place = Place::new();
    let options = ConnectOptions::new();
    let mut reply = Vec::new();
    let nobody = T::call_with(&options, place.name(), b"?", &mut reply, soon());
    assert_eq!(kind(nobody), ErrorKind::NotFound);
    let listener = T::bind(place.name()).unwrap();
    assert_times_out("a call", |deadline| {
        T::call_with(&options, place.name(), b"?", &mut Vec::new(), deadline)
    });
    let stream = listener.accept(soon()).unwrap();
    assert_eq!(recv(&stream).unwrap(), b"?");
    assert_ended(&stream);
    thread::scope(|scope| {
        scope.spawn(|| {
            let stream = listener.accept(soon()).unwrap();
            assert_eq!(recv(&stream).unwrap(), b"no answer");
        });
        let ended = T::call_with(&options, place.name(), b"no answer", &mut reply, soon());
        assert_eq!(kind(ended), ErrorKind::UnexpectedEof);
    });
}
