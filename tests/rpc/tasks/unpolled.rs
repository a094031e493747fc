//! Futures that are not polled, because their task has something else to do: they hold up nobody but themselves.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use pipetalk::tokio::{Client, Server, memory};
use pipetalk::{CallError, CallOptions, ClientOptions, ConnectOptions, ServerOptions};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::tasks::harness::{Serving, alive_tasks, connect};
use util::tasks::{runtimes, until};
use util::{A_MOMENT, Place, expect_panics_of_tokio, here, limit, soon};

type Called<'a> = Pin<Box<dyn Future<Output = Result<u32, CallError>> + Send + 'a>>;

/// Polls a call once, which has to wait.
async fn begin(call: &mut Called<'_>) {
    let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending()));
    assert!(polled.await, "it has to wait");
}

/// The server takes one request at a time. Those that wait for its place and are not polled when it is theirs do not keep
/// it from the others, however many they are; and get it as soon as they are polled.
#[test]
fn a_call_that_waits_for_room_and_is_not_polled_holds_nobody_up() {
    let _limit = limit(here!());
    // It is tokio that panics, where the crate asks it for a timer that there is not.
    let _expected = expect_panics_of_tokio();
    let [one, many] = runtimes();
    // A client without timers can do nothing after a while; a server has to have some.
    let [_, serves] = runtimes();
    let timeless = Builder::new_current_thread().enable_io().build().unwrap();
    for (runtime, timers) in [(one, true), (many, true), (timeless, false)] {
        for count in [1, 3, 1_000] {
            runtime.block_on(async {
                let (listener, connector) = memory::listener();
                let options = ServerOptions::new().in_flight(1);
                let gate = Arc::new(Semaphore::new(0));
                let opens = Arc::clone(&gate);
                let within = serves.enter();
                let serving = Serving::start(options.on_tokio(listener), move |n: u32, _| {
                    let gate = Arc::clone(&opens);
                    async move {
                        if n == 0 {
                            gate.acquire().await.unwrap().forget();
                        }
                        n
                    }
                });
                drop(within);
                let options = match timers {
                    true => ClientOptions::new(),
                    false => ClientOptions::new().timeout(None),
                };
                let stream = connector.connect(pipetalk::Deadline::NEVER).await.unwrap();
                let client: Client<u32, u32> = options.over_tokio(stream).unwrap();
                let mut first: Called<'_> = Box::pin(client.call(&0));
                begin(&mut first).await;
                let mut unpolled: Vec<Called<'_>> = Vec::new();
                for _ in 0..count {
                    let mut call: Called<'_> = Box::pin(client.call(&1));
                    begin(&mut call).await;
                    unpolled.push(call);
                }
                let behind: Vec<_> = (2..12)
                    .map(|n| {
                        let client = client.clone();
                        tokio::spawn(async move { client.call(&n).await })
                    })
                    .collect();
                for _ in 0..20 {
                    yield_now().await;
                }
                gate.add_permits(1);
                assert_eq!(first.await, Ok(0));
                for (n, call) in (2..12).zip(behind) {
                    assert_eq!(call.await.unwrap(), Ok(n));
                }
                // Nor those that come later.
                for n in 20..30 {
                    assert_eq!(client.call(&n).await, Ok(n));
                }
                for call in unpolled {
                    assert_eq!(call.await, Ok(1));
                }
                serving.stop().await;
            });
        }
    }
}

/// The deadline of a call that is not polled passes as well, so that it is never sent when it is over.
#[test]
fn a_call_that_is_offered_room_too_late_is_not_sent() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let options = ServerOptions::new().in_flight(1);
            let handled = Arc::new(AtomicUsize::new(0));
            let gate = Arc::new(Semaphore::new(0));
            let (handles, opens) = (Arc::clone(&handled), Arc::clone(&gate));
            let serving = Serving::start(options.on_tokio(listener), move |n: u32, _| {
                handles.fetch_add(1, Ordering::SeqCst);
                let gate = Arc::clone(&opens);
                async move {
                    gate.acquire().await.unwrap().forget();
                    n
                }
            });
            let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
            let mut first: Called<'_> = Box::pin(client.call(&0));
            begin(&mut first).await;
            let moment = CallOptions::new().deadline(A_MOMENT);
            let mut late: Called<'_> = Box::pin(client.call_with(&1, moment));
            begin(&mut late).await;
            gate.add_permits(2);
            assert_eq!(first.await, Ok(0));
            tokio::time::sleep(2 * A_MOMENT).await;
            assert_eq!(late.await, Err(CallError::TimedOut { sent: false }));
            assert_eq!(client.call(&2).await, Ok(2));
            assert_eq!(handled.load(Ordering::SeqCst), 2);
            serving.stop().await;
        });
    }
}

