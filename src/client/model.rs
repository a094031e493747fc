//! A model of the threads that share a client's connection: loom runs each test in every order in which its threads can
//! take their turns, through the driver as it is and the protocol's calls, over a modelled stream.
//!
//! ```text
//! RUSTFLAGS="--cfg pipetalk_loom" cargo test --release -p pipetalk --no-default-features --features bincode --lib model
//! ```
//!
//! Shown for every order: each call ends with its own answer, or as the model says it must; no thread sleeps for ever
//! (loom reports that as a deadlock); at most one thread reads at a time. Most tests with two threads go through all
//! orders there are. With three, and where that would take minutes, an order has two to four preemptions at most, as
//! each test says; `LOOM_MAX_PREEMPTIONS` sets another bound for all.
//!
//! That the model sees what it is there to see was tried by breaking the driver and the calls: a test fails if a thread
//! that leaves, or that has read before it goes on sending, does not wake the next reader; if an answer, an item, the
//! welcome or room wakes no thread; if a call that is given up offers its room to no other; if one that stops waiting
//! can still be woken to read, or one that sends; if a call is offered room whose thread reads; if a request that is not
//! sent is noticed by messages only; and if the reader does not say that it reads. (Without the wake-ups of the end each
//! that leaves still wakes the next.)

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod calls;
mod client;
mod streams;
