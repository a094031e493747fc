//! Streams of async programs: what blocking ones cannot do, such as to drop the wait for an item half-way; on either
//! runtime.

use std::future::{Ready, pending, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use pipetalk::server::StreamClosure;
use pipetalk::tokio::{Channel, Handler, ItemSink, Items, Server, memory};
use pipetalk::{
    Blob, Broadcast, Call, CallError, CallOptions, ClientOptions, DefaultCodec, Event,
    ServerHandle, ServerOptions, SinkError,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, yield_now};

use util::tasks::{poll_times, runtimes, until};
use util::{A_MOMENT, Rng, here, limit, rounds_or, soon};

struct Town {
    connector: memory::Connector,
    handle: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
}

impl Town {
    fn new<M: 'static>(options: ServerOptions, handler: impl Handler<DefaultCodec, M>) -> Town {
        let (listener, connector) = memory::listener();
        let server: Server<_> = options.on_tokio(listener);
        Town {
            connector,
            handle: server.handle(),
            serving: tokio::spawn(server.serve(handler)),
        }
    }

    async fn channel(&self) -> Channel {
        let stream = self.connector.connect(soon()).await.unwrap();
        ClientOptions::new().channel_over_tokio(stream).unwrap()
    }

    async fn stop(self) {
        self.handle.stop();
        self.serving.await.unwrap().unwrap();
    }
}

async fn next_as_stream<T: serde::de::DeserializeOwned>(
    items: &mut Items<T>,
) -> Option<Result<T, CallError>> {
    poll_fn(|cx| Pin::new(&mut *items).poll_next(cx)).await
}

/// How many handlers there are: counts as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A kind of handler: one that answers by streams of numbers, and has nothing to wait for.
type Numbers = StreamClosure<u32, (u32, Ready<()>)>;

/// Hands the sinks of its streams to the test.
fn keeps() -> (
    impl Handler<DefaultCodec, Numbers>,
    UnboundedReceiver<ItemSink<u32>>,
) {
    let (sinks, kept): (UnboundedSender<ItemSink<u32>>, _) = unbounded_channel();
    let handler = move |_: u32, _: Call, items: ItemSink<u32>| {
        sinks.send(items).unwrap();
        ready(())
    };
    (handler, kept)
}

