//! Files on macOS and the BSDs: what is at a path.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// What is at a path. A link is the link itself.
///
/// There is no descriptor of a socket's file on all of these systems: it is found by its path each time. Whoever may
/// rename in its directory can put another file of this user's own there in between, but no link.
#[derive(Debug)]
pub(crate) struct Entry(PathBuf);

impl Entry {
    pub(crate) fn at(path: &Path) -> io::Result<Entry> {
        Ok(Entry(path.to_owned()))
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.0.symlink_metadata()
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode as _);
        Ok(rustix::fs::chmodat(
            CWD,
            &self.0,
            mode,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    pub(crate) fn set_group(&self, gid: u32) -> io::Result<()> {
        let gid = Some(Gid::from_raw(gid));
        Ok(rustix::fs::chownat(
            CWD,
            &self.0,
            None,
            gid,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// There is no way to a socket but its name.
    pub(crate) fn address(&self) -> io::Result<Option<SocketAddrUnix>> {
        Ok(None)
    }
}

/// OpenBSD and newer FreeBSDs can do that. The others set the mode once the socket has its name, and before it listens.
pub(crate) fn set_mode_before_bind(socket: &OwnedFd, mode: u32) -> io::Result<()> {
    match rustix::fs::fchmod(socket, Mode::from_raw_mode(mode as _)) {
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A socket that asks who is there and sends nothing.
pub(crate) fn datagram_socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// The process that holds a lock on a file is not told by these systems.
pub(crate) fn holder(_file: &File) -> Option<u32> {
    None
}
