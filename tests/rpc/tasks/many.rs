//! Many tasks over one connection: none of them is held up by what the others do.

use std::future::pending;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use pipetalk::tokio::{Client, Server, memory};
use pipetalk::{Call, CallError, CallOptions, ClientOptions, ServerOptions};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::tasks::harness::{Serving, connect};
use util::tasks::{one_thread, poll_times, runtimes, until};
use util::{A_WHILE, Place, Rng, here, is_wine, limit, many};

/// Many tasks over one connection that is broken now and then, with random deadlines and drops: each call ends, with
/// its own answer or with an error that says truthfully whether the request was sent.
#[test]
fn calls_of_many_tasks_under_stress() {
    const TASKS: usize = 64;
    let _limit = limit(here!());
    let calls = many(if is_wine() { 2_000 } else { 20_000 });
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
            until("eight are inside", async || {
                inside.load(Ordering::SeqCst) == 8
            })
            .await;
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
    let runtime = one_thread();
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

#[test]
fn a_deadline_is_kept_whatever_the_others_are() {
    let _limit = limit(here!());
    let runtime = one_thread();
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
