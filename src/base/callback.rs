//! Sends that call back while they wait: which threads are within such a call.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use parking_lot::{Mutex, MutexGuard};

use crate::{Deadline, Error};

/// The threads that are called back by the sends of one end of a stream.
///
/// What they call on that end finds itself here, instead of waiting for the send that waits for them.
#[derive(Debug, Default)]
pub(crate) struct Callbacks {
    /// How many there are: nearly always none, which is all that a send needs to know.
    count: AtomicUsize,
    threads: Mutex<Vec<ThreadId>>,
}

impl Callbacks {
    /// Calls back, on this thread.
    pub(crate) fn run<R>(&self, call: impl FnOnce() -> R) -> R {
        let here = thread::current().id();
        self.threads.lock().push(here);
        self.count.fetch_add(1, Ordering::Relaxed);
        let _end = End {
            callbacks: self,
            here,
        };
        call()
    }

    /// Whether this thread is within a callback.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        // A thread sees what it has written itself.
        self.count.load(Ordering::Relaxed) > 0 && self.has_this_thread()
    }

    #[cold]
    fn has_this_thread(&self) -> bool {
        self.threads.lock().contains(&thread::current().id())
    }

    /// Refuses a send from within a callback: a message cannot begin in the middle of another.
    #[inline]
    pub(crate) fn check_not_here(&self) -> io::Result<()> {
        if self.is_here() {
            return Err(Error::Busy.into());
        }
        Ok(())
    }

    /// Locks what a send holds while it calls back: at once, or by the deadline, but not from within the callback.
    #[inline]
    pub(crate) fn lock<'a, T>(
        &self,
        sending: &'a Mutex<T>,
        deadline: Deadline,
    ) -> io::Result<MutexGuard<'a, T>> {
        match sending.try_lock() {
            Some(guard) => Ok(guard),
            None => self.lock_contended(sending, deadline),
        }
    }

    #[cold]
    fn lock_contended<'a, T>(
        &self,
        sending: &'a Mutex<T>,
        deadline: Deadline,
    ) -> io::Result<MutexGuard<'a, T>> {
        self.check_not_here()?;
        deadline.lock(sending)
    }
}

/// Ends a callback, be it by a panic.
struct End<'a> {
    callbacks: &'a Callbacks,
    here: ThreadId,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut threads = self.callbacks.threads.lock();
        if let Some(place) = threads.iter().rposition(|thread| *thread == self.here) {
            threads.swap_remove(place);
        }
        drop(threads);
        self.callbacks.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_is_called_back_is_refused() {
        let callbacks = Callbacks::default();
        let sending = Mutex::new(());
        let guard = callbacks.lock(&sending, Deadline::NOW).unwrap();
        callbacks.run(|| {
            assert!(callbacks.is_here());
            let refused = callbacks.lock(&sending, Deadline::NEVER).unwrap_err();
            assert_eq!(Error::of(&refused), Some(&Error::Busy));
            thread::scope(|scope| {
                let other = scope.spawn(|| {
                    assert!(!callbacks.is_here());
                    callbacks.lock(&sending, Deadline::NOW).unwrap_err().kind()
                });
                assert_eq!(other.join().unwrap(), io::ErrorKind::TimedOut);
            });
        });
        assert!(!callbacks.is_here());
        let panics = std::panic::AssertUnwindSafe(|| callbacks.run(|| panic!("as asked")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(!callbacks.is_here());
        drop(guard);
        assert!(callbacks.lock(&sending, Deadline::NOW).is_ok());
    }
}
