//! A path that one listener holds at a time.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::place::Place;
use crate::Deadline;

/// The right to have a socket at a path, held by locking a file beside it.
///
/// The lock file is never removed: removing it would let two processes hold "the" lock, one on the old file and
/// one on the new.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    /// The socket that is ours, once it has been bound.
    bound: Option<(u64, u64)>,
    /// Held as long as this lives, and given back by the system if the process dies.
    lock: File,
}

impl Claim {
    /// Takes the path, and clears away what a listener that died has left there.
    pub(super) fn take(path: &Path) -> io::Result<Claim> {
        let lock = lock(path)?;
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) => clear_away(path, &found)?,
        }
        Ok(Claim {
            path: path.to_owned(),
            bound: None,
            lock,
        })
    }

    /// Notes which socket is now at the path, so that only that one is removed later.
    pub(super) fn bound(&mut self) -> io::Result<Metadata> {
        let found = self.path.symlink_metadata()?;
        self.bound = Some((found.dev(), found.ino()));
        Ok(found)
    }
}

impl Drop for Claim {
    /// Removes the socket if it is still the one that was bound. The caller still has it open, so that its
    /// inode cannot have become somebody else's.
    fn drop(&mut self) {
        let found = self
            .path
            .symlink_metadata()
            .ok()
            .map(|found| (found.dev(), found.ino()));
        if self.bound.is_some() && found == self.bound {
            // Nothing is to be done about a failure; the next listener clears the path away.
            let _ = std::fs::remove_file(&self.path);
        }
        // Closing would not do: a child process that is just being started has the descriptor, too, until it
        // becomes another program, and the lock is held as long as anybody has it. Unlocking cannot fail.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&beside)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(in_use(path, "another listener holds it")),
        Err(error) => Err(error.into()),
    }
}

/// Removes a socket of ours that nobody listens at; whatever else is there stays untouched.
fn clear_away(path: &Path, found: &Metadata) -> io::Result<()> {
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} exists and is not a socket", path.display()),
        ));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(in_use(path, "the socket is another user's"));
    }
    match super::dial(&Place::Path(path.to_owned()), Deadline::NOW) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Ok(_) => Err(in_use(path, "a listener answers there")),
        Err(error) => Err(in_use(path, &error.to_string())),
    }
}

fn in_use(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("{} is in use: {why}", path.display()),
    )
}
