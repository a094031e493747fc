//! Peers that die, stall, lie and flood: on a Unix socket (`messages`), in the typed protocol (`calls`), and what all that
//! does to their neighbours (`attacks`).

#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test says what it expects by unwrapping it, and the same of each driver"
)]

mod alone;
#[cfg(feature = "bincode")]
mod attacks;
#[cfg(feature = "bincode")]
mod calls;
#[cfg(unix)]
mod messages;

use util::allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// The parts that other processes play.
mod actors {
    #[test]
    fn actor() {
        util::play(&[
            #[cfg(feature = "bincode")]
            ("attacks", crate::attacks::play),
            #[cfg(unix)]
            ("messages", crate::messages::play),
        ]);
    }
}
