//! The same for async programs, on tokio (feature `tokio`).

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
        mod sink;

        pub use client::{Channel, Client, Items};
        pub use server::{Handler, Replied, Replies, Server};
        pub use service::OfService;
        pub use sink::ItemSink;
    }
}
