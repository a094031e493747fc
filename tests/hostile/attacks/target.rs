//! The server that is attacked, with default limits.

use std::panic::panic_any;
use std::thread;
use std::time::Duration;

use pipetalk::server::{HandleError, Handler, Opening, Outgoing, Payload, encode_reply};
use pipetalk::{Blob, Broadcast, Call, DefaultCodec, Event, ItemSink, ServerHandle, ServerOptions};

use crate::ALLOCATOR;
use util::{Deserialize, Serialize, announce, wait_for_release};

/// Every kind of server there is.
pub(crate) const KINDS: [&str; 4] = ["threads", "pool", "tasks", "blocking tasks"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    Echo(u64),
    Bytes(Blob),
    Units(Vec<Vec<()>>),
    Wide(Vec<Option<Wide>>),
    /// A reply of that many bytes; as a stream, such items without end.
    Large(usize),
    /// Takes so many milliseconds.
    Slow(u64),
    UntilCancelled,
    Bomb,
    /// The most bytes that the server has held.
    Peak,
    /// As a stream: what is published.
    Subscribe,
    Publish(Blob),
}

/// A byte where it is missing, and some where it is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wide([u64; 32]);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Echo(u64),
    Bytes(Blob),
    Done,
}

/// A payload of a panic which panics itself.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("as it was told to");
        }
    }
}

struct Target {
    news: Broadcast<Blob>,
}

/// What is left to do where a request takes its time.
enum Then {
    Reply(Reply),
    Sleep(Duration),
    UntilCancelled,
}

impl Target {
    fn new() -> Target {
        Target {
            news: Broadcast::new(64),
        }
    }

    fn begin(&self, request: Request) -> Then {
        Then::Reply(match request {
            Request::Echo(number) => Reply::Echo(number),
            Request::Large(size) => Reply::Bytes(Blob::from(vec![7; size])),
            Request::Slow(millis) => return Then::Sleep(Duration::from_millis(millis)),
            Request::UntilCancelled => return Then::UntilCancelled,
            Request::Bomb => panic_any(Bomb),
            Request::Peak => Reply::Echo(ALLOCATOR.peak() as u64),
            Request::Publish(bytes) => {
                let _ = self.news.publish(&bytes);
                Reply::Done
            }
            Request::Bytes(_) | Request::Units(_) | Request::Wide(_) | Request::Subscribe => {
                Reply::Done
            }
        })
    }
}

impl Handler<DefaultCodec, Target> for Target {
    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        let value = match self.begin(payload.decode::<DefaultCodec, Request>()?) {
            Then::Reply(value) => value,
            Then::Sleep(time) => {
                thread::sleep(time);
                Reply::Done
            }
            Then::UntilCancelled => {
                while !call.is_cancelled() {
                    thread::yield_now();
                }
                Reply::Done
            }
        };
        encode_reply::<DefaultCodec, Reply>(&value, reply)
    }

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        _: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        match payload.decode::<DefaultCodec, Request>()? {
            Request::Subscribe => {
                let items: ItemSink<Event<Blob>> = opening.into_sink();
                self.news.subscribe(items);
            }
            Request::Large(size) => {
                let items: ItemSink<Reply> = opening.into_sink();
                let item = Reply::Bytes(Blob::from(vec![7; size]));
                while items.send(&item).is_ok() {}
            }
            _ => {
                let items: ItemSink<Reply> = opening.into_sink();
                items.wait_until_stopped(pipetalk::Deadline::NEVER);
            }
        }
        Ok(())
    }
}

#[cfg(feature = "tokio")]
mod tasks {
    use std::sync::Arc;

    use super::*;

    pub(super) struct InTasks(pub(super) Target);

    impl pipetalk::tokio::Handler<DefaultCodec, InTasks> for InTasks {
        type Request = Request;

        fn decode(&self, method: u32, payload: &Payload) -> Result<Request, HandleError> {
            match method {
                0 => payload.decode::<DefaultCodec, _>(),
                _ => Err(HandleError::UnknownMethod),
            }
        }

        fn handle(
            self: Arc<Self>,
            request: Request,
            _: Call,
            mut reply: Outgoing,
        ) -> impl pipetalk::tokio::Replies {
            async move {
                let value = match self.0.begin(request) {
                    Then::Reply(value) => value,
                    Then::Sleep(time) => {
                        tokio::time::sleep(time).await;
                        Reply::Done
                    }
                    Then::UntilCancelled => std::future::pending().await,
                };
                let encoded = encode_reply::<DefaultCodec, Reply>(&value, &mut reply);
                (reply, encoded)
            }
        }

        async fn open(
            self: Arc<Self>,
            method: u32,
            payload: Payload,
            _: Call,
            opening: Opening,
        ) -> Result<(), HandleError> {
            if method != 0 {
                return Err(HandleError::UnknownMethod);
            }
            match payload.decode::<DefaultCodec, Request>()? {
                Request::Subscribe => {
                    let items: pipetalk::tokio::ItemSink<Event<Blob>> = opening.into_sink_tokio();
                    self.0.news.subscribe(items);
                }
                Request::Large(size) => {
                    let items: pipetalk::tokio::ItemSink<Reply> = opening.into_sink_tokio();
                    let item = Reply::Bytes(Blob::from(vec![7; size]));
                    while items.send(&item).await.is_ok() {}
                }
                _ => {
                    let items: pipetalk::tokio::ItemSink<Reply> = opening.into_sink_tokio();
                    items.stopped().await;
                }
            }
            Ok(())
        }
    }
}

/// Serves until the test lets go.
pub(crate) fn serve(kind: &str, name: &str) {
    util::allow_many_descriptors();
    // What a panic prints would be most of what is printed.
    std::panic::set_hook(Box::new(|_| {}));
    let options = match kind {
        "pool" => ServerOptions::new().pool(4),
        _ => ServerOptions::new(),
    };
    match kind {
        "threads" | "pool" => {
            let server = options.bind(name).unwrap();
            end_when_released(server.handle());
            server.serve(Target::new()).unwrap();
        }
        #[cfg(feature = "tokio")]
        "tasks" | "blocking tasks" => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = options.bind_tokio(name).unwrap();
                end_when_released(server.handle());
                match kind {
                    "tasks" => server.serve(tasks::InTasks(Target::new())).await.unwrap(),
                    _ => server.serve_blocking(Target::new()).await.unwrap(),
                }
            });
        }
        _ => panic!("no server is of kind {kind}"),
    }
}

fn end_when_released(server: ServerHandle) {
    announce("serving");
    thread::spawn(move || {
        wait_for_release();
        server.stop();
    });
}
