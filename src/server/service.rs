//! [`Service`]: a handler that `service!` has made.

use std::fmt;
use std::marker::PhantomData;

use super::call::Call;
use super::handler::{HandleError, Handler, Payload};
use super::sink::Opening;
use crate::codec::outgoing::Outgoing;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::definition::Definition;

#[allow(missing_docs, reason = "it is for `service!` alone")]
pub type Dispatch<T> = fn(&T, u32, &Payload, &Call, &mut Outgoing) -> Result<(), HandleError>;

#[allow(missing_docs, reason = "it is for `service!` alone")]
pub type Open<T> = fn(&T, u32, &Payload, &Call, Opening) -> Result<(), HandleError>;

/// What implements a service, as [`Server::serve`](crate::Server::serve) takes it: `store.service()`, where `store`
/// implements a trait that [`service!`](crate::service!) has made.
pub struct Service<T, C = DefaultCodec> {
    service: T,
    definition: &'static Definition,
    dispatch: Dispatch<T>,
    open: Open<T>,
    codec: PhantomData<fn() -> C>,
}

impl<T: Send + Sync + 'static, C: Codec> Handler<C, Service<T>> for Service<T, C> {
    fn service(&self) -> &'static str {
        self.definition.name
    }

    fn version(&self) -> &'static str {
        self.definition.version
    }

    fn fingerprint(&self) -> u64 {
        self.definition.fingerprint
    }

    fn methods(&self) -> &'static [&'static str] {
        self.definition.methods
    }

    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        (self.dispatch)(&self.service, method, payload, call, reply)
    }

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        (self.open)(&self.service, method, payload, call, opening)
    }
}

impl<T, C> fmt::Debug for Service<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.definition).finish()
    }
}

#[allow(missing_docs, reason = "it is for `service!` alone")]
pub fn service<T, C>(
    service: T,
    definition: &'static Definition,
    dispatch: Dispatch<T>,
    open: Open<T>,
) -> Service<T, C> {
    Service {
        service,
        definition,
        dispatch,
        open,
        codec: PhantomData,
    }
}
