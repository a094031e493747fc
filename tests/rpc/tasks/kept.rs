//! What a server holds of a client that has gone, and of a service that has ended.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use pipetalk::server::{HandleError, Handler, Opening, Outgoing, Payload, encode_reply};
use pipetalk::tokio::{Channel, Client, ItemSink, Listener, Stream, memory};
use pipetalk::{Call, CallOptions, ClientOptions, Deadline, DefaultCodec, Part, ServerOptions};
use tokio::runtime::Builder;

use crate::tasks::harness::connect;
use util::tasks::{runtimes, until};
use util::{here, limit, rounds, soon};

/// What a handler keeps of its calls.
type Kept = Arc<Mutex<Vec<(Call, ItemSink<u32>)>>>;

/// A stream that tells whether it is still there.
#[derive(Debug)]
struct Watched {
    stream: memory::Stream,
    _there: Arc<()>,
}

impl Stream for Watched {
    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.stream.send(message, deadline).await
    }

    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.stream.recv(buf, deadline).await
    }

    fn close(&self) {
        self.stream.close();
    }
}

#[derive(Debug)]
struct WatchedListener(memory::Listener, Arc<()>);

impl Listener for WatchedListener {
    type Stream = Watched;

    async fn accept(&self, deadline: Deadline) -> io::Result<Watched> {
        Ok(Watched {
            stream: self.0.accept(deadline).await?,
            _there: Arc::clone(&self.1),
        })
    }

    fn stop(&self) {
        self.0.stop();
    }
}

/// A server over such streams: how to connect to it, and how many of its streams are there.
struct Watching {
    connector: memory::Connector,
    there: Arc<()>,
}

impl Watching {
    fn new() -> (Watching, pipetalk::tokio::Server<WatchedListener>) {
        let (listener, connector) = memory::listener();
        let there = Arc::new(());
        let listener = WatchedListener(listener, Arc::clone(&there));
        let watching = Watching { connector, there };
        (watching, ServerOptions::new().on_tokio(listener))
    }

    async fn channel(&self) -> Channel {
        let stream = self.connector.connect(soon()).await.unwrap();
        ClientOptions::new().channel_over_tokio(stream).unwrap()
    }

    async fn until_none_is_there(&self) {
        // The listener, and this one.
        until("the streams have gone", async || {
            Arc::strong_count(&self.there) == 2
        })
        .await;
    }
}

#[test]
fn sinks_and_calls_that_are_kept_keep_no_stream() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (watching, server) = Watching::new();
            let handle = server.handle();
            let kept: Kept = Arc::default();
            let keeps = Arc::clone(&kept);
            let keep = move |(): (), call: Call, items: ItemSink<u32>| {
                keeps.lock().unwrap().push((call, items));
                async {}
            };
            let serving = tokio::spawn(server.serve(keep));
            for number in 1..4 {
                let channel = watching.channel().await;
                let items = channel
                    .open::<_, u32>(0, &(), CallOptions::new())
                    .await
                    .unwrap();
                until("it is kept", async || kept.lock().unwrap().len() == number).await;
                drop((items, channel));
                watching.until_none_is_there().await;
            }
            // They notice, and are good for nothing else.
            for (call, items) in kept.lock().unwrap().iter() {
                assert!(items.is_stopped() && items.try_send(&1).is_err());
                assert_eq!(call.client_version(), "");
            }
            handle.stop();
            serving.await.unwrap().unwrap();
            drop(kept);
        });
    }
}

/// Holds what comes to it until it is open.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// Calls, and streams, whose handlers block.
struct AtGate(Arc<Gate>);

impl Handler<DefaultCodec, AtGate> for AtGate {
    fn handle(
        &self,
        _: u32,
        payload: &Payload,
        _: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        let waits: bool = payload.decode::<DefaultCodec, _>()?;
        if waits {
            self.0.wait();
        }
        encode_reply::<DefaultCodec, _>(&waits, reply)
    }

    fn open(&self, _: u32, _: &Payload, _: &Call, opening: Opening) -> Result<(), HandleError> {
        let _items: pipetalk::ItemSink<u32> = opening.into_sink();
        self.0.wait();
        Ok(())
    }
}

#[test]
fn handlers_that_do_not_return_keep_no_stream() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (watching, server) = Watching::new();
            let handle = server.handle();
            let gate = Arc::new(Gate::default());
            let serving = tokio::spawn(server.serve_blocking(AtGate(Arc::clone(&gate))));
            let channel = watching.channel().await;
            let items = channel.open::<_, u32>(0, &(), CallOptions::new());
            let items = items.await.unwrap();
            let caller = channel.clone();
            let call = tokio::spawn(async move {
                let options = CallOptions::new();
                caller.call::<_, bool>(0, &true, options).await
            });
            until("both wait", async || {
                gate.waiting.load(Ordering::SeqCst) == 2
            })
            .await;
            drop(items);
            channel.close();
            watching.until_none_is_there().await;
            call.await.unwrap().unwrap_err();
            gate.open();
            handle.stop();
            serving.await.unwrap().unwrap();
        });
    }
}

