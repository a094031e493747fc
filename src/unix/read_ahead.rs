//! What a socket has been read for in advance.

/// How much is read when it is not known yet what is coming: a small message with its length in one system
/// call, and as many more as have arrived.
pub(super) const READ_AHEAD: usize = 4096;

/// What has been received but not asked for yet.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadAhead {
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
    }

    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.len());
        buf[..n].copy_from_slice(&self.unread()[..n]);
        self.consume(n);
        n
    }

    /// The vector with what is unread at its start, and room behind.
    #[inline]
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > 16 * READ_AHEAD {
            // It grew for what came behind a large message.
            self.bytes = Vec::new();
        }
        if self.bytes.capacity() - self.bytes.len() < READ_AHEAD / 2 {
            self.bytes.reserve_exact(READ_AHEAD);
        }
        &mut self.bytes
    }

    /// Keeps what was received behind a message. There was nothing unread, or it would have come first.
    pub(super) fn keep(&mut self, ahead: &[u8]) {
        if !ahead.is_empty() {
            self.bytes.clear();
            self.start = 0;
            self.bytes.extend_from_slice(ahead);
        }
    }
}

/// For a connection that has no room of its own while it waits.
#[cfg(feature = "tokio")]
impl ReadAhead {
    /// Puts what was received behind what is unread.
    pub(super) fn extend(&mut self, received: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(received);
    }

    /// Exchanges the vector behind it, when there is nothing in it.
    pub(super) fn exchange(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        debug_assert!(self.len() == 0);
        bytes.clear();
        self.start = 0;
        std::mem::replace(&mut self.bytes, bytes)
    }

    /// Lets go of what memory it has beyond what is unread.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > self.len() {
            self.bytes = self.unread().to_vec();
            self.start = 0;
        }
    }
}
