//! Who gets what of a broadcast, in which order, and what becomes of those who are slow.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use pipetalk::{
    Blob, Broadcast, Call, CallError, CallOptions, ClientOptions, CodecError,
    ConnectOptions, DefaultCodec, Event, ItemSink, ServerHandle, ServerOptions, Slow, memory,
};
use serde::{Serializer};

use super::driver::{Items, NewsClient, channel_over, on, serve};
use crate::broadcast::service::{Desk, News};
use util::{A_MOMENT, A_WHILE, Serialize, here, is_wine, limit, promptly, soon, until};

struct Town {
    numbers: Broadcast<u64>,
    blobs: Broadcast<Blob>,
    connector: memory::Connector,
    handle: ServerHandle,
    serving: Option<JoinHandle<()>>,
}

impl Town {
    fn new(capacity: usize, slow: Slow) -> Town {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new(), listener);
        let handle = server.handle();
        let desk = Desk {
            numbers: Broadcast::with_slow(capacity, slow),
            blobs: Broadcast::with_slow(capacity, slow),
        };
        let (numbers, blobs) = (desk.numbers.clone(), desk.blobs.clone());
        let serving = thread::spawn(move || serve(server, desk).unwrap());
        Town {
            numbers,
            blobs,
            connector,
            handle,
            serving: Some(serving),
        }
    }

    fn client(&self) -> NewsClient {
        NewsClient::over_with(self.connector.connect(soon()).unwrap(), ClientOptions::new()).unwrap()
    }

    /// A subscriber that has been let in.
    fn subscriber(&self, window: u32) -> (NewsClient, Items<Event<u64>>) {
        let client = self.client();
        let items = self.subscribe(&client, window);
        (client, items)
    }

    fn subscribe(&self, client: &NewsClient, window: u32) -> Items<Event<u64>> {
        let before = self.numbers.subscribers();
        let items = client
            .with(CallOptions::new().window(window))
            .all()
            .unwrap();
        until("it is subscribed", || self.numbers.subscribers() > before);
        items
    }

    fn publish(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| self.numbers.publish(&number).unwrap());
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

pub(super) fn item(number: u64) -> Option<Result<Event<u64>, CallError>> {
    Some(Ok(Event::Item(number)))
}

/// Takes all up to the end, and says how many were got, and missed; each comes in its order, and each gap is as large as
/// is said.
fn count(items: impl Iterator<Item = Result<Event<u64>, CallError>>) -> (u64, u64) {
    let (mut got, mut missed) = (0, 0);
    for event in items {
        match event.unwrap() {
            Event::Item(number) => {
                assert_eq!(
                    number,
                    got + missed,
                    "in order, and none but those that are missed"
                );
                got += 1;
            }
            Event::Missed(count) => {
                assert_ne!(count, 0);
                missed += count;
            }
        }
    }
    (got, missed)
}

#[test]
fn everybody_gets_everything_in_one_order() {
    let _limit = limit(here!());
    let numbers = if is_wine() { 500 } else { 5_000 };
    let town = Town::new(usize::MAX, Slow::Lag);
    let mut threads = Vec::new();
    for window in [1, 3, 64, 1000] {
        // One client with a stream of its own, and one with two.
        let (_, items) = town.subscriber(window);
        let (client, first) = town.subscriber(window);
        let second = town.subscribe(&client, window);
        for items in [items, first, second] {
            threads.push(thread::spawn(move || count(items)));
        }
    }
    assert_eq!(town.numbers.subscribers(), 12);
    town.publish(0..numbers);
    town.numbers.end();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), (numbers, 0));
    }
    until("they have gone", || town.numbers.subscribers() == 0);
}

#[test]
fn publishers_on_several_threads_are_heard_in_one_order() {
    let _limit = limit(here!());
    let town = Town::new(usize::MAX, Slow::Lag);
    let subscribers = [1, 7, 64].map(|window| town.subscriber(window).1);
    let subscribers = subscribers.map(|items| {
        thread::spawn(move || {
            let all: Result<Vec<Event<u64>>, CallError> = items.collect();
            all.unwrap()
        })
    });
    thread::scope(|scope| {
        for publisher in 0..4 {
            let town = &town;
            scope.spawn(move || town.publish(publisher * 1000..publisher * 1000 + 300));
        }
    });
    town.numbers.end();
    let [first, second, third] = subscribers.map(|thread| thread.join().unwrap());
    assert_eq!(first.len(), 1200);
    assert!(first == second && second == third);
}

