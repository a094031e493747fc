//! What messages are received into.

use std::sync::Arc;

/// What a message is received into. A [`Blob`](crate::Blob) of a handler's may still hold it.
pub(crate) type Buffer = Arc<Vec<u8>>;

/// How large a buffer is kept to receive into.
const KEPT: usize = 4 << 20;

/// A buffer to receive into that is nobody else's, and not larger than one that is kept.
#[inline]
pub(super) fn to_fill(buffer: &mut Buffer) -> &mut Vec<u8> {
    if Arc::strong_count(buffer) > 1 || buffer.capacity() > KEPT {
        *buffer = Buffer::default();
    }
    Arc::make_mut(buffer)
}
