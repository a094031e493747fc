//! A condition variable on which tasks can wait beside threads.

use std::time::Instant;

use ::tokio::sync::Notify;
use ::tokio::sync::futures::Notified;
use parking_lot::{Condvar, MutexGuard, WaitTimeoutResult};

#[derive(Debug, Default)]
pub(crate) struct Signal {
    threads: Condvar,
    tasks: Notify,
}

impl Signal {
    pub(crate) fn new() -> Signal {
        Signal::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.threads.wait(guard);
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Instant,
    ) -> WaitTimeoutResult {
        self.threads.wait_until(guard, until)
    }

    /// What a task waits for: any signal that is given from now on. It is asked for under the lock, where the state is
    /// not what it should be, so that no signal falls in between.
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.tasks.notified()
    }

    pub(crate) fn notify_all(&self) {
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }
}
