//! Programs on one machine talk in whole messages: over Windows named pipes in message mode, over Unix domain
//! sockets elsewhere, with the same promises on both.
//!
//! # How to deadlock, and why you will not
//!
//! * **Both sides send, and nobody receives.** Each waits for the other to make room, for ever. Here every call
//!   that can wait takes a [`Deadline`]; and as all methods take `&self`, one thread can send while another
//!   receives on the same stream, without either holding the other up.
//! * **Waiting for a reply that will not come**, because the server is stuck. The deadline ends the wait, and a
//!   receive that timed out loses nothing: the next one gets what this one would have.
//! * **Waiting for a peer that has died.** Its end closes with it: a receive gets what it had sent and then the
//!   end, and a send gets `BrokenPipe`. If it died in the middle of a message, that is [`Error::Truncated`].
//! * **Waiting for a thread that waits in `accept` or `recv`.** [`Listener::stop`] and [`Stream::close`] wake
//!   it, at once and from any thread.
//! * **Closing while the peer does not read.** Closing never waits. What was sent is still delivered.
//!
//! What is left to you is to choose deadlines: [`Deadline::NEVER`] means it.
//!
//! # A server and a client
//!
//! ```
//! use pipetalk::{Deadline, Listener, LocalListener, LocalStream, Stream};
//! # let system = if cfg!(target_os = "linux") { "@" } else { "" };
//! # let name = format!("{system}pipetalk-doc3-{}", std::process::id());
//! # let name = name.as_str();
//!
//! // The server: a thread for each client, which gets back what it sends.
//! let listener = LocalListener::bind(name)?;
//! std::thread::spawn(move || {
//!     for stream in listener.incoming().flatten() {
//!         std::thread::spawn(move || {
//!             let mut message = Vec::new();
//!             while let Ok(Some(_)) = stream.recv_message(&mut message, Deadline::NEVER) {
//!                 stream.send(&message, Deadline::NEVER)?;
//!             }
//!             Ok::<_, std::io::Error>(())
//!         });
//!     }
//! });
//!
//! // The client.
//! let stream = LocalStream::connect(name)?;
//! let soon = Deadline::after(std::time::Duration::from_secs(5));
//! stream.send(b"hello", soon)?;
//! let mut reply = Vec::new();
//! stream.recv_message(&mut reply, soon)?;
//! assert_eq!(reply, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What is here
//!
//! * [`Name`] says where: `acme.kv` is a pipe on Windows and a socket in the user's runtime directory on Unix.
//! * [`LocalListener`] and [`LocalStream`] are the platform's own transport; [`ListenOptions`] and
//!   [`ConnectOptions`] open them otherwise than by default. [`Access`] says who may connect, and [`Trust`] whom
//!   a client talks to: by default the same user only.
//! * [`Stream`] and [`Listener`] are the traits that they implement, as [`memory`] does, which needs no operating
//!   system and is for tests. Write against the traits and choose the transport later.
//! * [`Client`] and [`Server`] exchange typed requests and replies; [`service!`] makes named methods of them.
//!   A reply can be a stream of items: the server has an [`ItemSink`], the client iterates over [`Items`], and a
//!   [`Broadcast`] sends the same items to many.
//! * [`codec`] turns values into messages and back, within limits, and [`Blob`] carries bytes in them.
//! * [`Deadline`] is until when a call may wait, and [`Error`] what the system has no error for. [`Spin`] says whether a
//!   blocking receive sleeps at once.
//!
//! A message is at most [`MAX_MESSAGE`] long, and a receiver takes [`DEFAULT_MAX_MESSAGE`] unless it says
//! otherwise. A peer's claim of a length costs no memory beyond that limit, and little before the message has
//! come.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `bincode` | typed calls, and their default codec [`Bincode`](codec::Bincode); on unless `default-features = false` |
//! | `postcard` | typed calls, and the codec `Postcard`, which has to be named wherever it is meant |
//! | `typed` | typed calls with a [`Codec`] of your own, which has to be named |
//! | `tokio` | the same for async programs, in [`tokio`](mod@tokio) |
//! | `tracing` | a span for each call, see below |
//! | `signals` | [`ServerHandle`] can have its server drained when the process is told to end |
//!
//! Without these three there is the message layer alone. A feature only adds: the codec that is meant where none is named
//! is always [`Bincode`](codec::Bincode), whatever else is on. Without feature `bincode` nothing that takes no codec is
//! there, such as [`Client::connect`] and [`Server::serve`], and [`service!`] wants the attribute `#[codec = ...]`.
//!
//! # Tracing
//!
//! With feature `tracing` each typed call is a span of the `tracing` crate, with
//! target `pipetalk` and level `INFO`: `call` on the client's side, and `serve` on the server's, in which the handler
//! runs. A request that the server refuses without a handler has none there. The fields:
//!
//! | field | |
//! |---|---|
//! | `service` | the service's name; empty if it has none |
//! | `method` | the method's name, or its number if it has none |
//! | `peer` | the process id of the other end, where the system tells |
//! | `outcome` | `ok`, or the failure in words: `timed out`, `panicked`, `disconnected`; `cancelled` if its future was dropped |
//! | `duration_us` | how long it took, in microseconds |
//!
//! A call or a handler whose future is dropped is dropped within its span.
//!
//! # Platforms
//!
//! Windows 10 and later, Linux, and other Unix systems (macOS, the BSDs) with what they have. On Windows a message
//! is a message of the pipe with nothing of ours in it, so that any program that speaks message-mode pipes can be
//! at the other end. On Unix four bytes of length come before each (`docs/wire.md`).

