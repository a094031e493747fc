//! [`Deadline`]: until when a blocking call may wait.

#[cfg(unix)]
mod at_least;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::clock;

/// No tick of the system's clock is longer, in nanoseconds: 100 in a second are the fewest that Linux can be built with.
const TICK: u64 = 10_000_000;

/// From here on a tick more or less is not worth asking what time it is to the nanosecond.
const FAR: Duration = Duration::from_secs(1);

/// The point in time until which a call may wait.
///
/// A deadline is absolute, so that one deadline can cover several calls: pass the same value to each and
/// together they take no longer. Every call that can wait takes one, and a call whose deadline passes returns
/// [`io::ErrorKind::TimedOut`] on every platform.
///
/// A call whose deadline has already passed still does what can be done without waiting;
/// [`Deadline::NOW`] is the way to ask for just that.
///
/// Nothing here panics or overflows: a time-out that is too long to be a point in time is [`Deadline::NEVER`].
///
/// ```
/// use std::time::Duration;
/// use pipetalk::Deadline;
///
/// let soon = Deadline::after(Duration::from_millis(20));
/// assert!(soon.remaining().unwrap() <= Duration::from_millis(20));
/// assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
/// assert!(Deadline::NOW < soon && soon < Deadline::NEVER);
/// ```
/// Deadlines are ordered: earlier is less, [`Deadline::NOW`] comes first and [`Deadline::NEVER`] last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(
    /// The [time](clock), or one of the two that no deadline is at.
    u64,
);

impl Deadline {
    /// No deadline: the call may wait for ever.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// A deadline that has passed: the call does what it can do at once, and does not wait.
    pub const NOW: Deadline = Deadline(0);

    /// The deadline `timeout` from now; [`Deadline::NEVER`] if that is too far away for the clock.
    #[must_use]
    #[inline]
    pub fn after(timeout: Duration) -> Deadline {
        if timeout.is_zero() {
            return Deadline::NOW;
        }
        Deadline::after_time(clock::now(), timeout)
    }

    /// As [`after`](Self::after), or a tick later if the deadline is far away: for the time-outs of typed calls, of
    /// which each has several.
    #[inline]
    pub(crate) fn about(timeout: Duration) -> Deadline {
        Deadline::about_from(clock::recently(), timeout)
    }

    /// The same, for who knows [when the last tick was](clock::recently).
    #[inline]
    pub(crate) fn about_from(recently: u64, timeout: Duration) -> Deadline {
        if timeout < FAR {
            return Deadline::after(timeout);
        }
        Deadline::after_time(recently + TICK, timeout)
    }

    /// As [`after`](Self::after), from a time that was before.
    #[inline]
    pub(crate) fn after_time(now: u64, timeout: Duration) -> Deadline {
        Deadline(now.saturating_add(clock::nanoseconds(timeout)))
    }

    /// The deadline at a point in time.
    #[must_use]
    pub fn at(at: Instant) -> Deadline {
        Deadline(clock::time_of(at).max(1))
    }