/// Futures that open streams, that wait for items and that send them are dropped at any time, 10,000 over one connection.
/// The items come in order, none is lost and none comes twice, and in the end nothing is left.
#[test]
fn dropped_futures_lose_and_duplicate_nothing() {
    const TASKS: usize = 10;
    let _limit = limit(here!());
    let drops = rounds_or(10_000, 1_000) as usize;
    for runtime in runtimes() {
        let mut rng = Rng::new();
        runtime.block_on(async {
            let handlers = Arc::new(AtomicUsize::new(0));
            let live = Arc::clone(&handlers);
            let seeds = std::sync::Mutex::new(rng.fork());
            let sender_drops = Arc::new(AtomicUsize::new(0));
            let sends = Arc::clone(&sender_drops);
            let handler = move |to: u32, _: Call, items: ItemSink<u32>| {
                let (live, sends) = (Counted::new(&live), Arc::clone(&sends));
                let mut rng = seeds.lock().unwrap().fork();
                async move {
                    let _live = live;
                    for number in 0..to {
                        // An item whose sending is dropped is not sent: it is sent again.
                        loop {
                            let times = rng.in_range(1..4);
                            match poll_times(items.send(&number), times).await {
                                Some(Ok(())) => break,
                                Some(Err(error)) => {
                                    assert_eq!(error, SinkError::Stopped);
                                    return;
                                }
                                None => sends.fetch_add(1, Ordering::SeqCst),
                            };
                        }
                    }
                }
            };
            let town = Town::new(ServerOptions::new().in_flight(2 * TASKS), handler);
            let channel = town.channel().await;
            let dropped = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let (channel, dropped, mut rng) =
                        (channel.clone(), Arc::clone(&dropped), rng.fork());
                    tokio::spawn(async move {
                        while dropped.load(Ordering::SeqCst) < drops {
                            let to = rng.in_range(0..300) as u32;
                            let window = 1 + rng.in_range(0..20) as u32;
                            let options = CallOptions::new().window(window);
                            let opening = channel.open::<_, u32>(0, &to, options);
                            let times = if rng.one_in(3) {
                                rng.in_range(0..4)
                            } else {
                                usize::MAX
                            };
                            let Some(items) = poll_times(opening, times).await else {
                                dropped.fetch_add(1, Ordering::SeqCst);
                                continue;
                            };
                            let (mut items, mut expected) = (items.unwrap(), 0);
                            loop {
                                let times = rng.in_range(0..4);
                                let next = match rng.in_range(0..3) {
                                    0 => poll_times(items.next(), times).await,
                                    1 => poll_times(items.next_by(soon()), times).await,
                                    _ => poll_times(next_as_stream(&mut items), times).await,
                                };
                                match next {
                                    Some(Some(number)) => {
                                        assert_eq!(number.unwrap(), expected);
                                        expected += 1;
                                    }
                                    Some(None) => {
                                        assert_eq!(expected, to);
                                        break;
                                    }
                                    None => {
                                        dropped.fetch_add(1, Ordering::SeqCst);
                                        // Now and then the whole stream.
                                        if rng.one_in(50) {
                                            break;
                                        }
                                    }
                                }
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            println!("{} sends dropped", sender_drops.load(Ordering::SeqCst));
            assert!(sender_drops.load(Ordering::SeqCst) > 0);
            // No place is taken any more, on either side, and no handler is left: the one request is the question.
            until("nothing is in flight", async || {
                channel.info().await.unwrap().in_flight == 1 && handlers.load(Ordering::SeqCst) == 0
            })
            .await;
            let mut all = Vec::new();
            for _ in 0..2 * TASKS {
                let mut items = channel
                    .open::<_, u32>(0, &3_u32, CallOptions::new())
                    .await
                    .unwrap();
                assert_eq!(items.next().await, Some(Ok(0)));
                all.push(items);
            }
            town.stop().await;
        });
    }
}

/// A client that goes ends the tasks of its streams, wherever they are.
#[test]
fn a_client_that_goes_ends_all_handlers() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let handlers = Arc::new(AtomicUsize::new(0));
            let live = Arc::clone(&handlers);
            let handler = move |kind: u32, _: Call, items: ItemSink<u32>| {
                let live = Counted::new(&live);
                async move {
                    let _live = live;
                    match kind % 3 {
                        0 => pending().await,
                        1 => items.stopped().await,
                        _ => while items.send(&kind).await.is_ok() {},
                    }
                }
            };
            let town = Town::new(ServerOptions::new().in_flight(200), handler);
            for round in 0..3 {
                let channel = town.channel().await;
                let mut streams = Vec::new();
                for kind in 0..100_u32 {
                    let options = CallOptions::new().window(5);
                    streams.push(channel.open::<_, u32>(0, &kind, options).await.unwrap());
                }
                until("all have begun", async || {
                    handlers.load(Ordering::SeqCst) == 100
                })
                .await;
                match round {
                    0 => channel.close(),
                    1 => streams.clear(),
                    _ => {}
                }
                drop((channel, streams));
                until("all have ended", async || {
                    handlers.load(Ordering::SeqCst) == 0
                })
                .await;
            }
            town.stop().await;
        });
    }
}

/// The time is that of each item, in whichever way it is waited for, and begins anew with each.
#[test]
fn the_time_of_an_item_is_that_of_each() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (handler, mut kept) = keeps();
            let town = Town::new(ServerOptions::new(), handler);
            let channel = town.channel().await;
            let late = Some(Err(CallError::TimedOut { sent: true }));
            for as_stream in [false, true] {
                let options = CallOptions::new().item_timeout(A_MOMENT);
                let mut items: Items<u32> = channel.open(0, &0_u32, options).await.unwrap();
                let sink = kept.recv().await.unwrap();
                // A wait that was given up, and an item that was then taken in another way, are not counted in.
                assert_eq!(poll_times(next_as_stream(&mut items), 1).await, None);
                sink.send(&1).await.unwrap();
                assert_eq!(items.next_by(soon()).await, Some(Ok(1)));
                tokio::time::sleep(A_MOMENT).await;
                let started = Instant::now();
                let next = match as_stream {
                    true => next_as_stream(&mut items).await,
                    false => items.next().await,
                };
                assert_eq!(next, late);
                assert!(started.elapsed() >= A_MOMENT - Duration::from_millis(1));
                assert!(items.is_over() && items.next().await.is_none());
                sink.stopped().await;
                assert_eq!(sink.send(&2).await, Err(SinkError::Stopped));
            }
            town.stop().await;
        });
    }
}

