//! What the runtime is asked of a socket on Linux.

use std::os::fd::AsRawFd;

use ::tokio::io::{Interest, unix::AsyncFd};

/// No smaller message goes in part: it is less than half of the smallest send buffer there is, of 4,608 bytes
/// (`unix_stream_sendmsg` in `net/unix/af_unix.c`, `SOCK_MIN_SNDBUF` in `include/net/sock.h`).
pub(crate) const UNSPLIT: usize = 2 << 10;

/// What the runtime watches a socket for.
pub(crate) const READABLE: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Whether a byte has been sent out of band, before which each receive ends though more is there.
///
/// The runtime may not have been told yet. Then it is about to be, and with it that the socket is readable: whoever has
/// waited is woken once more.
#[inline]
pub(crate) fn is_urgent<T: AsRawFd>(socket: &AsyncFd<T>) -> bool {
    socket.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
}
