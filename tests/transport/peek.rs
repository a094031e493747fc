//! M13: looking at what waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pipetalk::{Part, Stream, Waiting};

use crate::harness::*;

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
