//! A model of the hand-over between the threads that share a client's connection (`src/client/turn.rs`, the same
//! file): loom runs each test in every order in which its threads can take their turns.
//!
//! Shown for every order: each call ends with its own answer, or as the model says it must; nobody sleeps for ever
//! (loom reports that as a deadlock); at most one thread reads at a time. Most tests with two threads go through all
//! orders there are. With three, and where that would take minutes, an order has two to four preemptions at most, as
//! each test says; `LOOM_MAX_PREEMPTIONS` sets another bound for all.
//!
//! That the model sees what it is there to see was tried by breaking `turn.rs`: a test fails without the wake-up in
//! any of `leave`, `give`, `abandon`, `read_if_nobody_does` and `wake_all_for_word`, if those who time out or get room
//! do not call `leave`, or do not wake the next who waits for room, if a thread that sends is chosen to read, if a
//! request that is not sent is noticed by messages only, and if the reader does not say that it reads. (Without the wake-ups in `end` each who leaves still wakes the next.)

mod calls;
mod client;
mod streams;
mod sync;
#[path = "../../../src/client/turn.rs"]
#[allow(
    dead_code,
    reason = "the file is a module of the crate, which uses all of it"
)]
mod turn;
