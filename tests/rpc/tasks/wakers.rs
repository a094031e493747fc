//! Wakers that call back into their client, whatever is done with them: none of it happens under a lock.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pipetalk::tokio::{Client, Server, memory};
use pipetalk::{Call, CallOptions, ClientOptions, Deadline, ServerOptions};
use tokio::sync::Semaphore;

use crate::tasks::harness::{Serving, connect};
use util::tasks::{runtimes, until};
use util::{A_MOMENT, Place, here, limit};

/// A waker that uses its client when it is woken and when it is dropped, as that of a task does whose last waker it is:
/// the task's future is dropped with it, and the call that it waits for.
struct Calls {
    client: Client<u32, u32>,
    woken: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

thread_local! {
    /// So that the calls that are made here are not woken in the same way.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

impl Calls {
    fn call(&self) {
        if WITHIN.replace(true) {
            return;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        // Sends, and cancels; and looks at everything else that has a lock.
        let _ = pin!(self.client.call(&7)).poll(&mut nobody);
        let _ = pin!(self.client.notify(&7)).poll(&mut nobody);
        let _ = self.client.channel().server();
        drop(self.client.clone());
        WITHIN.set(false);
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.call();
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default, Clone)]
struct Counts {
    woken: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Counts {
    /// A waker of which nobody else has a clone.
    fn waker(&self, client: &Client<u32, u32>) -> Waker {
        let Counts { woken, dropped } = self.clone();
        let client = client.clone();
        Waker::from(Arc::new(Calls {
            client,
            woken,
            dropped,
        }))
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::SeqCst)
    }
}

/// Polls once with a waker of its own, which is left with the call.
fn poll<F: Future>(
    call: &mut std::pin::Pin<Box<F>>,
    counts: &Counts,
    client: &Client<u32, u32>,
) -> Poll<F::Output> {
    let waker = counts.waker(client);
    call.as_mut().poll(&mut Context::from_waker(&waker))
}

/// A server that answers 0 when it may, and other numbers at once.
fn serve(listener: memory::Listener, in_flight: usize, gate: &Arc<Semaphore>) -> Serving {
    let gate = Arc::clone(gate);
    let server = ServerOptions::new().in_flight(in_flight).on_tokio(listener);
    Serving::start(server, move |n: u32, _: Call| {
        let gate = Arc::clone(&gate);
        async move {
            if n == 0 {
                gate.acquire().await.unwrap().forget();
            }
            n
        }
    })
}

/// An answer comes, a call is polled by another, is dropped, is late, gets room, and ends with the connection.
#[test]
fn a_waker_may_use_its_client() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        for (in_flight, rounds) in [(64, 3), (1, 3)] {
            runtime.block_on(async {
                let (listener, connector) = memory::listener();
                let gate = Arc::new(Semaphore::new(0));
                let serving = serve(listener, in_flight, &gate);
                let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
                client.call(&1).await.unwrap();
                for _ in 0..rounds {
                    // With a single place, the second waits for that of the first.
                    let counts = Counts::default();
                    let mut calls = [&0, &0].map(|n| Box::pin(client.call(n)));
                    for call in &mut calls {
                        assert!(poll(call, &counts, &client).is_pending());
                    }
                    // Another one, in its place.
                    for call in &mut calls {
                        assert!(poll(call, &counts, &client).is_pending());
                    }
                    // Each may be in use just now, on another thread.
                    until("both are gone", async || counts.dropped() >= 2).await;
                    gate.add_permits(2);
                    let mut over = [false; 2];
                    while !over.iter().all(|over| *over) {
                        for (call, over) in calls.iter_mut().zip(&mut over) {
                            *over = *over || poll(call, &counts, &client).is_ready();
                        }
                        tokio::task::yield_now().await;
                    }
                    assert!(counts.woken() > 0);

                    // Dropped.
                    let counts = Counts::default();
                    let mut call = Box::pin(client.call(&0));
                    assert!(poll(&mut call, &counts, &client).is_pending());
                    drop(call);
                    until("it is gone", async || counts.dropped() == 1).await;
                    client.call(&1).await.unwrap();

                    // Late.
                    let counts = Counts::default();
                    let moment = CallOptions::new().deadline(A_MOMENT);
                    let mut call = Box::pin(client.call_with(&0, moment));
                    loop {
                        // It may be woken before as well, to read what has come for another.
                        let before = counts.woken();
                        if poll(&mut call, &counts, &client).is_ready() {
                            break;
                        }
                        until("it is woken", async || counts.woken() > before).await;
                    }

                    // Without any time.
                    let now = CallOptions::new().deadline(Deadline::NOW);
                    let mut call = Box::pin(client.call_with(&0, now));
                    assert!(poll(&mut call, &counts, &client).is_ready());
                    client.call(&1).await.unwrap();
                }
                // The end.
                let counts = Counts::default();
                let mut calls = [&0, &0].map(|n| Box::pin(client.call(n)));
                for call in &mut calls {
                    assert!(poll(call, &counts, &client).is_pending());
                }
                client.channel().close();
                until("both are woken", async || counts.woken() == 2).await;
                serving.stop().await;
            });
        }
    }
}

/// The same of a client that can connect again, which has another lock.
#[test]
fn a_waker_may_use_its_client_while_that_is_closed() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let place = Place::new();
            let server = Server::bind(place.name()).unwrap();
            let serving = Serving::start(server, |n: u32, _: Call| async move {
                if n == 0 {
                    std::future::pending::<()>().await;
                }
                n
            });
            let options = ClientOptions::new().reconnect(true);
            let client: Client<u32, u32> = options.connect_tokio(place.name()).await.unwrap();
            // Nothing is to come by itself any more.
            client.call(&1).await.unwrap();
            let counts = Counts::default();
            let mut call = Box::pin(client.call(&0));
            assert!(poll(&mut call, &counts, &client).is_pending());
            client.channel().close();
            until("it is woken", async || counts.woken() == 1).await;
            drop(call);
            assert_eq!(client.call(&1).await, Ok(1));
            serving.stop().await;
        });
    }
}

