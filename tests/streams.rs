//! Streams of replies: order, windows, and every way in which a stream can end, over the platform's own transport and in
//! memory, with and without a pool.
//!
//! `PIPETALK_STRESS` is the number of items of the long stream: 1,000,000 unless set in a release build, fewer otherwise.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "util/mod.rs"]
mod util;

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pipetalk::{
    Blob, Call, CallError, CallOptions, Client, ClientOptions, Codec, ConnectOptions, Deadline,
    DefaultCodec, ItemSink, Server, ServerHandle, ServerOptions, SinkError, memory,
};

use util::{
    A_MOMENT, A_WHILE, Place, here, is_wine, limit, promptly, rounds_or, soon, until, variable,
};

pipetalk::service! {
    trait Numbers {
        /// Counts.
        stream count(from: u64, to: u64) -> u64;
        /// Sends what there is room for without waiting, and then says how much that was; and the rest by waiting.
        stream without_waiting(size: u64, all: u64) -> Blob;
        /// One item of each size.
        stream sized(sizes: Vec<u64>) -> Blob;
        /// So many items, and then an error.
        stream fails(items: u64, text: String) -> u64;
        stream panics(items: u64) -> u64;
        /// Nothing, until it is stopped.
        stream silent() -> u64;
        /// Whatever the test does with the sink, which is all that is left of the call.
        stream kept(items: Vec<u8>) -> u64;
        /// The sink is kept, and then the handler panics.
        stream kept_and_panics() -> u64;
        fn add(a: u64, b: u64) -> u64;
    }
    struct NumbersClient;
}

/// What the server tells the test.
#[derive(Debug, PartialEq)]
enum Told {
    /// So much could be sent without waiting.
    Room(u64),
    /// The stream has been stopped.
    Stopped,
    SendFailed(SinkError),
}

struct Service {
    /// How many items have been sent, of all streams.
    sent: Arc<AtomicU64>,
    /// How many streams of sizes have been opened.
    opened: Arc<AtomicU64>,
    told: Mutex<Sender<Told>>,
    kept: Mutex<Sender<ItemSink<u64>>>,
}

impl Service {
    fn tell(&self, what: Told) {
        // The test may be over.
        let _ = self.told.lock().unwrap().send(what);
    }

    fn send<T: serde::Serialize>(&self, items: &ItemSink<T>, item: &T) -> bool {
        match items.send(item) {
            Ok(()) => {
                self.sent.fetch_add(1, Ordering::SeqCst);
                true
            }
            Err(error) => {
                self.tell(Told::SendFailed(error));
                false
            }
        }
    }
}

impl Numbers for Service {
    fn count(&self, _: &Call, from: u64, to: u64, items: ItemSink<u64>) {
        let _ =
            (from..to).try_for_each(|number| self.send(&items, &number).then_some(()).ok_or(()));
    }

    fn without_waiting(&self, _: &Call, size: u64, all: u64, items: ItemSink<Blob>) {
        let item = Blob::from(vec![7; size as usize]);
        let room = (0..all)
            .take_while(|_| items.try_send(&item) != Err(SinkError::Full))
            .count() as u64;
        self.tell(Told::Room(room));
        let _ = (room..all).try_for_each(|_| self.send(&items, &item).then_some(()).ok_or(()));
    }

    fn sized(&self, _: &Call, sizes: Vec<u64>, items: ItemSink<Blob>) {
        self.opened.fetch_add(1, Ordering::SeqCst);
        for (place, size) in sizes.into_iter().enumerate() {
            if !self.send(&items, &Blob::from(vec![place as u8; size as usize])) {
                return;
            }
        }
    }

    fn fails(&self, _: &Call, items: u64, text: String, sink: ItemSink<u64>) {
        (0..items).for_each(|number| assert!(self.send(&sink, &number)));
        sink.fail(&text);
    }

    fn panics(&self, _: &Call, items: u64, sink: ItemSink<u64>) {
        (0..items).for_each(|number| assert!(self.send(&sink, &number)));
        // Nothing is printed.
        panic::resume_unwind(Box::new("as asked"));
    }

