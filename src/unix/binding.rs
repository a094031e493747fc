//! A listening socket, from its name to where the first client can come.

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::claim::Claim;
use super::os;
use super::os::files::Entry;
use super::place::{Home, Place, Search};
use super::probe;
use crate::base::error::{invalid, unsupported};
use crate::base::name::Kind;
use crate::{Access, ListenOptions, Name};

/// The fields are dropped in this order: the name goes while the socket is still open, see [`Claim`].
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) claim: Option<Claim>,
    pub(super) place: Place,
    pub(super) socket: OwnedFd,
}

/// Binds and listens. Nobody can connect before the mode and the group are what they are to be, because the socket does
/// not listen before.
pub(super) fn bind(options: &ListenOptions, name: &Name, backlog: i32) -> io::Result<Binding> {
    let Home { place, elsewhere } = Search::new(name)?.home()?;
    let address = place.address()?;
    let mode = mode(&options.access, name)?;
    let group = match &options.access {
        Access::Group(group) => Some(group_id(group)?),
        _ => None,
    };
    let mut claim = match place.path() {
        Some(path) => Some(Claim::take(path, &place, &elsewhere)?),
        None => None,
    };
    let socket = os::socket()?;
    if claim.is_some() {
        os::files::set_mode_before_bind(&socket, mode)?;
    }
    rustix::net::bind(&socket, &address)
        .map_err(io::Error::from)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot bind {place}: {error}")))?;
    if let (Some(claim), Some(path)) = (&mut claim, place.path()) {
        let found = path.symlink_metadata()?;
        if lets_in(&found, mode, group) {
            claim.has_bound(&found);
        } else {
            open_to(path, mode, group, claim).map_err(|error| say(path, &error))?;
        }
    }
    rustix::net::listen(&socket, backlog)?;
    Ok(Binding {
        claim,
        place,
        socket,
    })
}

/// The mode of the socket file, where the name and the access go together.
fn mode(access: &Access, name: &Name) -> io::Result<u32> {
    let mode = match access {
        Access::SameUser => 0o600,
        Access::Group(_) => 0o660,
        Access::Everyone => 0o666,
        Access::Mode(mode) => *mode,
        Access::Sddl(_) => {
            return Err(unsupported(
                "a Unix socket has no security descriptor: say who may connect by Access::Group, Everyone or Mode",
            ));
        }
    };
    match (&name.0, access) {
        (Kind::Abstract(_), Access::Group(_) | Access::Mode(_)) => Err(unsupported(format!(
            "{name} is an abstract name, which has no mode and no group: use a path"
        ))),
        (Kind::Portable(_) | Kind::Pipe { .. }, _) if mode & 0o077 != 0 => Err(invalid(format!(
            "{name} is in a directory that only this user can enter, so nobody else could connect: use Name::system or a path"
        ))),
        _ => Ok(mode),
    }
}

/// Whether what is at a path is as it should be.
fn lets_in(found: &Metadata, mode: u32, group: Option<u32>) -> bool {
    found.file_type().is_socket()
        && found.mode() & 0o7777 == mode
        && group.is_none_or(|gid| gid == found.gid())
}

/// Sets the group, and undoes what the umask took away.
///
/// Whoever may rename in the directory may have put something else there since the socket was bound: a link, a file of
/// this user's, another socket of this user's. None of these is changed.
fn open_to(path: &Path, mode: u32, group: Option<u32>, claim: &mut Claim) -> io::Result<()> {
    let entry = Entry::at(path)?;
    let found = entry.metadata()?;
    let uid = rustix::process::geteuid().as_raw();
    if !found.file_type().is_socket() || found.uid() != uid || found.nlink() != 1 {
        return Err(replaced());
    }
    if let Some(address) = entry.address()? {
        if found.mode() & 0o200 == 0 {
            // Connecting takes the right to write. Its owner has nothing to hide from itself.
            entry.set_mode(0o600)?;
        }
        // Ours is bound, and does not listen yet.
        if !probe::is_bound(&address)? || probe::listens(&address)? {
            return Err(replaced());
        }
    }
    claim.has_bound(&found);
    if let Some(gid) = group.filter(|gid| *gid != found.gid()) {
        entry.set_group(gid)?;
    }
    entry.set_mode(mode)
}

fn replaced() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "somebody has put something else there since the socket was bound",
    )
}

fn say(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot set who may connect to {}: {error}", path.display()),
    )
}

fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(group)? {
        Some(found) => Ok(found.gid.as_raw()),
        None => Err(invalid(format!(
            "there is no group {group:?} on this machine"
        ))),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::path::PathBuf;

    use rustix::net::SocketAddrUnix;

    use super::*;
    use crate::test_util::Directory;

    fn mode_of(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    fn claim(path: &Path) -> Claim {
        Claim::take(path, &Place::Path(path.to_owned()), &[]).unwrap()
    }

    /// A socket that is bound and does not listen yet.
    fn bound(path: &Path, mode: u32) -> OwnedFd {
        let socket = os::socket().unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        socket
    }

    #[test]
    fn i04_a_socket_that_does_not_listen_yet_is_opened_to_others() {
        let directory = Directory::new();
        let path = directory.path().join("s");
        let gid = rustix::process::getegid().as_raw();
        for (before, after) in [(0o600, 0o666), (0o000, 0o600), (0o644, 0o660)] {
            let mut claim = claim(&path);
            let _socket = bound(&path, before);
            open_to(&path, after, Some(gid), &mut claim).unwrap();
            assert_eq!(mode_of(&path), after);
            drop(claim);
            assert!(!path.exists());
        }
    }

    #[test]
    fn i04_anything_else_is_not() {
        let directory = Directory::new();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::write(at("other file"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        let _datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
        let _listener = UnixListener::bind(at("listener")).unwrap();
        drop(UnixListener::bind(at("dead")).unwrap());
        // One that could have been ours, but for its second name.
        let _twice = bound(&at("twice"), 0o600);
        fs::hard_link(at("twice"), at("another name")).unwrap();
        let _linked = bound(&at("linked to"), 0o600);
        symlink(at("linked to"), at("link to a socket")).unwrap();
        let there: Vec<PathBuf> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(there.len(), 11);
        let mut claim = claim(&at("s"));
        for path in &there {
            let before = mode_of(path);
            if path.ends_with("linked to") {
                continue;
            }
            let error = open_to(path, 0o777, None, &mut claim).unwrap_err();
            // A datagram socket is told by what it says to a stream.
            let kind = error.kind();
            assert!(
                kind == io::ErrorKind::PermissionDenied || path.ends_with("datagrams"),
                "{path:?}: {error}"
            );
            assert_eq!(mode_of(path), before, "{path:?}");
        }
        // And nothing of it is taken for what is to be removed in the end.
        drop(claim);
        assert!(there.iter().all(|path| path.exists()));
    }
}
