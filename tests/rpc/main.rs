//! Typed requests and replies: calls, streams, broadcasts and services, between clients and servers on threads and on tokio.

#![cfg(feature = "bincode")]
#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test says what it expects by unwrapping it, and the same of each driver"
)]

mod broadcast;
mod calls;
#[cfg(all(feature = "tokio", target_os = "linux"))]
mod mistakes;
mod service;
#[cfg(feature = "signals")]
mod signals;
#[cfg(feature = "tracing")]
mod spans;
mod streams;
mod stress;
#[cfg(feature = "tokio")]
mod tasks;

/// The parts that other processes play.
mod actors {
    #[test]
    fn actor() {
        util::play(&[
            #[cfg(feature = "signals")]
            ("signals", crate::signals::actors::play),
            ("stress", crate::stress::actors::play),
        ]);
    }
}