    fn silent(&self, call: &Call, items: ItemSink<u64>) {
        assert!(items.wait_until_stopped(A_WHILE * 4));
        until("the call is cancelled as well", || call.is_cancelled());
        assert_eq!(items.send(&1), Err(SinkError::Stopped));
        self.tell(Told::Stopped);
    }

    fn kept(&self, _: &Call, items: Vec<u8>, sink: ItemSink<u64>) {
        // An argument of the name that the macro uses is no matter.
        assert_eq!(items, [1, 2, 3]);
        self.kept.lock().unwrap().send(sink).unwrap();
    }

    fn kept_and_panics(&self, _: &Call, items: ItemSink<u64>) {
        self.kept.lock().unwrap().send(items).unwrap();
        panic::resume_unwind(Box::new("as asked"));
    }

    fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
        a + b
    }
}

/// A server, and how to connect to it.
struct Town {
    /// For what a failing test says.
    kind: &'static str,
    handle: ServerHandle,
    serving: Option<JoinHandle<()>>,
    connect: Box<dyn Fn(ClientOptions) -> NumbersClient + Send + Sync>,
    sent: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
    told: Receiver<Told>,
    kept: Receiver<ItemSink<u64>>,
}

impl Town {
    fn new<L: pipetalk::Listener>(
        kind: &'static str,
        server: Server<L>,
        connect: impl Fn(ClientOptions) -> NumbersClient + Send + Sync + 'static,
    ) -> Town {
        let (sent, opened) = (Arc::default(), Arc::default());
        let (told, telling) = mpsc::channel();
        let (kept, keeping) = mpsc::channel();
        let service = Service {
            sent: Arc::clone(&sent),
            opened: Arc::clone(&opened),
            told: Mutex::new(told),
            kept: Mutex::new(kept),
        };
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(service.service()).unwrap());
        Town {
            kind,
            handle,
            serving: Some(serving),
            connect: Box::new(connect),
            sent,
            opened,
            told: telling,
            kept: keeping,
        }
    }

    fn client(&self) -> NumbersClient {
        (self.connect)(ClientOptions::new())
    }

    #[track_caller]
    fn told(&self) -> Told {
        self.told.recv_timeout(A_WHILE).unwrap()
    }

    #[track_caller]
    fn kept(&self) -> ItemSink<u64> {
        self.kept.recv_timeout(A_WHILE).unwrap()
    }

    fn finish(mut self) {
        self.handle.drain(A_WHILE);
        promptly("the drain of a server that does nothing", || {
            self.serving.take().unwrap().join().unwrap();
        });
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Runs a test over each kind of transport, with and without a pool.
fn each(options: impl Fn() -> ServerOptions, test: impl Fn(&Town)) {
    for pool in [0, 2] {
        let place = Place::new();
        let name = place.name().to_string();
        let server = options().pool(pool).bind(name.as_str()).unwrap();
        let town = Town::new(
            if pool > 0 { "local, pool" } else { "local" },
            server,
            move |options| NumbersClient::connect_with(name.as_str(), options).unwrap(),
        );
        test(&town);
        town.finish();

        let (listener, connector) = memory::listener();
        let town = Town::new(
            if pool > 0 { "memory, pool" } else { "memory" },
            options().pool(pool).on(listener),
            move |options| {
                NumbersClient::over_with(connector.connect(soon()).unwrap(), options).unwrap()
            },
        );
        test(&town);
        town.finish();
    }
}

fn window(credits: u32) -> CallOptions {
    CallOptions::new().window(credits)
}

fn all_of<T>(items: impl Iterator<Item = Result<T, CallError>>) -> Result<Vec<T>, CallError> {
    items.collect()
}

// ---------------------------------------------------------------- items

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
    let count = variable("PIPETALK_STRESS").unwrap_or(usual);
    each(ServerOptions::new, |town| {
        let client = town.client();
        let before = town.sent.load(Ordering::SeqCst);
        for (taken, item) in client.count(0, count).unwrap().enumerate() {
            assert_eq!(item.unwrap(), taken as u64);
            let sent = town.sent.load(Ordering::SeqCst) - before;
            // The last to be sent may not have been counted yet; more than this have not.
            assert!(sent <= taken as u64 + 1 + 64, "{sent} sent, {taken} taken");
        }
        assert_eq!(town.sent.load(Ordering::SeqCst) - before, count);
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
        let before = town.sent.load(Ordering::SeqCst);
        let mut items = client.with(window(10)).count(0, 500).unwrap();
        for number in 0..200 {
            assert_eq!(client.add(number, 1), Ok(number + 1));
        }
        assert!(town.sent.load(Ordering::SeqCst) - before <= 10);
        until("the window is full", || {
            town.sent.load(Ordering::SeqCst) - before == 10
        });
        assert!(all_of(items.by_ref()).unwrap().into_iter().eq(0..500));
    });
}

