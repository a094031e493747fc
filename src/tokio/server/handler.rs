//! [`Handler`]: what a server for async programs does with requests.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codec;
use crate::codec::outgoing::Outgoing;
use crate::server::{Call, Closure, HandleError, Opening, Payload, StreamClosure, encode_reply};
use crate::tokio::ItemSink;

/// What a server does with a request, whatever its types: closures that return futures are handlers, and
/// [`service!`](crate::service) makes them. The mirror of [`pipetalk::server::Handler`](crate::server::Handler).
///
/// `Marker` only keeps the kinds of handlers apart, and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle requests",
    label = "this is no handler for an async server",
    note = "a closure is one if its arguments have their types and it returns a future: \
            `|request: String, call: Call| async move {{ ... }}`",
    note = "for a stream it has a sink as well: \
            `|request: String, call: Call, items: tokio::ItemSink<u64>| async move {{ ... }}`",
    note = "what implements the async trait of a `service!` is served by `.service()`; what blocks, by `serve_blocking`"
)]
pub trait Handler<C, Marker>: Send + Sync + 'static {
    /// A decoded request.
    type Request: Send + 'static;

    /// The name of the service; empty if it has none.
    fn service(&self) -> &'static str {
        ""
    }

    /// The version of the program, for people to read, where the options give none.
    fn version(&self) -> &'static str {
        ""
    }

    /// The number that differs where the methods and their types do; 0 fits all.
    fn fingerprint(&self) -> u64 {
        0
    }

    /// The names of the methods, by their numbers, for people to read; empty if they have none.
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Decodes the arguments of a method.
    ///
    /// # Errors
    ///
    /// [`HandleError`] where there is no reply.
    fn decode(&self, method: u32, payload: &Payload) -> Result<Self::Request, HandleError>;

    /// Handles a request, appends the encoded reply to `reply`, and gives it back; a notification has none.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when nobody waits for the reply any more: its client has cancelled the request or gone,
    /// its deadline has passed, or the server ends. That of a notification is dropped by the server's end alone.
    fn handle(self: Arc<Self>, request: Self::Request, call: Call, reply: Outgoing)
    -> impl Replies;

    /// Handles the request for a stream, in a task of its own: makes of `opening` a sink for the items, and sends them or
    /// hands the sink to somebody who does. Without a sink the stream has no items.
    ///
    /// # Errors
    ///
    /// [`HandleError`] where there is no such stream, which is so unless this is implemented.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when nobody takes the items any more.
    fn open(
        self: Arc<Self>,
        method: u32,
        payload: Payload,
        call: Call,
        opening: Opening,
    ) -> impl Future<Output = Result<(), HandleError>> + Send + 'static {
        let _ = (method, payload, call, opening);
        ready(Err(HandleError::UnknownMethod))
    }
}

/// The future of a handler.
pub trait Replies: Future<Output = Replied> + Send + 'static {}

impl<F: Future<Output = Replied> + Send + 'static> Replies for F {}

/// What comes of a handler: what it was given to reply with, and whether there is a reply in it.
pub type Replied = (Outgoing, Result<(), HandleError>);

impl<C, F, Request, Replying> Handler<C, Closure<Request, Replying>> for F
where
    C: Codec,
    F: Fn(Request, Call) -> Replying + Send + Sync + 'static,
    Request: DeserializeOwned + Send + 'static,
    Replying: Future + Send + 'static,
    Replying::Output: Serialize,
{
    type Request = Request;

    fn decode(&self, method: u32, payload: &Payload) -> Result<Request, HandleError> {
        match method {
            0 => payload.decode::<C, Request>(),
            _ => Err(HandleError::UnknownMethod),
        }
    }

    fn handle(self: Arc<Self>, request: Request, call: Call, mut reply: Outgoing) -> impl Replies {
        let replying = self(request, call);
        async move {
            let value = replying.await;
            let encoded = encode_reply::<C, _>(&value, &mut reply);
            (reply, encoded)
        }
    }
}

/// A closure with a sink for items behind the [`Call`] answers each request by a stream, and plain requests not at all.
impl<C, F, Request, Item, Streaming> Handler<C, StreamClosure<Request, (Item, Streaming)>> for F
where
    C: Codec,
    F: Fn(Request, Call, ItemSink<Item, C>) -> Streaming + Send + Sync + 'static,
    Request: DeserializeOwned + Send + 'static,
    Item: Serialize + 'static,
    Streaming: Future<Output = ()> + Send + 'static,
{
    type Request = Infallible;

    fn decode(&self, _: u32, _: &Payload) -> Result<Infallible, HandleError> {
        Err(HandleError::UnknownMethod)
    }

    fn handle(self: Arc<Self>, request: Infallible, _: Call, _: Outgoing) -> impl Replies {
        let never: fn(Infallible) -> Replied = |request| match request {};
        ready(never(request))
    }

    async fn open(
        self: Arc<Self>,
        method: u32,
        payload: Payload,
        call: Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        let request = payload.decode::<C, Request>()?;
        self(request, call, opening.into_sink_tokio()).await;
        Ok(())
    }
}
