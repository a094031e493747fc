//! Buffers that are kept for what comes next: small ones for nothing, and large ones out of a budget of the server's, so
//! that idle connections do not keep what each was large for once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::buffer::Buffer;
use crate::codec::outgoing::Outgoing;

/// How large a buffer may be that is kept for nothing.
pub(crate) const FREE: usize = 8 << 10;

/// How much all connections of a server keep together of larger ones.
const MOST: usize = 16 << 20;

/// How many buffers of a kind a connection keeps.
const BUFFERS: usize = 2;

/// How many bytes of large buffers are kept.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicUsize);

impl Kept {
    /// Keeps so many bytes more, if that is not too much.
    pub(super) fn keep(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let share = Share {
            kept: Arc::clone(self),
            bytes,
        };
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        (before.saturating_add(bytes) <= MOST).then_some(share)
    }
}

/// Bytes that are kept. Dropping it gives them up.
#[derive(Debug)]
pub(super) struct Share {
    kept: Arc<Kept>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.kept.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What can be kept.
pub(super) trait Keep: Default {
    /// How much memory that takes; none if it would be of no use, as somebody else still has it.
    fn size(&mut self) -> Option<usize>;
}

impl Keep for Buffer {
    fn size(&mut self) -> Option<usize> {
        Arc::get_mut(self).map(|buffer| buffer.capacity())
    }
}

impl Keep for Outgoing {
    #[inline]
    fn size(&mut self) -> Option<usize> {
        let bytes = self.capacity();
        (bytes > 0).then_some(bytes)
    }
}

/// Those of one kind that a connection keeps.
pub(super) struct Spare<T> {
    kept: Arc<Kept>,
    small: Vec<T>,
    large: Vec<(T, Share)>,
}

impl<T: Keep> Spare<T> {
    pub(super) fn new(kept: &Arc<Kept>) -> Spare<T> {
        Spare {
            kept: Arc::clone(kept),
            small: Vec::new(),
            large: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn take(&mut self) -> T {
        if self.large.is_empty() {
            return self.small.pop().unwrap_or_default();
        }
        self.take_large()
    }

    #[cold]
    fn take_large(&mut self) -> T {
        let large = self.large.pop();
        large.map(|(buffer, _)| buffer).unwrap_or_default()
    }

    #[inline]
    pub(super) fn keep(&mut self, mut buffer: T) {
        match buffer.size() {
            Some(bytes) if bytes > FREE => self.keep_large(buffer, bytes),
            Some(_) if self.small.len() < BUFFERS => self.small.push(buffer),
            _ => {}
        }
    }

    #[cold]
    fn keep_large(&mut self, buffer: T, bytes: usize) {
        if self.large.len() < BUFFERS {
            let share = self.kept.keep(bytes);
            self.large.extend(share.map(|share| (buffer, share)));
        }
    }

    pub(super) fn clear(&mut self) {
        (self.small, self.large) = (Vec::new(), Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_are_kept_and_large_ones_within_the_budget() {
        let kept = Arc::new(Kept::default());
        let mut spare: Vec<Spare<Buffer>> = (0..40).map(|_| Spare::new(&kept)).collect();
        let buffer = |size: usize| Buffer::new(Vec::with_capacity(size));
        for spare in &mut spare {
            spare.keep(buffer(FREE));
            spare.keep(buffer(1 << 20));
            spare.keep(buffer(1));
        }
        assert!(spare.iter().all(|spare| spare.small.len() == 2));
        let bytes = kept.0.load(Ordering::Relaxed);
        assert!(bytes <= MOST && bytes > MOST - (2 << 20), "{bytes}");
        for spare in &mut spare {
            spare.take();
        }
        spare.iter_mut().for_each(Spare::clear);
        assert_eq!(kept.0.load(Ordering::Relaxed), 0);
        // One that somebody else has is of no use.
        let mut spare: Spare<Buffer> = Spare::new(&kept);
        let shared = buffer(1);
        spare.keep(Arc::clone(&shared));
        assert!(spare.small.is_empty());
    }
}