#[test]
fn streams_and_calls_share_a_connection() {
    let _limit = limit(here!());
    let count = if is_wine() { 300 } else { 2_000 };
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
    for pool in [0, 2] {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().pool(pool).on(listener);
        let handle = server.handle();
        let serving = thread::spawn(move || {
            server.serve(|to: u64, _: &Call, items: ItemSink<u64>| {
                (0..to).for_each(|number| items.send(&number).unwrap());
            })
        });
        let stream = connector.connect(soon()).unwrap();
        let client: Client<u64, u64> = ClientOptions::new().over(stream).unwrap();
        assert!(
            all_of(client.open(&300).unwrap())
                .unwrap()
                .into_iter()
                .eq(0..300)
        );
        let items = client.open_with(&9, window(1)).unwrap();
        assert!(all_of(items).unwrap().into_iter().eq(0..9));
        let error = client.call(&1).unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
        handle.stop();
        serving.join().unwrap().unwrap();
    }
}

// ---------------------------------------------------------------- ends

#[test]
fn an_error_in_words_ends_a_stream_behind_its_items() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        for count in [0, 1, 100] {
            let mut items = client.fails(count, "no more of these").unwrap();
            assert!(
                items
                    .by_ref()
                    .take(count as usize)
                    .map(Result::unwrap)
                    .eq(0..count)
            );
            let why = CallError::Failed("no more of these".to_owned());
            assert_eq!(items.next(), Some(Err(why)));
            assert_eq!(items.next(), None);
        }
    });
}

#[test]
fn a_panic_ends_a_stream_behind_its_items() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        for count in [0, 1, 100] {
            let mut items = client.panics(count).unwrap();
            assert!(
                items
                    .by_ref()
                    .take(count as usize)
                    .map(Result::unwrap)
                    .eq(0..count)
            );
            assert_eq!(items.next(), Some(Err(CallError::Panicked)));
            assert_eq!(items.next(), None);
        }
        // The handler has given the sink away, and panics all the same.
        let mut items = client.kept_and_panics().unwrap();
        let sink = town.kept();
        assert_eq!(items.next(), Some(Err(CallError::Panicked)));
        assert!(sink.wait_until_stopped(soon()));
        // Whoever has it panics.
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        let panics = thread::spawn(move || {
            sink.send(&1).unwrap();
            panic::resume_unwind(Box::new("as asked"));
        });
        assert!(panics.join().is_err());
        assert_eq!(items.next(), Some(Ok(1)));
        assert_eq!(items.next(), Some(Err(CallError::Panicked)));
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

#[test]
fn a_consumer_that_goes_stops_the_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let stopped = Told::SendFailed(SinkError::Stopped);
        // It waits for credit; and it has not begun to.
        for taken in [0, 1, 100] {
            let mut items = client.count(0, u64::MAX).unwrap();
            assert!(items.by_ref().take(taken).all(|item| item.is_ok()));
            drop(items);
            assert_eq!(town.told(), stopped);
        }
        let mut items = client.silent().unwrap();
        items.cancel();
        assert!(items.is_over() && items.next().is_none());
        assert_eq!(town.told(), Told::Stopped);
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

/// The place of a stream is free when its end has come: no more is needed for the next one.
#[test]
fn places_are_used_again() {
    let _limit = limit(here!());
    let rounds = u64::from(rounds_or(300, 30));
    each(
        || ServerOptions::new().in_flight(2),
        |town| {
            let client = town.client();
            for round in 0..rounds {
                let mut items = client.count(0, u64::MAX).unwrap();
                assert_eq!(items.next(), Some(Ok(0)));
                drop(items);
                assert_eq!(client.add(round, 1), Ok(round + 1));
                assert_eq!(all_of(client.count(0, 3).unwrap()), Ok(vec![0, 1, 2]));
            }
        },
    );
}

