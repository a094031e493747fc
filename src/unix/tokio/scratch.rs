//! Memory that a thread lends to whichever connection is at work on it, so that a connection that waits keeps none.

use crate::base::pool::{Pool, borrow, give_back};

/// How much is received at once when it is not known yet what is coming, and how many bytes of small messages are sent
/// at once.
pub(super) const SIZE: usize = 16 << 10;

/// More than this a thread does not keep.
const KEPT: usize = 4 * SIZE;

thread_local! {
    /// What a read goes to. Its bytes are always there to be written over.
    static READ: Pool<u8, 1> = const { Pool::new(KEPT) };
    /// What has been read ahead, for two connections that are in the middle of it, as both ends of one may be.
    static AHEAD: Pool<u8, 2> = const { Pool::new(KEPT) };
    /// Small messages with their lengths, one behind the other.
    static WRITE: Pool<u8, 1> = const { Pool::new(KEPT) };
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

/// A vector for what is read ahead.
pub(super) fn borrow_ahead() -> Vec<u8> {
    borrow(&AHEAD)
}

pub(super) fn give_back_ahead(vector: Vec<u8>) {
    give_back(&AHEAD, vector);
}
