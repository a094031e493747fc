//! Letting others run.

pub(super) use super::runtime::yield_now;

/// After so many messages that came without waiting, the others on the thread have their turn.
pub(super) const AT_ONCE: u32 = 128;
