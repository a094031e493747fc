//! The kinds of clients and servers, the servers with the handler of these tests.

#[cfg(feature = "tokio")]
pub(super) use util::drivers::tasks_call;
pub(super) use util::drivers::threads_call;

/// Servers on threads.
pub(super) mod threads_serve {
    use std::io;
    use std::sync::Arc;

    pub(crate) use util::drivers::threads_serve::*;

    use crate::calls::gate::{AtGate, Gate};

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

/// Servers on tokio.
#[cfg(feature = "tokio")]
pub(super) mod tasks_serve {
    use std::io;
    use std::sync::Arc;

    pub(crate) use util::drivers::tasks_serve::*;

    use crate::calls::gate::{AtGateAsync, Gate};

    /// Whether a handler ends when its request does, wherever it is.
    pub(crate) const ENDS_HANDLERS: bool = true;

    /// Whether a server without a pool handles one request of a client after the other.
    pub(crate) const ONE_BY_ONE: bool = false;

    pub(crate) fn serve(server: LocalServer, gate: Arc<Gate>, _: usize) -> io::Result<()> {
        server.serve_async(AtGateAsync(gate))
    }

    /// None of its own.
    pub(crate) fn threads(_: usize) -> usize {
        0
    }

    /// There is no pool, so that requests are answered in any order, as with a large one.
    pub(crate) fn pools<const N: usize>(sizes: [usize; N]) -> [usize; 1] {
        [sizes[N - 1]]
    }
}

/// Servers on tokio with a handler that blocks.
#[cfg(feature = "tokio")]
pub(super) mod blocking_tasks_serve {
    use std::io;
    use std::sync::Arc;

    pub(crate) use util::drivers::tasks_serve::*;

    pub(crate) use super::tasks_serve::{ONE_BY_ONE, pools, threads};
    use crate::calls::gate::{AtGate, Gate};

    /// Whether a handler ends when its request does, wherever it is.
    pub(crate) const ENDS_HANDLERS: bool = false;

    /// With a pool the runtime has so many threads for what blocks.
    pub(crate) fn serve(server: LocalServer, gate: Arc<Gate>, pool: usize) -> io::Result<()> {
        match pool {
            0 => server.serve(AtGate(gate)),
            threads => server.serve_on(threads, AtGate(gate)),
        }
    }
}
