//! Typed calls of async programs: what blocking ones cannot do, such as to drop a call half-way.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "util/mod.rs"]
mod util;

use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use pipetalk::tokio::{Client, Listener, Server, Stream, memory};
use pipetalk::{
    Blob, Call, CallError, CallOptions, ClientOptions, Deadline, Part, ServerHandle, ServerOptions,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use util::{A_MOMENT, A_WHILE, Place, Rng, here, limit, rounds_or, soon, variable};

/// Both kinds of runtimes.
fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    ]
}

struct Serving {
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    fn start<Q, F>(
        server: Server<impl Listener>,
        handler: impl Fn(Q, Call) -> F + Send + Sync + 'static,
    ) -> Serving
    where
        Q: serde::de::DeserializeOwned + Send + 'static,
        F: Future<Output: Serialize> + Send + 'static,
    {
        Serving {
            handle: server.handle(),
            task: tokio::spawn(server.serve(handler)),
        }
    }

    async fn stop(self) {
        self.handle.stop();
        self.task.await.unwrap().unwrap();
    }
}

/// A client and a server over memory.
async fn connect<Q, R>(connector: &memory::Connector, options: ClientOptions) -> Client<Q, R> {
    let stream = connector.connect(soon()).await.unwrap();
    options.over_tokio(stream).unwrap()
}

/// Waits for what must come about, and lets others run meanwhile.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(!deadline.has_passed(), "it never came about that {what}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

// ---------------------------------------------------------------- dropped calls

#[derive(Debug, Serialize, Deserialize)]
struct Numbered {
    number: u32,
    /// How often the handler lets others run before it answers.
    yields: u8,
    ballast: Blob,
}

/// Polls a future so many times at most, with others running in between.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// Of 10,000 calls over one connection, most are dropped at some time or other. Those that are answered have their own
/// answer, no request is carried out twice, and in the end nothing is left.
#[test]
fn dropped_calls_lose_and_duplicate_nothing() {
    const TASKS: u32 = 20;
    let _limit = limit(here!());
    let drops = rounds_or(10_000, 1_000);
    for runtime in runtimes() {
        let mut rng = Rng::new();
        runtime.block_on(async {
            let place = Place::new();
            let (listener, connector) = memory::listener();
            let count = 2 * drops as usize;
            let handled: Arc<Vec<AtomicU32>> =
                Arc::new((0..count).map(|_| AtomicU32::new(0)).collect());
            let in_memory = ServerOptions::new().on_tokio(listener);
            let local = Server::bind(place.name()).unwrap();
            let by = Arc::clone(&handled);
            let handler = move |request: Numbered, _: Call| {
                by[request.number as usize].fetch_add(1, Ordering::SeqCst);
                async move {
                    for _ in 0..request.yields {
                        yield_now().await;
                    }
                    (request.number, request.ballast)
                }
            };
            let servings = [
                Serving::start(in_memory, handler.clone()),
                Serving::start(local, handler),
            ];
            let clients: [Client<Numbered, (u32, Blob)>; 2] = [
                connect(&connector, ClientOptions::new()).await,
                Client::connect(place.name()).await.unwrap(),
            ];
            for (half, client) in (0..).zip(clients) {
                let next = Arc::new(AtomicU32::new(half * drops));
                let tasks: Vec<_> = (0..TASKS)
                    .map(|_| {
                        let (client, next, mut rng) =
                            (client.clone(), Arc::clone(&next), rng.fork());
                        tokio::spawn(async move {
                            let (mut dropped, mut answered) = (0, 0);
                            loop {
                                let number = next.fetch_add(1, Ordering::SeqCst);
                                if number >= (half + 1) * drops {
                                    return (dropped, answered);
                                }
                                let large = rng.one_in(50);
                                let ballast = vec![number as u8; if large { 300_000 } else { 10 }];
                                let request = Numbered {
                                    number,
                                    yields: rng.in_range(0..4) as u8,
                                    ballast: Blob::from(ballast),
                                };
                                let times = if rng.one_in(4) {
                                    usize::MAX
                                } else {
                                    rng.in_range(0..8)
                                };
                                match poll_times(client.call(&request), times).await {
                                    None => dropped += 1,
                                    Some(reply) => {
                                        let (of, ballast) = reply.unwrap();
                                        assert_eq!(of, number);
                                        assert!(ballast == request.ballast);
                                        answered += 1;
                                    }
                                }
                            }
                        })
                    })
                    .collect();
                let (mut dropped, mut answered) = (0, 0);
                for task in tasks {
                    let (some, others) = task.await.unwrap();
                    (dropped, answered) = (dropped + some, answered + others);
                }
                println!("{dropped} dropped, {answered} answered");
                assert_eq!(dropped + answered, drops);
                assert!(dropped > drops / 10 && answered > drops / 10);
                // Nothing takes up room for ever.
                loop {
                    let info = client.channel().info().await.unwrap();
                    assert_eq!(info.connections, 1);
                    if info.in_flight == 1 {
                        break;
                    }
                    yield_now().await;
                }
            }
            let times: Vec<u32> = handled.iter().map(|of| of.load(Ordering::SeqCst)).collect();
            assert!(
                times.iter().all(|times| *times <= 1),
                "a request was carried out twice"
            );
            for serving in servings {
                serving.stop().await;
            }
        });
    }
}

