//! A socket that listens, and the clients in its backlog.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use interprocess::local_socket::traits::Listener as _;
use interprocess::os::unix::uds_local_socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::closing::{self, Doomed};
use super::socket::Socket;

/// A listening socket. Dropping it does not wait for what clients whom nobody has accepted have sent, see [`closing`].
#[derive(Debug)]
pub(super) struct Listening {
    /// Until it is dropped.
    socket: Option<uds_local_socket::Listener>,
    /// Nobody is in the backlog, nor comes any more.
    empty: AtomicBool,
}

impl Listening {
    pub(super) fn new(socket: uds_local_socket::Listener) -> Listening {
        Listening {
            socket: Some(socket),
            empty: AtomicBool::new(false),
        }
    }

    /// Takes the next connection out of the backlog.
    pub(super) fn accept(&self) -> io::Result<Socket> {
        let accepted = self.get().accept()?;
        Ok(Socket::new(accepted.into()))
    }

    /// Listens no more, in no process, and ends the connections that nobody has accepted.
    pub(super) fn turn_away(&self) {
        // Where this does not keep others from coming, they come too late, and are the system's to end.
        let _ = rustix::net::shutdown(self, Shutdown::Both);
        let error = loop {
            match self.accept() {
                Ok(socket) => socket.shut(),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR | Errno::CONNABORTED) => {}
                    error => break error,
                },
            }
        };
        let empty = matches!(error, Some(Errno::AGAIN | Errno::INVAL));
        self.empty.store(empty, Ordering::Release);
    }

    fn get(&self) -> &uds_local_socket::Listener {
        self.socket
            .as_ref()
            .expect("it is let go of only when this is")
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get().as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        let at_once = Timespec::default();
        let mut waiting = [PollFd::new(&socket, PollFlags::IN)];
        let nobody = *self.empty.get_mut() || matches!(poll(&mut waiting, Some(&at_once)), Ok(0));
        if !nobody {
            closing::hand_over([Doomed::Whole(socket.into())]);
        }
    }
}
