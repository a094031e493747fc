//! The lock of a connection in memory, and whom it wakes.

use std::io;
use std::mem;
use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

use super::instance::Instance;
use super::queue::Queue;
use crate::base::signal::{Signal, wait};
use crate::{Deadline, Error};

#[derive(Default)]
pub(crate) struct End {
    /// What whoever uses this end from now on is told.
    pub(super) closed: Option<Error>,
    /// What the other end has sent.
    pub(super) inbox: Queue,
    /// Whether the next message in the inbox is for a transaction, and for no other receiver.
    pub(super) transacting: bool,
    /// An accepted stream is an instance of its listener until it is closed.
    pub(super) instance: Option<Instance>,
}

/// Who waits at an end: its receivers for a message, and its senders for room at the other end. Each wakes for
/// the end of the connection, too.
#[derive(Default)]
pub(crate) struct Signals {
    pub(crate) arrived: Signal,
    pub(crate) room: Signal,
}

/// The two ends of a connection, locked. Those who wait are woken when the lock has been let go of: the waker of a task
/// may be anybody's code, and use the connection.
pub(crate) struct Ends<'a> {
    // Dropped in this order.
    ends: MutexGuard<'a, [End; 2]>,
    woken: Woken<'a>,
}

/// Who is to be woken, at which end.
struct Woken<'a> {
    signals: &'a [Signals; 2],
    arrived: [bool; 2],
    room: [bool; 2],
}

impl<'a> Ends<'a> {
    pub(super) fn lock(ends: &'a Mutex<[End; 2]>, signals: &'a [Signals; 2]) -> Ends<'a> {
        Ends {
            ends: ends.lock(),
            woken: Woken {
                signals,
                arrived: [false; 2],
                room: [false; 2],
            },
        }
    }

    /// Something has arrived at an end.
    pub(super) fn has_arrived(&mut self, end: usize) {
        self.woken.arrived[end] = true;
    }

    /// There may be room for what an end sends.
    pub(super) fn has_room(&mut self, end: usize) {
        self.woken.room[end] = true;
    }

    /// Lets go of the lock until somebody signals, or to wake those who wait.
    pub(super) fn wait(&mut self, signal: &Signal, deadline: Deadline) -> io::Result<()> {
        let Woken { arrived, room, .. } = &self.woken;
        if arrived.iter().chain(room).any(|woken| *woken) {
            self.unlocked(|| ());
            return Ok(());
        }
        wait(signal, &mut self.ends, deadline)
    }

    /// Does something without the lock.
    pub(super) fn unlocked<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let Ends { ends, woken } = self;
        MutexGuard::unlocked(ends, || {
            woken.wake();
            act()
        })
    }
}

impl Deref for Ends<'_> {
    type Target = [End; 2];

    fn deref(&self) -> &[End; 2] {
        &self.ends
    }
}

impl DerefMut for Ends<'_> {
    fn deref_mut(&mut self) -> &mut [End; 2] {
        &mut self.ends
    }
}

impl Woken<'_> {
    fn wake(&mut self) {
        for (end, signals) in self.signals.iter().enumerate() {
            if mem::take(&mut self.arrived[end]) {
                signals.arrived.notify_all();
            }
            if mem::take(&mut self.room[end]) {
                signals.room.notify_all();
            }
        }
    }
}

impl Drop for Woken<'_> {
    fn drop(&mut self) {
        self.wake();
    }
}