#[test]
fn a_notification_that_is_dropped_is_sent_or_not() {
    let _limit = limit(here!());
    let rounds = rounds_or(2_000, 300);
    for runtime in runtimes() {
        let mut rng = Rng::new();
        runtime.block_on(async {
            // A pipe that is full nearly always.
            let (listener, connector) = memory::Options::new().buffer_size(200).listener_tokio();
            let heard = Arc::new(AtomicUsize::new(0));
            let hear = Arc::clone(&heard);
            let serving = Serving::start(
                ServerOptions::new().on_tokio(listener),
                move |_: (u32, [u64; 8]), _| {
                    hear.fetch_add(1, Ordering::SeqCst);
                    async {}
                },
            );
            let client: Client<(u32, [u64; 8]), ()> =
                connect(&connector, ClientOptions::new()).await;
            let (mut sent, mut dropped) = (0, 0);
            for number in 0..rounds {
                match poll_times(client.notify(&(number, [u64::MAX; 8])), rng.in_range(0..3)).await
                {
                    Some(done) => {
                        done.unwrap();
                        sent += 1;
                    }
                    None => dropped += 1,
                }
            }
            client.channel().info().await.unwrap();
            let heard = heard.load(Ordering::SeqCst);
            println!("{sent} sent, {dropped} dropped, {heard} heard");
            assert!(heard >= sent && heard <= sent + dropped);
            serving.stop().await;
        });
    }
}

#[test]
fn a_call_that_is_dropped_cancels_its_request_and_frees_its_place() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (say, said) = mpsc::channel();
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().in_flight(1).on_tokio(listener);
            let serving = Serving::start(server, move |wait: bool, _: Call| {
                let dropped = Dropped(say.clone());
                async move {
                    if wait {
                        dropped.0.send("begun").unwrap();
                        pending::<()>().await;
                    }
                }
            });
            let client: Client<bool, ()> = connect(&connector, ClientOptions::new()).await;
            for _ in 0..10 {
                let mut call = Box::pin(client.call(&true));
                let begun = poll_fn(|cx| {
                    assert!(call.as_mut().poll(cx).is_pending());
                    match said.try_recv() {
                        Ok(word) => Poll::Ready(word),
                        Err(_) => {
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                    }
                });
                assert_eq!(begun.await, "begun");
                // Another waits for its place, and gets it.
                let other = client.clone();
                let other = tokio::spawn(async move { other.call(&false).await });
                yield_now().await;
                drop(call);
                other.await.unwrap().unwrap();
                // That of the first, and of the second.
                let both = [(); 2].map(|()| said.recv_timeout(A_WHILE).unwrap());
                assert_eq!(both, ["dropped"; 2]);
            }
            serving.stop().await;
        });
    }
}

