//! What a client owes its server besides requests: that calls were given up, and credit.
//!
//! No thread waits for these to be sent, and one that is about to send them may find that the connection has no room just
//! now. So they are not messages that are sent or lost, but stay due until they have been sent. A place owes one of the two
//! at most, so that there are never more of them than places.

use crate::proto::wire;

/// A message that is due. One that cannot be sent is due still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A call, or a stream, was given up.
    Cancel { id: u32 },
    /// A stream may send so much more; that counts as sent.
    Credit { id: u32, more: u32 },
}

impl Due {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        match self {
            Due::Cancel { id } => wire::cancel(out, id),
            Due::Credit { id, more } => wire::credit(out, id, more),
        }
    }
}
