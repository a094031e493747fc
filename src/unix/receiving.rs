//! Receiving from a socket what is more than bytes: descriptors that come along.

use std::io::IoSliceMut;
use std::iter;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, recvmsg,
};

use super::os;

/// What a system call has received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) bytes: usize,
    /// Descriptors came along: behind these the system call ends early.
    #[cfg_attr(
        not(feature = "tokio"),
        expect(dead_code, reason = "who waits in the system call does not ask")
    )]
    pub(super) early: bool,
}

/// Room for all descriptors that can come at once.
const ROOM: usize = rustix::cmsg_space!(ScmRights(os::MAX_RIGHTS));

/// Receives what is there, takes nothing, and tells by [`ReturnFlags::CTRUNC`] whether descriptors come along.
pub(super) fn peek(
    socket: &impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<RecvMsg> {
    let mut nothing = RecvAncillaryBuffer::default();
    recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut nothing,
        flags | RecvFlags::PEEK,
    )
}

/// recvmsg(2), which says where descriptors that come along go.
#[inline]
pub(super) fn receive(
    socket: &impl AsFd,
    slices: &mut [IoSliceMut<'_>],
    flags: RecvFlags,
    take: impl FnOnce(&mut dyn Iterator<Item = OwnedFd>),
) -> rustix::io::Result<Received> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = recvmsg(socket, slices, &mut control, flags | os::RECEIVE)?;
    let cut = received.flags.contains(ReturnFlags::CTRUNC);
    let some = let_go(&mut control, take);
    if !some {
        // It has nothing to drop, and takes a while to find that out once more.
        mem::forget(control);
    }
    Ok(Received {
        bytes: received.bytes,
        early: some || cut,
    })
}

/// Says where the descriptors go that came along, and whether there were any.
#[inline]
fn let_go(
    control: &mut RecvAncillaryBuffer<'_>,
    take: impl FnOnce(&mut dyn Iterator<Item = OwnedFd>),
) -> bool {
    let mut messages = control.drain();
    let Some(first) = messages.next() else {
        return false;
    };
    let rights = iter::once(first)
        .chain(messages)
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
    take(&mut rights.flatten());
    true
}

/// Receives whatever is in a socket that has been shut down.
pub(super) fn empty(socket: &OwnedFd, mut take: impl FnMut(OwnedFd)) {
    let mut bytes = [0; 16 << 10];
    loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = receive(socket, &mut slices, RecvFlags::DONTWAIT, |descriptors| {
            descriptors.for_each(&mut take);
        });
        match received {
            Ok(Received { bytes: 0, .. }) => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
