//! The connected socket: messages behind their lengths.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};

use super::listener::Instance;
use super::os;
use super::patience::{Meanwhile, Patience};
use super::read_ahead::{READ_AHEAD, ReadAhead};
use crate::transport::{TRUSTED_CLAIM, check_sendable, total_len};
use crate::{Deadline, Error, MAX_MESSAGE, Part, Peer, Waiting};

/// The length before each message, in bytes.
const HEADER: usize = 4;

/// The bits of the length that mean nothing yet.
const RESERVED: u32 = !(MAX_MESSAGE as u32);

/// Messages up to this size are sent as one slice behind their length, which costs less than two do.
const SMALL: usize = 1024;

#[derive(Debug)]
pub(crate) struct Stream {
    socket: OwnedFd,
    state: AtomicU8,
    receiving: Mutex<Receiving>,
    sending: Mutex<Sending>,
    max_message: usize,
    peer: Option<Peer>,
    /// The place that this connection takes among those of its listener.
    instance: Mutex<Option<Instance>>,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const POISONED: u8 = 2;

impl Stream {
    pub(super) fn new(
        socket: OwnedFd,
        peer: Option<Peer>,
        max_message: usize,
    ) -> io::Result<Stream> {
        Ok(Stream {
            socket,
            state: AtomicU8::new(OPEN),
            receiving: Mutex::new(Receiving::default()),
            sending: Mutex::new(Sending {
                patience: Patience::new(Timeout::Send),
                small: Vec::new(),
            }),
            max_message,
            peer,
            instance: Mutex::new(None),
        })
    }

    pub(super) fn occupy(&self, instance: Instance) {
        *self.instance.lock() = Some(instance);
    }

    pub(crate) fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        check_sendable(message.len())?;
        let mut sending = deadline.lock(&self.sending)?;
        self.send_message(&mut sending, &[IoSlice::new(message)], deadline, None)
    }

