//! The async transport over Windows pipes: what is particular to it, beside the conformance suite.
//!
//! Operations that outlive their futures, their threads and their runtimes, and foreign peers.

#![cfg(all(windows, feature = "tokio"))]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod drops;
mod ending;
mod foreign;
mod harness;
mod listening;
mod messages;
mod runtimes;

#[path = "../util/mod.rs"]
mod util;
