//! What `turn.rs` waits with; `tests/proto/model/` has other primitives in its place.

pub(super) use std::thread::{Thread, current};

pub(super) use parking_lot::{Mutex, MutexGuard};

pub(super) use crate::Deadline;

/// Waits to be unparked, until the deadline. False, without waiting, if it has passed.
pub(super) fn park(deadline: Deadline) -> bool {
    match deadline.remaining() {
        None => std::thread::park(),
        Some(left) if left.is_zero() => return false,
        Some(left) => std::thread::park_timeout(left),
    }
    true
}

/// A deadline that passes soon.
pub(super) fn briefly(deadline: Deadline) -> Deadline {
    deadline.min(Deadline::after(std::time::Duration::from_millis(50)))
}
