//! M4: messages over the limit.

use std::io::{ErrorKind, IoSlice};
use std::thread;

use pipetalk::{Deadline, Error, MAX_MESSAGE, Part, Stream};

use crate::harness::*;
use util::scarce::scarce;

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

pub(crate) fn m04_where_memory_is_short_a_message_costs_only_itself<T: Transport>() {
    let size = 5_000_000;
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&from, &content(4, size));
                send(&from, b"next");
            });
            let mut message = Vec::new();
            let received = scarce(1 << 21, || to.recv_message(&mut message, soon()));
            assert_eq!(received.unwrap_err().kind(), ErrorKind::OutOfMemory);
            assert!(message.is_empty());
            assert_eq!(recv(&to).unwrap(), b"next");
        });
        // A sender may have to copy its message.
        thread::scope(|scope| {
            let content = content(5, size);
            let receiving = scope.spawn(|| {
                let first = recv(&to).unwrap();
                if first.len() == size {
                    assert_eq!(recv(&to).unwrap(), b"next");
                }
                first
            });
            let pieces = content.split_at(size / 2);
            let pieces = [pieces.0, pieces.1].map(IoSlice::new);
            let sent = scarce(1 << 21, || from.send_vectored(&pieces, soon()));
            send(&from, b"next");
            let first = receiving.join().unwrap();
            match sent {
                Ok(()) => assert!(is_content(5, &first)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
                    assert_eq!(first, b"next");
                }
            }
        });
        assert_works(&from, &to);
    });
}
