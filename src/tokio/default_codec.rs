//! What takes the [default codec](DefaultCodec), where no codec is named: with feature `bincode`.

use std::io;

use super::transport::{Listener, Stream};
use super::{Client, Handler, Server};
use crate::{CallError, ClientOptions, DefaultCodec, ToName, server};

impl<Request, Reply> Client<Request, Reply> {
    /// Connects to the server at `name` with the [defaults](ClientOptions).
    ///
    /// # Errors
    ///
    /// As [`ClientOptions::connect_tokio`].
    ///
    /// # Cancel safety
    ///
    /// As [`ClientOptions::connect_tokio`].
    pub async fn connect(name: impl ToName) -> Result<Self, CallError> {
        ClientOptions::new().connect_tokio(name).await
    }
}

/// For async programs, with feature `tokio`: within a tokio runtime that has its timers on.
impl ClientOptions {
    /// Connects to the server at `name`, within the [time-out](Self::timeout).
    ///
    /// # Errors
    ///
    /// [`CallError::Unreachable`], with kind `NotFound` if nobody listens, and in words if there is no runtime;
    /// [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// One that is dropped leaves no connection behind.
    pub async fn connect_tokio<Request, Reply>(
        self,
        name: impl ToName,
    ) -> Result<Client<Request, Reply, DefaultCodec>, CallError> {
        self.channel_tokio(name).await.map(Client::from_channel)
    }

    /// A client over a stream that is open already: one of another transport, or of memory. It cannot reconnect.
    ///
    /// # Errors
    ///
    /// [`CallError::Unreachable`] if there is no runtime. That the greeting cannot be sent says the first call.
    pub fn over_tokio<Request, Reply>(
        self,
        stream: impl Stream,
    ) -> Result<Client<Request, Reply, DefaultCodec>, CallError> {
        self.channel_over_tokio(stream).map(Client::from_channel)
    }
}

impl<L: Listener> Server<L> {
    /// Serves until the server is ended, by its [handle](Server::handle) or by a client that may.
    ///
    /// The handler is a closure of a request and the [`Call`](crate::Call) that returns a future, or what
    /// [`service!`](crate::service) makes. Its futures are dropped when nobody waits for their replies any more. If
    /// one panics, the client is told, and nobody else notices.
    ///
    /// # Errors
    ///
    /// What the system says if no more clients can be accepted, for a reason that does not pass; in words if the
    /// runtime has no timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping this stops the server, as [`ServerHandle::stop`](crate::ServerHandle::stop) does, without waiting for
    /// it.
    pub async fn serve<Marker: 'static>(
        self,
        handler: impl Handler<DefaultCodec, Marker>,
    ) -> io::Result<()> {
        self.serve_with::<DefaultCodec, Marker>(handler).await
    }

    /// Serves with a handler that blocks, as [`pipetalk::Server`](crate::Server) takes it: a closure of a request and
    /// a reference to the [`Call`](crate::Call), or what [`service!`](crate::service) makes of a blocking trait. It runs
    /// on the runtime's threads for that ([`spawn_blocking`](::tokio::task::spawn_blocking)), where it holds nobody up.
    ///
    /// A thread cannot be ended from outside: a handler that takes long should look at
    /// [`Call::is_cancelled`](crate::Call::is_cancelled).
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_blocking<Marker: 'static>(
        self,
        handler: impl server::Handler<DefaultCodec, Marker>,
    ) -> io::Result<()> {
        self.serve_blocking_with::<DefaultCodec, Marker>(handler)
            .await
    }
}
