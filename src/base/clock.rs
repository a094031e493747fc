//! What time it is, as a number: to add to it and to compare it takes a fraction of what that takes with an [`Instant`].
//!
//! Times are nanoseconds by the clock that [`Instant`] reads, counted from somewhere before the program started. They do
//! not end within the next centuries.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::sys;

/// A time span in nanoseconds; one that is too long for the number is the longest.
#[inline]
pub(crate) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// One point in time, both ways.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    pub(crate) instant: Instant,
    pub(crate) time: u64,
}

fn epoch() -> Epoch {
    static EPOCH: OnceLock<Epoch> = OnceLock::new();
    *EPOCH.get_or_init(sys::epoch)
}

/// The time of an instant.
pub(crate) fn time_of(instant: Instant) -> u64 {
    let epoch = epoch();
    match instant.checked_duration_since(epoch.instant) {
        Some(since) => epoch.time.saturating_add(nanoseconds(since)),
        None => epoch
            .time
            .saturating_sub(nanoseconds(epoch.instant - instant)),
    }
}

/// The instant of a time, if there is one.
pub(crate) fn instant_of(time: u64) -> Option<Instant> {
    let epoch = epoch();
    match time.checked_sub(epoch.time) {
        Some(since) => epoch.instant.checked_add(Duration::from_nanos(since)),
        None => epoch
            .instant
            .checked_sub(Duration::from_nanos(epoch.time - time)),
    }
}

/// For systems on which [`Instant`] is the only way to read its clock.
#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    expect(dead_code, reason = "the clock has numbers of its own there")
)]
pub(crate) mod by_instant {
    use super::{Epoch, Instant, nanoseconds};

    /// Far from zero, so that there are instants before it.
    const START: u64 = 1 << 62;

    pub(crate) fn epoch() -> Epoch {
        Epoch {
            instant: Instant::now(),
            time: START,
        }
    }

    pub(crate) fn now() -> u64 {
        START + nanoseconds(super::epoch().instant.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_clock_is_never_ahead_and_catches_up() {
        let start = sys::now();
        loop {
            let recently = sys::recently();
            assert!(recently <= sys::now());
            if recently >= start {
                break;
            }
        }
    }

    #[test]
    fn a_time_is_an_instant_and_back() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for instant in [now, now + hour, now + hour * 1_000_000, epoch().instant] {
            assert_eq!(instant_of(time_of(instant)), Some(instant));
        }
        // The machine may have been started a minute ago.
        if let Some(before) = epoch().instant.checked_sub(Duration::from_secs(5)) {
            assert_eq!(instant_of(time_of(before)), Some(before));
        }
        assert_eq!(time_of(now + hour) - time_of(now), nanoseconds(hour));
    }

    #[test]
    fn both_read_one_clock() {
        for _ in 0..100 {
            let before = Instant::now();
            let time = sys::now();
            let after = Instant::now();
            // Nearly: nobody can read both at once.
            let about = instant_of(time).unwrap();
            let slack = Duration::from_micros(100);
            assert!(before <= about + slack && about <= after + slack);
        }
    }
}
