//! What time it is, as a number: to add to it and to compare it takes a fraction of what that takes with an [`Instant`].
//!
//! Times are nanoseconds by the clock that [`Instant`] reads, counted from somewhere before the program started. They do
//! not end within the next centuries.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::system::System;
use crate::sys::system::Os;

/// What time it is.
#[inline]
pub(crate) fn now() -> u64 {
    Os::now()
}

/// What time it was less than a tick ago: the cheapest clock.
#[inline]
pub(crate) fn recently() -> u64 {
    Os::recently()
}

/// A time span in nanoseconds; one that is too long for the number is the longest.
#[inline]
pub(crate) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// One point in time, both ways.
fn epoch() -> (Instant, u64) {
    static EPOCH: OnceLock<(Instant, u64)> = OnceLock::new();
    *EPOCH.get_or_init(Os::epoch)
}

/// The time of an instant.
pub(crate) fn time_of(instant: Instant) -> u64 {
    let (epoch, time) = epoch();
    match instant.checked_duration_since(epoch) {
        Some(since) => time.saturating_add(nanoseconds(since)),
        None => time.saturating_sub(nanoseconds(epoch - instant)),
    }
}

/// The instant of a time, if there is one.
pub(crate) fn instant_of(time: u64) -> Option<Instant> {
    let (epoch, start) = epoch();
    match time.checked_sub(start) {
        Some(since) => epoch.checked_add(Duration::from_nanos(since)),
        None => epoch.checked_sub(Duration::from_nanos(start - time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_clock_is_never_ahead_and_catches_up() {
        let start = now();
        loop {
            let before = recently();
            assert!(before <= now());
            if before >= start {
                break;
            }
        }
    }

    #[test]
    fn a_time_is_an_instant_and_back() {
        let instant = Instant::now();
        let hour = Duration::from_secs(3600);
        for instant in [
            instant,
            instant + hour,
            instant + hour * 1_000_000,
            epoch().0,
        ] {
            assert_eq!(instant_of(time_of(instant)), Some(instant));
        }
        // The machine may have been started a minute ago.
        if let Some(before) = epoch().0.checked_sub(Duration::from_secs(5)) {
            assert_eq!(instant_of(time_of(before)), Some(before));
        }
        assert_eq!(
            time_of(instant + hour) - time_of(instant),
            nanoseconds(hour)
        );
    }

    #[test]
    fn both_read_one_clock() {
        for _ in 0..100 {
            let before = Instant::now();
            let time = now();
            let after = Instant::now();
            // Nearly: nobody can read both at once.
            let about = instant_of(time).unwrap();
            let slack = Duration::from_micros(100);
            assert!(before <= about + slack && about <= after + slack);
        }
    }
}
