//! The listening socket and its name, however it is waited for.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interprocess::local_socket::{
    self, ListenerNonblockingMode, ListenerOptions, ToFsName, ToNsName,
};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket;
use local_socket::traits::Listener as _;
use parking_lot::{RwLock, RwLockReadGuard};
use rustix::io::Errno;

use super::claim::Claim;
use super::instances::Instances;
use super::os;
use super::place::Place;
use crate::name::{Kind, invalid};
use crate::{Access, Error, ListenOptions, Name, Peer, UserId};

/// How long to wait before trying again when the system has run out of something.
pub(super) const BACKOFF: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Endpoint {
    open: RwLock<Option<Open>>,
    stopped: AtomicBool,
    pub(super) instances: Instances,
    pub(super) max_message: usize,
    buffer_size: Option<usize>,
    /// Whose connections are taken; `None`: the mode of the socket has decided already.
    only: Option<UserId>,
}

/// The fields are dropped in this order: the name goes while the socket is still open, see [`Claim`].
#[derive(Debug)]
pub(super) struct Open {
    _claim: Option<Claim>,
    place: Place,
    pub(super) socket: uds_local_socket::Listener,
}

/// What one try to accept has found.
#[derive(Debug)]
pub(super) enum Next {
    Connection(OwnedFd),
    /// Nobody is waiting.
    Nobody,
    /// The system has run out of something: to be tried again after [`BACKOFF`].
    Scarce,
}

impl Endpoint {
    pub(super) fn bind(options: &ListenOptions, name: &Name) -> io::Result<Endpoint> {
        let place = Place::of(name)?;
        let address = place.address()?;
        let mode = mode(&options.access, name)?;
        let mut claim = match &place {
            Place::Path(path) => Some(Claim::take(path)?),
            Place::Abstract(_) => None,
        };
        let socket = listen(&place, mode)?;
        if let Some(backlog) = options.backlog {
            rustix::net::listen(&socket, clamp(backlog))?;
        }
        if let (Some(claim), Place::Path(path)) = (&mut claim, &place) {
            let found = claim.bound()?;
            open_to(path, &options.access, mode, found.mode())?;
        }
        let backlog = options.backlog.map_or(i32::MAX, clamp);
        Ok(Endpoint {
            open: RwLock::new(Some(Open {
                _claim: claim,
                place,
                socket,
            })),
            stopped: AtomicBool::new(false),
            instances: Instances::new(options.instances, backlog, address),
            max_message: options.max_message,
            buffer_size: options.buffer_size,
            only: match options.access {
                Access::SameUser => Some(super::current_user()?),
                _ => None,
            },
        })
    }

