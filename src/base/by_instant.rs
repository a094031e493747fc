//! The clock of systems on which [`Instant`] is the only way to read it.

use std::sync::OnceLock;
use std::time::Instant;

/// Far from zero, so that there are instants before it.
const START: u64 = 1 << 62;

/// One point in time, both ways.
pub(crate) fn epoch() -> (Instant, u64) {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    (*EPOCH.get_or_init(Instant::now), START)
}

/// What time it is.
pub(crate) fn now() -> u64 {
    // Which ends within some centuries.
    START + epoch().0.elapsed().as_nanos() as u64
}
