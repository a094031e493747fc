//! The clocks of Linux, and where the machine's own names are.

use std::time::Instant;

use nix::time::{ClockId, clock_gettime};

pub(crate) const DIRECTORY: &str = "/run";

/// What time it is: `CLOCK_MONOTONIC`, which is the clock that [`Instant`] reads, though it does not say so in numbers.
/// clock_gettime(2).
///
/// By the C library, because rustix looks for the kernel's code in a way that ends a program under valgrind.
#[inline]
pub(crate) fn now() -> u64 {
    // The standard library panics as well, in every `Instant::now()`.
    read(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock can be read")
}

/// When the last tick was: reading the coarse clock costs a third, because it does not ask the processor for the time
/// since that tick.
#[inline]
pub(crate) fn recently() -> u64 {
    read(ClockId::CLOCK_MONOTONIC_COARSE).unwrap_or_else(|_| now())
}

#[inline]
fn read(clock: ClockId) -> nix::Result<u64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// One point in time, both ways. Nobody can read both at once: what lies between two readings of the one is as little as
/// a few tries make it.
pub(crate) fn epoch() -> (Instant, u64) {
    let mut best = (u64::MAX, Instant::now(), 0);
    for _ in 0..10 {
        let time = now();
        let instant = Instant::now();
        best = best.min((now() - time, instant, time));
    }
    let (_, instant, time) = best;
    (instant, time)
}
