//! What one connection is still to be sent, and whether there is room for more.

use std::sync::Arc;

use super::budget::{Budget, QUEUED, SMALL};

/// What one connection is still to be sent, in bytes.
#[derive(Debug)]
pub(crate) struct Unsent {
    budget: Arc<Budget>,
    bytes: usize,
    /// What of it is the server's.
    charged: usize,
}

impl Unsent {
    pub(crate) fn new(budget: Arc<Budget>) -> Unsent {
        Unsent {
            budget,
            bytes: 0,
            charged: 0,
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes > SMALL {
            self.charge();
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.charged > 0 {
            self.charge();
        }
    }

    #[cold]
    fn charge(&mut self) {
        let charge = self.bytes.saturating_sub(SMALL);
        let budget = &self.budget;
        if charge > self.charged {
            budget.add_unsent(charge - self.charged);
        } else {
            let less = self.charged - charge;
            budget.remove_unsent(less);
        }
        self.charged = charge;
    }

    /// Whether the client may be asked for more, which it may have to read as well.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.bytes <= SMALL || (self.bytes <= QUEUED && !self.budget.is_short())
    }

    /// Whether there is room for another item, beside what has been promised to others.
    pub(crate) fn room_for(&self, promised: usize, bytes: usize) -> Room {
        let before = self.bytes.saturating_add(promised);
        if self.is_small_with(bytes) {
            Room::Here
        } else if before > 0 && before.saturating_add(bytes) > QUEUED {
            Room::Later
        } else if self.budget.is_short() {
            match self.bytes > 0 {
                true => Room::Later,
                false => Room::Elsewhere,
            }
        } else {
            Room::Here
        }
    }

    /// Whether with so much more it still counts for nothing.
    pub(crate) fn is_small_with(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= SMALL
    }

    /// Whether so much has been sent that there is room again where there was none.
    #[inline]
    pub(crate) fn is_relieved(&self) -> bool {
        self.bytes <= QUEUED / 2
    }

    /// Whether more is to be sent than counts for nothing.
    #[cfg(any(feature = "tokio", test))]
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.charged > 0
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing will be sent any more.
    pub(crate) fn clear(&mut self) {
        self.remove(self.bytes);
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether there is room for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Here,
    /// Once more of what is queued here has been sent.
    Later,
    /// Once others have less to send.
    Elsewhere,
}