#![cfg_attr(
    not(any(feature = "bincode", feature = "postcard")),
    allow(
        dead_code,
        reason = "without calls, or without a codec for them, what is for these alone is not used"
    )
)]

mod base;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transport;

// What a platform must supply are the traits `base::system::System`, `transport::platform::Platform` and
// `transport::tokio::platform::Platform`, for its `system::Os`.
cfg_if::cfg_if! {
    if #[cfg(windows)] {
        mod windows;
        use windows as sys;
    } else if #[cfg(unix)] {
        mod unix;
        use unix as sys;
    } else {
        compile_error!("pipetalk needs Windows named pipes or Unix domain sockets");
    }
}

// Typed messages, for whoever has chosen a codec.
cfg_if::cfg_if! {
    if #[cfg(feature = "typed")] {
        mod blob;
        mod client;
        pub mod codec;
        #[cfg(feature = "bincode")]
        mod default_codec;
        mod proto;
        pub mod server;
        mod service;
        mod trace;

        pub use blob::Blob;
        pub use proto::call_error::{CallError, Incompatible, Version};
        pub use client::{CallOptions, Channel, Client, ClientOptions, Items, ServerInfo};
        pub use codec::{Codec, CodecError, DefaultCodec};
        pub use server::{
            Broadcast, Call, Event, ItemSink, Server, ServerHandle, ServerOptions, SinkError, Slow,
        };

        #[doc(hidden)]
        pub use service::hidden as __private;
    }
}

#[cfg(test)]
mod test_util;

/// What the fuzz targets drive, of what is private.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Both ends of a conversation, in the order that the bytes choose.
    pub fn pair(data: &[u8]) {
        crate::proto::pair::run(data);
    }

    /// The bytes as a message.
    pub fn wire(data: &[u8]) {
        crate::proto::wire::arbitrary::run(data);
    }
}

pub use base::access::{Access, Trust};
pub use base::deadline::Deadline;
pub use base::error::Error;
pub use base::name::{Name, ToName};
pub use base::peer::Peer;
pub use base::spin::Spin;
pub use base::user::UserId;
pub use transport::local::{LocalListener, LocalStream};
pub use transport::memory;
pub use transport::options::{ConnectOptions, DEFAULT_TIMEOUT, ListenOptions, ReadMode};
pub use transport::{DEFAULT_MAX_MESSAGE, Incoming, Listener, MAX_MESSAGE, Part, Stream, Waiting};
