//! The requests that a server has not answered, by the ids that their client has chosen.

use std::collections::BTreeMap;

use crate::proto::credit::Credit;

/// Up to so many are looked through one by one, as most clients never have more.
const FEW: usize = 64;

/// The ids, each with what the stream may still send, if it is one.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Unanswered {
    few: Vec<(u32, Option<Credit>)>,
    /// Those beyond that.
    others: BTreeMap<u32, Option<Credit>>,
}

impl Unanswered {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.few.len() + self.others.len()
    }

    #[inline]
    fn place(&self, id: u32) -> Option<usize> {
        self.few.iter().position(|(other, _)| *other == id)
    }

    #[inline]
    pub(super) fn has(&self, id: u32) -> bool {
        self.get(id).is_some()
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<Option<Credit>> {
        match self.place(id) {
            Some(place) => Some(self.few[place].1),
            None if self.others.is_empty() => None,
            None => self.others.get(&id).copied(),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Option<Credit>> {
        match self.place(id) {
            Some(place) => Some(&mut self.few[place].1),
            None => self.others.get_mut(&id),
        }
    }

    /// Adds one whose id is in no other's use.
    #[inline]
    pub(super) fn add(&mut self, id: u32, credit: Option<Credit>) {
        match self.few.len() < FEW {
            true => self.few.push((id, credit)),
            false => drop(self.others.insert(id, credit)),
        }
    }

    /// Whether it was there.
    #[inline]
    pub(super) fn remove(&mut self, id: u32) -> bool {
        match self.place(id) {
            Some(place) => {
                self.few.swap_remove(place);
                true
            }
            None => self.others.remove(&id).is_some(),
        }
    }
}
