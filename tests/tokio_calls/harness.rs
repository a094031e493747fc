//! Runtimes, servers, clients and waiting: what the tests have in common.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pipetalk::tokio::{Client, Listener, Server, memory};
use pipetalk::{Call, ClientOptions, ServerHandle};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};

use crate::util::soon;

/// A runtime that the test's own thread drives.
pub(crate) fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Both kinds of runtimes.
pub(crate) fn runtimes() -> [Runtime; 2] {
    [
        one_thread(),
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    ]
}

pub(crate) struct Serving {
    pub(crate) handle: ServerHandle,
    pub(crate) task: JoinHandle<io::Result<()>>,
}

impl Serving {
    pub(crate) fn start<Q, F>(
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

    pub(crate) async fn stop(self) {
        self.handle.stop();
        self.task.await.unwrap().unwrap();
    }
}

/// A client and a server over memory.
pub(crate) async fn connect<Q, R>(
    connector: &memory::Connector,
    options: ClientOptions,
) -> Client<Q, R> {
    let stream = connector.connect(soon()).await.unwrap();
    options.over_tokio(stream).unwrap()
}

/// Waits for what must come about, and lets others run meanwhile.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(!deadline.has_passed(), "it never came about that {what}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Polls a future so many times at most, with others running in between.
pub(crate) async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
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

/// How many tasks the runtime has.
pub(crate) fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}