/// How many are got and missed is known to the item: a window's worth has left, and a capacity's worth waits.
#[test]
fn who_is_slow_lags_and_is_told_how_much() {
    let _limit = limit(here!());
    let town = Town::new(10, Slow::Lag);
    let (client, mut items) = town.subscriber(4);
    let (_, fast) = town.subscriber(u32::MAX);
    let fast = thread::spawn(move || {
        fast.filter(|event| matches!(event, Ok(Event::Item(_))))
            .count() as u64
    });
    town.publish(0..100);
    // Others over the same connection are not concerned.
    assert_eq!(client.add(1, 2), Ok(3));
    for number in 0..4 {
        assert_eq!(items.next(), item(number));
    }
    assert_eq!(items.next(), Some(Ok(Event::Missed(86))));
    for number in 90..100 {
        assert_eq!(items.next(), item(number));
    }
    // It has caught up, and misses nothing more.
    town.publish(100..104);
    for number in 100..104 {
        assert_eq!(items.next(), item(number));
    }
    drop(items);
    until("it has gone", || town.numbers.subscribers() == 1);
    town.numbers.end();
    assert!(fast.join().unwrap() <= 104);
}

#[test]
fn who_is_too_slow_is_sent_away_if_so_asked() {
    let _limit = limit(here!());
    let town = Town::new(10, Slow::End);
    let (client, mut items) = town.subscriber(4);
    town.publish(0..14);
    assert_eq!(town.numbers.subscribers(), 1);
    // What has room now is no matter: the next is one too many.
    town.publish(14..15);
    assert_eq!(town.numbers.subscribers(), 0);
    for number in 0..4 {
        assert_eq!(items.next(), item(number));
    }
    match items.next() {
        Some(Err(CallError::Failed(text))) => assert!(text.contains("too slow"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(items.next(), None);
    assert_eq!(client.add(1, 2), Ok(3));
    // It may come again.
    let mut items = town.subscribe(&client, 4);
    town.publish(15..16);
    assert_eq!(items.next(), item(15));
}

#[test]
fn subscribers_of_any_speed_account_for_every_item() {
    let _limit = limit(here!());
    let numbers = if is_wine() { 2_000 } else { 20_000 };
    let town = Town::new(50, Slow::Lag);
    let mut threads = Vec::new();
    for speed in 0..6_u32 {
        let (_, items) = town.subscriber(1 + speed * 7);
        threads.push(thread::spawn(move || {
            count(items.inspect(|_| (0..speed * speed).for_each(|_| thread::yield_now())))
        }));
    }
    promptly("publishing", || town.publish(0..numbers));
    town.numbers.end();
    for thread in threads {
        let (got, missed) = thread.join().unwrap();
        // At the end at least what waited for it is got.
        assert!(got >= 50 && got + missed == numbers, "{got} {missed}");
    }
}

#[test]
fn a_subscriber_gets_what_it_wants_and_misses_none_of_the_rest() {
    let _limit = limit(here!());
    let town = Town::new(5, Slow::Lag);
    let client = town.client();
    let narrow = client.with(CallOptions::new().window(1));
    let mut tens = narrow.multiples(10).unwrap();
    let mut none = narrow.multiples(u64::MAX).unwrap();
    until("they are subscribed", || town.numbers.subscribers() == 2);
    town.publish(1..61);
    for number in [10, 20, 30, 40, 50, 60] {
        assert_eq!(tens.next(), item(number));
    }
    town.publish(1..101);
    // Of ten, five wait for it at least, and none of those that it does not want is among those that it has missed.
    let mut last = 0;
    while last < 100 {
        match tens.next() {
            Some(Ok(Event::Item(number))) => {
                assert_eq!(number, last + 10);
                last = number;
            }
            Some(Ok(Event::Missed(count))) => {
                assert!((1..=5).contains(&count), "{count}");
                last += count * 10;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tens.try_next(), Ok(None));
    assert_eq!(none.try_next(), Ok(None));
}

#[test]
fn a_subscriber_that_leaves_is_forgotten_at_once() {
    let _limit = limit(here!());
    let town = Town::new(5, Slow::Lag);
    let client = town.client();
    for _ in 0..20 {
        let items = town.subscribe(&client, 1);
        town.publish(0..20);
        drop(items);
        // Nothing is published any more.
        until("it has gone", || town.numbers.subscribers() == 0);
    }
    let streams: Vec<_> = (0..5).map(|_| town.subscribe(&client, 1)).collect();
    town.publish(0..20);
    client.channel().close();
    until("they have gone", || town.numbers.subscribers() == 0);
    drop(streams);
    // With a deadline of its own.
    let client = town.client();
    let mut items = client.with_deadline(A_MOMENT).all().unwrap();
    let late = CallError::TimedOut { sent: true };
    assert_eq!(items.next(), Some(Err(late)));
    until("it has gone", || town.numbers.subscribers() == 0);
}

#[test]
fn the_end_comes_behind_what_waits() {
    let _limit = limit(here!());
    let town = Town::new(100, Slow::Lag);
    let (client, mut items) = town.subscriber(2);
    town.publish(0..50);
    town.numbers.end();
    town.publish(50..60);
    for number in 0..50 {
        assert_eq!(items.next(), item(number));
    }
    assert_eq!(items.next(), None);
    // Whoever comes now is too late.
    assert_eq!(client.all().unwrap().next(), None);
    assert_eq!(town.numbers.subscribers(), 0);
}

#[test]
fn dropping_the_last_of_a_broadcast_ends_its_streams() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server = on(ServerOptions::new(), listener);
    let handle = server.handle();
    let (sinks, kept) = std::sync::mpsc::channel();
    struct Keeps(std::sync::Mutex<std::sync::mpsc::Sender<ItemSink<Event<u64>>>>);
    impl News for Keeps {
        fn all(&self, _: &Call, items: ItemSink<Event<u64>>) {
            self.0.lock().unwrap().send(items).unwrap();
        }
        fn multiples(&self, _: &Call, _: u64, _: ItemSink<Event<u64>>) {}
        fn blobs(&self, _: &Call, _: ItemSink<Event<Blob>>) {}
        fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
            a + b
        }
    }
    let service = Keeps(std::sync::Mutex::new(sinks)).service();
    let serving = thread::spawn(move || server.serve(service).unwrap());
    let client = NewsClient::over_with(connector.connect(soon()).unwrap(), ClientOptions::new()).unwrap();
    let mut items = client.with(CallOptions::new().window(2)).all().unwrap();
    let broadcast = Broadcast::new(100);
    let again = broadcast.clone();
    // What a sink has sent before comes before.
    let sink = kept.recv_timeout(A_WHILE).unwrap();
    sink.send(&Event::Item(77)).unwrap();
    again.subscribe(sink);
    (0..20).for_each(|number| broadcast.publish(&number).unwrap());
    drop(broadcast);
    again.publish(&20).unwrap();
    drop(again);
    assert_eq!(items.next(), item(77));
    for number in 0..21 {
        assert_eq!(items.next(), item(number));
    }
    assert_eq!(items.next(), None);
    // A handler that makes no sink of its stream, or drops it, has ended it.
    assert!(client.blobs().unwrap().next().is_none());
    handle.stop();
    serving.join().unwrap();
}

#[test]
fn a_drain_ends_the_streams_of_a_broadcast_behind_what_waits() {
    let _limit = limit(here!());
    let mut town = Town::new(100, Slow::Lag);
    let (_client, mut items) = town.subscriber(2);
    let (_other, mut idle) = town.subscriber(64);
    town.publish(0..20);
    town.handle.drain(A_WHILE);
    for number in 0..20 {
        assert_eq!(items.next(), item(number));
        assert_eq!(idle.next(), item(number));
    }
    assert_eq!((items.next(), idle.next()), (None, None));
    promptly("the drain", || town.serving.take().unwrap().join().unwrap());
    assert_eq!(town.numbers.subscribers(), 0);
    town.publish(0..20);
}

/// A large item is encoded once, and is the same bytes for all.
#[test]
fn an_item_is_encoded_once() {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    struct Counted;
    impl Serialize for Counted {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            TIMES.fetch_add(1, Ordering::SeqCst);
            serializer.serialize_u64(5)
        }
    }
    struct Never;
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("as asked"))
        }
    }
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server = on(ServerOptions::new(), listener);
    let handle = server.handle();
    let counted: Broadcast<Counted> = Broadcast::new(5);
    let never: Broadcast<Never> = Broadcast::new(5);
    struct Both(Broadcast<Counted>, Broadcast<Never>);
    impl pipetalk::server::Handler<DefaultCodec, Both> for Both {
        fn handle(
            &self,
            _: u32,
            _: &pipetalk::server::Payload,
            _: &Call,
            _: &mut pipetalk::server::Outgoing,
        ) -> Result<(), pipetalk::server::HandleError> {
            Err(pipetalk::server::HandleError::UnknownMethod)
        }
        fn open(
            &self,
            method: u32,
            _: &pipetalk::server::Payload,
            _: &Call,
            opening: pipetalk::server::Opening,
        ) -> Result<(), pipetalk::server::HandleError> {
            if method == 0 {
                self.0.subscribe(opening.into_sink());
            } else {
                self.1.subscribe(opening.into_sink());
            }
            Ok(())
        }
    }
    let both = Both(counted.clone(), never.clone());
    let serving = thread::spawn(move || server.serve(both).unwrap());
    // Nobody wants it: it need not be encoded at all.
    counted.publish(&Counted).unwrap();
    never.publish(&Never).unwrap();
    assert_eq!(TIMES.load(Ordering::SeqCst), 0);
    let stream = connector.connect(soon()).unwrap();
    let channel = channel_over(ClientOptions::new(), stream)
        .unwrap();
    let open = |method| channel.open(method, &(), CallOptions::new()).unwrap();
    let mut streams: [Items<Event<u64>>; 3] = [0, 0, 0].map(open);
    let failing: Items<Event<u64>> = open(1);
    until("they are subscribed", || {
        counted.subscribers() == 3 && never.subscribers() == 1
    });
    counted.publish(&Counted).unwrap();
    assert_eq!(TIMES.load(Ordering::SeqCst), 1);
    assert!(streams.iter_mut().all(|items| items.next() == item(5)));
    assert!(matches!(never.publish(&Never), Err(CodecError::Encode(_))));
    assert_eq!(never.subscribers(), 1);
    drop(failing);
    handle.stop();
    serving.join().unwrap();
}

