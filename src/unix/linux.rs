//! What Linux does in a way of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// `sun_path` has 108 bytes with the closing NUL: unix(7).
pub(super) const MAX_PATH: usize = 107;

pub(super) const SYSTEM_DIRECTORY: &str = "/run";

/// Sending to a peer that has closed is an error, not a signal: send(2).
pub(super) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// When the last tick was, by the clock that [`Instant`] reads (`CLOCK_MONOTONIC`): reading the coarse one costs a third,
/// because it does not ask the processor for the time since that tick. clock_gettime(2).
///
/// By the C library, because rustix looks for the kernel's code in a way that ends a program under valgrind.
#[inline]
pub(super) fn recently() -> Instant {
    /// One point in time by both, in nanoseconds. An [`Instant`] cannot be made from a reading of the clock.
    static BASE: OnceLock<Option<(Instant, i64)>> = OnceLock::new();
    let base = BASE.get_or_init(|| Some((Instant::now(), nanoseconds(ClockId::CLOCK_MONOTONIC)?)));
    let (Some((instant, base)), Some(tick)) = (base, nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE))
    else {
        return Instant::now();
    };
    // The first tick after the base may still be to come.
    *instant + Duration::from_nanos(u64::try_from(tick - base).unwrap_or(0))
}

/// What a clock says, which takes 292 years to be too much.
#[inline]
fn nanoseconds(clock: ClockId) -> Option<i64> {
    let now = clock_gettime(clock).ok()?;
    Some(now.num_nanoseconds())
}

pub(super) fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
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
        rustix::io::ioctl_fionbio(&socket, true)?;
        // A name of its own, which the system chooses, to know it by when it comes out of the backlog.
        rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
        match rustix::net::connect(&socket, address) {
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
