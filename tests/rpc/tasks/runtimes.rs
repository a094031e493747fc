//! Which runtime a connection needs, and what happens without it.

use std::future::{Future, pending};
use std::pin::pin;
use std::task::Poll;

use pipetalk::tokio::{Client, Server, memory};
use pipetalk::{CallError, CallOptions, ClientOptions, Deadline, ServerOptions};
use tokio::runtime::Builder;

use crate::tasks::harness::{Serving, connect};
use util::tasks::runtimes;
use util::{A_WHILE, Place, expect_panics_of_tokio, here, limit};

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
    // It is tokio that panics, where the crate asks it.
    let _expected = expect_panics_of_tokio();
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
