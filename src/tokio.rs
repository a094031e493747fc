//! The same for async programs, on tokio (feature `tokio`).

mod transport;

pub use transport::{Listener, Stream};
