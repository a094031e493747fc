//! [`Room`]: the calls that wait for room.

use std::collections::BTreeMap;

use super::slot::Ticket;
use crate::Deadline;

/// The calls that wait for room.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Room {
    /// Those that have not been offered any, in their order.
    pub(super) queue: BTreeMap<u64, Ticket>,
    pub(super) next_in_order: u64,
    /// How many have been offered some in this round, and have not looked yet.
    pub(super) offers: usize,
    pub(super) round: u64,
    /// How many more offers than there is room for, because of those that did not look.
    pub(super) beyond: usize,
    /// When the offers are passed on; at once: the time is to be told.
    pub(super) until: Deadline,
    /// Offers were made since that was set.
    pub(super) renewed: bool,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            queue: BTreeMap::new(),
            next_in_order: 0,
            offers: 0,
            round: 0,
            beyond: 0,
            until: Deadline::NEVER,
            renewed: false,
        }
    }
}

impl Room {
    #[inline]
    pub(super) fn is_waited_for(&self) -> bool {
        !self.queue.is_empty()
    }
}
