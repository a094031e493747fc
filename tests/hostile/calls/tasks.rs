//! Peers that speak the typed protocol badly: too little, too much, nonsense, or nothing and then no more. Each
//! gets the answer that the documents promise, a well-behaved client beside it never waits longer than its
//! deadline, memory stays within a stated limit, and no thread is left over.
//!
//! What a peer can do below that, to messages themselves, is in `tests/hostile`.
//!
//! This is about clients and servers on tokio.

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
mod town;
#[path = "../util/mod.rs"]
mod util;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting::new();

/// Client and server on tokio.
mod driver {
    use std::io;
    use std::sync::Arc;

    pub(crate) use crate::drivers::tasks_call::*;
    pub(crate) use crate::drivers::tasks_serve::*;
    use crate::town::{AtGateAsync, Gate};

    pub(crate) fn serve(server: LocalServer, gate: Arc<Gate>, _: usize) -> io::Result<()> {
        server.serve_async(AtGateAsync(gate))
    }

    /// Whether a handler ends when its request does, wherever it is.
    pub(crate) const ENDS_HANDLERS: bool = true;

    /// Whether a server without a pool handles one request of a client after the other.
    pub(crate) const ONE_BY_ONE: bool = false;

    /// None of its own.
    pub(crate) fn threads(_: usize) -> usize {
        0
    }

    /// There is no pool, so that requests are answered in any order, as with a large one.
    pub(crate) fn pools<const N: usize>(sizes: [usize; N]) -> [usize; 1] {
        [sizes[N - 1]]
    }
}
