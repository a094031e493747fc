//! Memory that a thread lends to whichever connection is at work on it, so that a connection that waits keeps none.

use std::cell::Cell;

/// How much is received at once when it is not known yet what is coming, and how many bytes of small messages are sent
/// at once.
pub(super) const SIZE: usize = 16 << 10;

/// More than this a thread does not keep.
const KEPT: usize = 4 * SIZE;

thread_local! {
    /// What a read goes to. Its bytes are always there to be written over.
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What has been read ahead, for two connections that are in the middle of it, as both ends of one may be.
    static AHEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static AHEAD_TOO: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Small messages with their lengths, one behind the other.
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

type Slot = std::thread::LocalKey<Cell<Vec<u8>>>;

/// Borrowed from the thread, which may have none any more while it ends.
fn borrow(slot: &'static Slot) -> Vec<u8> {
    slot.try_with(Cell::take).unwrap_or_default()
}

fn give_back(slot: &'static Slot, vector: Vec<u8>) {
    if vector.capacity() <= KEPT {
        let _ = slot.try_with(|slot| {
            // Of two, the larger is worth more.
            let other = slot.take();
            slot.set(if other.capacity() > vector.capacity() {
                other
            } else {
                vector
            });
        });
    }
}

/// Room for a read: [`SIZE`] bytes.
pub(super) fn with_read<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = borrow(&READ);
    buffer.resize(SIZE, 0);
    let result = use_it(&mut buffer);
    give_back(&READ, buffer);
    result
}

/// An empty vector with room for [`SIZE`] bytes.
pub(super) fn with_write<R>(use_it: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = borrow(&WRITE);
    buffer.clear();
    buffer.reserve(SIZE);
    let result = use_it(&mut buffer);
    give_back(&WRITE, buffer);
    result
}

/// An empty vector for what is read ahead.
pub(super) fn borrow_ahead() -> Vec<u8> {
    let vector = borrow(&AHEAD);
    match vector.capacity() {
        0 => borrow(&AHEAD_TOO),
        _ => vector,
    }
}

pub(super) fn give_back_ahead(vector: Vec<u8>) {
    let first = borrow(&AHEAD);
    match first.capacity() {
        0 => give_back(&AHEAD, vector),
        _ => {
            give_back(&AHEAD, first);
            give_back(&AHEAD_TOO, vector);
        }
    }
}