#[test]
fn a_handler_is_dropped_with_its_deadline_or_its_client_but_not_its_notification() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (say, said) = mpsc::channel();
            let may_end = Arc::new(Semaphore::new(0));
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().on_tokio(listener);
            let end = Arc::clone(&may_end);
            let serving = Serving::start(server, move |(): (), _: Call| {
                let (end, dropped) = (Arc::clone(&end), Dropped(say.clone()));
                async move {
                    dropped.0.send("begun").unwrap();
                    let permit = end.acquire().await.unwrap();
                    permit.forget();
                    dropped.0.send("done").unwrap();
                }
            });
            let hears = |word: &'static str| {
                let said = &said;
                async move {
                    let mut heard = None;
                    until(word, || {
                        heard = said.try_recv().ok();
                        heard.is_some()
                    })
                    .await;
                    assert_eq!(heard, Some(word));
                }
            };
            let client: Client<(), ()> = connect(&connector, ClientOptions::new()).await;
            let moment = CallOptions::new().deadline(A_MOMENT);
            let error = client.call_with(&(), moment).await.unwrap_err();
            assert_eq!(error, CallError::TimedOut { sent: true });
            hears("begun").await;
            hears("dropped").await;

            client.notify(&()).await.unwrap();
            hears("begun").await;
            let other = client.clone();
            let call = tokio::spawn(async move { other.call(&()).await });
            hears("begun").await;
            client.channel().close();
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error, CallError::Disconnected { sent: true });
            // The request's, not the notification's.
            hears("dropped").await;
            may_end.add_permits(1);
            hears("done").await;
            hears("dropped").await;

            // That of a notification ends with the server.
            let client: Client<(), ()> = connect(&connector, ClientOptions::new()).await;
            client.notify(&()).await.unwrap();
            hears("begun").await;
            serving.stop().await;
            hears("dropped").await;
        });
    }
}

// ---------------------------------------------------------------- many tasks

