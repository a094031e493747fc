//! What idle connections may keep of memory.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How much memory all connections of a server together keep for their next messages, beyond a little each.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicUsize);

/// What one connection keeps without asking, in bytes.
const FREE: usize = 1 << 10;

/// What all of them keep together beyond that.
const TOTAL: usize = 16 << 20;

impl Kept {
    /// Sees to it that `held`, which is somebody's share, covers so many bytes. If they are too many, it is given up
    /// and the answer is no.
    pub(super) fn keep(&self, held: &mut usize, bytes: usize) -> bool {
        let needed = if bytes <= FREE { 0 } else { bytes };
        if needed > *held {
            let more = needed - *held;
            if self.0.fetch_add(more, Ordering::Relaxed) + more > TOTAL {
                self.0.fetch_sub(more + *held, Ordering::Relaxed);
                *held = 0;
                return false;
            }
            *held = needed;
        } else if needed < *held {
            self.0.fetch_sub(*held - needed, Ordering::Relaxed);
            *held = needed;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_free_and_much_is_shared() {
        let kept = Kept::default();
        let (mut one, mut other) = (0, 0);
        assert!(kept.keep(&mut one, FREE));
        assert_eq!(one, 0);
        assert!(kept.keep(&mut one, TOTAL));
        assert!(!kept.keep(&mut other, FREE + 1));
        assert!(kept.keep(&mut other, FREE));
        assert!(kept.keep(&mut one, TOTAL - 4096));
        assert!(kept.keep(&mut other, 4096));
        assert!(!kept.keep(&mut other, 4097));
        assert_eq!(other, 0);
        assert!(kept.keep(&mut one, TOTAL));
        assert!(kept.keep(&mut one, 0));
        assert_eq!(kept.0.load(Ordering::Relaxed), 0);
    }
}
