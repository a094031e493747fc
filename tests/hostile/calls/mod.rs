//! Peers that speak the typed protocol badly: too little, too much, nonsense, or nothing and then no more. Each
//! gets the answer that the documents promise, a well-behaved client beside it never waits longer than its
//! deadline, memory stays within a stated limit, and no thread is left over.
//!
//! What a peer can do below that, to messages themselves, is in `tests/hostile`.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod against_client;
mod against_server;
#[path = "../util/allocator.rs"]
mod allocator;
mod bytes;
mod crowds;
mod deaths;
#[path = "../util/drivers.rs"]
mod drivers;
mod threads;
mod town;
#[path = "../util/mod.rs"]
mod util;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting::new();

/// Client and server on threads.
mod driver {
    use std::io;
    use std::sync::Arc;

    pub(crate) use crate::drivers::threads_call::*;
    pub(crate) use crate::drivers::threads_serve::*;
    use crate::town::{AtGate, Gate};

    /// Whether a handler ends when its request does, wherever it is.
    pub(crate) const ENDS_HANDLERS: bool = false;

    /// Whether a server without a pool handles one request of a client after the other.
    pub(crate) const ONE_BY_ONE: bool = true;

    pub(crate) fn serve(server: LocalServer, gate: Arc<Gate>, _: usize) -> io::Result<()> {
        server.serve(AtGate(gate))
    }

    /// How many threads the server has with one client: without a pool there is a watch.
    pub(crate) fn threads(pool: usize) -> usize {
        pool + 2
    }

    /// The sizes of pools to try.
    pub(crate) fn pools<const N: usize>(sizes: [usize; N]) -> [usize; N] {
        sizes
    }
}
