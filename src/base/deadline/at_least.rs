//! How long until a deadline at least, for waits that begin again.

use std::time::Duration;

use super::{Deadline, FAR, TICK};
use crate::base::clock;

impl Deadline {
    /// As [`remaining`](Self::remaining), or somewhat less if the deadline is far away: for who does not wait that long
    /// in one go.
    #[inline]
    pub(crate) fn remaining_at_least(self) -> Option<Duration> {
        if !self.is_timed() {
            return self.remaining();
        }
        let left = Duration::from_nanos(self.0.saturating_sub(clock::recently() + TICK));
        match left >= FAR {
            true => Some(left),
            false => self.remaining(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_at_least_is_no_more_than_what_remains() {
        for timeout in [FAR / 2, FAR, FAR * 30, FAR * 1_000_000] {
            let deadline = Deadline::after(timeout);
            let before = deadline.remaining().unwrap();
            let at_least = deadline.remaining_at_least().unwrap();
            assert!(at_least <= before, "{timeout:?}: {at_least:?}");
        }
        assert_eq!(Deadline::NEVER.remaining_at_least(), None);
        assert_eq!(Deadline::NOW.remaining_at_least(), Some(Duration::ZERO));
    }
}
