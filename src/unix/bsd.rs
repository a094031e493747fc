//! What macOS and the BSDs do in a way of their own.

pub(super) mod files;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, sockopt};

/// Not all of these systems have a coarse clock.
pub(super) use crate::clock::by_instant::{epoch, now, now as recently};

/// `sun_path` has 104 bytes with the closing NUL: unix(4).
pub(super) const MAX_PATH: usize = 103;

pub(super) const SYSTEM_DIRECTORY: &str = "/var/run";

/// There is no flag everywhere; [`prepare`] sets an option on the socket instead.
pub(super) const NO_SIGNAL: SendFlags = SendFlags::empty();

/// A socket that does not block yet.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    prepare(&socket, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// What an accepted socket still needs: it takes over the listener's non-blocking mode here.
pub(super) fn prepare(socket: &OwnedFd, buffer_size: Option<usize>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, false)?;
    let set = sockopt::set_socket_nosigpipe(socket, true).and_then(|()| match buffer_size {
        Some(bytes) => sockopt::set_socket_send_buffer_size(socket, bytes),
        None => Ok(()),
    });
    match set {
        // The peer has gone already: setsockopt(2). What it sent is still to be received.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn abstract_address(name: &str) -> io::Result<SocketAddrUnix> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("@{name} is an abstract name, which only Linux has"),
    ))
}

/// A full backlog refuses clients here as if nobody listened, so that there is nothing to fill it with.
#[derive(Debug)]
pub(super) struct Plug;

impl Plug {
    pub(super) fn new(_address: &SocketAddrUnix) -> io::Result<Option<Plug>> {
        Ok(None)
    }

    pub(super) fn is(&self, _accepted: &impl AsFd) -> io::Result<bool> {
        Ok(false)
    }
}