    pub(crate) fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let mut sending = deadline.lock(&self.sending)?;
        self.send_message(&mut sending, pieces, deadline, Some(receive))
    }

    pub(crate) fn send_vectored(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let mut sending = deadline.lock(&self.sending)?;
        self.send_message(&mut sending, pieces, deadline, None)
    }

    pub(crate) fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        self.recv_part(&mut receiving, buf, deadline)
    }

    pub(crate) fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        self.recv_whole(&mut receiving, message, deadline)
    }

    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    pub(crate) fn peek(&self) -> io::Result<Option<Waiting>> {
        // Whoever receives at the moment gets what comes.
        let Some(mut receiving) = self.receiving.try_lock() else {
            return Ok(Some(Waiting {
                bytes: 0,
                message: None,
            }));
        };
        match self.begin(&mut receiving, Deadline::NOW) {
            Ok(None) => Ok(None),
            Ok(Some(left)) => {
                let arrived =
                    receiving.buffer.len() + rustix::io::ioctl_fionread(&self.socket)? as usize;
                let bytes = receiving.stash.len() + arrived;
                Ok(Some(Waiting {
                    bytes,
                    message: Some(receiving.stash.len() + left),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Some(Waiting {
                bytes: 0,
                message: None,
            })),
            Err(error) => {
                // Looking takes nothing: the next receive is to be told as well.
                receiving.cut = Error::of(&error) == Some(&Error::Truncated);
                Err(error)
            }
        }
    }

    pub(crate) fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        let mut receiving = deadline.lock(&self.receiving)?;
        match self.begin(&mut receiving, Deadline::NOW) {
            Ok(Some(_)) => return Err(Error::Busy.into()),
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
            // At the end, sending says what there is to say.
            Ok(None) | Err(_) => {}
        }
        let mut sending = deadline.lock(&self.sending)?;
        self.send_message(&mut sending, &[IoSlice::new(request)], deadline, None)?;
        drop(sending);
        let part = self.recv_part(&mut receiving, reply, deadline);
        if matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            self.shut(POISONED);
        }
        part
    }

    pub(crate) fn peer(&self) -> io::Result<Peer> {
        Ok(self.peer.clone().unwrap_or_default())
    }

    pub(crate) fn impersonate<R>(&self, _act: impl FnOnce() -> R) -> io::Result<R> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only Windows can act as another user for a while",
        ))
    }

    pub(crate) fn close(&self) {
        self.shut(CLOSED);
    }

    pub(crate) fn abort(&self) {
        // What has been sent is in the peer's own queue, out of reach.
        self.shut(CLOSED);
    }

    /// Ends the connection for good; the first reason stays.
    fn shut(&self, why: u8) {
        let _ = self
            .state
            .compare_exchange(OPEN, why, Ordering::SeqCst, Ordering::SeqCst);
        // Wakes whoever waits on the socket. It fails only where the peer has gone already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        drop(self.instance.lock().take());
    }

    #[inline]
    fn check_open(&self) -> io::Result<()> {
        match self.state.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            POISONED => Err(Error::Poisoned.into()),
            _ => Err(Error::Closed.into()),
        }
    }

    #[inline]
    fn send_message(
        &self,
        Sending { patience, small }: &mut Sending,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        meanwhile: Meanwhile<'_>,
    ) -> io::Result<()> {
        self.check_open()?;
        let length = total_len(pieces);
        let header = (length as u32).to_le_bytes();
        let result = if length <= SMALL {
            small.clear();
            small.extend_from_slice(&header);
            for piece in pieces {
                small.extend_from_slice(piece);
            }
            self.send_small(patience, small, deadline, meanwhile)
        } else {
            self.send_pieces(patience, &header, pieces, deadline, meanwhile)
        };
        result.map_err(|(sent, error)| self.after_failed_send(sent, error))
    }

    #[inline]
    fn send_small(
        &self,
        patience: &mut Patience,
        mut rest: &[u8],
        deadline: Deadline,
        mut meanwhile: Meanwhile<'_>,
    ) -> Result<(), Unsent> {
        let whole = rest.len();
        while !rest.is_empty() {
            let sent = patience
                .run_with(self.socket.as_fd(), deadline, &mut meanwhile, |wait| {
                    rustix::net::send(&self.socket, rest, send_flags(wait))
                })
                .map_err(|error| (whole - rest.len(), error))?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    fn send_pieces(
        &self,
        patience: &mut Patience,
        header: &[u8],
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        mut meanwhile: Meanwhile<'_>,
    ) -> Result<(), Unsent> {
        let mut few = [IoSlice::new(&[]); 8];
        let mut many = Vec::new();
        let slices = match few.get_mut(..=pieces.len()) {
            Some(slices) => slices,
            None => {
                many.resize(pieces.len() + 1, IoSlice::new(&[]));
                many.as_mut_slice()
            }
        };
        slices[0] = IoSlice::new(header);
        for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        let mut rest = slices;
        let mut sent = 0;
        while !rest.is_empty() {
            // No system takes more slices than this at once: IOV_MAX.
            let some = &rest[..rest.len().min(1024)];
            let n = patience
                .run_with(self.socket.as_fd(), deadline, &mut meanwhile, |wait| {
                    let mut nothing = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(&self.socket, some, &mut nothing, send_flags(wait))
                })
                .map_err(|error| (sent, error))?;
            sent += n;
            IoSlice::advance_slices(&mut rest, n);
        }
        Ok(())
    }

    /// What a failed send means for the connection, and for the caller.
    fn after_failed_send(&self, sent: usize, error: io::Error) -> io::Error {
        if let Err(closed) = self.check_open() {
            return closed;
        }
        match error.kind() {
            io::ErrorKind::TimedOut if sent > 0 => {
                self.shut(POISONED);
                error
            }
            // Two words for one thing: the peer has closed, with or without having read everything.
            io::ErrorKind::ConnectionReset => io::ErrorKind::BrokenPipe.into(),
            _ => error,
        }
    }

    /// Brings the head of the next message in, and says how much of it is still to come (beside the stash).
    #[inline]
    fn begin(&self, receiving: &mut Receiving, deadline: Deadline) -> io::Result<Option<usize>> {
        self.check_open()?;
        if mem::take(&mut receiving.cut) {
            return Err(Error::Truncated.into());
        }
        loop {
            match receiving.head {
                Head::Inside { left } => return Ok(Some(left)),
                Head::Discarding { left: 0 } => receiving.head = Head::Between,
                Head::Discarding { ref mut left } => {
                    let n = (*left).min(receiving.buffer.len());
                    *left -= n;
                    receiving.buffer.consume(n);
                    if n == 0 && self.fill(receiving, deadline)? == 0 {
                        return self.end(receiving, true);
                    }
                }
                Head::Between => {
                    if let Some(header) = receiving.buffer.unread().first_chunk::<HEADER>() {
                        let left = self.parse_header(*header)?;
                        receiving.buffer.consume(HEADER);
                        receiving.head = Head::Inside { left };
                    } else if self.fill(receiving, deadline)? == 0 {
                        let cut = receiving.buffer.len() > 0;
                        return self.end(receiving, cut);
                    }
                }
            }
        }
    }

    /// The peer has closed: between two messages that is the end, elsewhere the message is cut off.
    fn end<T>(&self, receiving: &mut Receiving, in_message: bool) -> io::Result<Option<T>> {
        self.check_open()?;
        if in_message {
            *receiving = Receiving {
                patience: mem::take(&mut receiving.patience),
                ..Receiving::default()
            };
            return Err(Error::Truncated.into());
        }
        Ok(None)
    }

    #[inline]
    fn fill(&self, receiving: &mut Receiving, deadline: Deadline) -> io::Result<usize> {
        let Receiving {
            buffer, patience, ..
        } = receiving;
        self.read(patience, deadline, |flags| {
            rustix::net::recv(&self.socket, spare_capacity(buffer.room()), flags).map(|(n, _)| n)
        })
    }

    #[inline]
    fn read(
        &self,
        patience: &mut Patience,
        deadline: Deadline,
        mut recv: impl FnMut(RecvFlags) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        // Receiving without room for control messages makes the system close any descriptor that a peer sends.
        match patience.run(self.socket.as_fd(), deadline, |wait| {
            recv(if wait {
                RecvFlags::empty()
            } else {
                RecvFlags::DONTWAIT
            })
        }) {
            // The peer has closed without having read everything; all that it sent has been received by now.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            result => result,
        }
    }

    fn recv_part(
        &self,
        receiving: &mut Receiving,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        let Some(mut left) = self.begin(receiving, deadline)? else {
            return Ok(None);
        };
        let len = buf.len().min(receiving.stash.len() + left);
        let buf = &mut buf[..len];
        let mut got = receiving.stash.len().min(len);
        buf[..got].copy_from_slice(&receiving.stash[..got]);
        receiving.stash.drain(..got);
        while got < len {
            let mut n = receiving.buffer.take(&mut buf[got..]);
            if n == 0 {
                let Receiving { patience, .. } = receiving;
                n = match self.read(patience, deadline, |flags| {
                    rustix::net::recv(&self.socket, &mut buf[got..], flags).map(|(n, _)| n)
                }) {
                    Ok(0) => return self.end(receiving, true),
                    Ok(n) => n,
                    Err(error) => {
                        // Kept for the next receive.
                        receiving.stash.extend_from_slice(&buf[..got]);
                        return Err(error);
                    }
                };
            }
            got += n;
            left -= n;
            receiving.head = Head::Inside { left };
        }
        let last = left == 0 && receiving.stash.is_empty();
        if last {
            receiving.head = Head::Between;
        }
        Ok(Some(Part { len, last }))
    }

    fn recv_whole(
        &self,
        receiving: &mut Receiving,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let at_head = matches!(receiving.head, Head::Between) && receiving.buffer.len() == 0;
        if at_head && message.len() > READ_AHEAD {
            self.read_in_place(receiving, message, deadline)?;
        } else {
            message.clear();
        }
        let Some(mut left) = self.begin(receiving, deadline)? else {
            return Ok(None);
        };
        let size = message.len() + receiving.stash.len() + left;
        if size > self.max_message {
            message.clear();
            receiving.stash = Vec::new();
            receiving.head = Head::Discarding { left };
            return Err(Error::TooLarge {
                limit: self.max_message,
                size,
            }
            .into());
        }
        if !receiving.stash.is_empty() {
            message.append(&mut mem::take(&mut receiving.stash));
        }
        while left > 0 {
            if message.capacity() - message.len() < left {
                message.reserve_exact(left.min(TRUSTED_CLAIM.max(message.len())));
            }
            let buffered = receiving.buffer.unread();
            let n = buffered.len().min(left);
            if n > 0 {
                message.extend_from_slice(&buffered[..n]);
                receiving.buffer.consume(n);
                left -= n;
            } else {
                let patience = &mut receiving.patience;
                let received = self.read(patience, deadline, |flags| {
                    rustix::net::recv(&self.socket, spare_capacity(message), flags).map(|(n, _)| n)
                });
                match received {
                    Ok(0) => {
                        message.clear();
                        return self.end(receiving, true);
                    }
                    Ok(n) => {
                        // The vector may have more room than the message needs: the rest belongs to the next.
                        let ahead = n.saturating_sub(left);
                        let end = message.len() - ahead;
                        receiving.buffer.keep(&message[end..]);
                        message.truncate(end);
                        left -= n - ahead;
                    }
                    Err(error) => {
                        receiving.stash.extend_from_slice(message);
                        message.clear();
                        return Err(error);
                    }
                }
            }
            receiving.head = Head::Inside { left };
        }
        receiving.head = Head::Between;
        Ok(Some(size))
    }

    /// The first read of a message, when the last one was large: the next is thought to be alike, and goes to
    /// where it belongs in one system call. Afterwards `message` holds what has come of it.
    fn read_in_place(
        &self,
        receiving: &mut Receiving,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<()> {
        self.check_open()?;
        let mut header = [0; HEADER];
        let mut slices = [IoSliceMut::new(&mut header), IoSliceMut::new(message)];
        let received = self.read(&mut receiving.patience, deadline, |flags| {
            if flags.is_empty() {
                // The same as recvmsg(2) here, and cheaper.
                return rustix::io::readv(&self.socket, &mut slices);
            }
            let mut nothing = RecvAncillaryBuffer::default();
            rustix::net::recvmsg(&self.socket, &mut slices, &mut nothing, flags).map(|r| r.bytes)
        });
        let received = received.inspect_err(|_| message.clear())?;
        let Some(came) = received.checked_sub(HEADER) else {
            receiving.buffer.keep(&header[..received]);
            message.clear();
            return Ok(());
        };
        let length = self.parse_header(header)?;
        let (own, ahead) = message[..came].split_at(came.min(length));
        receiving.head = Head::Inside {
            left: length - own.len(),
        };
        receiving.buffer.keep(ahead);
        let own = own.len();
        message.truncate(own);
        Ok(())
    }

    #[inline]
    fn parse_header(&self, header: [u8; HEADER]) -> io::Result<usize> {
        let length = u32::from_le_bytes(header);
        if length & RESERVED != 0 {
            self.shut(CLOSED);
            return Err(Error::Malformed("a reserved bit of a length is set").into());
        }
        Ok(length as usize)
    }
}

/// What failed, and how many bytes had gone by then.
type Unsent = (usize, io::Error);

fn send_flags(wait: bool) -> SendFlags {
    if wait {
        os::NO_SIGNAL
    } else {
        os::NO_SIGNAL | SendFlags::DONTWAIT
    }
}

#[derive(Debug)]
struct Sending {
    patience: Patience,
    /// A small message behind its length, made anew for each.
    small: Vec<u8>,
}

/// Where receiving stands between two calls.
#[derive(Debug)]
struct Receiving {
    buffer: ReadAhead,
    head: Head,
    /// The beginning of the message at the head, which a call had received before it timed out.
    stash: Vec<u8>,
    /// A message was cut off, and whoever receives has not been told yet.
    cut: bool,
    patience: Patience,
}

impl Default for Receiving {
    fn default() -> Self {
        Receiving {
            buffer: ReadAhead::default(),
            head: Head::Between,
            stash: Vec::new(),
            cut: false,
            patience: Patience::default(),
        }
    }
}

#[derive(Debug)]
enum Head {
    /// The next bytes are a length.
    Between,
    /// In a message, of which this much has not been received.
    Inside { left: usize },
    /// In a message that was too large.
    Discarding { left: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_print_holds_no_lock() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let stream = Stream::new(socket.into(), None, 1).unwrap();
        let _receiving = stream.receiving.lock();
        assert!(format!("{stream:?}").contains("locked"));
    }
}