#[test]
fn large_items_go_to_all_and_those_too_large_end_a_stream() {
    let _limit = limit(here!());
    let town = Town::new(10, Slow::Lag);
    let small = ClientOptions::new().connect_options(ConnectOptions::new().max_message(50_000));
    let small = NewsClient::over_with(town.connector.connect(soon()).unwrap(), small).unwrap();
    let mut cannot = small.blobs().unwrap();
    let client = town.client();
    let mut streams = [client.blobs().unwrap(), client.blobs().unwrap()];
    until("they are subscribed", || town.blobs.subscribers() == 3);
    let blob = Arc::new(Blob::from(vec![9; 100_000]));
    for _ in 0..5 {
        town.blobs.publish(&blob).unwrap();
    }
    assert_eq!(town.blobs.subscribers(), 2);
    let error = cannot.next().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            CallError::TooLarge {
                limit: 50_000,
                reply: true,
                ..
            }
        ),
        "{error:?}"
    );
    for items in &mut streams {
        for _ in 0..5 {
            assert_eq!(items.next(), Some(Ok(Event::Item((*blob).clone()))));
        }
    }
}

/// Filters are asked without a lock: what several threads publish comes in one order all the same.
#[test]
fn publishers_on_several_threads_are_heard_in_one_order_through_filters() {
    let _limit = limit(here!());
    let town = Town::new(usize::MAX, Slow::Lag);
    let client = town.client();
    let subscribers = [1, 1, 3].map(|of| client.multiples(of).unwrap());
    until("they are subscribed", || town.numbers.subscribers() == 3);
    thread::scope(|scope| {
        for publisher in 0..4 {
            let town = &town;
            scope.spawn(move || town.publish(publisher * 1000..publisher * 1000 + 300));
        }
    });
    town.numbers.end();
    let [all, same, thirds] = subscribers
        .map(|items| items.map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(all.len(), 1200);
    assert!(all == same);
    let is_third = |event: &Event<u64>| matches!(event, Event::Item(number) if number % 3 == 0);
    assert!(all.into_iter().filter(is_third).eq(thirds));
}
