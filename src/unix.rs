//! The transport over Unix domain sockets.
//!
//! Messages travel over `SOCK_STREAM`, each behind four bytes of length (`docs/wire.md`): `SOCK_SEQPACKET` limits
//! a message to about the size of the send buffer, loses the tail of a short read, cannot tell an empty message
//! from the end, and does not exist on macOS.
//!
//! From interprocess come accepting (close-on-exec everywhere) and, on macOS and the BSDs, the peer's credentials. The
//! rest is done here on the descriptor, because interprocess takes a
//! full backlog for a connection, and takes over or unlinks names without looking whose they are.

mod binding;
mod claim;
mod closing;
mod connection;
mod endpoint;
mod framing;
mod instance;
mod instances;
mod listener;
mod listening;
mod lock;
mod patience;
mod place;
mod probe;
mod read_ahead;
mod receiving;
mod socket;
mod stream;
pub(crate) mod system;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;

cfg_if::cfg_if! {
    if #[cfg(any(target_os = "linux", target_os = "android"))] {
        mod linux;
        use linux as os;
    } else {
        mod bsd;
        use bsd as os;
    }
}

use std::io;
use std::thread;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

use crate::base::backoff::Backoff;
use crate::base::error::unsupported;
use crate::transport::platform::Platform;
use crate::{ConnectOptions, Deadline, Error, ListenOptions, Name, Peer, ReadMode};
use listener::Listener;
use patience::Patience;
use place::{Place, Search};
use socket::Socket;
use stream::Stream;
use system::Os;

impl Platform for Os {
    type Listener = Listener;
    type Stream = Stream;

    fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        check_read_mode(options.read_mode)?;
        Listener::bind(options, name)
    }

    fn connect(options: &ConnectOptions, name: &Name, deadline: Deadline) -> io::Result<Stream> {
        check_read_mode(options.read_mode)?;
        os::prepare_to_identify();
        let mut backoff = Backoff::new();
        let search = Search::new(name)?;
        let socket = loop {
            match search.find(|place| dial(place, deadline)) {
                Ok(socket) => break socket,
                Err(error)
                    if options.wait_for_server && error.kind() == io::ErrorKind::NotFound =>
                {
                    thread::sleep(backoff.next(deadline).map_err(|late| since(late, &error))?);
                }
                Err(error) => return Err(error),
            }
        };
        let (socket, peer) = dialed(options, socket)?;
        let patience = Patience::spinning(options.spin);
        Stream::new(socket, peer, options.max_message, patience)
    }
}

/// One `connect(2)`, which on Linux waits in the kernel for room in the backlog, if there is none.
fn dial(place: &Place, deadline: Deadline) -> io::Result<Socket> {
    let address = place.address()?;
    let socket = Socket::new(os::socket()?);
    let mut waits = false;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) if !waits => {}
            // A full backlog: never a connection that is under way, as it would be on another kind of socket.
            Err(Errno::AGAIN) if deadline == Deadline::NOW => return Err(Error::Busy.into()),
            // A wait that a signal has interrupted goes on for what is left of the time, or each signal would give it
            // all of the time again.
            Err(Errno::AGAIN | Errno::INTR) => {
                let left = deadline.remaining();
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                // SO_SNDTIMEO is how long connect(2) waits for room in the backlog: unix(7), socket(7).
                sockopt::set_socket_timeout(&socket, Timeout::Send, left)?;
                rustix::io::ioctl_fionbio(&socket, false)?;
                waits = true;
            }
            Err(error) => return Err(refused(error, place)),
        }
    }
    // In the first call of a program each system call costs microseconds: only what has to be undone is undone.
    if waits {
        sockopt::set_socket_timeout(&socket, Timeout::Send, None)?;
    } else {
        rustix::io::ioctl_fionbio(&socket, false)?;
    }
    Ok(socket)
}

/// Says why there was nothing but waiting until the deadline.
fn since(late: io::Error, error: &io::Error) -> io::Error {
    io::Error::new(late.kind(), format!("{error}, until the deadline"))
}

/// Why there is no connection, other than a full backlog.
fn refused(error: Errno, place: &Place) -> io::Error {
    match error {
        Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR => io::Error::new(
            io::ErrorKind::NotFound,
            format!("nobody listens at {place}"),
        ),
        Errno::ACCESS => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("this user may not connect to {place}"),
        ),
        error => error.into(),
    }
}

/// What a socket that has been connected still needs.
fn dialed(options: &ConnectOptions, socket: Socket) -> io::Result<(Socket, Option<Peer>)> {
    if let Some(bytes) = options.buffer_size {
        sockopt::set_socket_send_buffer_size(&socket, bytes)?;
    }
    let (socket, peer) = os::identify(socket);
    let peer = peer.ok();
    let user = peer.as_ref().and_then(|peer| peer.user.as_ref());
    // Whatever one that is not trusted has sent is not to hold this thread up.
    options.trust.check(user).inspect_err(|_| socket.shut())?;
    Ok((socket, peer))
}

fn check_read_mode(mode: ReadMode) -> io::Result<()> {
    match mode {
        ReadMode::Message => Ok(()),
        ReadMode::Byte => Err(unsupported(
            "a Unix socket has no byte mode: there are no messages without their lengths",
        )),
    }
}
