//! What Linux does in a way of its own.

pub(super) mod files;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Instant;

use nix::time::{ClockId, clock_gettime};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::getpid;

use crate::clock::Epoch;

/// `sun_path` has 108 bytes with the closing NUL: unix(7).
pub(super) const MAX_PATH: usize = 107;

pub(super) const SYSTEM_DIRECTORY: &str = "/run";

/// Sending to a peer that has closed is an error, not a signal: send(2).
pub(super) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// What time it is: `CLOCK_MONOTONIC`, which is the clock that [`Instant`] reads, though it does not say so in numbers.
/// clock_gettime(2).
///
/// By the C library, because rustix looks for the kernel's code in a way that ends a program under valgrind.
#[inline]
pub(super) fn now() -> u64 {
    // The standard library panics as well, in every `Instant::now()`.
    read(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock can be read")
}

/// When the last tick was: reading the coarse clock costs a third, because it does not ask the processor for the time
/// since that tick.
#[inline]
pub(super) fn recently() -> u64 {
    read(ClockId::CLOCK_MONOTONIC_COARSE).unwrap_or_else(|_| now())
}

#[inline]
fn read(clock: ClockId) -> nix::Result<u64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// One point in time, both ways. Nobody can read both at once: what lies between two readings of the one is as little as
/// a few tries make it.
pub(super) fn epoch() -> Epoch {
    let mut best = (u64::MAX, Instant::now(), 0);
    for _ in 0..10 {
        let time = now();
        let instant = Instant::now();
        best = best.min((now() - time, instant, time));
    }
    let (_, instant, time) = best;
    Epoch { instant, time }
}

/// A socket that does not block yet.
pub(super) fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// What an accepted socket still needs.
pub(super) fn prepare(socket: &OwnedFd, buffer_size: Option<usize>) -> io::Result<()> {
    if let Some(bytes) = buffer_size {
        sockopt::set_socket_send_buffer_size(socket, bytes)?;
    }
    Ok(())
}

pub(super) fn abstract_address(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

/// A connection of the listener to itself that fills its backlog, so that the next client finds it busy.
///
/// With a backlog of none Linux still queues one connection; this is the one.
#[derive(Debug)]
pub(super) struct Plug(UnixStream);

impl Plug {
    /// Fills the backlog of a listener, which has been set to none. `None` if it is full already.
    pub(super) fn new(address: &SocketAddrUnix) -> io::Result<Option<Plug>> {
        let socket = socket()?;
        // A name of its own, which the system chooses, to know it by when it comes out of the backlog.
        rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
        match rustix::net::connect(&socket, address) {
            // Somebody may have put another listener's socket there.
            Ok(()) if sockopt::socket_peercred(&socket)?.pid != getpid() => Ok(None),
            Ok(()) => Ok(Some(Plug(socket.into()))),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this is the other end of an accepted connection.
    pub(super) fn is(&self, accepted: &impl AsFd) -> io::Result<bool> {
        let accepted = UnixStream::from(accepted.as_fd().try_clone_to_owned()?);
        Ok(same_name(&self.0.local_addr()?, &accepted.peer_addr()?))
    }
}

fn same_name(a: &SocketAddr, b: &SocketAddr) -> bool {
    use std::os::linux::net::SocketAddrExt;
    a.as_abstract_name()
        .is_some_and(|name| b.as_abstract_name() == Some(name))
}
