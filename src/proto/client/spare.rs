//! Buffers that are kept for the next message.

use std::fmt;
use std::sync::Arc;

use crate::codec::outgoing::Outgoing;

/// Things that are kept for the next use, up to so many bytes.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Spare<T> {
    kept: Vec<T>,
    bytes: usize,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare {
            kept: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T: Memory> Spare<T> {
    #[inline]
    fn take(&mut self) -> Option<T> {
        let spare = self.kept.pop()?;
        self.bytes -= spare.memory();
        Some(spare)
    }

    #[inline]
    fn keep(&mut self, spare: T) {
        const BYTES: usize = 4 << 20;
        const NUMBER: usize = 1024;
        let bytes = self.bytes + spare.memory();
        if bytes <= BYTES && self.kept.len() < NUMBER {
            self.kept.push(spare);
            self.bytes = bytes;
        }
    }
}

/// How much memory something keeps, in bytes.
pub(super) trait Memory {
    fn memory(&self) -> usize;
}

impl Memory for Outgoing {
    #[inline]
    fn memory(&self) -> usize {
        self.capacity()
    }
}

impl Memory for Arc<Vec<u8>> {
    #[inline]
    fn memory(&self) -> usize {
        self.capacity()
    }
}

impl Spare<Outgoing> {
    #[inline]
    pub(super) fn blank(&mut self) -> Outgoing {
        self.take().unwrap_or_default()
    }

    #[inline]
    pub(super) fn keep_out(&mut self, mut out: Outgoing) {
        out.clear();
        self.keep(out);
    }

    /// The same of one that is empty already.
    #[inline]
    pub(super) fn keep_empty(&mut self, out: Outgoing) {
        self.keep(out);
    }
}

/// Buffers to receive into: also those that a [`Blob`](crate::Blob) still has, which most callers let go of before they
/// call again.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Buffers {
    spare: Spare<Arc<Vec<u8>>>,
    shared: Vec<Arc<Vec<u8>>>,
}

/// So many buffers are kept that others have, each of no more than so many bytes.
const SHARED: usize = 4;
const LARGE: usize = 4 << 20;

impl Buffers {
    /// A buffer that has no other owner.
    #[inline]
    pub(super) fn take(&mut self) -> Arc<Vec<u8>> {
        let spare = self.spare.take().or_else(|| {
            let free = |buffer: &Arc<Vec<u8>>| Arc::strong_count(buffer) == 1;
            let place = self.shared.iter().rposition(free)?;
            Some(self.shared.swap_remove(place))
        });
        spare.unwrap_or_default()
    }

    #[inline]
    pub(super) fn keep(&mut self, buffer: Arc<Vec<u8>>) {
        if Arc::strong_count(&buffer) == 1 {
            self.spare.keep(buffer);
        } else if buffer.capacity() <= LARGE {
            if self.shared.len() == SHARED {
                self.shared.remove(0);
            }
            self.shared.push(buffer);
        }
    }
}

/// What is kept is no part of the state.
impl<T> fmt::Debug for Spare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}