#[test]
fn a_stream_takes_a_place_until_it_ends() {
    let _limit = limit(here!());
    each(
        || ServerOptions::new().in_flight(1),
        |town| {
            let client = town.client();
            assert_eq!(client.add(1, 2), Ok(3));
            let items = client.silent().unwrap();
            let error = client.with_deadline(A_MOMENT).add(1, 2).unwrap_err();
            assert_eq!(error, CallError::TimedOut { sent: false });
            drop(items);
            assert_eq!(client.add(1, 2), Ok(3));
        },
    );
}

#[test]
fn the_deadline_of_a_stream_ends_it_as_a_whole() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let late = Some(Err(CallError::TimedOut { sent: true }));
        let started = Instant::now();
        let mut items = client.with_deadline(A_MOMENT).silent().unwrap();
        assert_eq!(items.next(), late);
        assert!(started.elapsed() >= A_MOMENT);
        assert_eq!(items.next(), None);
        assert_eq!(town.told(), Told::Stopped);

        // Items come all the time, and the consumer is slow.
        let mut items = client.with_deadline(A_MOMENT).count(0, u64::MAX).unwrap();
        let end = items.find(|item| {
            thread::sleep(Duration::from_micros(100));
            item.is_err()
        });
        assert_eq!(end, late);
        assert_eq!(items.next(), None);
        assert_eq!(town.told(), Told::SendFailed(SinkError::Stopped));

        // One that has passed before it begins.
        let error = client.with_deadline(Deadline::NOW).silent().map(drop);
        let until = Instant::now() + A_WHILE;
        match error {
            Err(error) => assert_eq!(error, CallError::TimedOut { sent: false }),
            Ok(()) => assert!(town.told.recv_timeout(until - Instant::now()).is_ok()),
        }
    });
}

#[test]
fn the_time_of_an_item_ends_a_stream_that_is_iterated_over() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let options = CallOptions::new().item_timeout(A_MOMENT);
        let mut items = client.with(options).kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        for number in 0..5 {
            sink.send(&number).unwrap();
            assert_eq!(items.next(), Some(Ok(number)));
        }
        let started = Instant::now();
        assert_eq!(items.next(), Some(Err(CallError::TimedOut { sent: true })));
        assert!(started.elapsed() >= A_MOMENT);
        assert_eq!(items.next(), None);
        assert!(sink.wait_until_stopped(soon()));
    });
}

#[test]
fn waiting_by_a_deadline_does_not_end_a_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        for number in 0..5 {
            let late = Some(Err(CallError::TimedOut { sent: true }));
            assert_eq!(items.next_by(A_MOMENT / 4), late);
            assert!(!items.is_over() && !sink.is_stopped());
            sink.send(&number).unwrap();
            assert_eq!(items.next_by(soon()), Some(Ok(number)));
        }
        drop(sink);
        assert_eq!(items.next_by(soon()), None);
    });
}

#[test]
fn an_item_over_the_limit_ends_a_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let connect = ConnectOptions::new().max_message(10_000);
        let client = (town.connect)(ClientOptions::new().connect_options(connect));
        let mut items = client.sized(&[9_900, 10_000, 5]).unwrap();
        assert_eq!(items.next().unwrap().unwrap().len(), 9_900);
        // With the header, and what the codec adds.
        let mut encoded = vec![0; 8];
        DefaultCodec::encode(&Blob::from(vec![1; 10_000]), &mut encoded).unwrap();
        let size = encoded.len() as u64;
        let too_large = CallError::TooLarge {
            limit: 10_000,
            size,
            reply: true,
        };
        assert_eq!(items.next(), Some(Err(too_large)));
        assert_eq!(items.next().map(drop), None);
        let limit = 10_000;
        let told = Told::SendFailed(SinkError::TooLarge { limit, size });
        assert_eq!(town.told(), told);
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

