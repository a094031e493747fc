//! What Linux does in a way of its own.

pub(super) mod files;
pub(super) mod system;
#[cfg(feature = "tokio")]
pub(super) mod tokio;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustix::process::getpid;

use crate::{Peer, UserId};

/// `sun_path` has 108 bytes with the closing NUL: unix(7).
pub(super) const MAX_PATH: usize = 107;

/// Sending to a peer that has closed is an error, not a signal: send(2).
pub(super) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// Descriptors come with close-on-exec: recvmsg(2).
pub(super) const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// As many descriptors as one message can have: `SCM_MAX_FD` in `include/net/scm.h`. They are never put together.
pub(super) const MAX_RIGHTS: usize = 253;

/// A look at a message says that it has descriptors where there is no room for them.
pub(super) const PEEK_TELLS_RIGHTS: bool = true;

/// A socket that does not block yet.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    be_urgent_in_line(&socket)?;
    Ok(socket)
}

/// Has bytes that are sent out of band (`MSG_OOB`) be bytes as all others, and so what a peer does with them is its own
/// business. Otherwise the system drops them on the way, and closes the descriptors that came with them.
fn be_urgent_in_line(socket: &impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_oobinline(socket, true)?)
}

/// What an accepted socket still needs.
pub(super) fn prepare(socket: &impl AsFd, buffer_size: Option<usize>) -> io::Result<()> {
    be_urgent_in_line(socket)?;
    if let Some(bytes) = buffer_size {
        sockopt::set_socket_send_buffer_size(socket, bytes)?;
    }
    Ok(())
}

/// Asks the system what process and which user is at the other end.
///
/// A process in no process-id namespace of ours has 0 for its id, and the user that it had when it connected or began to
/// listen.
pub(super) fn identify<S: AsFd>(socket: S) -> (S, io::Result<Peer>) {
    let peer = getsockopt(&socket, PeerCredentials).map(|credentials| Peer {
        pid: u32::try_from(credentials.pid())
            .ok()
            .filter(|pid| *pid != 0),
        user: Some(credentials.uid())
            .filter(|uid| !is_nobody(*uid))
            .map(UserId::Uid),
    });
    (socket, peer.map_err(Into::into))
}

/// Whether this is what the system says for all users that have no number in our user namespace: user_namespaces(7).
///
/// Where all have one, as they have outside of containers, it is the number of an account like others.
fn is_nobody(uid: u32) -> bool {
    uid == overflow_uid() && !all_users_have_numbers().unwrap_or(false)
}

/// What [`identify`] has to know, looked up while there are descriptors to read files with.
pub(super) fn prepare_to_identify() {
    overflow_uid();
}

fn overflow_uid() -> u32 {
    static OVERFLOW_UID: OnceLock<u32> = OnceLock::new();
    *OVERFLOW_UID.get_or_init(|| {
        let given = fs::read_to_string("/proc/sys/kernel/overflowuid");
        let given = given.ok().and_then(|uid| uid.trim().parse().ok());
        given.unwrap_or(65_534)
    })
}

/// A line of the map is the first number inside, the first outside, and how many there are.
fn all_users_have_numbers() -> io::Result<bool> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    let counts = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    let counts = counts.filter_map(|count| count.parse::<u64>().ok());
    // The last number there could be is none.
    Ok(counts.sum::<u64>() >= u64::from(u32::MAX))
}

pub(super) fn abstract_address(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

/// A connection of the listener to itself that fills its backlog, so that the next client finds it busy.
///
/// With a backlog of none Linux still queues one connection; this is the one. What it takes is made in advance and known
/// by name, because at the limit of descriptors there would be none to make it of, nor to look at another.
#[derive(Debug)]
pub(super) struct Plug {
    socket: OwnedFd,
    /// A name of its own, which the system chooses, to know it by when it comes out of the backlog.
    name: SocketAddrUnix,
}

impl Plug {
    pub(super) fn new() -> io::Result<Plug> {
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
        let name = rustix::net::getsockname(&socket)?.try_into()?;
        Ok(Plug { socket, name })
    }

    /// Fills the backlog of a listener, which has been set to none; false if it is full already.
    pub(super) fn fill(&self, address: &SocketAddrUnix) -> io::Result<bool> {
        match rustix::net::connect(&self.socket, address) {
            Ok(()) if is_of_this_process(&self.socket) => Ok(true),
            Ok(()) => Err(io::Error::other(
                "another listener's socket is there by now",
            )),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this is the other end of an accepted connection.
    pub(super) fn is(&self, accepted: &impl AsFd) -> bool {
        let peer = rustix::net::getpeername(accepted).ok().flatten();
        peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok())
            .is_some_and(|name| name == self.name)
            // In a container with a network of its own the name may be another's.
            && is_of_this_process(accepted)
    }
}

fn is_of_this_process(socket: &impl AsFd) -> bool {
    let peer = getsockopt(socket, PeerCredentials);
    peer.is_ok_and(|peer| peer.pid() == getpid().as_raw_pid())
}
