//! What wakes those who wait for a state that is behind a lock: threads, and with feature `tokio` tasks as well.

use std::io;

use parking_lot::MutexGuard;

use crate::Deadline;

cfg_if::cfg_if! {
    if #[cfg(feature = "tokio")] {
        mod tasks;
        pub(crate) use tasks::Signal;
    } else {
        pub(crate) use parking_lot::Condvar as Signal;
    }
}

/// Lets go of the lock until somebody signals.
pub(crate) fn wait<T>(
    signal: &Signal,
    guard: &mut MutexGuard<'_, T>,
    deadline: Deadline,
) -> io::Result<()> {
    if deadline.has_passed() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match deadline.instant() {
        Some(at) => {
            signal.wait_until(guard, at);
        }
        None => signal.wait(guard),
    }
    Ok(())
}
