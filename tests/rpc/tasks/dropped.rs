//! Calls, notifications and handlers that are dropped half-way.

use std::future::{Future, pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use pipetalk::tokio::{Client, Server, memory};
use pipetalk::{Blob, Call, CallError, CallOptions, ClientOptions, ServerOptions};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::tasks::harness::{Serving, connect};
use util::tasks::{poll_times, runtimes, until};
use util::{A_MOMENT, A_WHILE, Deserialize, Place, Rng, Serialize, here, limit, rounds_or};

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Numbered {
    number: u32,
    /// How often the handler lets others run before it answers.
    yields: u8,
    ballast: Blob,
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

/// Whether somebody was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A call that is alone is woken to receive its own answer. Where it is not polled then, or dropped, others receive all
/// the same.
#[test]
fn a_call_that_is_woken_and_not_polled_holds_nobody_up() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        for dropped in [false, true] {
            runtime.block_on(async {
                let place = Place::new();
                let serving = Serving::start(Server::bind(place.name()).unwrap(), {
                    |number: u32, _| async move { number }
                });
                let client: Client<u32, u32> = Client::connect(place.name()).await.unwrap();
                for number in 0..20 {
                    let mut first = Box::pin(client.call(&number));
                    let woken = Arc::new(Woken::default());
                    let waker = Waker::from(Arc::clone(&woken));
                    let rest = match first.as_mut().poll(&mut Context::from_waker(&waker)) {
                        // The server was quick.
                        Poll::Ready(answer) => {
                            assert_eq!(answer.unwrap(), number);
                            None
                        }
                        Poll::Pending => {
                            until("the call is woken", async || woken.0.load(Ordering::SeqCst))
                                .await;
                            (!dropped).then_some(first)
                        }
                    };
                    assert_eq!(client.call(&(number + 100)).await.unwrap(), number + 100);
                    if let Some(rest) = rest {
                        assert_eq!(rest.await.unwrap(), number);
                    }
                }
                serving.stop().await;
            });
        }
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
                    until(word, async || {
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