/// Many tasks over one connection that is broken now and then, with random deadlines and drops: each call ends, with
/// its own answer or with an error that says truthfully whether the request was sent.
#[test]
fn calls_of_many_tasks_under_stress() {
    const TASKS: usize = 64;
    let _limit = limit(here!());
    let calls = variable("PIPETALK_STRESS").unwrap_or_else(|| u64::from(rounds_or(20_000, 2_000)));
    for runtime in runtimes() {
        let mut rng = Rng::new();
        runtime.block_on(async {
            let place = Place::new();
            let carried_out: Arc<Vec<AtomicU32>> =
                Arc::new((0..calls).map(|_| AtomicU32::new(0)).collect());
            let by = Arc::clone(&carried_out);
            let handler = move |(number, how): (u64, u8), _: Call| {
                by[number as usize].fetch_add(1, Ordering::SeqCst);
                async move {
                    match how {
                        0 => tokio::time::sleep(Duration::from_micros(number % 500)).await,
                        1 => pending().await,
                        2 => panic::resume_unwind(Box::new("as asked")),
                        3 => yield_now().await,
                        _ => {}
                    }
                    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                }
            };
            let serving = Serving::start(Server::bind(place.name()).unwrap(), handler);
            let options = ClientOptions::new().reconnect(true);
            let client: Client<(u64, u8), u64> = options.connect_tokio(place.name()).await.unwrap();
            let next = Arc::new(AtomicUsize::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let breaks = {
                let (client, over, mut rng) = (client.clone(), Arc::clone(&over), rng.fork());
                let next = Arc::clone(&next);
                tokio::spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        // By the calls and not by the clock: on a slow machine too most of them are answered.
                        let then = next.load(Ordering::SeqCst) + rng.in_range(100..400);
                        while next.load(Ordering::SeqCst) < then && !over.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_micros(100)).await;
                        }
                        client.channel().close();
                    }
                })
            };
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let (client, next) = (client.clone(), Arc::clone(&next));
                    let (carried_out, mut rng) = (Arc::clone(&carried_out), rng.fork());
                    tokio::spawn(async move {
                        let mut answered = 0_u64;
                        loop {
                            let number = next.fetch_add(1, Ordering::SeqCst);
                            if number as u64 >= calls {
                                return answered;
                            }
                            let how = rng.in_range(0..12) as u8;
                            let deadline = match how {
                                1 => Duration::from_micros(rng.in_range(0..3_000) as u64),
                                _ if rng.one_in(4) => {
                                    Duration::from_micros(rng.in_range(0..2_000) as u64)
                                }
                                _ => A_WHILE,
                            };
                            let options = CallOptions::new().deadline(deadline);
                            let request = (number as u64, how);
                            let call = client.call_with(&request, options);
                            let times = if rng.one_in(8) {
                                rng.in_range(0..5)
                            } else {
                                usize::MAX
                            };
                            let Some(called) = poll_times(call, times).await else {
                                continue;
                            };
                            match called {
                                Ok(reply) => {
                                    assert_eq!(
                                        reply,
                                        (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                                    );
                                    answered += 1;
                                }
                                Err(error) => {
                                    let late = matches!(error, CallError::TimedOut { .. });
                                    assert!(!late || deadline < A_WHILE, "nothing takes so long");
                                    assert!(
                                        matches!(
                                            error,
                                            CallError::TimedOut { .. }
                                                | CallError::Panicked
                                                | CallError::Disconnected { .. }
                                        ),
                                        "{error:?}"
                                    );
                                    let carried_out = carried_out[number].load(Ordering::SeqCst);
                                    assert!(error.was_sent() || carried_out == 0, "{error:?}");
                                }
                            }
                        }
                    })
                })
                .collect();
            let mut answered = 0;
            for task in tasks {
                answered += task.await.unwrap();
            }
            over.store(true, Ordering::SeqCst);
            breaks.await.unwrap();
            println!("{answered} of {calls} answered");
            assert!(answered > calls / 4);
            for times in &*carried_out {
                assert!(times.load(Ordering::SeqCst) <= 1);
            }
            serving.stop().await;
        });
    }
}

/// However many wait, each as long as it likes: as many as may be in flight, and the next when one of them is done.
#[test]
fn waiting_requests_run_at_the_same_time_within_the_limit() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().in_flight(8).on_tokio(listener);
            let inside = Arc::new(AtomicUsize::new(0));
            let gate = Arc::new(Semaphore::new(0));
            let (enters, opens) = (Arc::clone(&inside), Arc::clone(&gate));
            let serving = Serving::start(server, move |n: usize, _: Call| {
                let (inside, gate) = (Arc::clone(&enters), Arc::clone(&opens));
                async move {
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 8);
                    gate.acquire().await.unwrap().forget();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    n
                }
            });
            let client: Client<usize, usize> = connect(&connector, ClientOptions::new()).await;
            let calls: Vec<_> = (0..100)
                .map(|n| {
                    let client = client.clone();
                    tokio::spawn(async move { client.call(&n).await })
                })
                .collect();
            until("eight are inside", || inside.load(Ordering::SeqCst) == 8).await;
            gate.add_permits(100);
            for (n, call) in calls.into_iter().enumerate() {
                assert_eq!(call.await.unwrap().unwrap(), n);
            }
            serving.stop().await;
        });
    }
}

