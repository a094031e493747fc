//! What the tests need of Unix.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A place for a listener that no other test has: a path in a directory of its own.
#[derive(Debug)]
pub struct Place {
    name: String,
    directory: TempDir,
}

impl Place {
    pub fn new() -> Place {
        let directory = TempDir::new().unwrap();
        let name = directory.path().join("s").to_str().unwrap().to_owned();
        Place { name, directory }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        Path::new(&self.name)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Lets every user of the machine into the directory.
    pub fn open_to_everyone(&self) {
        fs::set_permissions(self.directory(), Permissions::from_mode(0o777)).unwrap();
    }
}

/// Where a portable name may be, in the order in which it is looked for.
pub fn runtime_directories() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let given = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let system = PathBuf::from(format!("/run/user/{uid}"));
    let fallback = env::temp_dir().join(format!("pipetalk-{uid}"));
    let usual = PathBuf::from(format!("/tmp/pipetalk-{uid}"));
    given.into_iter().chain([system, fallback, usual]).collect()
}

/// Removes the lock file of a portable name, which a listener never does, and the socket of one that was killed.
pub(crate) fn clear_away(portable_name: &str) {
    let socket = format!("{}.sock", portable_name.to_lowercase());
    for directory in runtime_directories() {
        let _ = fs::remove_file(directory.join(format!("{socket}.lock")));
        let _ = fs::remove_file(directory.join(&socket));
    }
}

pub fn is_wine() -> bool {
    false
}

/// What this build calls its platform.
pub const PLATFORM: &str = "unix";

/// How many clients come at once in the stress test. Where a full backlog refuses clients as if nobody listened,
/// no more than the backlog of macOS holds.
pub const MANY_CLIENTS: usize = if cfg!(target_os = "linux") {
    1_000
} else {
    100
};

/// Raises the soft limit of open descriptors to the hard one: many a system begins with 1,024 or less.
pub fn allow_many_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    // macOS takes no more than this, whatever the hard limit says.
    let most = limit.maximum.unwrap_or(u64::MAX).min(10_240);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

/// Whether the system tells the process id of a peer.
pub const PEER_HAS_PID: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Another user of this machine.
pub const STRANGER: u32 = 65_534;

/// Starts this test binary as another user. It has to be where that user can read it, and only root can.
pub struct Stranger {
    exe: PathBuf,
    _directory: TempDir,
}

impl Stranger {
    /// `None`, and a line that says so, if this is not root.
    pub fn new(item: &str) -> Option<Stranger> {
        if !rustix::process::geteuid().is_root() {
            super::skip(item, "needs root to become another user");
            return None;
        }
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let exe = directory.path().join("test");
        // Not by this process: a child that another test starts meanwhile would hold the copy open for writing,
        // and what is open for writing cannot be run.
        let copied = Command::new("cp")
            .arg(env::current_exe().unwrap())
            .arg(&exe)
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&exe, Permissions::from_mode(0o755)).unwrap();
        Some(Stranger {
            exe,
            _directory: directory,
        })
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.uid(STRANGER).gid(STRANGER).current_dir("/");
        command
    }
}

/// What Ctrl-C does to a program.
pub const INTERRUPT: Option<fn(&std::process::Child)> = Some(|child| {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
});
