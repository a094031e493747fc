//! What the code of [`service!`](crate::service!) needs of the crate, for async programs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Channel, Items};
use super::server::Handler;
use super::transport::Stream;
use crate::codec::{Codec, DefaultCodec};
use crate::service::hidden::Definition;
use crate::{CallError, CallOptions, ClientOptions, Deadline, ToName};

/// Marks what [`service!`](crate::service!) makes of an async trait as a handler.
#[derive(Debug)]
pub enum OfService {}

/// What a client of a service is made of.
#[derive(Debug, Clone)]
pub struct AsyncCaller<C = DefaultCodec> {
    channel: Channel<C>,
    options: CallOptions,
}

/// How a service makes of what implements its async trait what is served, as [`Serve`] does for blocking ones: by the
/// type of the blocking trait's objects, as the async trait has none.
///
/// [`Serve`]: crate::service::hidden::Serve
pub trait AsyncServe<T, C> {
    #[doc(hidden)]
    fn serve(service: T) -> impl Handler<C, OfService>;
}

#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "it is for the macro alone"
)]
impl<C: Codec> AsyncCaller<C> {
    pub async fn connect(
        definition: &Definition,
        name: impl ToName,
        options: ClientOptions,
    ) -> Result<Self, CallError> {
        let options = options.of_service(definition);
        options.channel_tokio(name).await.map(AsyncCaller::new)
    }

    pub fn over(
        definition: &Definition,
        stream: impl Stream,
        options: ClientOptions,
    ) -> Result<Self, CallError> {
        let options = options.of_service(definition);
        options.channel_over_tokio(stream).map(AsyncCaller::new)
    }

    fn new(channel: Channel<C>) -> Self {
        AsyncCaller {
            channel,
            options: CallOptions::new(),
        }
    }

    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        AsyncCaller {
            channel: self.channel.clone(),
            options,
        }
    }

    #[must_use]
    pub fn with_deadline(&self, deadline: Deadline) -> Self {
        self.with(self.options.deadline(deadline))
    }

    #[must_use]
    pub fn channel(&self) -> &Channel<C> {
        &self.channel
    }

    pub async fn call<Arguments: Serialize, Reply: DeserializeOwned>(
        &self,
        method: u32,
        idempotent: bool,
        arguments: &Arguments,
    ) -> Result<Reply, CallError> {
        let options = if idempotent {
            self.options.idempotent(true)
        } else {
            self.options
        };
        self.channel.call(method, arguments, options).await
    }

    pub async fn open<Arguments: Serialize, Item: DeserializeOwned>(
        &self,
        method: u32,
        arguments: &Arguments,
    ) -> Result<Items<Item, C>, CallError> {
        self.channel.open(method, arguments, self.options).await
    }

    pub async fn notify<Arguments: Serialize>(
        &self,
        method: u32,
        arguments: &Arguments,
    ) -> Result<(), CallError> {
        self.channel.notify(method, arguments, self.options).await
    }
}
