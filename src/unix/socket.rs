//! A connected socket, and what a peer may have put into it beside bytes.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, ReturnFlags, Shutdown};

use super::closing::{self, Doomed};
use super::os;
use super::receiving::{Received, peek, receive};

/// A socket that has had a peer.
///
/// Neither receiving from it nor dropping it closes descriptors that the peer has sent: see [`closing`].
#[derive(Debug)]
pub(super) struct Socket {
    /// Until it is dropped.
    descriptor: Option<OwnedFd>,
    shut: AtomicBool,
}

const OWNED: &str = "it is let go of only with the socket";

impl Socket {
    pub(super) fn new(descriptor: OwnedFd) -> Socket {
        Socket {
            descriptor: Some(descriptor),
            shut: AtomicBool::new(false),
        }
    }

    /// recvmsg(2), in which descriptors that come along are let go of.
    ///
    /// Only a process that has no descriptor left cannot take them, and leaves them to the system to close.
    #[inline]
    pub(super) fn receive(
        &self,
        slices: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> rustix::io::Result<Received> {
        if closing::is_crowded() {
            return self.receive_warily(slices, flags);
        }
        receive(self, slices, flags, |descriptors| {
            closing::hand_over(descriptors.map(Doomed::Whole));
        })
    }

    /// While many descriptors wait to be closed no more are taken: the connection of a peer that sends some is ended.
    #[cold]
    fn receive_warily(
        &self,
        slices: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> rustix::io::Result<Received> {
        let Some(first) = slices.iter_mut().find(|slice| !slice.is_empty()) else {
            return Ok(Received {
                bytes: 0,
                early: false,
            });
        };
        let seen = peek(self, first, flags)?;
        if seen.flags.contains(ReturnFlags::CTRUNC) {
            self.shut();
            return Err(Errno::CONNRESET);
        }
        // No more than was seen, as behind it there may be some by now.
        let (bytes, _) = rustix::net::recv(self, &mut first[..seen.bytes], flags)?;
        Ok(Received { bytes, early: true })
    }

    /// Ends the connection: nobody sends or receives any more, in other processes neither.
    pub(super) fn shut(&self) {
        // It fails only where the peer has gone already.
        let _ = rustix::net::shutdown(self, Shutdown::Both);
        self.shut.store(true, Ordering::Release);
    }
}

/// Closes the socket. It may be in use in another process, which has inherited it: so nothing is taken out of it, and it
/// is not shut down.
impl Drop for Socket {
    fn drop(&mut self) {
        let Some(descriptor) = self.descriptor.take() else {
            return;
        };
        if may_hold_descriptors(&descriptor) {
            closing::hand_over([if *self.shut.get_mut() {
                Doomed::Shut(descriptor)
            } else {
                Doomed::Whole(descriptor)
            }]);
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Socket {
        Socket::new(descriptor)
    }
}

/// For what owns a descriptor itself.
impl From<Socket> for OwnedFd {
    fn from(mut socket: Socket) -> OwnedFd {
        socket.descriptor.take().expect(OWNED)
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect(OWNED).as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Whether among what nobody has received there may be descriptors.
fn may_hold_descriptors(socket: &OwnedFd) -> bool {
    const LOOK: usize = 4096;
    let unread = match rustix::io::ioctl_fionread(socket) {
        Ok(0) => return false,
        Ok(unread) => unread as usize,
        Err(_) => return true,
    };
    if unread > LOOK || !os::PEEK_TELLS_RIGHTS {
        return true;
    }
    match peek(socket, &mut [0; LOOK], RecvFlags::DONTWAIT) {
        Ok(seen) => seen.bytes != unread || seen.flags.contains(ReturnFlags::CTRUNC),
        Err(_) => true,
    }
}
