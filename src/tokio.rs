//! The same for async programs, on tokio (feature `tokio`).
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
//! # #[cfg(not(feature = "typed"))]
//! # fn main() {}
//! # #[cfg(feature = "typed")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let unix = format!("{}/docs.sock", dir.path().display());
//! # let name = if cfg!(windows) { format!("pipetalk-doc-at-{}", std::process::id()) } else { unix };
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

mod local;
pub mod memory;
pub(crate) mod runtime;
mod transport;

pub use local::{LocalListener, LocalStream};
pub use transport::{Listener, Stream};

// Typed messages, for whoever has chosen a codec.
cfg_if::cfg_if! {
    if #[cfg(feature = "typed")] {
        mod alarm;
        mod batch;
        mod client;
        mod fair;
        mod server;
        pub(crate) mod service;

        pub use client::{Channel, Client};
        pub use server::{Handler, Replied, Replies, Server};
        pub use service::OfService;
    }
}
