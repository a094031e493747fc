//! Transports that panic, or are slow to know their peers.

use std::future::pending;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pipetalk::tokio::{Client, Listener, Stream, memory};
use pipetalk::{Call, CallError, ClientOptions, Deadline, Part, Peer, ServerOptions, UserId};

use crate::tasks::harness::{Serving, alive_tasks, connect};
use util::tasks::{runtimes, until};
use util::{here, limit, soon};

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
                until("all wait", async || alive_tasks() > 8).await;
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

/// A transport that knows the user of a peer only once something was received, as pipes do.
#[derive(Debug)]
struct Shy(memory::Stream, AtomicBool);

impl Stream for Shy {
    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.0.send(message, deadline).await
    }

    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let part = self.0.recv(buf, deadline).await?;
        self.1.store(true, Ordering::SeqCst);
        Ok(part)
    }

    fn close(&self) {
        self.0.close();
    }

    fn peer(&self) -> io::Result<Peer> {
        let mut peer = Peer::default();
        peer.user = self.1.load(Ordering::SeqCst).then_some(UserId::Uid(7));
        Ok(peer)
    }
}

#[derive(Debug)]
struct ShyListener(memory::Listener);

impl Listener for ShyListener {
    type Stream = Shy;

    async fn accept(&self, deadline: Deadline) -> io::Result<Shy> {
        Ok(Shy(self.0.accept(deadline).await?, AtomicBool::new(false)))
    }

    fn stop(&self) {
        self.0.stop();
    }
}

#[test]
fn a_user_who_is_known_only_once_something_was_received_is_known_to_the_handler() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let options = ServerOptions::new().admit(|peer| peer.user.is_none());
            let server = options.on_tokio(ShyListener(listener));
            let serving = Serving::start(server, |_: (), call: Call| async move {
                call.peer().user == Some(UserId::Uid(7))
            });
            let client: Client<(), bool> = connect(&connector, ClientOptions::new()).await;
            assert!(client.call(&()).await.unwrap());
            serving.stop().await;
        });
    }
}
