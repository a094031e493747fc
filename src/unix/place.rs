//! Where a name is on this machine.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

use super::os;
use crate::Name;
use crate::name::{Kind, invalid};

/// The place of a socket.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the file system.
    Path(PathBuf),
    /// In Linux's abstract namespace.
    Abstract(String),
}

impl Place {
    pub(super) fn of(name: &Name) -> io::Result<Place> {
        match &name.0 {
            Kind::Portable(name) => Ok(Place::Path(
                runtime_directory()?.join(format!("{name}.sock")),
            )),
            Kind::Pipe { server, path } if server == "." => match path.strip_prefix(r"local\") {
                Some(name) if !name.is_empty() && !name.contains('\\') => {
                    Place::of(&Name::new(name)?)
                }
                _ => unsupported(name, "a pipe path with directories, which only Windows has"),
            },
            Kind::Pipe { .. } => unsupported(
                name,
                "a pipe of another machine, which only Windows reaches",
            ),
            Kind::Path(path) => Ok(Place::Path(path.clone())),
            Kind::Abstract(name) => Ok(Place::Abstract(name.clone())),
        }
    }

    /// The address, checked before any system call sees it.
    pub(super) fn address(&self) -> io::Result<SocketAddrUnix> {
        let length = match self {
            Place::Path(path) => path.as_os_str().len(),
            Place::Abstract(name) => name.len(),
        };
        if length > os::MAX_PATH {
            return Err(invalid(format!(
                "{self} is too long for a Unix socket: {length} bytes, and the limit is {}",
                os::MAX_PATH
            )));
        }
        match self {
            Place::Path(path) => Ok(SocketAddrUnix::new(path.as_path())?),
            Place::Abstract(name) => os::abstract_address(name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Path(path) => write!(f, "{}", path.display()),
            Place::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

fn unsupported<T>(name: &Name, what: &str) -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{name} is {what}"),
    ))
}

/// The directory of the user's own sockets, which nobody else can enter.
fn runtime_directory() -> io::Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    for directory in given
        .into_iter()
        .chain([PathBuf::from(format!("/run/user/{uid}"))])
    {
        if is_private(&directory, uid).unwrap_or(false) {
            return Ok(directory);
        }
    }
    let directory = std::env::temp_dir().join(format!("pipetalk-{uid}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if !is_private(&directory, uid)? {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is not a directory of user {uid} with mode 0700, so no socket in it would be safe",
                directory.display()
            ),
        ));
    }
    Ok(directory)
}

/// Whether this is a directory of this user's that nobody else can enter, and not a link to one.
fn is_private(directory: &Path, uid: u32) -> io::Result<bool> {
    let found = directory.symlink_metadata()?;
    Ok(found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n03_a_path_over_the_limit_is_refused_with_the_limit_and_the_length() {
        let fits = format!("/{}", "x".repeat(os::MAX_PATH - 1));
        Place::Path(fits.clone().into()).address().unwrap();
        let error = Place::Path(format!("{fits}y").into())
            .address()
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains(&os::MAX_PATH.to_string())
                && text.contains(&(os::MAX_PATH + 1).to_string()),
            "{text}"
        );
    }

    #[test]
    fn n05_n06_pipe_paths_mean_the_portable_name_or_are_unsupported() {
        let place = |name: &str| Place::of(&Name::new(name).unwrap());
        let portable = place("acme.kv").unwrap().to_string();
        assert!(portable.ends_with("/acme.kv.sock"), "{portable}");
        assert_eq!(place(r"\\.\pipe\Acme.kv").unwrap().to_string(), portable);
        assert_eq!(
            place(r"\\.\pipe\LOCAL\acme.kv").unwrap().to_string(),
            portable
        );
        for other in [r"\\server\pipe\acme.kv", r"\\.\pipe\a\b"] {
            assert_eq!(place(other).unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
    }

    #[test]
    fn a_directory_that_others_can_enter_or_a_link_is_not_private() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let uid = rustix::process::geteuid().as_raw();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(is_private(path, uid).unwrap());
        assert!(!is_private(path, uid + 1).unwrap());
        let link = path.join("link");
        symlink(path, &link).unwrap();
        assert!(!is_private(&link, uid).unwrap());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o710)).unwrap();
        assert!(!is_private(path, uid).unwrap());
    }
}
