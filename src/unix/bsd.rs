//! What macOS and the BSDs do in a way of their own.

pub(super) mod files;
pub(super) mod system;
#[cfg(feature = "tokio")]
pub(super) mod tokio;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use interprocess::local_socket::traits::StreamCommon;
use interprocess::os::unix::uds_local_socket;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, sockopt};

use crate::base::error::unsupported;
use crate::{Peer, UserId};

/// `sun_path` has 104 bytes with the closing NUL: unix(4).
pub(super) const MAX_PATH: usize = 103;

/// There is no flag everywhere; [`prepare`] sets an option on the socket instead.
pub(super) const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Not all of these systems can have descriptors come with close-on-exec.
pub(super) const RECEIVE: RecvFlags = RecvFlags::empty();

/// More descriptors than the control data of one message holds anywhere: 2 KiB.
pub(super) const MAX_RIGHTS: usize = 512;

/// A look at a message does not say everywhere whether it has descriptors.
pub(super) const PEEK_TELLS_RIGHTS: bool = false;

/// A socket that does not block yet.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    prepare(&socket, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// What an accepted socket still needs: it takes over the listener's non-blocking mode here.
pub(super) fn prepare(socket: &impl AsFd, buffer_size: Option<usize>) -> io::Result<()> {
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

/// Asks the system what process and which user is at the other end.
pub(super) fn identify<S: Into<OwnedFd> + From<OwnedFd>>(socket: S) -> (S, io::Result<Peer>) {
    let socket = uds_local_socket::Stream::from(socket.into());
    let peer = socket.peer_creds().map(|credentials| Peer {
        pid: credentials
            .pid()
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0),
        user: credentials.euid().map(UserId::Uid),
    });
    (OwnedFd::from(socket).into(), peer)
}

/// Every user has a number here: there is nothing to know.
pub(super) fn prepare_to_identify() {}

pub(super) fn abstract_address(name: &str) -> io::Result<SocketAddrUnix> {
    Err(unsupported(format!(
        "@{name} is an abstract name, which only Linux has"
    )))
}

/// A full backlog refuses clients here as if nobody listened, so that there is nothing to fill it with.
#[derive(Debug)]
pub(super) struct Plug;

impl Plug {
    pub(super) fn new() -> io::Result<Plug> {
        Ok(Plug)
    }

    pub(super) fn fill(&self, _address: &SocketAddrUnix) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn is(&self, _accepted: &impl AsFd) -> bool {
        false
    }
}
