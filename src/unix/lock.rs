//! The locks beside a path, of which only one process has them at a time.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::os::files::{Entry, holder};
use crate::Deadline;
use crate::base::backoff::Backoff;

/// How often to look again when what is at a path changes between one look and the next.
const LOOKS: u32 = 100;

/// The locks of one path, taken.
///
/// A lock is a file of this user's beside the path. It is never removed: removing it would let two processes hold "the"
/// lock, one on the old file and one on the new.
///
/// Its name is `NAME.lock`. In a directory where others may create files as well, as in a temporary one, that name may be
/// another user's, left behind or made on purpose. Such a file is no lock for this user, because its owner could hold it
/// for ever. Nor is another name of a file that is elsewhere. Then it is `NAME.UID.lock`; and if both are others', there is none, see [`is_none`](Locks::is_none). Another
/// user's listener is not kept out by a lock, but by the socket at the path, which is never taken over from another user.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: Vec<Lock>,
    /// Names of locks that are no locks for this user, and what they are.
    denied: Vec<(PathBuf, String)>,
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

/// What is at the name of a lock.
enum Found {
    /// A file of this user's.
    Ours(File),
    /// A file that is more than a lock of this user's, and what it is.
    Others(String),
    Nothing,
}

/// Whether other processes have the same locks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Alone,
    Shared,
    /// The files are gone, or cannot be opened.
    Unknown,
}

impl Locks {
    /// Takes the locks of a path, or fails with `AddrInUse`.
    pub(super) fn take(path: &Path) -> io::Result<Locks> {
        let mut locks = Locks::default();
        for name in names(path) {
            // One is enough. But whoever found the first name taken by another user's file has the second, and that
            // file may be gone by now.
            let create = locks.held.is_empty();
            match Lock::take(&name, create, path)? {
                Taken::Lock(lock) => locks.held.push(lock),
                Taken::Others(what) => locks.denied.push((name, what)),
                Taken::Nothing => {}
            }
        }
        Ok(locks)
    }

    /// Whether there was no lock to be had, because its names are other users' files.
    pub(super) fn is_none(&self) -> bool {
        self.held.is_empty()
    }

    /// Says what is in the way.
    pub(super) fn denied(&self) -> String {
        let files = self.denied.iter();
        let files = files.map(|(path, what)| format!("{} {what}", path.display()));
        files.collect::<Vec<_>>().join(", and ")
    }

    /// Frees the locks, for all processes that have them.
    pub(super) fn free(&mut self) {
        for lock in self.held.drain(..) {
            // Closing would not do: a child process that is just being started has the descriptor, too, until it
            // becomes another program, and the lock is held as long as anybody has it. Unlocking cannot fail.
            let _ = unlock(&lock.file);
        }
    }

    /// Lets go of the locks, and looks whether another process still has them: one that this one has forked, or the
    /// one that has forked this one. If not, they are taken again.
    ///
    /// A child process that is about to become another program has them as well, for a moment. That is waited for until
    /// the deadline, while `wanted` says so.
    pub(super) fn look_for_sharers(
        &mut self,
        deadline: Deadline,
        wanted: impl Fn() -> bool,
    ) -> Sharing {
        if self.held.is_empty() {
            return Sharing::Unknown;
        }
        for lock in std::mem::take(&mut self.held) {
            let Ok(before) = lock.file.metadata() else {
                return Sharing::Unknown;
            };
            let path = lock.path;
            drop(lock.file);
            let mut backoff = Backoff::new();
            loop {
                let Ok(Found::Ours(file)) = open(&path, false) else {
                    return Sharing::Unknown;
                };
                if !file.metadata().is_ok_and(|now| is_same(&now, &before)) {
                    return Sharing::Unknown;
                }
                match lock_now(&file) {
                    Ok(()) => {
                        self.held.push(Lock { path, file });
                        break;
                    }
                    Err(Errno::WOULDBLOCK) if wanted() => match backoff.next(deadline) {
                        Ok(pause) => thread::sleep(pause),
                        Err(_) => return Sharing::Shared,
                    },
                    Err(Errno::WOULDBLOCK) => return Sharing::Shared,
                    Err(_) => return Sharing::Unknown,
                }
            }
        }
        Sharing::Alone
    }
}

/// Fails with `AddrInUse` if somebody has the locks of a path; makes none.
pub(super) fn check_free(path: &Path) -> io::Result<()> {
    for name in names(path) {
        let Ok(Found::Ours(file)) = open(&name, false) else {
            continue;
        };
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)) {
            Err(Errno::WOULDBLOCK) => return Err(is_held(path, &name, &file)),
            _ => {
                let _ = unlock(&file);
            }
        }
    }
    Ok(())
}

