//! The same for async programs, on tokio (feature `tokio`).

mod local;
pub mod memory;
pub(crate) mod runtime;
mod transport;

pub use local::{LocalListener, LocalStream};
pub use transport::{Listener, Stream};
