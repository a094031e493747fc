//! [`Handler`]: what a server does with requests.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::budget::Lease;
use super::call::Call;
use super::sink::{ItemSink, Opening};
use crate::blob;
use crate::codec::Codec;
use crate::codec::outgoing::Outgoing;

/// What a server does with a request, whatever its types: closures are handlers, and
/// [`service!`](crate::service) makes them.
///
/// `Marker` only keeps the kinds of handlers apart, and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle requests",
    label = "this is no handler",
    note = "a closure is one if its arguments have their types: `|request: String, call: &Call| ...`",
    note = "for a stream it has a sink as well: `|request: String, call: &Call, items: ItemSink<u64>| ...`",
    note = "what implements the trait of a `service!` is served by `.service()`"
)]
pub trait Handler<C, Marker>: Send + Sync + 'static {
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

    /// Handles a request and appends the encoded reply; a notification has none.
    ///
    /// # Errors
    ///
    /// [`HandleError`] where there is no reply.
    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError>;

    /// Handles the request for a stream, on a thread that is its own until this returns: makes of `opening` a sink for the items, and sends
    /// them or hands the sink to somebody who does. Without a sink the stream has no items.
    ///
    /// # Errors
    ///
    /// [`HandleError`] where there is no such stream, which is so unless this is implemented.
    fn open(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        let _ = (method, payload, call, opening);
        Err(HandleError::UnknownMethod)
    }
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The service has no such method.
    UnknownMethod,
    /// The arguments cannot be decoded; the text is the codec's.
    Decode(String),
    /// The reply cannot be encoded; the text is the codec's.
    Encode(String),
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandleError::UnknownMethod => f.write_str("no such method"),
            HandleError::Decode(text) => write!(f, "the request cannot be decoded: {text}"),
            HandleError::Encode(text) => write!(f, "the reply cannot be encoded: {text}"),
        }
    }
}

impl std::error::Error for HandleError {}

/// The encoded arguments of a request.
#[derive(Debug)]
pub struct Payload {
    pub(crate) message: Arc<Vec<u8>>,
    pub(crate) start: usize,
    /// Its share of the server's memory, if it has one.
    pub(crate) lease: Option<Box<Lease>>,
}

impl Payload {
    pub(crate) fn new(message: Arc<Vec<u8>>, start: usize, lease: Option<Box<Lease>>) -> Payload {
        Payload {
            message,
            start,
            lease,
        }
    }

    /// The bytes that the codec made.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.message[self.start..]
    }

    /// Decodes the arguments. A [`Blob`](crate::Blob) in them is a slice of the received message.
    ///
    /// # Errors
    ///
    /// [`HandleError::Decode`].
    pub fn decode<C: Codec, T: DeserializeOwned>(&self) -> Result<T, HandleError> {
        blob::sharing(&self.message, || C::decode(self.bytes()))
            .map_err(|error| HandleError::Decode(error.to_string()))
    }
}

/// Appends an encoded reply.
///
/// # Errors
///
/// [`HandleError::Encode`].
pub fn encode_reply<C: Codec, T: Serialize + ?Sized>(
    value: &T,
    reply: &mut Outgoing,
) -> Result<(), HandleError> {
    reply
        .encode::<C, T>(value)
        .map_err(|error| HandleError::Encode(error.to_string()))
}

/// Marks closures as handlers.
#[derive(Debug)]
pub struct Closure<Request, Reply>(PhantomData<fn(Request) -> Reply>);

impl<C, F, Request, Reply> Handler<C, Closure<Request, Reply>> for F
where
    C: Codec,
    F: Fn(Request, &Call) -> Reply + Send + Sync + 'static,
    Request: DeserializeOwned,
    Reply: Serialize,
{
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
        let request = payload.decode::<C, Request>()?;
        encode_reply::<C, Reply>(&self(request, call), reply)
    }
}

/// Marks closures as handlers of streams.
#[derive(Debug)]
pub struct StreamClosure<Request, Item>(PhantomData<fn(Request) -> Item>);

/// A closure with a sink for items behind the [`Call`] answers each request by a stream, and plain requests not at all.
impl<C, F, Request, Item> Handler<C, StreamClosure<Request, Item>> for F
where
    C: Codec,
    F: Fn(Request, &Call, ItemSink<Item, C>) + Send + Sync + 'static,
    Request: DeserializeOwned,
    Item: Serialize,
{
    fn handle(&self, _: u32, _: &Payload, _: &Call, _: &mut Outgoing) -> Result<(), HandleError> {
        Err(HandleError::UnknownMethod)
    }

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        let request = payload.decode::<C, Request>()?;
        self(request, call, opening.into_sink());
        Ok(())
    }
}

/// A handler whose kind and codec do not matter any more.
pub(super) trait AnyHandler: Send + Sync + 'static {
    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError>;

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        opening: Opening,
    ) -> Result<(), HandleError>;
}

pub(super) struct Erased<H, C, M>(pub(super) H, pub(super) PhantomData<fn() -> (C, M)>);

impl<C: Codec, M: 'static, H: Handler<C, M>> AnyHandler for Erased<H, C, M> {
    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        self.0.handle(method, payload, call, reply)
    }

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        self.0.open(method, payload, call, opening)
    }
}