#[test]
fn who_computes_for_long_on_a_thread_for_that_holds_nobody_up() {
    let _limit = limit(here!());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let handle = server.handle();
        let (say, said) = mpsc::channel();
        let serving = tokio::spawn(server.serve_blocking(move |blocks: bool, call: &Call| {
            if blocks {
                while !call.is_cancelled() {
                    std::thread::yield_now();
                }
                say.send("cancelled").unwrap();
            }
        }));
        let client: Client<bool, ()> = connect(&connector, ClientOptions::new()).await;
        let moment = CallOptions::new().deadline(2 * A_WHILE);
        let mut blocked = Box::pin(client.call_with(&true, moment));
        assert!(poll_times(blocked.as_mut(), 20).await.is_none());
        for _ in 0..100 {
            client.call(&false).await.unwrap();
        }
        drop(blocked);
        client.call(&false).await.unwrap();
        assert_eq!(said.recv_timeout(A_WHILE).unwrap(), "cancelled");
        handle.stop();
        serving.await.unwrap().unwrap();
    });
}

// ---------------------------------------------------------------- runtimes

#[test]
fn outside_a_runtime_it_is_said_in_words() {
    let _limit = limit(here!());
    let (client, _server) = memory::pair();
    let error = ClientOptions::new()
        .over_tokio::<(), ()>(client)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("no tokio runtime"), "{error}");

    let place = Place::new();
    let error = Server::bind(place.name()).map(drop).unwrap_err();
    assert!(error.to_string().contains("no tokio runtime"), "{error}");

    // The future of a connect may be polled anywhere.
    let mut connecting = pin!(Client::<(), ()>::connect(place.name()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match connecting.as_mut().poll(&mut cx) {
        Poll::Ready(Err(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_runtime_without_timers_is_told_so() {
    let _limit = limit(here!());
    let runtime = Builder::new_current_thread().build().unwrap();
    let with_timers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (listener, connector) = memory::listener();
    let serving = with_timers.block_on(async {
        Serving::start(
            ServerOptions::new().on_tokio(listener),
            |n: u32, _| async move { n },
        )
    });
    runtime.block_on(async {
        let (listener, _connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let error = server.serve(|(): (), _| async {}).await.unwrap_err();
        assert!(error.to_string().contains("enable_time"), "{error}");

        let stream = connector.connect(Deadline::NEVER).await.unwrap();
        let client: Client<u32, u32> = ClientOptions::new().over_tokio(stream).unwrap();
        let error = client.call(&1).await.unwrap_err();
        assert!(error.to_string().contains("enable_time"), "{error}");
        assert!(!error.was_sent());
        // Who waits for ever needs none.
        let never = CallOptions::new().deadline(Deadline::NEVER);
        assert_eq!(client.call_with(&2, never).await.unwrap(), 2);
    });
    with_timers.block_on(serving.stop());
}

#[test]
fn calls_may_be_made_from_anywhere_until_the_runtime_of_the_connection_ends() {
    let _limit = limit(here!());
    let [one, many] = runtimes();
    let (listener, connector) = memory::listener();
    let serving = many.block_on(async {
        Serving::start(
            ServerOptions::new().on_tokio(listener),
            |n: u32, _| async move { if n == 0 { pending().await } else { n } },
        )
    });
    let connected_in = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client: Client<u32, u32> = connected_in.block_on(connect(&connector, ClientOptions::new()));
    assert_eq!(one.block_on(client.call(&1)).unwrap(), 1);
    assert_eq!(many.block_on(client.call(&2)).unwrap(), 2);
    let other = client.clone();
    let waiting = many.spawn(async move { other.call(&0).await });
    // It is under way when another comes back.
    assert_eq!(one.block_on(client.call(&3)).unwrap(), 3);
    connected_in.shutdown_timeout(A_WHILE);
    let error = many.block_on(waiting).unwrap().unwrap_err();
    assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
    let error = one.block_on(client.call(&4)).unwrap_err();
    assert_eq!(error, CallError::Disconnected { sent: false });
    many.block_on(serving.stop());
}

// ---------------------------------------------------------------- ends

#[test]
fn a_server_that_is_dropped_ends_its_connections_and_gives_the_name_back() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let place = Place::new();
            for _ in 0..3 {
                let server = Server::bind(place.name()).unwrap();
                let serving = tokio::spawn(server.serve(|n: u32, _| async move { n }));
                let client: Client<u32, u32> = Client::connect(place.name()).await.unwrap();
                assert_eq!(client.call(&1).await.unwrap(), 1);
                serving.abort();
                assert!(serving.await.unwrap_err().is_cancelled());
                let error = client.call(&2).await.unwrap_err();
                assert!(
                    matches!(
                        error,
                        CallError::Disconnected { .. } | CallError::Unavailable
                    ),
                    "{error:?}"
                );
            }
        });
    }
}

#[test]
fn a_drain_waits_for_what_is_under_way_and_then_cancels_it() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let gate = Arc::new(Semaphore::new(0));
            for in_time in [true, false] {
                let (listener, connector) = memory::listener();
                let opens = Arc::clone(&gate);
                let inside = Arc::new(AtomicUsize::new(0));
                let enters = Arc::clone(&inside);
                let serving =
                    Serving::start(ServerOptions::new().on_tokio(listener), move |(): (), _| {
                        enters.fetch_add(1, Ordering::SeqCst);
                        let gate = Arc::clone(&opens);
                        async move { gate.acquire().await.unwrap().forget() }
                    });
                let client: Client<(), ()> = connect(&connector, ClientOptions::new()).await;
                let idle: Client<(), ()> = connect(&connector, ClientOptions::new()).await;
                idle.channel().info().await.unwrap();
                let other = client.clone();
                let call = tokio::spawn(async move { other.call(&()).await });
                until("it is inside", || inside.load(Ordering::SeqCst) == 1).await;
                serving
                    .handle
                    .drain(if in_time { A_WHILE } else { A_MOMENT });
                // Who has nothing under way is sent home.
                let error = idle.call(&()).await.unwrap_err();
                assert_eq!(error, CallError::Unavailable);
                if in_time {
                    gate.add_permits(1);
                    call.await.unwrap().unwrap();
                } else {
                    assert_eq!(call.await.unwrap().unwrap_err(), CallError::Cancelled);
                }
                let ended = tokio::time::timeout(A_WHILE, serving.task).await;
                ended.unwrap().unwrap().unwrap();
            }
        });
    }
}

