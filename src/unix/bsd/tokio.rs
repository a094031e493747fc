//! What the runtime is asked of a socket on macOS and the BSDs.

use std::os::fd::AsRawFd;

use ::tokio::io::{Interest, unix::AsyncFd};

/// Any message may go in part.
pub(crate) const UNSPLIT: usize = 0;

/// What the runtime watches a socket for.
pub(crate) const READABLE: Interest = Interest::READABLE;

/// Nothing is sent out of band on a Unix socket here.
pub(crate) fn is_urgent<T: AsRawFd>(_socket: &AsyncFd<T>) -> bool {
    false
}
