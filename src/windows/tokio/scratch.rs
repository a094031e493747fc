//! Memory for messages on their way out, which a thread lends to whichever stream sends, so that one that waits keeps
//! none.

use crate::base::pool::{self, Pool};

/// More than this a thread does not keep.
const KEPT: usize = 64 << 10;

thread_local! {
    static BUFFER: Pool<u8, 1> = const { Pool::new(KEPT) };
}

/// A vector for a message of that size, with anything in it.
pub(super) fn borrow(size: usize) -> Vec<u8> {
    match size > KEPT {
        true => Vec::new(),
        false => pool::borrow(&BUFFER),
    }
}

/// Gives one back, perhaps to another thread: the operation may have ended there.
pub(super) fn give_back(buffer: Vec<u8>) {
    pool::give_back(&BUFFER, buffer);
}