fn names(path: &Path) -> [PathBuf; 2] {
    let uid = rustix::process::geteuid().as_raw();
    [".lock".to_owned(), format!(".{uid}.lock")].map(|suffix| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        beside.into()
    })
}

enum Taken {
    Lock(Lock),
    Others(String),
    Nothing,
}

impl Lock {
    fn take(name: &Path, create: bool, path: &Path) -> io::Result<Taken> {
        for _ in 0..LOOKS {
            let file = match open(name, create)? {
                Found::Ours(file) => file,
                Found::Others(what) => return Ok(Taken::Others(what)),
                Found::Nothing => return Ok(Taken::Nothing),
            };
            match lock_now(&file) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(is_held(path, name, &file)),
                Err(error) => return Err(about(name, &error.into())),
            }
            // Somebody may have tidied up, and then another file is the lock.
            let now = name.symlink_metadata();
            if now.is_ok_and(|now| file.metadata().is_ok_and(|locked| is_same(&now, &locked))) {
                let path = name.to_owned();
                return Ok(Taken::Lock(Lock { path, file }));
            }
        }
        Err(restless(name))
    }
}

/// Opens the file of a lock, or makes it; what is there already has to be a file of this user's.
fn open(name: &Path, create: bool) -> io::Result<Found> {
    let uid = rustix::process::geteuid().as_raw();
    let mut mended = false;
    for _ in 0..LOOKS {
        // Not to wait for the other end of a pipe that somebody has put there.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = File::options();
        options.read(true).write(true);
        options.custom_flags(flags.bits() as i32);
        let error = match options.open(name) {
            Ok(file) => {
                let found = file.metadata()?;
                if let Some(what) = others(&found, uid) {
                    return Ok(Found::Others(what));
                }
                if !found.is_file() {
                    return Err(not_a_file(name));
                }
                // What others can open, they can hold. But what is not empty has another purpose.
                if found.len() == 0 {
                    set_mode(&file, &found);
                }
                return Ok(Found::Ours(file));
            }
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::NotFound {
            if !create {
                return Ok(Found::Nothing);
            }
            match options.create_new(true).mode(0o600).open(name) {
                Ok(file) => {
                    // What the umask took away, the next listener would miss.
                    set_mode(&file, &file.metadata()?);
                    return Ok(Found::Ours(file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(about(name, &error)),
            }
        }
        match name.symlink_metadata() {
            Ok(found) if found.uid() != uid => return Ok(Found::Others(whose(&found))),
            Ok(found) if !found.is_file() => return Err(not_a_file(name)),
            Ok(found) if found.nlink() != 1 => return Ok(Found::Others(twice())),
            Ok(_) if error.kind() == io::ErrorKind::PermissionDenied && !mended => {
                // An umask has left it so that its own user cannot open it.
                mended = true;
                mend(name, uid)?;
            }
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(about(name, &error)),
        }
    }
    Err(restless(name))
}

/// What a file is, if that is more than a lock of this user's: whoever may create files in the directory may give a new
/// name to a file that is elsewhere.
fn others(found: &Metadata, uid: u32) -> Option<String> {
    if found.uid() != uid {
        Some(whose(found))
    } else if found.is_file() && found.nlink() != 1 {
        Some(twice())
    } else {
        None
    }
}

fn whose(found: &Metadata) -> String {
    format!("is user {}'s", found.uid())
}

fn twice() -> String {
    "has other names as well".to_owned()
}

fn mend(name: &Path, uid: u32) -> io::Result<()> {
    let entry = Entry::at(name).map_err(|error| about(name, &error))?;
    let found = entry.metadata()?;
    if found.is_file() && others(&found, uid).is_none() {
        entry.set_mode(0o600).map_err(|error| about(name, &error))?;
    }
    Ok(())
}

fn set_mode(file: &File, found: &Metadata) {
    if found.mode() & 0o777 != 0o600 {
        // A file system without modes lets in whom it lets in.
        let _ = rustix::fs::fchmod(file, Mode::from_raw_mode(0o600));
    }
}

fn lock_now(file: &File) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))
}

fn unlock(file: &File) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::flock(file, FlockOperation::Unlock))
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn is_held(path: &Path, name: &Path, file: &File) -> io::Error {
    let who = match holder(file) {
        Some(pid) => format!("process {pid}"),
        None => "another listener".to_owned(),
    };
    in_use(path, &format!("{who} holds {}", name.display()))
}

fn about(name: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot lock {}: {error}", name.display()),
    )
}

fn not_a_file(name: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("cannot lock {}: it is not a regular file", name.display()),
    )
}

fn restless(name: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!(
            "cannot lock {}: somebody keeps replacing it",
            name.display()
        ),
    )
}

pub(super) fn in_use(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("{} is in use: {why}", path.display()),
    )
}