    /// How long until the deadline: `None` for [`Deadline::NEVER`], zero once it has passed.
    #[must_use]
    #[inline]
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Deadline::NOW => Some(Duration::ZERO),
            Deadline::NEVER => None,
            Deadline(at) => Some(Duration::from_nanos(at.saturating_sub(clock::now()))),
        }
    }

    /// Whether the deadline has passed.
    #[must_use]
    #[inline]
    pub fn has_passed(self) -> bool {
        match self {
            Deadline::NOW => true,
            Deadline::NEVER => false,
            deadline => deadline.has_passed_since(clock::recently()),
        }
    }

    /// As [`has_passed`](Self::has_passed), for who knows [when the last tick was](clock::recently).
    #[inline]
    pub(crate) fn has_passed_since(self, recently: u64) -> bool {
        // Most deadlines are far away.
        self.0 <= recently + TICK && self.0 <= clock::now()
    }

    /// As [`has_passed`](Self::has_passed), for who knows [what time it is](clock::now).
    #[cfg(any(feature = "tokio", feature = "typed"))]
    pub(crate) fn has_passed_at(self, now: u64) -> bool {
        self.0 <= now
    }

    /// Whether this is [`Deadline::NEVER`].
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == Deadline::NEVER.0
    }

    /// The point in time, where there is one: neither for [`Deadline::NOW`] nor for [`Deadline::NEVER`].
    #[must_use]
    #[inline]
    pub fn instant(self) -> Option<Instant> {
        match self {
            Deadline::NOW | Deadline::NEVER => None,
            Deadline(at) => clock::instant_of(at),
        }
    }

    /// Whether this is a point in time, and so neither [`Deadline::NOW`] nor [`Deadline::NEVER`].
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        !matches!(self, Deadline::NOW | Deadline::NEVER)
    }

    /// Takes a lock by the deadline.
    #[inline]
    pub(crate) fn lock<T>(self, mutex: &Mutex<T>) -> io::Result<MutexGuard<'_, T>> {
        // The lock is free nearly always: try it before asking what time it is.
        let guard = mutex.try_lock().or_else(|| match self.instant() {
            Some(at) => mutex.try_lock_until(at),
            None if self == Deadline::NEVER => Some(mutex.lock()),
            None => None,
        });
        guard.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remaining() {
            None => f.write_str("Deadline::NEVER"),
            Some(Duration::ZERO) => f.write_str("Deadline(passed)"),
            Some(left) => write!(f, "Deadline(in {left:?})"),
        }
    }
}

/// The same as [`Deadline::after`].
impl From<Duration> for Deadline {
    fn from(timeout: Duration) -> Self {
        Deadline::after(timeout)
    }
}

/// The same as [`Deadline::at`].
impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Deadline::at(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_too_large_is_never() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        assert_eq!(
            Deadline::after(Duration::from_secs(u64::MAX)),
            Deadline::NEVER
        );
        assert_eq!(Deadline::NEVER.remaining(), None);
        assert!(!Deadline::NEVER.has_passed());
    }

    #[test]
    fn a_timeout_of_zero_has_passed() {
        assert_eq!(Deadline::after(Duration::ZERO), Deadline::NOW);
        assert!(Deadline::NOW.has_passed());
        assert!(Deadline::at(Instant::now()).has_passed());
    }

    #[test]
    fn earlier_is_less() {
        let soon = Deadline::after(Duration::from_secs(1));
        let later = Deadline::after(Duration::from_secs(2));
        assert!(Deadline::NOW < soon && soon < later && later < Deadline::NEVER);
        assert_eq!(soon.min(Deadline::NEVER), soon);
    }

    #[test]
    fn a_far_deadline_is_a_tick_inexact_and_a_near_one_is_not() {
        for timeout in [FAR, FAR * 30, FAR * 1_000_000] {
            let before = clock::now();
            let Deadline(at) = Deadline::about(timeout);
            let span = clock::nanoseconds(timeout);
            assert!(at >= before + span && at <= clock::now() + span + TICK);
        }
        for timeout in [Duration::from_nanos(1), FAR - Duration::from_nanos(1)] {
            let before = clock::now();
            let Deadline(at) = Deadline::about(timeout);
            let span = clock::nanoseconds(timeout);
            assert!(at >= before + span && at <= clock::now() + span);
        }
        assert_eq!(Deadline::about(Duration::ZERO), Deadline::NOW);
        assert_eq!(Deadline::about(Duration::MAX), Deadline::NEVER);
    }

    #[test]
    fn a_point_in_time_stays_what_it_is() {
        let now = Instant::now();
        for at in [now, now + FAR, now + FAR * 1_000_000] {
            assert_eq!(Deadline::at(at).instant(), Some(at));
        }
        assert_eq!(Deadline::NOW.instant(), None);
        assert_eq!(Deadline::NEVER.instant(), None);
        assert!(Deadline::at(now) < Deadline::at(now + FAR));
    }

    #[test]
    fn a_lock_is_waited_for_until_the_deadline_and_no_longer() {
        let mutex = Mutex::new(());
        let held = mutex.lock();
        for deadline in [Deadline::NOW, Deadline::after(Duration::from_millis(5))] {
            let error = deadline.lock(&mutex).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(deadline.has_passed());
        }
        drop(held);
        assert!(Deadline::NOW.lock(&mutex).is_ok());
    }
}
