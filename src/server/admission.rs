//! Who may queue an item next, where the streams of a connection have queued as much as there is room for: those that
//! have waited longest, in their order. Otherwise the few that are running when there is room again would have all of it,
//! for ever.
//!
//! Room that has come about is promised to who is first in the line and woken with that: nobody else has it meanwhile.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The serial numbers of streams that wait, and how much they want.
    line: VecDeque<(u64, usize)>,
    /// How much has been promised to those that have been woken.
    promised: usize,
}

/// What a stream waits for of the room that all have together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    #[default]
    Nothing,
    InLine,
    /// It has been woken to have so much.
    Promised(usize),
}

impl Admission {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub(super) fn first(&self) -> Option<(u64, usize)> {
        self.line.front().copied()
    }

    pub(super) fn promised(&self) -> usize {
        self.promised
    }

    pub(super) fn join(&mut self, serial: u64, bytes: usize) {
        self.line.push_back((serial, bytes));
    }

    pub(super) fn join_first(&mut self, serial: u64, bytes: usize) {
        self.line.push_front((serial, bytes));
    }

    pub(super) fn leave(&mut self, serial: u64) {
        self.line.retain(|(waiting, _)| *waiting != serial);
    }

    /// Promises so much to the first, which leaves the line.
    pub(super) fn promise(&mut self, bytes: usize) {
        self.line.pop_front();
        self.promised += bytes;
    }

    /// That is kept, or is not wanted any more.
    pub(super) fn take_back(&mut self, bytes: usize) {
        self.promised -= bytes;
    }
}
