//! Peers that speak the typed protocol badly: too little, too much, nonsense, or nothing and then no more. Each
//! gets the answer that the documents promise, a well-behaved client beside it never waits longer than its
//! deadline, memory stays within a stated limit, and no thread is left over.
//!
//! What a peer can do below that, to messages themselves, is in `tests/hostile`.
//!
//! This is about servers on tokio whose handlers block.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod against_server;
#[path = "../util/allocator.rs"]
mod allocator;
mod bytes;
mod crowds;
mod deaths;
#[path = "../util/drivers.rs"]
mod drivers;
mod town;
#[path = "../util/mod.rs"]
mod util;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting::new();

/// Client on threads and server on tokio, with a handler that blocks.
mod driver {
    use std::io;
    use std::sync::Arc;

    pub(crate) use crate::drivers::tasks_serve::*;
    pub(crate) use crate::drivers::threads_call::*;
    use crate::town::{AtGate, Gate};

    /// With a pool the runtime has so many threads for what blocks.
    pub(crate) fn serve(server: LocalServer, gate: Arc<Gate>, pool: usize) -> io::Result<()> {
        match pool {
            0 => server.serve(AtGate(gate)),
            threads => server.serve_on(threads, AtGate(gate)),
        }
    }

    /// Whether a handler ends when its request does, wherever it is.
    pub(crate) const ENDS_HANDLERS: bool = false;

    /// Whether a server without a pool handles one request of a client after the other.
    pub(crate) const ONE_BY_ONE: bool = false;

    /// None of its own.
    pub(crate) fn threads(_: usize) -> usize {
        0
    }

    /// There is no order without a pool.
    pub(crate) fn pools<const N: usize>(sizes: [usize; N]) -> [usize; 1] {
        [sizes[N - 1]]
    }
}
