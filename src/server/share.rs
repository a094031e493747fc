//! What one connection has under way elsewhere than on its own thread: with the pool, or on threads for its streams.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::connection::Connection;
use crate::Deadline;
use crate::base::caught::drop_caught;

/// How much it is.
#[derive(Debug, Default)]
pub(super) struct Share {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Share {
    /// Counts another one.
    pub(super) fn add(&self) {
        *self.count.lock() += 1;
    }

    /// Counts another one, once there are fewer than the limit.
    pub(super) fn add_below(&self, limit: usize) {
        let mut count = self.count.lock();
        self.fewer.wait_while(&mut count, |count| *count >= limit);
        *count += 1;
    }

    /// Counts another one, if there are fewer than the limit by the deadline. How many there were.
    pub(super) fn add_by(&self, limit: usize, deadline: Deadline) -> Option<usize> {
        let mut count = self.count.lock();
        while *count >= limit {
            match deadline.instant() {
                Some(at) if !deadline.has_passed() => {
                    self.fewer.wait_until(&mut count, at);
                }
                _ => return None,
            }
        }
        *count += 1;
        Some(*count - 1)
    }

    fn done(&self) {
        *self.count.lock() -= 1;
        self.fewer.notify_all();
    }

    pub(super) fn wait_until_none(&self) {
        let mut count = self.count.lock();
        self.fewer.wait_while(&mut count, |count| *count > 0);
    }
}

/// What keeps a connection for what is counted already. It is let go before that counts no more: so that nothing of a
/// server is left behind that has waited for it.
pub(super) struct Hold {
    connection: Option<Arc<Connection>>,
    share: Arc<Share>,
}

impl Hold {
    pub(super) fn new(connection: impl Into<Option<Arc<Connection>>>, share: &Arc<Share>) -> Hold {
        Hold {
            connection: connection.into(),
            share: Arc::clone(share),
        }
    }

    /// The connection, until this is dropped.
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        self.connection.as_ref()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop_caught(self.connection.take());
        self.share.done();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
