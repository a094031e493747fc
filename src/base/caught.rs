//! Code that is not ours, and may panic: handlers, rules, filters, transports, and the destructors of all these.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};

/// Code that is not ours has panicked. What it panicked with is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs code that is not ours. What a panic leaves half-done is that code's own affair, as it is with any thread that
/// panics.
#[inline]
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(discard)
}

/// Drops something whose destructor may panic.
pub(crate) fn drop_caught<T>(value: T) {
    // A panic has had its say: its message is on standard error.
    let _ = caught(|| drop(value));
}

/// Drops what a panic was raised with. That may be any value, with a destructor that panics as well; what this one
/// panics with is never dropped, as it may be another of the kind.
#[cold]
pub(crate) fn discard(payload: Box<dyn Any + Send>) -> Panicked {
    if let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(another);
    }
    Panicked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped, with another of its kind, so many times.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 && !std::thread::panicking() {
                panic::resume_unwind(Box::new(Bomb(self.0 - 1)));
            }
        }
    }

    #[test]
    fn what_a_panic_is_raised_with_may_panic_as_well() {
        for times in 0..4 {
            let run = || panic::resume_unwind(Box::new(Bomb(times)));
            assert_eq!(caught(run), Err::<(), _>(Panicked));
            drop_caught(Bomb(times));
        }
        assert_eq!(caught(|| 7), Ok(7));
    }
}
