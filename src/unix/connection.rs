//! What a connected socket is, however it is waited for.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::instance::Instance;
use super::socket::Socket;
use crate::base::error::unsupported;
use crate::{Error, Peer};

#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) socket: S,
    state: AtomicU8,
    pub(super) max_message: usize,
    peer: Option<Peer>,
    /// The place that this connection takes among those of its listener.
    instance: Mutex<Option<Instance>>,
}

const OPEN: u8 = 0;
pub(super) const CLOSED: u8 = 1;
pub(super) const POISONED: u8 = 2;

/// A socket, or what watches one.
pub(super) trait Holds: AsFd {
    fn socket(&self) -> &Socket;
}

impl Holds for Socket {
    #[inline]
    fn socket(&self) -> &Socket {
        self
    }
}

impl<S: Holds> Connection<S> {
    pub(super) fn new(socket: S, peer: Option<Peer>, max_message: usize) -> Connection<S> {
        Connection {
            socket,
            state: AtomicU8::new(OPEN),
            max_message,
            peer,
            instance: Mutex::new(None),
        }
    }

    pub(super) fn occupy(&self, instance: Instance) {
        *self.instance.lock() = Some(instance);
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer.clone().unwrap_or_default()
    }

    /// Whether the peer, which has shut down its writing side, has not closed altogether (`POLLHUP` of `poll(2)`).
    pub(super) fn peer_listens(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::empty())];
        let looked = poll(&mut socket, Some(&Timespec::default()));
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        self.check_open().is_ok() && looked.is_ok() && !socket[0].revents().intersects(gone)
    }

    /// Ends the connection for good; the first reason stays.
    pub(super) fn shut(&self, why: u8) {
        let _ = self
            .state
            .compare_exchange(OPEN, why, Ordering::SeqCst, Ordering::SeqCst);
        // Wakes whoever waits on the socket.
        self.socket.socket().shut();
        drop(self.instance.lock().take());
    }

    #[inline]
    pub(super) fn check_open(&self) -> io::Result<()> {
        match self.state.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            POISONED => Err(Error::Poisoned.into()),
            _ => Err(Error::Closed.into()),
        }
    }

    /// What a failed send means for the connection, and for the caller.
    pub(super) fn after_failed_send(&self, sent: usize, error: io::Error) -> io::Error {
        if let Err(closed) = self.check_open() {
            return closed;
        }
        match error.kind() {
            // Two words for one thing: the peer has closed, with or without having read everything.
            io::ErrorKind::ConnectionReset => io::ErrorKind::BrokenPipe.into(),
            // Nobody takes the next message for the rest of this one, and what the peer has said is still to be received.
            io::ErrorKind::BrokenPipe => error,
            // Whatever it was, be it the time or the system's memory: a part of the message has gone.
            _ if sent > 0 => {
                self.shut(POISONED);
                error
            }
            _ => error,
        }
    }
}

/// What a stream of any kind says when it is asked to act as its client.
pub(super) fn impersonate<R>(_act: impl FnOnce() -> R) -> io::Result<R> {
    Err(unsupported(
        "only Windows can act as another user for a while",
    ))
}
