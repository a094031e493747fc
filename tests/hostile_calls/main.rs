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
mod town;
#[path = "../util/mod.rs"]
mod util;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting::new();
