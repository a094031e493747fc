//! What takes the [default codec](DefaultCodec), where no codec is named: with feature `bincode`.

use std::io;

use crate::server::Handler;
use crate::{CallError, Client, ClientOptions, DefaultCodec, Listener, Server, Stream, ToName};

impl<Request, Reply> Client<Request, Reply> {
    /// Connects to the server at `name` with the [defaults](ClientOptions).
    ///
    /// # Errors
    ///
    /// As [`ClientOptions::connect`].
    pub fn connect(name: impl ToName) -> Result<Self, CallError> {
        ClientOptions::new().connect(name)
    }
}

impl ClientOptions {
    /// Connects to the server at `name`, within the [time-out](Self::timeout).
    ///
    /// # Errors
    ///
    /// [`CallError::Unreachable`], with kind `NotFound` if nobody listens; [`CallError::TimedOut`].
    pub fn connect<Request, Reply>(
        self,
        name: impl ToName,
    ) -> Result<Client<Request, Reply, DefaultCodec>, CallError> {
        self.channel(name).map(Client::from_channel)
    }

    /// A client over a stream that is open already: one of another transport, or of [`memory`](crate::memory).
    /// It cannot reconnect.
    ///
    /// # Errors
    ///
    /// [`CallError::Disconnected`] or [`CallError::TimedOut`] if the greeting cannot be sent.
    pub fn over<Request, Reply>(
        self,
        stream: impl Stream,
    ) -> Result<Client<Request, Reply, DefaultCodec>, CallError> {
        self.channel_over(stream).map(Client::from_channel)
    }
}

impl<L: Listener> Server<L> {
    /// Serves until the server is ended, by its [handle](Server::handle) or by a client that may.
    ///
    /// The handler is a closure of a request and the [`Call`](crate::Call), and of an [`ItemSink`](crate::ItemSink) if it
    /// answers by a stream, or what [`service!`](crate::service) makes. It is run for several clients at once. If it
    /// panics, the client is told, and nobody else notices.
    ///
    /// When this returns, the handler has been dropped, unless it is still at a request: it has a second to notice that
    /// this is cancelled.
    ///
    /// # Errors
    ///
    /// What the system says if no more clients can be accepted, for a reason that does not pass.
    pub fn serve<Marker: 'static>(
        self,
        handler: impl Handler<DefaultCodec, Marker>,
    ) -> io::Result<()> {
        self.serve_with::<DefaultCodec, Marker>(handler)
    }
}