/// A client that has read its replies may stay away from its streams: the patience is for replies.
#[test]
fn a_client_may_stay_away_from_a_stream_and_still_call() {
    pipetalk::service! {
        trait Both {
            stream blobs(count: u64) -> Blob;
            fn add(a: u64, b: u64) -> u64;
        }
        struct BothClient;
        async trait AsyncBoth;
    }
    struct Serves;
    impl AsyncBoth for Serves {
        async fn blobs(&self, _: &Call, count: u64, items: ItemSink<Blob>) {
            for _ in 0..count {
                if items.send(&Blob::from(vec![7; 60_000])).await.is_err() {
                    return;
                }
            }
        }
        async fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
            a + b
        }
    }
    let _limit = limit(here!());
    for runtime in runtimes() {
        let (listener, connector) = pipetalk::memory::listener();
        let server = ServerOptions::new().send_timeout(A_MOMENT);
        let server = server.on_tokio(memory::Listener::from(listener));
        let handle = server.handle();
        let serving = std::thread::spawn(move || runtime.block_on(server.serve(Serves.service())));
        let client = BothClient::over(connector.connect(soon()).unwrap()).unwrap();
        let wide = client.with(CallOptions::new().window(1_000_000));
        let mut items = wide.blobs(2000).unwrap();
        // Its replies come between the items, of which it reads no more than it must.
        for number in 0..20 {
            assert_eq!(client.add(number, 1), Ok(number + 1));
        }
        std::thread::sleep(A_MOMENT * 4);
        assert_eq!(items.by_ref().map(Result::unwrap).count(), 2000);
        assert_eq!(client.add(1, 2), Ok(3));
        handle.stop();
        serving.join().unwrap().unwrap();
    }
}

/// Nobody is left without a word when a server drains or stops.
#[test]
fn ends_of_servers_come_in_words() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            for stops in [false, true] {
                let (handler, mut kept) = keeps();
                let town = Town::new(ServerOptions::new().in_flight(200), handler);
                let channel = town.channel().await;
                let (mut streams, mut sinks) = (Vec::new(), Vec::new());
                for _ in 0..50 {
                    let items: Items<u32> =
                        channel.open(0, &0_u32, CallOptions::new()).await.unwrap();
                    streams.push(items);
                    sinks.push(kept.recv().await.unwrap());
                }
                for (sink, number) in sinks.iter().zip(0..) {
                    sink.send(&number).await.unwrap();
                }
                match stops {
                    true => town.handle.stop(),
                    false => town.handle.drain(A_MOMENT),
                }
                for (items, number) in streams.iter_mut().zip(0..) {
                    let first = items.next().await.unwrap();
                    let end = match first {
                        Ok(first) => {
                            assert_eq!(first, number);
                            items.next().await.unwrap()
                        }
                        // What was still queued goes with a stream that is cancelled.
                        end => end,
                    };
                    assert_eq!(end, Err(CallError::Cancelled));
                    assert_eq!(items.next().await, None);
                }
                for sink in sinks {
                    sink.stopped().await;
                }
                town.serving.await.unwrap().unwrap();
            }
        });
    }
}

/// Subscribers of different speed, each in a task of its own, account for every item.
#[test]
fn subscribers_in_tasks_account_for_every_item() {
    let _limit = limit(here!());
    // Each subscriber is sure to get fifty.
    let numbers = u64::from(rounds_or(10_000, 1_000)).max(500);
    for runtime in runtimes() {
        runtime.block_on(async {
            let news: Broadcast<u64> = Broadcast::new(50);
            let desk = news.clone();
            let town = Town::new(
                ServerOptions::new(),
                move |_: u32, _: Call, items: ItemSink<Event<u64>>| {
                    desk.subscribe(items);
                    ready(())
                },
            );
            let channel = town.channel().await;
            let mut subscribers = Vec::new();
            for speed in 0..6 {
                let options = CallOptions::new().window(1 + speed * 7);
                let mut items: Items<Event<u64>> = channel.open(0, &0_u32, options).await.unwrap();
                subscribers.push(tokio::spawn(async move {
                    let (mut got, mut missed) = (0, 0);
                    while let Some(event) = items.next().await {
                        match event.unwrap() {
                            Event::Item(number) => {
                                assert_eq!(number, got + missed);
                                got += 1;
                            }
                            Event::Missed(count) => missed += count,
                        }
                        for _ in 0..speed {
                            yield_now().await;
                        }
                    }
                    (got, missed)
                }));
            }
            until("all are subscribed", async || news.subscribers() == 6).await;
            for number in 0..numbers {
                news.publish(&number).unwrap();
                if number % 64 == 0 {
                    yield_now().await;
                }
            }
            news.end();
            for subscriber in subscribers {
                let (got, missed) = subscriber.await.unwrap();
                assert!(got >= 50 && got + missed == numbers, "{got} {missed}");
            }
            drop(news);
            town.stop().await;
        });
    }
}

/// The types may be sent to other tasks.
#[test]
fn tasks_may_have_them() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send + Unpin>() {}
    shared::<ItemSink<u64>>();
    sent::<Items<u64>>();
}
