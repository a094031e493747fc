//! What the threads of a connection wait with. With `--cfg pipetalk_loom`, `model/sync.rs` has other primitives in its
//! place.

pub(super) use std::thread::{Thread, current};
use std::time::Duration;

pub(super) use parking_lot::{Mutex, MutexGuard};

use crate::Deadline;
pub(super) use crate::transport::unless_it_panics;

/// Waits to be unparked, until the deadline. False, without waiting, if it has passed.
pub(super) fn park(deadline: Deadline) -> bool {
    match deadline.remaining() {
        None => std::thread::park(),
        Some(left) if left.is_zero() => return false,
        Some(left) => std::thread::park_timeout(left),
    }
    true
}

#[inline]
pub(super) fn has_passed(deadline: Deadline) -> bool {
    deadline.has_passed()
}

/// The deadline, or so long from now, if that is earlier.
pub(super) fn within(time: Duration, deadline: Deadline) -> Deadline {
    deadline.min(Deadline::after(time))
}

/// How long a thread receives that is not told of all that it waits for.
pub(super) fn briefly(deadline: Deadline) -> Deadline {
    within(Duration::from_millis(50), deadline)
}

/// How long sending may take of what is no caller's, by a thread that has something else to do until a deadline.
pub(super) fn soon(deadline: Deadline) -> Deadline {
    within(Duration::from_millis(20), deadline)
}

/// How long a thread that waits for something else tries to send what is due, and how long it waits before it tries
/// again.
pub(super) const ATTEMPT: Duration = Duration::from_millis(1);
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(20);