/// Streams have threads of their own, however few the runtime has.
#[test]
fn streams_whose_handlers_block_hold_up_no_requests() {
    let _limit = limit(here!());
    let mut one = Builder::new_current_thread();
    let mut many = Builder::new_multi_thread();
    for runtime in [&mut one, many.worker_threads(2)] {
        let runtime = runtime
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let options = ServerOptions::new().stream_handlers(40);
            let server = options.on_tokio(listener);
            let handle = server.handle();
            let gate = Arc::new(Gate::default());
            let serving = tokio::spawn(server.serve_blocking(AtGate(Arc::clone(&gate))));
            let stream = connector.connect(soon()).await.unwrap();
            let channel: Channel = ClientOptions::new().channel_over_tokio(stream).unwrap();
            let mut streams = Vec::new();
            for _ in 0..40 {
                let items = channel.open::<_, u32>(0, &(), CallOptions::new());
                streams.push(items.await.unwrap());
            }
            until("their handlers run", async || {
                gate.waiting.load(Ordering::SeqCst) == 40
            })
            .await;
            let options = CallOptions::new();
            for _ in 0..10 {
                assert_eq!(channel.call(0, &false, options).await, Ok(false));
            }
            // There is an end to them.
            let opened = channel.open::<_, u32>(0, &(), options).await;
            let mut one_more = opened.unwrap();
            let error = one_more.next().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("handlers of streams"), "{error}");
            // But somebody else has one.
            let stream = connector.connect(soon()).await.unwrap();
            let other: Channel = ClientOptions::new().channel_over_tokio(stream).unwrap();
            let others = other.open::<_, u32>(0, &(), options).await.unwrap();
            until("it runs", async || {
                gate.waiting.load(Ordering::SeqCst) == 41
            })
            .await;
            gate.open();
            for mut items in streams {
                assert!(items.next().await.is_none());
            }
            drop(others);
            handle.stop();
            serving.await.unwrap().unwrap();
        });
    }
}

/// Whatever was going on in it.
#[test]
fn a_service_has_been_dropped_when_serve_returns() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            for round in 0..rounds(100) {
                let there = Arc::new(());
                let (listener, connector) = memory::listener();
                let server = ServerOptions::new().on_tokio(listener);
                let handle = server.handle();
                let service = Arc::clone(&there);
                let streams = round % 2 == 0;
                let serving = if streams {
                    let send = move |count: u32, _: Call, items: ItemSink<u32>| {
                        let service = Arc::clone(&service);
                        async move {
                            for number in 0..count {
                                if items.send(&number).await.is_err() {
                                    break;
                                }
                            }
                            drop(service);
                        }
                    };
                    tokio::spawn(server.serve(send))
                } else {
                    let wait = move |waits: u32, _: Call| {
                        let service = Arc::clone(&service);
                        async move {
                            if waits > 0 {
                                std::future::pending::<()>().await;
                            }
                            drop(service);
                            waits
                        }
                    };
                    tokio::spawn(server.serve(wait))
                };
                let mut calls = Vec::new();
                for number in 0..4 {
                    if streams {
                        let stream = connector.connect(soon()).await.unwrap();
                        let channel: Channel =
                            ClientOptions::new().channel_over_tokio(stream).unwrap();
                        let items = channel.open::<_, u32>(0, &1_000_000_u32, CallOptions::new());
                        let mut items = items.await.unwrap();
                        assert!(items.next().await.unwrap().is_ok());
                        calls.push(tokio::spawn(async move {
                            while items.next().await.is_some() {}
                        }));
                    } else {
                        let client: Client<u32, u32> =
                            connect(&connector, ClientOptions::new()).await;
                        assert_eq!(client.call(&0).await, Ok(0));
                        calls.push(tokio::spawn(async move {
                            client.call(&number).await.map(drop).unwrap_or_default();
                        }));
                    }
                }
                handle.stop();
                serving.await.unwrap().unwrap();
                assert_eq!(Arc::strong_count(&there), 1, "round {round}");
                for call in calls {
                    call.await.unwrap();
                }
            }
        });
    }
}

/// The same where handlers block.
#[test]
fn a_blocking_service_has_been_dropped_when_serve_returns() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            for round in 0..rounds(100) {
                let gate = Arc::new(Gate::default());
                let (listener, connector) = memory::listener();
                let server = ServerOptions::new().on_tokio(listener);
                let handle = server.handle();
                let serving = tokio::spawn(server.serve_blocking(AtGate(Arc::clone(&gate))));
                let mut waiting = Vec::new();
                for _ in 0..3 {
                    let stream = connector.connect(soon()).await.unwrap();
                    let channel: Channel = ClientOptions::new().channel_over_tokio(stream).unwrap();
                    let items = channel.open::<_, u32>(0, &(), CallOptions::new());
                    waiting.push(items.await.unwrap());
                    let options = CallOptions::new();
                    assert_eq!(channel.call(0, &false, options).await, Ok(false));
                }
                until("all wait", async || {
                    gate.waiting.load(Ordering::SeqCst) == 3
                })
                .await;
                handle.stop();
                gate.open();
                serving.await.unwrap().unwrap();
                assert_eq!(Arc::strong_count(&gate), 1, "round {round}");
            }
        });
    }
}