/// The items of a stream, and its end.
#[test]
fn a_waker_may_use_its_client_for_items() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let gate = Arc::new(Semaphore::new(0));
            let opens = Arc::clone(&gate);
            let server = ServerOptions::new().on_tokio(listener);
            let handle = server.handle();
            let serving = tokio::spawn(server.serve(
                move |n: u32, _: Call, items: pipetalk::tokio::ItemSink<u32>| {
                    let gate = Arc::clone(&opens);
                    async move {
                        // Those of its wakers are none of the test's.
                        if n == 7 {
                            return;
                        }
                        for _ in 0..n {
                            gate.acquire().await.unwrap().forget();
                            let _ = items.send(&n).await;
                        }
                    }
                },
            ));
            let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
            let options = CallOptions::new().window(1);
            let mut items: pipetalk::tokio::Items<u32> =
                client.channel().open(0, &3_u32, options).await.unwrap();
            let counts = Counts::default();
            for round in 0..4 {
                gate.add_permits(usize::from(round < 3));
                let next = loop {
                    let mut next = Box::pin(items.next());
                    if let Poll::Ready(next) = poll(&mut next, &counts, &client) {
                        break next;
                    }
                    tokio::task::yield_now().await;
                };
                assert_eq!(next, (round < 3).then_some(Ok(3)));
            }
            // One that waits is left.
            let mut items: pipetalk::tokio::Items<u32> =
                client.channel().open(0, &100_u32, options).await.unwrap();
            let mut next = Box::pin(items.next());
            let before = counts.dropped();
            assert!(poll(&mut next, &counts, &client).is_pending());
            drop(next);
            drop(items);
            until("it is gone", async || counts.dropped() > before).await;
            handle.stop();
            serving.await.unwrap().unwrap();
        });
    }
}

/// A waker that panics when it is woken is no matter of the others, nor of the connection.
#[test]
fn a_waker_that_panics_keeps_nobody_from_being_woken() {
    let _limit = limit(here!());
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            // Nothing is printed.
            std::panic::resume_unwind(Box::new("as asked"));
        }
    }

    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let gate = Arc::new(Semaphore::new(0));
            let serving = serve(listener, 64, &gate);
            let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
            client.call(&1).await.unwrap();
            for _ in 0..3 {
                let waker = Waker::from(Arc::new(Panics));
                let mut panics = Box::pin(client.call(&0));
                let polled = panics.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                let other = client.clone();
                let other = tokio::spawn(async move { other.call(&0).await });
                gate.add_permits(2);
                assert_eq!(other.await.unwrap(), Ok(0));
                assert_eq!(client.call(&1).await, Ok(1));
                assert_eq!(panics.await, Ok(0));
            }
            // All at once.
            let waker = Waker::from(Arc::new(Panics));
            let mut panic: Vec<_> = (0..10).map(|_| Box::pin(client.call(&0))).collect();
            for call in &mut panic {
                let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            let other = client.clone();
            let other = tokio::spawn(async move { other.call(&0).await });
            tokio::task::yield_now().await;
            client.channel().close();
            assert!(other.await.unwrap().is_err());
            serving.stop().await;
        });
    }
}
