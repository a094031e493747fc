//! What calls, streams and messages cost: allocations, memory and system calls. Allocations and memory are counted for all
//! of the process, so that these tests have one of their own, and run one at a time.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[cfg(feature = "bincode")]
mod calls;
#[cfg(feature = "tokio")]
mod messages;
#[cfg(all(feature = "bincode", feature = "tokio"))]
mod streams;
#[cfg(all(feature = "bincode", feature = "tokio"))]
mod tasks;

use std::sync::{Mutex, MutexGuard, PoisonError};

use util::allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// Keeps the other tests waiting until it is dropped.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts that other processes play.
mod actors {
    #[test]
    fn actor() {
        util::play(&[
            #[cfg(feature = "bincode")]
            ("calls", crate::calls::actors::play),
            #[cfg(all(feature = "bincode", feature = "tokio"))]
            ("tasks", crate::tasks::actors::play),
        ]);
    }
}
