//! The listening socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interprocess::local_socket::{
    self, ListenerNonblockingMode, ListenerOptions, ToFsName, ToNsName,
};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket;
use local_socket::traits::Listener as _;
use parking_lot::{Condvar, Mutex, RwLock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::claim::Claim;
use super::place::Place;
use super::{Stream, os};
use crate::name::{Kind, invalid};
use crate::{Access, Deadline, Error, ListenOptions, Name, Peer, UserId};

/// How long to wait before trying again when the system has run out of something.
const BACKOFF: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Listener {
    shared: Arc<Shared>,
    max_message: usize,
    buffer_size: Option<usize>,
    /// Whose connections are taken; `None`: the mode of the socket has decided already.
    only: Option<UserId>,
}

#[derive(Debug)]
struct Shared {
    open: RwLock<Option<Open>>,
    stopped: AtomicBool,
    /// Readable for ever once the other end has been shut down, which is how `stop` wakes `accept`.
    wakes: UnixStream,
    waker: UnixStream,
    instances: Instances,
}

/// The fields are dropped in this order: the name goes while the socket is still open, see [`Claim`].
#[derive(Debug)]
struct Open {
    _claim: Option<Claim>,
    place: Place,
    socket: uds_local_socket::Listener,
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
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
        let (wakes, waker) = UnixStream::pair()?;
        let instances = Instances {
            limit: options.instances,
            backlog: options.backlog.map_or(i32::MAX, clamp),
            address,
            counts: Mutex::default(),
            freed: Condvar::new(),
        };
        let shared = Shared {
            open: RwLock::new(Some(Open {
                _claim: claim,
                place,
                socket,
            })),
            stopped: AtomicBool::new(false),
            wakes,
            waker,
            instances,
        };
        Ok(Listener {
            shared: Arc::new(shared),
            max_message: options.max_message,
            buffer_size: options.buffer_size,
            only: match options.access {
                Access::SameUser => Some(super::current_user()?),
                _ => None,
            },
        })
    }

    pub(crate) fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        self.accept_once(deadline).inspect_err(|error| {
            if Error::of(error) == Some(&Error::Stopped) {
                // Another thread is stopping it: not before the name is free does this one go on.
                self.stop();
            }
        })
    }

    fn accept_once(&self, deadline: Deadline) -> io::Result<Stream> {
        let instance = Instance::reserve(&self.shared, deadline)?;
        loop {
            let socket = self.shared.next(deadline)?;
            let (socket, peer) = super::identify(socket);
            if !self.lets_in(peer.as_ref().ok()) {
                continue;
            }
            os::prepare(&socket, self.buffer_size)?;
            let stream = Stream::new(socket, peer.ok(), self.max_message)?;
            stream.occupy(instance.connected());
            return Ok(stream);
        }
    }

    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes those who poll, and then those who wait for an instance.
        let _ = self.shared.waker.shutdown(std::net::Shutdown::Both);
        drop(self.shared.instances.counts.lock());
        self.shared.instances.freed.notify_all();
        // Within the lock: whoever finds the listener stopped finds the name free as well.
        *self.shared.open.write() = None;
    }

    pub(crate) fn access(&self) -> io::Result<String> {
        let open = self.shared.open.read();
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
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn check_open(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(Error::Stopped.into())
        } else {
            Ok(())
        }
    }

    /// The next connection out of the backlog, whoever it is from.
    fn next(&self, deadline: Deadline) -> io::Result<OwnedFd> {
        let open = self.open.read();
        let socket = &open.as_ref().ok_or(Error::Stopped)?.socket;
        loop {
            self.check_open()?;
            match socket.accept() {
                Ok(accepted) => {
                    let accepted = OwnedFd::from(accepted);
                    if !self.instances.is_plug(&accepted) {
                        return Ok(accepted);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_readable(Some(socket), deadline)?;
                }
                Err(error) if is_passing(&error) => {
                    let pause = deadline.min(Deadline::after(BACKOFF));
                    match self.wait_readable(None, pause) {
                        Err(error)
                            if error.kind() == io::ErrorKind::TimedOut
                                && !deadline.has_passed() => {}
                        result => result?,
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a connection, or only for the deadline, and in either case for [`Listener::stop`].
    fn wait_readable(
        &self,
        socket: Option<&uds_local_socket::Listener>,
        deadline: Deadline,
    ) -> io::Result<()> {
        loop {
            let timeout = deadline
                .remaining()
                .map(|left| Timespec::try_from(left).unwrap_or(LONG));
            let wakes = PollFd::new(&self.wakes, PollFlags::IN);
            let polled = match socket {
                Some(socket) => poll(
                    &mut [wakes, PollFd::new(socket, PollFlags::IN)],
                    timeout.as_ref(),
                ),
                None => poll(&mut [wakes], timeout.as_ref()),
            };
            match polled {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.check_open(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

const LONG: Timespec = Timespec {
    tv_sec: 1 << 30,
    tv_nsec: 0,
};

/// Whether accepting may work again later: a client that gave up, or a limit of descriptors or memory.
fn is_passing(error: &io::Error) -> bool {
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

/// The limit on connections that are open at once.
#[derive(Debug)]
struct Instances {
    limit: Option<usize>,
    backlog: i32,
    address: rustix::net::SocketAddrUnix,
    counts: Mutex<Counts>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    /// Held by a connection, or by somebody who waits for one.
    reserved: usize,
    /// Held by a connection.
    connected: usize,
    /// What keeps the backlog full while there is no instance to serve it.
    plugs: Vec<os::Plug>,
}

impl Instances {
    fn is_plug(&self, accepted: &OwnedFd) -> bool {
        let mut counts = self.counts.lock();
        let before = counts.plugs.len();
        counts
            .plugs
            .retain(|plug| !plug.is(accepted).unwrap_or(false));
        counts.plugs.len() < before
    }
}

/// One of the connections that a listener may have open. Dropping it makes room for the next.
#[derive(Debug)]
pub(super) struct Instance {
    shared: Option<Arc<Shared>>,
    connected: bool,
}

impl Instance {
    fn reserve(shared: &Arc<Shared>, deadline: Deadline) -> io::Result<Instance> {
        let instances = &shared.instances;
        if let Some(limit) = instances.limit {
            let mut counts = instances.counts.lock();
            loop {
                shared.check_open()?;
                if counts.reserved < limit {
                    break;
                }
                match (deadline.is_never(), deadline.instant()) {
                    (true, _) => instances.freed.wait(&mut counts),
                    (_, Some(at)) if !instances.freed.wait_until(&mut counts, at).timed_out() => {}
                    _ => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
            counts.reserved += 1;
        }
        Ok(Instance {
            shared: instances.limit.map(|_| Arc::clone(shared)),
            connected: false,
        })
    }

    /// Counts the connection; if it is the last that may be open, the next client is to find the listener busy.
    fn connected(mut self) -> Instance {
        if let Some(shared) = &self.shared {
            self.connected = true;
            let mut counts = shared.instances.counts.lock();
            counts.connected += 1;
            if shared.instances.limit == Some(counts.connected) {
                shared.set_backlog(0);
                if let Ok(Some(plug)) = os::Plug::new(&shared.instances.address) {
                    counts.plugs.push(plug);
                }
            }
        }
        self
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut counts = shared.instances.counts.lock();
        counts.reserved -= 1;
        if self.connected {
            counts.connected -= 1;
            // Clients may queue again from now on, whether or not anybody is accepting yet. Raising the
            // backlog wakes those that wait in connect(2).
            shared.set_backlog(shared.instances.backlog);
        }
        drop(counts);
        shared.instances.freed.notify_one();
    }
}

impl Shared {
    fn set_backlog(&self, backlog: i32) {
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