/// The server has gone. A call that has begun to connect again, and one that waits for that, are not polled any more; when
/// the server is back, the others are served.
#[test]
fn a_call_that_connects_and_is_not_polled_holds_nobody_up() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let place = Place::new();
            let serve = |name: &str| {
                let server = Server::bind(name).unwrap();
                Serving::start(server, |n: u32, _| async move { n })
            };
            let serving = serve(place.name());
            let connect = ConnectOptions::new().wait_for_server(true);
            let options = ClientOptions::new()
                .reconnect(true)
                .connect_options(connect);
            let client: Client<u32, u32> = options.connect_tokio(place.name()).await.unwrap();
            assert_eq!(client.call(&0).await, Ok(0));
            serving.stop().await;
            // It has noticed.
            let moment = CallOptions::new().deadline(A_MOMENT);
            let error = client.call_with(&0, moment).await.unwrap_err();
            assert!(!error.was_sent(), "{error:?}");

            let mut unpolled: Vec<Called<'_>> = Vec::new();
            for _ in 0..10 {
                let mut call: Called<'_> = Box::pin(client.call(&1));
                begin(&mut call).await;
                unpolled.push(call);
            }
            let behind: Vec<_> = (2..12)
                .map(|n| {
                    let client = client.clone();
                    tokio::spawn(async move { client.call(&n).await })
                })
                .collect();
            yield_now().await;
            let serving = serve(place.name());
            for (n, call) in (2..12).zip(behind) {
                assert_eq!(call.await.unwrap(), Ok(n));
            }
            assert_eq!(client.call(&20).await, Ok(20));
            // All of them by one connection.
            assert_eq!(client.channel().info().await.unwrap().connections, 1);
            for call in unpolled {
                assert_eq!(call.await, Ok(1));
            }
            serving.stop().await;
        });
    }
}

/// Whoever waits for a connection does so by its own deadline, and nothing goes on when nobody waits any more.
#[test]
fn connecting_goes_on_as_long_as_somebody_waits() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let place = Place::new();
            let server = Server::bind(place.name()).unwrap();
            let serving = Serving::start(server, |n: u32, _| async move { n });
            let connect = ConnectOptions::new().wait_for_server(true);
            let options = ClientOptions::new()
                .reconnect(true)
                .connect_options(connect);
            let client: Client<u32, u32> = options.connect_tokio(place.name()).await.unwrap();
            serving.stop().await;
            until("the connection is over", async || alive_tasks() == 0).await;
            let late = CallError::TimedOut { sent: false };
            for _ in 0..3 {
                let called = |after| {
                    let client = client.clone();
                    let options = CallOptions::new().deadline(after);
                    tokio::spawn(async move { client.call_with(&1, options).await })
                };
                let calls = [1, 2, 3].map(|n| called(n * A_MOMENT));
                for call in calls {
                    assert_eq!(call.await.unwrap(), Err(late.clone()));
                }
                until("nothing is left", async || alive_tasks() == 0).await;
                // Dropped, and not late.
                let mut call: Called<'_> = Box::pin(client.call(&1));
                begin(&mut call).await;
                yield_now().await;
                assert_eq!(alive_tasks(), 1);
                drop(call);
                until("nothing is left", async || alive_tasks() == 0).await;
            }
            // The one with the shortest patience does not count for the others.
            let options = CallOptions::new().deadline(soon());
            let patient = client.clone();
            let patient = tokio::spawn(async move { patient.call_with(&2, options).await });
            yield_now().await;
            let moment = CallOptions::new().deadline(A_MOMENT);
            assert_eq!(client.call_with(&1, moment).await, Err(late));
            let server = Server::bind(place.name()).unwrap();
            let serving = Serving::start(server, |n: u32, _| async move { n });
            assert_eq!(patient.await.unwrap(), Ok(2));
            serving.stop().await;
        });
    }
}
