//! [`Options`]: how streams in memory are made.

use crate::transport::DEFAULT_MAX_MESSAGE;

/// How streams in memory are made.
///
/// ```
/// use std::io::ErrorKind;
/// use pipetalk::{Deadline, Stream, memory};
///
/// let (left, _right) = memory::Options::new().buffer_size(4).pair();
/// left.send(b"fits", Deadline::NOW)?;
/// assert_eq!(left.send(b"more", Deadline::NOW).unwrap_err().kind(), ErrorKind::TimedOut);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) buffer_size: usize,
    pub(super) max_message: usize,
    pub(super) instances: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            buffer_size: 64 << 10,
            max_message: DEFAULT_MAX_MESSAGE,
            instances: usize::MAX,
        }
    }
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// How many bytes each direction of a connection holds before a sender has to wait; 64 KiB unless set. A
    /// message may be larger. An empty message counts as one byte. With 0 every send waits for its receiver.
    #[must_use]
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// The largest message that the streams take, at both ends, [`DEFAULT_MAX_MESSAGE`] unless set;
    /// [`recv`](crate::Stream::recv), which has a buffer of its caller's, takes any.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// How many connections of a listener may be open at once, those not yet accepted included; unlimited unless
    /// set. A connection counts until the accepted stream is closed. With 0 the listener is always busy.
    #[must_use]
    pub fn instances(mut self, limit: usize) -> Self {
        self.instances = limit;
        self
    }
}