#[test]
fn an_item_that_cannot_be_decoded_ends_a_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        // The first method, whose items are of another type.
        let mut items: pipetalk::Items<String> = client
            .channel()
            .open(0, &(1_u64, u64::MAX), CallOptions::new())
            .unwrap();
        let error = items.next().unwrap().unwrap_err();
        assert!(matches!(error, CallError::Decode(_)), "{error:?}");
        assert_eq!(items.next(), None);
        assert_eq!(town.told(), Told::SendFailed(SinkError::Stopped));
    });
}

#[test]
fn a_call_is_no_stream_and_a_stream_is_no_call() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let channel = client.channel();
        let options = CallOptions::new();
        let add = 8;
        assert_eq!(channel.call(add, &(1_u64, 2_u64), options), Ok(3_u64));
        for method in [add, 99, u32::MAX] {
            let mut items: pipetalk::Items<u64> =
                channel.open(method, &(1_u64, 2_u64), options).unwrap();
            let error = items.next().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
            assert_eq!(items.next(), None);
        }
        let error = channel
            .call::<_, u64>(0, &(1_u64, 2_u64), options)
            .unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
        // Arguments that are none.
        let mut items: pipetalk::Items<u64> = channel.open(0, &"no", options).unwrap();
        let error = items.next().unwrap().unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

// ---------------------------------------------------------------- ends of connections and servers

#[test]
fn what_has_come_before_a_connection_breaks_is_taken_and_then_the_error() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let mut items = client.count(0, u64::MAX).unwrap();
        assert_eq!(items.next(), Some(Ok(0)));
        client.channel().close();
        let end = items.find(|item| item.is_err());
        assert_eq!(end, Some(Err(CallError::Disconnected { sent: true })));
        assert_eq!(items.next(), None);
        assert_eq!(town.told(), Told::SendFailed(SinkError::Stopped));
        let error = client.count(0, 1).unwrap_err();
        assert_eq!(error, CallError::Disconnected { sent: false });
    });
}

#[test]
fn a_client_that_reconnects_opens_the_next_stream_and_not_the_same_again() {
    let _limit = limit(here!());
    let place = Place::new();
    let server = ServerOptions::new().bind(place.name()).unwrap();
    let name = place.name().to_string();
    let town = Town::new("local", server, move |options| {
        NumbersClient::connect_with(name.as_str(), options).unwrap()
    });
    let client = (town.connect)(ClientOptions::new().reconnect(true));
    let mut items = client.silent().unwrap();
    client.channel().close();
    let broken = CallError::Disconnected { sent: true };
    assert_eq!(items.next(), Some(Err(broken)));
    assert_eq!(items.next(), None);
    assert_eq!(town.told(), Told::Stopped);
    assert_eq!(all_of(client.count(0, 3).unwrap()), Ok(vec![0, 1, 2]));
    town.finish();
}

#[test]
fn a_client_that_leaves_stops_its_streams() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        for _ in 0..3 {
            let client = town.client();
            let items = client.silent().unwrap();
            let more = client.count(0, u64::MAX).unwrap();
            // The connection ends with the last of what uses it.
            drop(client);
            thread::spawn(move || drop((items, more))).join().unwrap();
            let mut told = [town.told(), town.told()];
            told.sort_by_key(|told| *told == Told::Stopped);
            let expected = [Told::SendFailed(SinkError::Stopped), Told::Stopped];
            assert_eq!(told, expected);
        }
    });
}

#[test]
fn a_drain_lets_streams_end_and_cancels_them_at_its_deadline() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let serve = || {
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().pool(pool).on(listener);
            Town::new("memory", server, move |options| {
                NumbersClient::over_with(connector.connect(soon()).unwrap(), options).unwrap()
            })
        };
        // It ends in time.
        let mut town = serve();
        let client = town.client();
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        assert!(!sink.is_draining());
        town.handle.drain(A_WHILE);
        assert!(sink.is_draining() && !sink.is_stopped());
        for number in 0..200 {
            sink.send(&number).unwrap();
            assert_eq!(items.next(), Some(Ok(number)));
        }
        let error = client.silent().and_then(|mut items| items.next().unwrap());
        assert_eq!(error, Err(CallError::Unavailable));
        drop(sink);
        assert_eq!(items.next(), None);
        promptly("the end of the drain", || {
            town.serving.take().unwrap().join().unwrap()
        });

        // It does not.
        let mut town = serve();
        let client = town.client();
        let mut items = client.silent().unwrap();
        let mut kept = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        town.handle.drain(A_MOMENT);
        assert!(sink.wait_until_stopped(soon()));
        assert_eq!(sink.send(&1), Err(SinkError::Stopped));
        assert_eq!(town.told(), Told::Stopped);
        for items in [&mut items, &mut kept] {
            let error = items.next().unwrap().unwrap_err();
            let ended = matches!(
                error,
                CallError::Cancelled | CallError::Disconnected { sent: true }
            );
            assert!(ended, "{error:?}");
            assert_eq!(items.next(), None);
        }
        promptly("the end of the drain", || {
            town.serving.take().unwrap().join().unwrap()
        });
    }
}

