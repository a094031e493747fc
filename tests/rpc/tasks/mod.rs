//! Typed calls of async programs: what blocking ones cannot do, such as to drop a call half-way.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod alone;
mod dropped;
mod ends;
mod faulty;
mod harness;
mod kept;
mod large;
mod panics;
mod runtimes;
#[cfg(target_os = "linux")]
mod scaling;
mod tasks;
mod unpolled;
mod untold;
#[path = "../util/mod.rs"]
mod util;
mod wakers;
