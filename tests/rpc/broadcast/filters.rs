//! What of a broadcast is not ours: the filters of its subscribers, which may panic, use it, and go at any time.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use pipetalk::{
    Blob, Broadcast, Call, CallError, CallOptions, ClientOptions, Event, ItemSink, ServerHandle,
    ServerOptions, Slow, memory,
};

use super::driver::{Items, NewsClient, on};
use super::suite::item;
use crate::broadcast::service::News;
use util::{A_WHILE, here, limit, soon, until};

/// A server that gives the sinks of its streams away.
struct Open {
    connector: memory::Connector,
    handle: ServerHandle,
    serving: Option<JoinHandle<()>>,
    sinks: mpsc::Receiver<ItemSink<Event<u64>>>,
}

struct Gives(Mutex<mpsc::Sender<ItemSink<Event<u64>>>>);

impl News for Gives {
    fn all(&self, _: &Call, items: ItemSink<Event<u64>>) {
        self.0.lock().unwrap().send(items).unwrap();
    }
    fn multiples(&self, _: &Call, _: u64, _: ItemSink<Event<u64>>) {}
    fn blobs(&self, _: &Call, _: ItemSink<Event<Blob>>) {}
    fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
        a + b
    }
}

impl Open {
    fn new() -> Open {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new(), listener);
        let handle = server.handle();
        let (give, sinks) = mpsc::channel();
        let service = Gives(Mutex::new(give)).service();
        let serving = thread::spawn(move || server.serve(service).unwrap());
        Open {
            connector,
            handle,
            serving: Some(serving),
            sinks,
        }
    }

    fn client(&self) -> NewsClient {
        NewsClient::over_with(self.connector.connect(soon()).unwrap(), ClientOptions::new()).unwrap()
    }

    fn stream(&self, client: &NewsClient) -> (Items<Event<u64>>, ItemSink<Event<u64>>) {
        let items = client.with(CallOptions::new().window(1)).all().unwrap();
        (items, self.sinks.recv_timeout(A_WHILE).unwrap())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Belongs to a filter, and uses the broadcast when that goes.
struct Guard {
    broadcast: Broadcast<u64>,
    dropped: Arc<AtomicU64>,
    /// With what it panics then, if at all.
    panics: bool,
}

/// Panics when it is dropped, unless its thread panics already.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic::resume_unwind(Box::new("and that as well"));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.broadcast.publish(&1_000).unwrap();
        let _ = self.broadcast.subscribers();
        self.dropped.fetch_add(1, Ordering::SeqCst);
        if self.panics {
            panic::resume_unwind(Box::new(Bomb));
        }
    }
}

#[test]
fn a_filter_that_panics_ends_its_own_stream_and_nothing_else() {
    let _limit = limit(here!());
    let town = Open::new();
    let client = town.client();
    let broadcast = Broadcast::new(100);
    let mut streams: Vec<_> = (0..6)
        .map(|number: u64| {
            let (items, sink) = town.stream(&client);
            broadcast.subscribe_to(sink, move |published: &u64| {
                // The first and the last as well.
                match (number % 2 == 0, *published) {
                    (true, 7) => panic::resume_unwind(Box::new(Bomb)),
                    _ => true,
                }
            });
            items
        })
        .collect();
    for number in 0..10 {
        broadcast.publish(&number).unwrap();
        let left = if number < 7 { 6 } else { 3 };
        assert_eq!(broadcast.subscribers(), left);
    }
    for (number, items) in streams.iter_mut().enumerate() {
        if number % 2 == 0 {
            assert_eq!(items.find(Result::is_err), Some(Err(CallError::Panicked)));
            assert_eq!(items.next(), None);
        } else {
            (0..10).for_each(|number| assert_eq!(items.next(), item(number)));
        }
    }
    assert_eq!(client.add(1, 2), Ok(3));
}

#[test]
fn what_goes_with_a_subscriber_may_use_the_broadcast_and_panic() {
    let _limit = limit(here!());
    for panics in [false, true] {
        for slow in [Slow::Lag, Slow::End] {
            let town = Open::new();
            let broadcast = Broadcast::with_slow(3, slow);
            let dropped = Arc::new(AtomicU64::new(0));
            let subscribe = |client: &NewsClient| {
                let (items, sink) = town.stream(client);
                let guard = Guard {
                    broadcast: broadcast.clone(),
                    dropped: Arc::clone(&dropped),
                    panics,
                };
                broadcast.subscribe_to(sink, move |number| {
                    let Guard { .. } = &guard;
                    if *number == 666 {
                        panic::resume_unwind(Box::new(Bomb));
                    }
                    *number < 1_000
                });
                items
            };
            let mut gone = 0;
            let mut has_gone = |how: &str| {
                gone += 1;
                until(how, || dropped.load(Ordering::SeqCst) == gone);
                assert_eq!(broadcast.subscribers(), 0, "{how}");
            };

            // Its stream is cancelled, or its client leaves: with items that wait, and without.
            for items in [0, 1, 10] {
                let client = town.client();
                let stream = subscribe(&client);
                (0..items).for_each(|number| broadcast.publish(&number).unwrap());
                if slow == Slow::End && items == 10 {
                    has_gone("it was too slow");
                    continue;
                }
                drop(stream);
                has_gone("it was cancelled");
                let _stream = subscribe(&client);
                client.channel().close();
                has_gone("its client has left");
            }
            let client = town.client();
            // Its filter panics.
            let _stream = subscribe(&client);
            broadcast.publish(&666).unwrap();
            has_gone("its filter has panicked");
            // Those whose stream is over before they are taken in.
            let (stream, sink) = town.stream(&client);
            drop(stream);
            until("it is stopped", || sink.is_stopped());
            let guard = Guard {
                broadcast: broadcast.clone(),
                dropped: Arc::clone(&dropped),
                panics,
            };
            broadcast.subscribe_to(sink, move |_| {
                let Guard { .. } = &guard;
                true
            });
            has_gone("its stream was over");
            // Everything ends.
            let _stream = subscribe(&client);
            broadcast.end();
            has_gone("the broadcast has ended");
            let _stream = subscribe(&client);
            has_gone("the broadcast had ended");
            assert_eq!(client.add(1, 2), Ok(3));
        }
    }
}

#[test]
fn a_filter_may_use_the_broadcast() {
    let _limit = limit(here!());
    let town = Open::new();
    let client = town.client();
    let broadcast = Broadcast::new(100);
    let (mut items, sink) = town.stream(&client);
    let (mut later, sink_for_later) = town.stream(&client);
    let (itself, sink_for_later) = (broadcast.clone(), Mutex::new(Some(sink_for_later)));
    broadcast.subscribe_to(sink, move |number| {
        assert!(itself.subscribers() > 0);
        if let Some(sink) = sink_for_later.lock().unwrap().take() {
            itself.subscribe_to(sink, |number| number % 2 == 0);
        }
        // Half of it comes before it, and of that a half.
        if *number > 1 {
            itself.publish(&(number / 2)).unwrap();
        }
        true
    });
    for number in [8, 3] {
        broadcast.publish(&number).unwrap();
    }
    for number in [1, 2, 4, 8, 1, 3] {
        assert_eq!(items.next(), item(number));
    }
    for number in [2, 4, 8] {
        assert_eq!(later.next(), item(number));
    }
    broadcast.end();
    assert_eq!((items.next(), later.next()), (None, None));
}
