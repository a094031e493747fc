//! Whether the file of a socket has a socket.

use std::io;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::SocketAddrUnix;

use super::os;

/// Whether somebody has a socket open that is bound there: one that listens, with room in its backlog or not, or one that
/// does not listen yet.
///
/// A stream would not tell: a socket that does not listen yet refuses it as one that is gone does, and so does a full
/// backlog on macOS and the BSDs. A datagram socket is refused by what is gone alone; all else is of the wrong type for
/// it, if it is not a datagram socket itself, and does not notice. Linux: `unix_find_bsd`; macOS, FreeBSD and OpenBSD:
/// `unp_connect`.
///
/// `NotFound` if nothing is there.
pub(super) fn is_bound(address: &SocketAddrUnix) -> io::Result<bool> {
    let socket = os::files::datagram_socket()?;
    match retry_on_intr(|| rustix::net::connect(&socket, address)) {
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a stream socket listens there, which may have one more client then.
pub(super) fn listens(address: &SocketAddrUnix) -> io::Result<bool> {
    let socket = os::socket()?;
    match retry_on_intr(|| rustix::net::connect(&socket, address)) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