    /// The socket, as long as it listens.
    pub(super) fn open(&self) -> RwLockReadGuard<'_, Option<Open>> {
        self.open.read()
    }

    /// From now on nobody is accepted any more, and whoever [waits for an instance](Instances) is woken.
    pub(super) fn begin_stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.instances.wake_all();
    }

    /// Gives the name back, when whoever uses the socket has let go of it.
    pub(super) fn end_stop(&self) {
        // Within the lock: whoever finds the listener stopped finds the name free as well.
        *self.open.write() = None;
    }

    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(Error::Stopped.into())
        } else {
            Ok(())
        }
    }

    /// Takes the next connection out of the backlog, whoever it is from.
    pub(super) fn accept_now(&self, socket: &uds_local_socket::Listener) -> io::Result<Next> {
        loop {
            self.check_open()?;
            match socket.accept() {
                Ok(accepted) => {
                    let accepted = OwnedFd::from(accepted);
                    if !self.instances.is_plug(&accepted) {
                        return Ok(Next::Connection(accepted));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Nobody),
                Err(error) if is_passing(&error) => return Ok(Next::Scarce),
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes an accepted socket ready for use; `None` if its peer is not let in.
    pub(super) fn admit(&self, socket: OwnedFd) -> io::Result<Option<(OwnedFd, Option<Peer>)>> {
        let (socket, peer) = super::identify(socket);
        let peer = peer.ok();
        if !self.lets_in(peer.as_ref()) {
            return Ok(None);
        }
        os::prepare(&socket, self.buffer_size)?;
        Ok(Some((socket, peer)))
    }

    pub(super) fn access(&self) -> io::Result<String> {
        let open = self.open.read();
        match &open.as_ref().ok_or(Error::Stopped)?.place {
            Place::Path(path) => {
                let found = path.symlink_metadata()?;
                let mode = found.mode() & 0o7777;
                Ok(format!(
                    "uid {} gid {} mode {mode:04o}",
                    found.uid(),
                    found.gid()
                ))
            }
            Place::Abstract(_) => Ok(match &self.only {
                Some(user) => format!("uid {user}"),
                None => "everyone".to_owned(),
            }),
        }
    }

    /// The mode of the socket keeps others out, but an abstract name has none, and nor has a socket that was
    /// opened before.
    fn lets_in(&self, peer: Option<&Peer>) -> bool {
        self.only.is_none() || self.only.as_ref() == peer.and_then(|peer| peer.user.as_ref())
    }

    pub(super) fn set_backlog(&self, backlog: i32) {
        // Recursively, as the caller may be about to be handed out under the same lock; and a listener that
        // is being stopped needs no backlog.
        if let Some(open) = self.open.try_read_recursive() {
            if let Some(open) = open.as_ref() {
                // Only a closed socket could refuse.
                let _ = rustix::net::listen(&open.socket, backlog);
            }
        }
    }
}

/// Whether what failed may work again later: accepting a client that gave up, or a limit of descriptors or memory.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let passing = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

fn clamp(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// The mode of the socket file, where the name and the access go together.
fn mode(access: &Access, name: &Name) -> io::Result<u32> {
    let mode = match access {
        Access::SameUser => 0o600,
        Access::Group(_) => 0o660,
        Access::Everyone => 0o666,
        Access::Mode(mode) => *mode,
        Access::Sddl(_) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a Unix socket has no security descriptor: say who may connect by Access::Group, Everyone or Mode",
            ));
        }
    };
    match (&name.0, access) {
        (Kind::Abstract(_), Access::Group(_) | Access::Mode(_)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{name} is an abstract name, which has no mode and no group: use a path"),
        )),
        (Kind::Portable(_) | Kind::Pipe { .. }, _) if mode & 0o077 != 0 => Err(invalid(format!(
            "{name} is in a directory that only this user can enter, so nobody else could connect: use Name::system or a path"
        ))),
        _ => Ok(mode),
    }
}

/// The listening socket, with its mode set from before it has a name.
fn listen(place: &Place, mode: u32) -> io::Result<uds_local_socket::Listener> {
    let name = match place {
        Place::Path(path) => path
            .as_path()
            .to_fs_name::<local_socket::GenericFilePath>()?,
        Place::Abstract(name) => name
            .as_str()
            .to_ns_name::<local_socket::GenericNamespaced>()?,
    };
    let options = || {
        ListenerOptions::new()
            .name(name.borrow())
            .reclaim_name(false)
            .try_overwrite(false)
            .nonblocking(ListenerNonblockingMode::Accept)
    };
    // What the owner may do; the others are let in once the group is set.
    match options().mode((mode & 0o700) as _).create_sync_as() {
        // Not every system can do that; there the directory and the check of each peer have to do.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => options().create_sync_as(),
        result => result,
    }
}

/// Lets in those who may connect beside the owner, and undoes what the umask took away.
fn open_to(path: &Path, access: &Access, mode: u32, found: u32) -> io::Result<()> {
    if let Access::Group(group) = access {
        std::os::unix::fs::chown(path, None, Some(group_id(group)?))?;
    }
    if found & 0o777 != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
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
