//! What the servers of the tests do with requests: answer them, or hold them until the test lets them go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use pipetalk::server::{HandleError, Handler, Opening, Outgoing, Payload, encode_reply};
use pipetalk::{Call, Codec, DefaultCodec, ItemSink};
use util::{Deserialize, Serialize, soon};

use crate::calls::bytes::{self, Said};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    Echo(u64),
    Text(String),
    Units(Vec<()>),
    Tree(Tree),
    /// Is answered when the town's gate is open.
    Gate,
    /// Is answered when it is cancelled.
    UntilCancelled,
    /// A reply of that many bytes.
    Large(usize),
    /// A stream whose sink is kept.
    Keep,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Tree {
    Leaf,
    Branch(Box<Tree>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Echo(u64),
    Text(String),
    Done,
}

/// What the codec makes of it.
pub(crate) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    DefaultCodec::encode(value, &mut out).unwrap();
    out
}

pub(crate) fn echo(id: u32, number: u64) -> Vec<u8> {
    bytes::request(id, bytes::FOR_EVER, &encoded(&Request::Echo(number)))
}

pub(crate) fn echoed(id: u32, number: u64) -> Said {
    Said::Reply {
        id,
        payload: encoded(&Reply::Echo(number)),
    }
}

/// What holds requests back until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU64,
    handled: AtomicU64,
    /// Sinks that handlers have handed on.
    kept: Mutex<Vec<ItemSink<Reply>>>,
    /// For those that wait in tasks: it is closed when the gate is opened.
    #[cfg(feature = "tokio")]
    closed: Closed,
}

#[cfg(feature = "tokio")]
#[derive(Debug)]
struct Closed(tokio::sync::Semaphore);

#[cfg(feature = "tokio")]
impl Default for Closed {
    fn default() -> Self {
        Closed(tokio::sync::Semaphore::new(0))
    }
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
        self.kept.lock().unwrap().clear();
        #[cfg(feature = "tokio")]
        self.closed.0.close();
    }

    /// How many sinks are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// Sends an item through each of the sinks that are kept.
    pub(crate) fn send_to_kept(&self) {
        let kept = self.kept.lock().unwrap();
        kept.iter()
            .for_each(|items| items.send(&Reply::Done).unwrap());
    }

    /// How many requests have come to it so far.
    pub(crate) fn seen(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How many requests of any kind were handled.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }

    pub(crate) fn handle(&self, request: Request, call: &Call) -> Reply {
        self.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(number) => Reply::Echo(number),
            Request::Text(text) => Reply::Text(text),
            Request::Large(size) => Reply::Text("x".repeat(size)),
            Request::Units(_) | Request::Tree(_) | Request::Keep => Reply::Done,
            Request::Gate => {
                self.wait();
                Reply::Done
            }
            Request::UntilCancelled => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                while !call.is_cancelled() {
                    thread::yield_now();
                }
                Reply::Done
            }
        }
    }
}

/// Answers requests, and streams: as many echoes as are asked for; large texts without end; nothing until it is
/// stopped, or until the gate is open.
pub(crate) struct AtGate(pub(crate) Arc<Gate>);

impl Handler<DefaultCodec, AtGate> for AtGate {
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
        let request = payload.decode::<DefaultCodec, Request>()?;
        encode_reply::<DefaultCodec, Reply>(&self.0.handle(request, call), reply)
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
        let request = payload.decode::<DefaultCodec, Request>()?;
        let items: ItemSink<Reply> = opening.into_sink();
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(count) => {
                let _ = (0..count).try_for_each(|number| items.send(&Reply::Echo(number)));
            }
            Request::Large(size) => {
                let text = Reply::Text("x".repeat(size));
                while items.send(&text).is_ok() {}
            }
            Request::Gate => self.0.wait(),
            Request::Keep => self.0.kept.lock().unwrap().push(items),
            _ => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                assert!(items.wait_until_stopped(soon()));
            }
        }
        Ok(())
    }
}

/// The same in tasks.
#[cfg(feature = "tokio")]
pub(crate) struct AtGateAsync(pub(crate) Arc<Gate>);

#[cfg(feature = "tokio")]
impl pipetalk::tokio::Handler<DefaultCodec, AtGateAsync> for AtGateAsync {
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
            let value = Arc::clone(&self.0).handle_async(request).await;
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
        let request = payload.decode::<DefaultCodec, Request>()?;
        let items: pipetalk::tokio::ItemSink<Reply> = opening.into_sink_tokio();
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(count) => {
                for number in 0..count {
                    if items.send(&Reply::Echo(number)).await.is_err() {
                        break;
                    }
                }
            }
            Request::Large(size) => {
                let text = Reply::Text("x".repeat(size));
                while items.send(&text).await.is_ok() {}
            }
            Request::Gate => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                let _closed = self.0.closed.0.acquire().await;
            }
            _ => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                items.stopped().await;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "tokio")]
impl Gate {
    /// The same in a task, which is dropped when it is cancelled.
    pub(crate) async fn handle_async(self: Arc<Self>, request: Request) -> Reply {
        self.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(number) => Reply::Echo(number),
            Request::Text(text) => Reply::Text(text),
            Request::Large(size) => Reply::Text("x".repeat(size)),
            Request::Units(_) | Request::Tree(_) | Request::Keep => Reply::Done,
            Request::Gate => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _closed = self.closed.0.acquire().await;
                Reply::Done
            }
            Request::UntilCancelled => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
        }
    }
}
