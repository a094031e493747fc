//! The same for async programs, on tokio (feature `tokio`).
//!
//! The traits [`Stream`] and [`Listener`] are mirrors of those of the crate, by name and by promise, and so are
//! [`LocalListener`], [`LocalStream`] and [`memory`]. The bytes are the same too: it does not matter to a program
//! whether its peer is async. The builders are those of the crate, with methods of their own:
//! [`ListenOptions::bind_tokio`](crate::ListenOptions::bind_tokio) and
//! [`ConnectOptions::connect_tokio`](crate::ConnectOptions::connect_tokio).
//!
//! ```
//! use std::time::Duration;
//! use pipetalk::Deadline;
//! use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
//! # let system = if cfg!(target_os = "linux") { "@" } else { "" };
//! # let name = format!("{system}pipetalk-doc5-{}", std::process::id());
//! # let name = name.as_str();
//!
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! // The server: a task for each client, which gets back what it sends.
//! let listener = LocalListener::bind(name)?;
//! tokio::spawn(async move {
//!     while let Ok(stream) = listener.accept(Deadline::NEVER).await {
//!         tokio::spawn(async move {
//!             let mut message = Vec::new();
//!             while let Ok(Some(_)) = stream.recv_message(&mut message, Deadline::NEVER).await {
//!                 stream.send(&message, Deadline::NEVER).await?;
//!             }
//!             Ok::<_, std::io::Error>(())
//!         });
//!     }
//! });
//!
//! // The client.
//! let stream = LocalStream::connect(name).await?;
//! let soon = Deadline::after(Duration::from_secs(5));
//! stream.send(b"hello", soon).await?;
//! let mut reply = Vec::new();
//! stream.recv_message(&mut reply, soon).await?;
//! assert_eq!(reply, b"hello");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Runtimes
//!
//! Any of tokio's runtimes will do, of one thread or of many. It has to have its drivers on (`enable_all`, as
//! `#[tokio::main]` does it): the one for I/O where a listener or a stream is made, and on Unix as long as it is used;
//! the one for time where a call has to wait and its deadline is not [`Deadline::NEVER`](crate::Deadline::NEVER).
//! Where there is no runtime, or one without the driver, the call says so in words, as an error of kind `Other`. The
//! runtime itself panics over a driver that it has not got, and has no way to be asked before; that panic is caught
//! here, but the program's panic hook sees it, and a program that is built to abort on panics aborts.
//!
//! A stream can be used by another runtime than the one in which it was made, as long as that one lives, and dropped
//! anywhere. A call that need not wait does not need a runtime.
//!
//! # Deadlines
//!
//! Every call tries first and waits afterwards, and only where it waits is there a timer. A timer of tokio's goes by
//! milliseconds: no call gives up early, and some a little late.
//! [`Deadline::NOW`](crate::Deadline::NOW) asks for what can be done at once.
//!
//! # Cancel safety
//!
//! Any of these futures may be dropped at any time, as `select!` and time-outs do:
//!
//! * a receive loses nothing: the next one gets what this one would have;
//! * a send sends its message in whole or not at all; or, where a part has gone already and the rest cannot follow, it
//!   closes the connection for good ([`Error::Poisoned`](crate::Error::Poisoned)), because the next message would be
//!   taken for the rest;
//! * a transaction whose request has been sent closes the connection for good, because its reply would be taken for that
//!   of the next;
//! * an accept loses no connection, and a connect leaves none behind.
//!
//! So a program that wants to give up a large send and keep the connection lets the send go on in a task of its own.
//!
//! # Streams of replies
//!
//! A `stream` method of [`service!`](crate::service!), or a closure that takes an [`ItemSink`] behind the
//! [`Call`](crate::Call), answers a request by any number of items, and the client's [`Items`] are a
//! `futures::Stream`; it does not matter which of the two is async. The handler of each stream is a task of its own:
//! [`ItemSink::send`] waits for the client's window, and for nobody else. When nobody takes the items any more, because
//! the client has cancelled the stream or gone, or the server ends, the handler's future is dropped; a sink that was
//! given to somebody else says so by [`ItemSink::stopped`].
//!
//! Of the futures of a stream, an opening that is dropped opens nothing or is cancelled, a wait for an item loses no
//! item, and an item whose sending is dropped is not sent. An [`ItemSink`] can be subscribed to a
//! [`Broadcast`](crate::Broadcast), as the blocking one can.
//!
//! A handler that blocks, of [`Server::serve_blocking`], has a thread of the runtime's for as long as its stream lasts.
//!
//! # Many tasks
//!
//! As in the rest of the crate, every method takes `&self`. Tasks that send take turns, and so do tasks that receive;
//! neither hold up the others. [`close`](Stream::close) wakes them all, from any thread.
//!
//! # Typed calls
//!
//! [`Client`] and [`Server`] are the mirrors of [`pipetalk::Client`](crate::Client) and
//! [`pipetalk::Server`](crate::Server), over the same protocol: a blocking end and an async one understand each other.
//! They are made by [`ClientOptions`](crate::ClientOptions) and [`ServerOptions`](crate::ServerOptions) as those are,
//! with the same limits and the same [`CallError`](crate::CallError), and [`ServerHandle`](crate::ServerHandle) ends
//! either kind of server. [`service!`](crate::service) makes an async trait and client of a definition where it is
//! asked for them.
//!
//! ```
//! # #[cfg(not(feature = "bincode"))]
//! # fn main() {}
//! # #[cfg(feature = "bincode")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let system = if cfg!(target_os = "linux") { "@" } else { "" };
//! # let name = format!("{system}pipetalk-doc-at-{}", std::process::id());
//! # let name = name.as_str();
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use pipetalk::tokio::{Client, Server};
//!
//! let server = Server::bind(name)?;
//! let handle = server.handle();
//! let serving = tokio::spawn(server.serve(|text: String, _call| async move { text.len() }));
//!
//! let client: Client<String, usize> = Client::connect(name).await?;
//! assert_eq!(client.call(&"hello".to_owned()).await?, 5);
//!
//! handle.stop();
//! serving.await??;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! * **One task for each connection**, on either side. A client's call that is alone goes out from where it is made;
//!   of several, what is ready goes out in one write.
//! * **A handler is polled where its request was received**, and gets a task of its own only if it has to wait. One
//!   that blocks or computes for long belongs to [`Server::serve_blocking`].
//! * **Everything can be dropped.** A call that is dropped is cancelled, and its server's handler is dropped with it.
//! * **A runtime needs its timers on** (`enable_time`, or `enable_all`), except for a client none of whose calls has a
//!   deadline.

pub use crate::transport::tokio::local::{LocalListener, LocalStream};
pub use crate::transport::tokio::{Listener, Stream, memory};

// The drivers' own names for what is below them.
cfg_if::cfg_if! {
    if #[cfg(feature = "typed")] {
        use crate::transport::tokio as transport;
        use crate::transport::tokio::{local, runtime};
    }
}

// Typed messages, for whoever has chosen a codec.
cfg_if::cfg_if! {
    if #[cfg(feature = "typed")] {
        mod alarm;
        mod batch;
        mod client;
        #[cfg(feature = "bincode")]
        mod default_codec;
        mod fair;
        mod server;
        pub(crate) mod service;
        mod sink;

        pub use client::{Channel, Client, Items};
        pub use server::{Handler, Replied, Replies, Server};
        pub use service::OfService;
        pub use sink::ItemSink;
    }
}
