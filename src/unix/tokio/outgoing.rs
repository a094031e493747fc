//! Messages on their way out.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::slice;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::super::framing::{HEADER, MAX_SLICES, SMALL, header, with_slices};
use super::super::os;
use super::scratch;
use crate::transport::{check_sendable, total_len};

/// Messages up to this size are gathered where several are sent: copying them costs less than a system call each.
const GATHERED: usize = 8 << 10;

const FLAGS: SendFlags = os::NO_SIGNAL.union(SendFlags::DONTWAIT);

/// Sends a small message without waiting; whether all of it has gone.
pub(super) fn send_alone(socket: &impl AsFd, message: &[u8]) -> rustix::io::Result<bool> {
    scratch::with_write(|small| {
        small.extend_from_slice(&header(message.len()));
        small.extend_from_slice(message);
        let sent = rustix::net::send(socket, small, FLAGS)?;
        Ok(sent == small.len())
    })
}

/// What is to be sent, and how much of it has gone.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    what: What<'a>,
    /// How many messages have gone in whole.
    gone: usize,
    /// How much of the next has, its length included.
    sent: usize,
}

#[derive(Debug, Clone, Copy)]
enum What<'a> {
    /// One message in pieces.
    Pieces(&'a [IoSlice<'a>]),
    /// One message each.
    Messages(&'a [IoSlice<'a>]),
}

impl What<'_> {
    /// The pieces of a message.
    #[inline]
    fn message(&self, index: usize) -> Option<&[IoSlice<'_>]> {
        match self {
            What::Pieces(pieces) => (index == 0).then_some(*pieces),
            What::Messages(messages) => messages.get(index).map(slice::from_ref),
        }
    }
}

impl<'a> Outgoing<'a> {
    pub(super) fn pieces(pieces: &'a [IoSlice<'a>]) -> io::Result<Outgoing<'a>> {
        check_sendable(total_len(pieces))?;
        Ok(Outgoing::new(What::Pieces(pieces)))
    }

    pub(super) fn messages(messages: &'a [IoSlice<'a>]) -> io::Result<Outgoing<'a>> {
        messages
            .iter()
            .try_for_each(|message| check_sendable(message.len()))?;
        Ok(Outgoing::new(What::Messages(messages)))
    }

    fn new(what: What<'a>) -> Outgoing<'a> {
        Outgoing {
            what,
            gone: 0,
            sent: 0,
        }
    }

    /// How much has gone of a message that has not gone in whole.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Sends what it can without waiting: `WouldBlock` if that is not all.
    pub(super) fn send_now(&mut self, socket: &impl AsFd) -> io::Result<()> {
        while self.what.message(self.gone).is_some() {
            match self.send_once(socket) {
                Ok(n) => self.advance(n),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn send_once(&self, socket: &impl AsFd) -> rustix::io::Result<usize> {
        let gathered = scratch::with_write(|small| {
            self.gather(small);
            let rest = small.get(self.sent..).filter(|rest| !rest.is_empty())?;
            Some(rustix::net::send(socket, rest, FLAGS))
        });
        if let Some(sent) = gathered {
            return sent;
        }
        let pieces = self.what.message(self.gone).unwrap_or_default();
        with_slices(&header(total_len(pieces)), pieces, |mut slices| {
            IoSlice::advance_slices(&mut slices, self.sent);
            let some = &slices[..slices.len().min(MAX_SLICES)];
            let mut nothing = SendAncillaryBuffer::default();
            rustix::net::sendmsg(socket, some, &mut nothing, FLAGS)
        })
    }

    /// Puts as many small messages as there are next into one buffer, as far as they fit.
    fn gather(&self, small: &mut Vec<u8>) {
        match self.what {
            What::Pieces(pieces) => {
                let length = total_len(pieces);
                if self.gone == 0 && length <= SMALL {
                    small.extend_from_slice(&header(length));
                    pieces
                        .iter()
                        .for_each(|piece| small.extend_from_slice(piece));
                }
            }
            What::Messages(messages) => {
                for message in &messages[self.gone..] {
                    let whole = HEADER + message.len();
                    if message.len() > GATHERED || small.len() + whole > scratch::SIZE {
                        break;
                    }
                    small.extend_from_slice(&header(message.len()));
                    small.extend_from_slice(message);
                }
            }
        }
    }

    fn advance(&mut self, n: usize) {
        self.sent += n;
        while let Some(pieces) = self.what.message(self.gone) {
            let whole = HEADER + total_len(pieces);
            if self.sent < whole {
                break;
            }
            self.sent -= whole;
            self.gone += 1;
        }
    }
}
