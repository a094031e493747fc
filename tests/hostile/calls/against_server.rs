//! What one client says to a server, and should not.

mod ending;
mod excess;
#[cfg(unix)]
mod halves;
mod hello;
mod memory;
mod nonsense;
mod requests;
mod streams;
