//! A path that one listener holds at a time.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use super::lock::{self, Locks, Sharing, in_use};
use super::place::Place;
use super::probe;
use crate::Deadline;

/// How long a process that lets go of a path waits for a child that is being started, before it takes it for one that has
/// the listener as well: longer than it takes from fork(2) to execve(2) on a busy machine.
const STARTING: Duration = Duration::from_secs(1);

/// The right to have a socket at a path, held by [locks](Locks) beside it.
///
/// It is a process's own, until that forks: then both have it, as both have the socket, and the path is given back when
/// the last of them lets go.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    /// The socket that is ours, once it has been bound.
    bound: Option<(u64, u64)>,
    locks: Locks,
    /// The process that has bound it.
    process: u32,
}

impl Claim {
    /// Takes the path, and clears away what a listener that died has left there.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if a listener has it, or has its name at one of the other places, which are where else it may be.
    pub(super) fn take(path: &Path, place: &Place, elsewhere: &[Place]) -> io::Result<Claim> {
        // From here on the locks are given back whatever comes, by dropping this.
        let claim = Claim {
            path: path.to_owned(),
            bound: None,
            locks: Locks::take(path)?,
            process: process::id(),
        };
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) => claim.clear_away(place, &found)?,
        }
        // Not before the locks are taken: of two that look for each other at once, one at least finds the other.
        for other in elsewhere {
            check_free(other)?;
        }
        Ok(claim)
    }

    /// Notes which socket is now at the path, so that only that one is removed later.
    pub(super) fn has_bound(&mut self, found: &Metadata) {
        self.bound = Some((found.dev(), found.ino()));
    }

    /// Gives the path back, whatever other processes have of it, if it is this process that has bound it.
    pub(super) fn give_back(&mut self) {
        if self.process == process::id() {
            self.remove_socket();
            self.locks.free();
        }
    }

    /// Removes the socket if it is still the one that was bound. The caller still has it open, so that its
    /// inode cannot have become somebody else's.
    fn remove_socket(&mut self) {
        if self.is_there() {
            // Nothing is to be done about a failure; the next listener clears the path away.
            let _ = std::fs::remove_file(&self.path);
        }
        self.bound = None;
    }

    fn is_there(&self) -> bool {
        let found = self.path.symlink_metadata();
        self.bound.is_some() && found.ok().map(|found| (found.dev(), found.ino())) == self.bound
    }

    /// Removes a socket of ours that nobody has any more; whatever else is there stays untouched.
    fn clear_away(&self, place: &Place, found: &Metadata) -> io::Result<()> {
        let path = &self.path;
        if !found.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} exists and is not a socket", path.display()),
            ));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(in_use(
                path,
                &format!("the socket is user {}'s", found.uid()),
            ));
        }
        match probe::is_bound(&place.address()?) {
            Ok(false) => {}
            Ok(true) => return Err(in_use(path, "somebody else has a socket there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(in_use(path, &error.to_string())),
        }
        if self.locks.is_none() {
            // Another process of this user's may be about to bind here as well.
            let denied = self.locks.denied();
            return Err(in_use(
                path,
                &format!(
                    "nobody listens at the socket there, but it cannot be taken over: {denied}"
                ),
            ));
        }
        // Whoever does not know of the lock may have come here meanwhile.
        let now = path.symlink_metadata();
        let is_same = |now: &Metadata| (now.dev(), now.ino()) == (found.dev(), found.ino());
        match now {
            Ok(now) if !is_same(&now) => {
                Err(in_use(path, "somebody has just bound a socket there"))
            }
            Ok(_) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Claim {
    /// Lets go of the path. If no other process has it, the socket is removed.
    fn drop(&mut self) {
        if self.bound.is_none() {
            self.locks.free();
            return;
        }
        let is_binder = self.process == process::id();
        let patience = if is_binder {
            Deadline::after(STARTING)
        } else {
            Deadline::NOW
        };
        let mut locks = std::mem::take(&mut self.locks);
        match locks.look_for_sharers(patience, || self.is_there()) {
            Sharing::Alone => self.remove_socket(),
            Sharing::Unknown if is_binder => self.remove_socket(),
            Sharing::Shared | Sharing::Unknown => {}
        }
        locks.free();
    }
}

/// Fails with `AddrInUse` if a listener of this user has the place, or is about to have it.
fn check_free(place: &Place) -> io::Result<()> {
    let (Some(path), Ok(address)) = (place.path(), place.address()) else {
        return Ok(());
    };
    lock::check_free(path)?;
    match probe::is_bound(&address) {
        Ok(true) => Err(in_use(
            path,
            "a listener of this user has the same name there",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::test_util::Directory;

    /// The places that a name can have, as one listener and another see them.
    fn places(directories: [&Path; 2]) -> [Place; 2] {
        directories.map(|directory| Place::Path(directory.join("s")))
    }

    fn take(places: &[Place; 2], first: usize) -> io::Result<Claim> {
        let (place, other) = (&places[first], &places[1 - first]);
        Claim::take(place.path().unwrap(), place, std::slice::from_ref(other))
    }

    #[test]
    fn l01_a_name_is_in_use_at_whichever_of_its_places() {
        let (a, b) = (Directory::new(), Directory::new());
        let places = places([a.path(), b.path()]);
        let claim = take(&places, 0).unwrap();
        // There is no socket yet.
        let error = take(&places, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains(&places[0].to_string()),
            "{error}"
        );
        drop(claim);
        // Nor has what does not know of the locks any.
        let foreign = std::os::unix::net::UnixListener::bind(places[0].path().unwrap()).unwrap();
        let error = take(&places, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(foreign);
        take(&places, 1).unwrap();
        // A look leaves nothing behind.
        let c = Directory::new();
        let places = [places[1].clone(), Place::Path(c.path().join("s"))];
        take(&places, 0).unwrap();
        assert_eq!(std::fs::read_dir(c.path()).unwrap().count(), 0);
    }

    #[test]
    fn l01_of_two_that_take_a_name_at_two_places_one_has_it_at_most() {
        let (a, b) = (Directory::new(), Directory::new());
        let places = &places([a.path(), b.path()]);
        let barrier = &Barrier::new(2);
        let mut had = 0;
        for round in 0..500 {
            let [first, second] = thread::scope(|scope| {
                [0, 1]
                    .map(|first| {
                        scope.spawn(move || {
                            barrier.wait();
                            take(places, first)
                        })
                    })
                    .map(|taking| taking.join().unwrap())
            });
            assert!(first.is_err() || second.is_err(), "round {round}: both");
            had += u32::from(first.is_ok() || second.is_ok());
        }
        assert!(had > 0);
    }
}
