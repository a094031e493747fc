//! What a socket has been read for in advance.

/// How much is read when it is not known yet what is coming: a small message with its length in one system
/// call, and as many more as have arrived.
pub(super) const READ_AHEAD: usize = 4096;

/// What has been received but not asked for yet.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Behind the end is room, whose bytes are there to be written over.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadAhead {
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
    }

    /// What is unread, which is thereby read.
    #[inline]
    pub(super) fn take_all(&mut self) -> &[u8] {
        let start = self.start;
        self.start = self.end;
        &self.bytes[start..self.end]
    }

    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.len());
        buf[..n].copy_from_slice(&self.unread()[..n]);
        self.consume(n);
        n
    }

    /// Room behind what is unread: [`received`](Self::received) says how much of it is used.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            let unread = self.len();
            if unread > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
            }
            (self.start, self.end) = (0, unread);
        }
        if self.bytes.len() < self.end + READ_AHEAD / 2 || self.bytes.len() > 16 * READ_AHEAD {
            self.make_room();
        }
        &mut self.bytes[self.end..]
    }

    #[cold]
    fn make_room(&mut self) {
        // Not more than that: it may have grown for what came behind a large message.
        self.bytes.truncate(self.end);
        let room = self.end + READ_AHEAD;
        if self.bytes.capacity() > 2 * room {
            self.bytes.shrink_to(room);
        }
        self.bytes.reserve_exact(READ_AHEAD);
        self.bytes.resize(room, 0);
    }

    /// So many bytes of the room have been written to.
    #[inline]
    pub(super) fn received(&mut self, n: usize) {
        self.end += n;
    }

    /// Puts what has come before all that is unread at its place.
    #[inline]
    pub(super) fn put_before(&mut self, earlier: &[u8]) {
        if !earlier.is_empty() {
            let mut all = earlier.to_vec();
            all.extend_from_slice(self.unread());
            self.keep(&all);
        }
    }

    /// Keeps what was received behind a message. There was nothing unread, or it would have come first.
    pub(super) fn keep(&mut self, ahead: &[u8]) {
        if !ahead.is_empty() {
            self.bytes.clear();
            self.bytes.extend_from_slice(ahead);
            self.start = 0;
            self.end = ahead.len();
        }
    }
}

/// For a connection that has no room of its own while it waits.
#[cfg(feature = "tokio")]
impl ReadAhead {
    /// Puts what was received behind what is unread.
    pub(super) fn extend(&mut self, received: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.drain(..self.start);
        self.bytes.extend_from_slice(received);
        self.start = 0;
        self.end = self.bytes.len();
    }

    /// Exchanges the vector behind it, when there is nothing in it.
    pub(super) fn exchange(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        debug_assert!(self.len() == 0);
        bytes.clear();
        (self.start, self.end) = (0, 0);
        std::mem::replace(&mut self.bytes, bytes)
    }

    /// Lets go of what memory it has beyond what is unread.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > self.len() {
            self.bytes = self.unread().to_vec();
            (self.start, self.end) = (0, self.bytes.len());
        }
    }
}
