//! The listening socket and its name, however it is waited for.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};
use rustix::io::Errno;

use super::binding::{self, Binding};
use super::claim::Claim;
use super::instances::Instances;
use super::listening::Listening;
use super::os;
use super::place::Place;
use super::socket::Socket;
use crate::{Access, Error, ListenOptions, Name, Peer, UserId};

/// How long to wait before trying again when the system has run out of something.
pub(super) const BACKOFF: Duration = Duration::from_millis(50);

/// How long a process that was forked waits for its own threads to let go of a listener. A thread of the process that
/// has forked it, which was accepting then, seems to hold it for ever.
const GHOSTS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Endpoint {
    open: RwLock<Option<Open>>,
    stopped: AtomicBool,
    /// Nobody connects any more.
    closed: AtomicBool,
    pub(super) instances: Instances,
    pub(super) max_message: usize,
    buffer_size: Option<usize>,
    /// Whose connections are taken; `None`: the mode of the socket has decided already.
    only: Option<UserId>,
    /// The process that has bound it. Another one is its child, and shares what is the system's, but no thread.
    process: u32,
}

/// The fields are dropped in this order: the name goes while the socket is still open, see [`Claim`].
#[derive(Debug)]
pub(super) struct Open {
    claim: Option<Claim>,
    place: Place,
    pub(super) socket: Listening,
}

/// What one try to accept has found.
#[derive(Debug)]
pub(super) enum Next {
    Connection(Socket),
    /// Nobody is waiting.
    Nobody,
    /// The system has run out of something: to be tried again after [`BACKOFF`].
    Scarce,
}

impl Endpoint {
    pub(super) fn bind(options: &ListenOptions, name: &Name) -> io::Result<Endpoint> {
        os::prepare_to_identify();
        let backlog = options.backlog.map_or(i32::MAX, clamp);
        let bound = binding::bind(options, name, backlog)?;
        let address = bound.place.lasting_address();
        let Binding {
            claim,
            place,
            socket,
        } = bound;
        Ok(Endpoint {
            open: RwLock::new(Some(Open {
                claim,
                place,
                socket: Listening::new(socket.into()),
            })),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            instances: Instances::new(options.instances, backlog, address),
            max_message: options.max_message,
            buffer_size: options.buffer_size,
            only: match options.access {
                Access::SameUser => Some(UserId::current()?),
                _ => None,
            },
            process: process::id(),
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

    /// From now on connecting is refused, where the system can shut down a socket that listens. Those that have connected
    /// are still accepted; then it is [stopped](Error::Stopped).
    pub(super) fn close_door(&self) {
        // The socket is that of a process which was forked as well.
        if self.is_own() {
            if let Some(open) = &*self.open.read() {
                let _ = rustix::net::shutdown(&open.socket, rustix::net::Shutdown::Both);
            }
        }
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Gives the name back, when whoever uses the socket has let go of it.
    pub(super) fn end_stop(&self) {
        let is_own = self.is_own();
        self.close(|open| {
            if let Some(claim) = &mut open.claim {
                claim.give_back();
            }
            if is_own {
                open.socket.turn_away();
            }
        });
    }

    /// Lets go of the socket, and of its name if no other process has it as well.
    pub(super) fn let_go(&self) {
        self.close(|_| {});
    }

    fn close(&self, end: impl FnOnce(&mut Open)) {
        let open = if self.is_own() {
            Some(self.open.write())
        } else {
            self.open.try_write_for(GHOSTS)
        };
        // Within the lock: whoever finds the listener stopped finds the name free as well.
        if let Some(mut open) = open {
            if let Some(open) = &mut *open {
                end(open);
            }
            *open = None;
        }
    }

    /// Whether this is the process that has bound it, and not one that was forked since.
    pub(super) fn is_own(&self) -> bool {
        self.process == process::id()
    }

    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(Error::Stopped.into())
        } else {
            Ok(())
        }
    }

    /// Takes the next connection out of the backlog, whoever it is from.
    pub(super) fn accept_now(&self, socket: &Listening) -> io::Result<Next> {
        loop {
            self.check_open()?;
            // Asked before: whoever has come until then is there.
            let closed = self.closed.load(Ordering::SeqCst);
            match socket.accept() {
                Ok(accepted) => {
                    if !self.instances.is_plug(&accepted) {
                        return Ok(Next::Connection(accepted));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return match closed {
                        true => Err(Error::Stopped.into()),
                        false => Ok(Next::Nobody),
                    };
                }
                Err(error) if is_passing(&error) => return Ok(Next::Scarce),
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes an accepted socket ready for use; `None` if its peer is not let in.
    pub(super) fn admit(&self, socket: Socket) -> io::Result<Option<(Socket, Option<Peer>)>> {
        let (socket, peer) = os::identify(socket);
        let peer = peer.ok();
        if !self.lets_in(peer.as_ref()) {
            // Whatever it has sent is not to hold this thread up.
            socket.shut();
            return Ok(None);
        }
        os::prepare(&socket, self.buffer_size)?;
        Ok(Some((socket, peer)))
    }

    pub(super) fn access(&self) -> io::Result<String> {
        let open = self.open.read();
        match open.as_ref().ok_or(Error::Stopped)?.place.path() {
            Some(path) => {
                let found = path.symlink_metadata()?;
                let mode = found.mode() & 0o7777;
                Ok(format!(
                    "uid {} gid {} mode {mode:04o}",
                    found.uid(),
                    found.gid()
                ))
            }
            None => Ok(match &self.only {
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
