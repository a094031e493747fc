//! Servers that end and clients that leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipetalk::tokio::{Client, Server, memory};
use pipetalk::{CallError, ClientOptions, ServerOptions};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::tasks::harness::{Serving, alive_tasks, connect};
use util::tasks::{runtimes, until};
use util::{A_MOMENT, A_WHILE, Place, here, limit};

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
                until("it is inside", async || inside.load(Ordering::SeqCst) == 1).await;
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
            yield_now().await;
            let before = alive_tasks();
            for _ in 0..50 {
                let client: Client<(), ()> = Client::connect(place.name()).await.unwrap();
                client.notify(&()).await.unwrap();
            }
            until("all are heard", async || heard.load(Ordering::SeqCst) == 50).await;
            until("no task is left", async || alive_tasks() == before).await;
            serving.stop().await;
        });
    }
}