#[test]
fn a_client_that_leaves_at_once_is_heard_and_leaves_no_task() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let place = Place::new();
            let heard = Arc::new(AtomicUsize::new(0));
            let hear = Arc::clone(&heard);
            let server = Server::bind(place.name()).unwrap();
            let serving = Serving::start(server, move |(): (), _| {
                hear.fetch_add(1, Ordering::SeqCst);
                async {}
            });
            let tasks = || {
                tokio::runtime::Handle::current()
                    .metrics()
                    .num_alive_tasks()
            };
            yield_now().await;
            let before = tasks();
            for _ in 0..50 {
                let client: Client<(), ()> = Client::connect(place.name()).await.unwrap();
                client.notify(&()).await.unwrap();
            }
            until("all are heard", || heard.load(Ordering::SeqCst) == 50).await;
            until("no task is left", || tasks() == before).await;
            serving.stop().await;
        });
    }
}

// ---------------------------------------------------------------- transports that panic

/// A transport of somebody's own, with a mistake in it.
#[derive(Debug)]
struct Faulty {
    stream: memory::Stream,
    /// How many messages it receives, or sends, before it panics.
    receives: AtomicUsize,
    sends: AtomicUsize,
}

fn spend(left: &AtomicUsize) {
    let less = |left: usize| left.checked_sub(1);
    if left
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_err()
    {
        panic::resume_unwind(Box::new("a mistake"));
    }
}

