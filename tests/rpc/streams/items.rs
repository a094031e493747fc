//! What comes of a stream, in which order, and within which window.

use std::sync::Arc;
use std::thread;

use pipetalk::{CallError, CallOptions, ClientOptions, ServerOptions, memory};

use super::driver::{Items, POOLS, on, over, serve_closure};
use super::town::{all_of, each, window};
use crate::streams::service::Told;
use util::{here, is_wine, limit, many, rounds_or, soon, until};

#[test]
fn items_come_in_order_and_then_the_end() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        for to in [0, 1, 63, 64, 65, 1000] {
            for credits in [1, 2, 3, 64, u32::MAX] {
                let mut items = client.with(window(credits)).count(0, to).unwrap();
                let got: Vec<u64> = all_of(items.by_ref()).unwrap();
                assert!(got.into_iter().eq(0..to), "{}", town.kind);
                assert!(items.is_over() && items.next().is_none());
                assert_eq!(items.try_next(), Ok(None));
            }
        }
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

/// As many as are asked for, in order; at no time are there more on their way than the window.
#[test]
fn a_long_stream_under_stress_stays_within_its_window() {
    let _limit = limit(here!());
    let usual = match (is_wine(), cfg!(debug_assertions)) {
        (true, _) => 10_000,
        (_, true) => 100_000,
        (_, false) => 1_000_000,
    };
    let count = many(usual);
    each(ServerOptions::new, |town| {
        let client = town.client();
        let before = town.sent();
        for (taken, item) in client.count(0, count).unwrap().enumerate() {
            assert_eq!(item.unwrap(), taken as u64);
            let sent = town.sent() - before;
            // The last to be sent may not have been counted yet; more than this have not.
            assert!(sent <= taken as u64 + 1 + 64, "{sent} sent, {taken} taken");
        }
        assert_eq!(town.sent() - before, count);
    });
}

#[test]
fn a_window_is_as_large_as_asked_for() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        // In memory and on a Unix socket 64 credits at a time leave the queue at once, so that all of the window counts.
        for (credits, size, room) in [
            (1, 10, 1),
            (2, 10, 2),
            (64, 10, 64),
            // With the header a little over one KiB.
            (64, 1024, 32),
            // The window, and one item.
            (3, 2000, 2),
            (1, 100_000, 1),
        ] {
            let stream = client.with(window(credits)).without_waiting(size, 100);
            let items = stream.unwrap();
            assert_eq!(
                town.told(),
                Told::Room(room),
                "{} {credits} {size}",
                town.kind
            );
            // Others are not concerned.
            assert_eq!(client.add(1, 2), Ok(3));
            assert_eq!(all_of(items).unwrap().len(), 100);
        }
    });
}

#[test]
fn items_of_any_size_get_through_a_window_of_any_size() {
    let _limit = limit(here!());
    let sizes = [
        0,
        1,
        1015,
        1016,
        1017,
        5000,
        16 << 10,
        300_000,
        0,
        3 << 20,
        7,
    ];
    each(ServerOptions::new, |town| {
        let client = town.client();
        for credits in [1, 2, 7, 64, 100_000] {
            let items = client.with(window(credits)).sized(&sizes).unwrap();
            for (place, item) in items.enumerate() {
                let item = item.unwrap();
                assert_eq!(item.len() as u64, sizes[place]);
                assert!(item.iter().all(|byte| usize::from(*byte) == place));
            }
        }
    });
}

/// What a caller reads for the streams beside it waits for their consumers, and no more than the windows.
#[test]
fn a_consumer_that_stays_away_costs_a_window() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let before = town.sent();
        let mut items = client.with(window(10)).count(0, 500).unwrap();
        for number in 0..200 {
            assert_eq!(client.add(number, 1), Ok(number + 1));
        }
        assert!(town.sent() - before <= 10);
        until("the window is full", || {
            town.sent() - before == 10
        });
        assert!(all_of(items.by_ref()).unwrap().into_iter().eq(0..500));
    });
}

#[test]
fn streams_and_calls_share_a_connection() {
    let _limit = limit(here!());
    let count = u64::from(rounds_or(2_000, 300));
    each(ServerOptions::new, |town| {
        let client = town.client();
        thread::scope(|scope| {
            for thread in 0..6_u32 {
                let client = client.with(window(1 + thread * 9));
                scope.spawn(move || {
                    let from = u64::from(thread) << 32;
                    let items = client.count(from, from + count).unwrap();
                    assert!(all_of(items).unwrap().into_iter().eq(from..from + count));
                });
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    for number in 0..count {
                        assert_eq!(client.add(number, 1), Ok(number + 1));
                    }
                });
            }
        });
    });
}

#[test]
fn one_thread_takes_from_many_streams_in_turn() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let open = |from| client.with(window(5)).count(from, from + 200).unwrap();
        let mut streams: Vec<_> = (0..30).map(|n| open(n * 1000)).collect();
        for number in 0..200 {
            for (n, items) in streams.iter_mut().enumerate().rev() {
                assert_eq!(items.next(), Some(Ok(n as u64 * 1000 + number)));
            }
        }
        assert!(streams.iter_mut().all(|items| items.next().is_none()));
    });
}

#[test]
fn a_consumer_may_move_to_another_thread() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let mut items = client.count(0, 50).unwrap();
        for number in 0..50 {
            items = thread::scope(|scope| {
                let next = scope.spawn(move || {
                    assert_eq!(items.next(), Some(Ok(number)));
                    items
                });
                next.join().unwrap()
            });
        }
        assert_eq!(items.next(), None);
    });
}

#[test]
fn try_next_does_not_wait() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        for number in 0..300 {
            assert_eq!(items.try_next(), Ok(None));
            assert!(!items.is_over());
            sink.send(&number).unwrap();
            let mut next = None;
            until("the item comes", || {
                next = items.try_next().unwrap();
                next.is_some()
            });
            assert_eq!(next, Some(number));
        }
        drop(sink);
        until("the end comes", || {
            assert_eq!(items.try_next(), Ok(None));
            items.is_over()
        });
    });
}

#[test]
fn a_sink_may_be_shared_and_outlive_its_call() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let items = client.with(window(3)).kept(&[1, 2, 3]).unwrap();
        let sink = Arc::new(town.kept());
        for thread in 0..4 {
            let sink = Arc::clone(&sink);
            thread::spawn(move || {
                (0..100).for_each(|number| sink.send(&(thread * 100 + number)).unwrap());
            });
        }
        drop(sink);
        let mut got = all_of(items).unwrap();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..400));
    });
}

#[test]
fn a_closure_may_answer_by_a_stream() {
    let _limit = limit(here!());
    for &pool in POOLS {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool), listener);
        let handle = server.handle();
        let serving = thread::spawn(move || serve_closure(server));
        let stream = connector.connect(soon()).unwrap();
        let client = over::<u64, u64>(ClientOptions::new(), stream).unwrap();
        for (to, options) in [(300, CallOptions::new()), (9, window(1))] {
            let items: Items<u64> = client.channel().open(0, &to, options).unwrap();
            assert!(all_of(items).unwrap().into_iter().eq(0..to));
        }
        let error = client.call(&1).unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
        handle.stop();
        serving.join().unwrap().unwrap();
    }
}

