//! Files on Linux: what is at a path, held by a descriptor, and the process that holds a lock.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, major, minor};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::base::error::unsupported;

/// What is at a path, whatever is put there afterwards. A link is the link itself.
#[derive(Debug)]
pub(crate) struct Entry(File);

impl Entry {
    pub(crate) fn at(path: &Path) -> io::Result<Entry> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Entry(descriptor.into()))
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// Changing the mode through such a descriptor takes Linux 6.6, but for this way around: open(2).
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.path()?, Permissions::from_mode(mode))
    }

    pub(crate) fn set_group(&self, gid: u32) -> io::Result<()> {
        let gid = Some(Gid::from_raw(gid));
        Ok(rustix::fs::chownat(
            &self.0,
            "",
            None,
            gid,
            AtFlags::EMPTY_PATH,
        )?)
    }

    /// Where to connect to this socket, and to no other that has its name by now.
    pub(crate) fn address(&self) -> io::Result<Option<SocketAddrUnix>> {
        Ok(Some(SocketAddrUnix::new(self.path()?)?))
    }

    fn path(&self) -> io::Result<PathBuf> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        match path.symlink_metadata() {
            Ok(_) => Ok(path),
            Err(error) => Err(unsupported(format!(
                "that takes /proc, which is not there: {error}"
            ))),
        }
    }
}

/// Sets the mode that a socket will have once it is bound, but for what the umask takes away: unix(7).
pub(crate) fn set_mode_before_bind(socket: &OwnedFd, mode: u32) -> io::Result<()> {
    match rustix::fs::fchmod(socket, Mode::from_raw_mode(mode)) {
        // What runs Linux programs without being Linux cannot do that.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A socket that asks who is there and sends nothing.
pub(crate) fn datagram_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        flags,
        None,
    )?)
}

/// The process that holds a lock on a file, as far as it can be seen from here: proc_locks(5).
pub(crate) fn holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let device = found.dev();
    let id = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        found.ino()
    );
    holder_in(&fs::read_to_string("/proc/locks").ok()?, &id)
}

/// `1: FLOCK  ADVISORY  WRITE 3693 fe:00:10027108 0 EOF`; who waits has an arrow after the number.
fn holder_in(locks: &str, id: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        let found = kind == "FLOCK" && words.next()? == id;
        // A process of another namespace has no number here.
        pid.parse().ok().filter(|pid| found && *pid > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:8 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fe:00:9 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 fe:00:7 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 fe:00:6 0 EOF\n";
        assert_eq!(holder_in(locks, "fe:00:7"), Some(14));
        assert_eq!(holder_in(locks, "fe:00:8"), Some(12));
        for unknown in ["fe:00:9", "fe:00:6", "fe:01:7"] {
            assert_eq!(holder_in(locks, unknown), None, "{unknown}");
        }
    }
}
