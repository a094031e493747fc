//! What one client says to a server, and should not.

mod excess;
mod hello;
mod nonsense;
mod requests;
mod streams;