#[test]
fn stopping_a_server_stops_its_streams() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let clients: Vec<_> = (0..4).map(|_| town.client()).collect();
        let mut streams: Vec<_> = clients
            .iter()
            .flat_map(|client| [client.silent().unwrap(), client.count(0, u64::MAX).unwrap()])
            .collect();
        clients
            .iter()
            .for_each(|client| assert_eq!(client.add(1, 2), Ok(3)));
        town.handle.stop();
        for _ in 0..streams.len() {
            town.told();
        }
        for items in &mut streams {
            let error = items.find_map(Result::err).unwrap();
            assert!(
                matches!(
                    error,
                    CallError::Cancelled | CallError::Disconnected { .. } | CallError::Unavailable
                ),
                "{error:?}"
            );
        }
    });
}

// ---------------------------------------------------------------- those who do not read

/// As little room as there can be between the two: every message waits for its receiver.
#[test]
fn no_pair_waits_for_ever_where_every_message_waits_for_its_receiver() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let (listener, connector) = memory::Options::new().buffer_size(0).listener();
        let server = ServerOptions::new().pool(pool).on(listener);
        let town = Town::new("memory", server, move |options| {
            NumbersClient::over_with(connector.connect(soon()).unwrap(), options).unwrap()
        });
        let client = town.client();
        let mut away = client.count(0, u64::MAX).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let items = client.with(window(3)).count(0, 300).unwrap();
                    assert!(all_of(items).unwrap().into_iter().eq(0..300));
                });
                scope.spawn(|| {
                    (0..300).for_each(|number| assert_eq!(client.add(number, 1), Ok(number + 1)));
                });
            }
        });
        assert!(away.by_ref().take(100).map(Result::unwrap).eq(0..100));
        drop(away);
        assert_eq!(town.told(), Told::SendFailed(SinkError::Stopped));
        // Nobody would read what is still to come.
        drop(client);
        town.finish();
    }
}

/// The patience with a client that does not read is for replies.
#[test]
fn a_client_may_stay_away_from_a_stream_for_longer_than_a_reply_may_take() {
    let _limit = limit(here!());
    let patience = A_MOMENT;
    each(
        || ServerOptions::new().send_timeout(patience),
        |town| {
            let client = town.client();
            // Far more than any buffer of the system holds.
            let mut items = client.with(window(100_000)).sized(&[60_000; 100]).unwrap();
            assert_eq!(items.next().unwrap().unwrap().len(), 60_000);
            thread::sleep(patience * 4);
            assert_eq!(items.by_ref().map(Result::unwrap).count(), 99);
            assert_eq!(client.add(1, 2), Ok(3));
        },
    );
}

/// Nobody reads, everything between the two is full, and the server ends at once all the same.
#[test]
fn a_server_with_a_client_that_reads_nothing_ends_at_once() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let wide = client.with(window(100_000));
        let _streams: Vec<_> = (0..5)
            .map(|_| wide.sized(&[60_000; 100]).unwrap())
            .collect();
        until("all are there", || town.opened.load(Ordering::SeqCst) == 5);
        until("some has been sent", || {
            town.sent.load(Ordering::SeqCst) > 5
        });
        promptly("stopping", || town.handle.stop());
        for _ in 0..5 {
            assert_eq!(town.told(), Told::SendFailed(SinkError::Stopped));
        }
    });
}

/// The types may be sent to other threads, and shared by them.
#[test]
fn threads_may_have_them() {
    fn sent<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    shared::<ItemSink<u64>>();
    sent::<pipetalk::Items<u64>>();
}
