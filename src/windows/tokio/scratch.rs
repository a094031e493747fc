//! Memory for messages on their way out, which a thread lends to whichever stream sends, so that one that waits keeps
//! none.

use std::cell::Cell;

/// More than this a thread does not keep.
const KEPT: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A vector for a message of that size, with anything in it. The thread may have none, while it ends for example.
pub(super) fn borrow(size: usize) -> Vec<u8> {
    if size > KEPT {
        return Vec::new();
    }
    BUFFER.try_with(Cell::take).unwrap_or_default()
}

/// Gives one back, perhaps to another thread: the operation may have ended there.
pub(super) fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() > KEPT {
        return;
    }
    let _ = BUFFER.try_with(|kept| {
        // Of two, the larger is worth more.
        let other = kept.take();
        kept.set(if other.capacity() > buffer.capacity() {
            other
        } else {
            buffer
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_and_a_large_one_is_not_kept() {
        give_back(Vec::with_capacity(1_000));
        give_back(Vec::with_capacity(10));
        give_back(Vec::with_capacity(KEPT + 1));
        assert_eq!(borrow(KEPT + 1).capacity(), 0);
        let buffer = borrow(2_000);
        assert_eq!(buffer.capacity(), 1_000);
        assert_eq!(borrow(10).capacity(), 0);
        give_back(buffer);
        assert_eq!(borrow(10).capacity(), 1_000);
    }
}