impl Stream for Faulty {
    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        spend(&self.sends);
        self.stream.send(message, deadline).await
    }

    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.stream.recv(buf, deadline).await
    }

    async fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let received = self.stream.recv_message(message, deadline).await;
        spend(&self.receives);
        received
    }

    fn close(&self) {
        self.stream.close();
    }
}

#[derive(Debug)]
struct FaultyListener(memory::Listener, [usize; 2]);

impl Listener for FaultyListener {
    type Stream = Faulty;

    async fn accept(&self, deadline: Deadline) -> io::Result<Faulty> {
        Ok(faulty(self.0.accept(deadline).await?, self.1))
    }

    fn stop(&self) {
        self.0.stop();
    }
}

fn faulty(stream: memory::Stream, [receives, sends]: [usize; 2]) -> Faulty {
    Faulty {
        stream,
        receives: receives.into(),
        sends: sends.into(),
    }
}

#[test]
fn a_client_whose_transport_panics_loses_the_connection_for_all_tasks() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().on_tokio(listener);
            let serving = Serving::start(server, |waits: bool, _| async move {
                if waits {
                    pending::<()>().await;
                }
            });
            // The welcome and one reply, or the hello and nine requests.
            for left in [[2, usize::MAX], [usize::MAX, 10]] {
                let stream = faulty(connector.connect(soon()).await.unwrap(), left);
                let options = ClientOptions::new().timeout(None);
                let client: Client<bool, ()> = options.over_tokio(stream).unwrap();
                client.call(&false).await.unwrap();
                let waiting: Vec<_> = (0..8)
                    .map(|_| {
                        let client = client.clone();
                        tokio::spawn(async move { client.call(&true).await })
                    })
                    .collect();
                until("all wait", || {
                    tokio::runtime::Handle::current()
                        .metrics()
                        .num_alive_tasks()
                        > 8
                })
                .await;
                // The reply to this one, or the request itself, is too many.
                let error = loop {
                    match client.call(&false).await {
                        Ok(()) => {}
                        Err(error) => break error,
                    }
                };
                assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
                for waiting in waiting {
                    let error = waiting.await.unwrap().unwrap_err();
                    assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
                }
            }
            serving.stop().await;
        });
    }
}

#[test]
fn a_server_whose_transport_panics_loses_that_client() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            // The hello and one request, or the welcome and one reply.
            for left in [[2, usize::MAX], [usize::MAX, 2]] {
                let (listener, connector) = memory::listener();
                let server = ServerOptions::new().on_tokio(FaultyListener(listener, left));
                let serving = Serving::start(server, |n: u32, _| async move { n });
                for _ in 0..3 {
                    let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
                    assert_eq!(client.call(&1).await.unwrap(), 1);
                    let error = client.call(&2).await.unwrap_err();
                    assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
                }
                // It waits for nobody.
                serving.handle.drain(Duration::MAX);
                serving.task.await.unwrap().unwrap();
            }
        });
    }
}

// ---------------------------------------------------------------- time

#[test]
fn a_deadline_is_kept_whatever_the_others_are() {
    let _limit = limit(here!());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let serving = Serving::start(server, |(): (), _| pending::<()>());
        let client: Client<(), ()> = connect(&connector, ClientOptions::new()).await;
        // The first is sent alone, before the welcome; those behind it wait for room until it has come.
        let calls: Vec<_> = [400, 50, 200, 100, 300, 150]
            .into_iter()
            .map(|ms| {
                let (client, after) = (client.clone(), Duration::from_millis(ms));
                tokio::spawn(async move {
                    let began = Instant::now();
                    let options = CallOptions::new().deadline(after);
                    let error = client.call_with(&(), options).await.unwrap_err();
                    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
                    (began.elapsed(), after)
                })
            })
            .collect();
        for call in calls {
            let (took, after) = call.await.unwrap();
            assert!(
                took >= after && took < after + A_WHILE / 3,
                "{took:?} for {after:?}"
            );
        }
        serving.stop().await;
    });
}
