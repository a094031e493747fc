//! Messages behind their lengths, whoever reads and writes the bytes.

use std::io::{self, IoSlice};
use std::mem;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use super::connection::{CLOSED, Connection};
use super::read_ahead::{READ_AHEAD, ReadAhead};
use crate::transport::{Announced, TRUSTED_CLAIM};
use crate::{Error, MAX_MESSAGE, Part, Waiting};

/// The length before each message, in bytes.
pub(super) const HEADER: usize = 4;

/// The bits of the length that mean nothing yet.
const RESERVED: u32 = !(MAX_MESSAGE as u32);

/// No system takes more slices than this at once: `IOV_MAX`.
pub(super) const MAX_SLICES: usize = 1024;

/// Messages up to this size are sent as one slice behind their length, which costs less than two do.
pub(super) const SMALL: usize = 8 << 10;

#[inline]
pub(super) fn header(length: usize) -> [u8; HEADER] {
    (length as u32).to_le_bytes()
}

/// What waits for whoever looks while another receives, who gets what comes.
pub(super) const NOTHING: Waiting = Waiting {
    bytes: 0,
    message: None,
};

/// Where the bytes of a connection come from. Each call receives once, and is 0 where the peer has closed.
pub(super) trait Source {
    type Socket: AsFd;

    fn connection(&self) -> &Connection<Self::Socket>;

    /// Behind what has been read ahead, which is less than a length.
    fn fill(&mut self, ahead: &mut ReadAhead) -> io::Result<usize>;

    /// Into a slice.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Behind what is in a vector, as far as it has room.
    fn append(&mut self, message: &mut Vec<u8>) -> io::Result<usize>;

    /// Into one slice and then another.
    fn read_both(&mut self, header: &mut [u8], message: &mut [u8]) -> io::Result<usize>;
}

/// Where receiving stands between two reads.
///
/// A source may fail at any read, because the time is up or nothing is there: then what had come is still in the
/// caller's buffer. The same call with the same buffer goes on from there; and who gives up instead
/// [puts it aside](Framing::put_aside).
#[derive(Debug, Default)]
pub(super) struct Framing {
    pub(super) buffer: ReadAhead,
    head: Head,
    /// The beginning of the message at the head, which a call had received before it gave up.
    stash: Vec<u8>,
    /// A message was cut off, and whoever receives has not been told yet.
    cut: bool,
    /// Larger messages are [asked about](crate::Stream::ask_before).
    pub(super) without_asking: Option<NonZeroUsize>,
    /// The message at the head has been asked about.
    asked: bool,
}

#[derive(Debug, Default)]
enum Head {
    /// The next bytes are a length.
    #[default]
    Between,
    /// In a message, of which this much has not been received.
    Inside { left: usize },
    /// In a message that was too large.
    Discarding { left: usize },
}

impl Framing {
    /// Brings the head of the next message in, and says how much of it is still to come (beside the stash).
    #[inline]
    pub(super) fn begin(&mut self, source: &mut impl Source) -> io::Result<Option<usize>> {
        source.connection().check_open()?;
        if mem::take(&mut self.cut) {
            return Err(Error::Truncated.into());
        }
        loop {
            match self.head {
                Head::Inside { left } => return Ok(Some(left)),
                Head::Discarding { left: 0 } => self.head = Head::Between,
                Head::Discarding { ref mut left } => {
                    let n = (*left).min(self.buffer.len());
                    *left -= n;
                    self.buffer.consume(n);
                    if n == 0 && source.fill(&mut self.buffer)? == 0 {
                        return self.end(source, true);
                    }
                }
                Head::Between => {
                    if let Some(header) = self.buffer.unread().first_chunk::<HEADER>() {
                        let left = parse_header(source, *header)?;
                        self.buffer.consume(HEADER);
                        self.head = Head::Inside { left };
                    } else if source.fill(&mut self.buffer)? == 0 {
                        let cut = self.buffer.len() > 0;
                        return self.end(source, cut);
                    }
                }
            }
        }
    }

    /// Whether there is nothing for a receive until something comes.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.head, Head::Between) && self.buffer.len() == 0 && !self.cut
    }

    /// The peer has closed: between two messages that is the end, elsewhere the message is cut off.
    fn end<T>(&mut self, source: &impl Source, in_message: bool) -> io::Result<Option<T>> {
        source.connection().check_open()?;
        if in_message {
            *self = Framing::default();
            return Err(Error::Truncated.into());
        }
        Ok(None)
    }

    /// Says what waits, after a [`begin`](Framing::begin) that did not wait. What it would have waited for is not there.
    pub(super) fn peek(
        &mut self,
        socket: impl AsFd,
        begun: io::Result<Option<usize>>,
    ) -> io::Result<Option<Waiting>> {
        match begun {
            Ok(None) => Ok(None),
            Ok(Some(left)) => {
                let in_socket = rustix::io::ioctl_fionread(socket)? as usize;
                Ok(Some(Waiting {
                    bytes: self.stash.len() + self.buffer.len() + in_socket,
                    message: Some(self.stash.len() + left),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Some(NOTHING)),
            Err(error) => {
                // Looking takes nothing: the next receive is to be told as well.
                self.cut = Error::of(&error) == Some(&Error::Truncated);
                Err(error)
            }
        }
    }

    /// Receives the next part of the message at the head. `got` is how much of the buffer is received already.
    pub(super) fn recv_part(
        &mut self,
        source: &mut impl Source,
        buf: &mut [u8],
        got: &mut usize,
    ) -> io::Result<Option<Part>> {
        let Some(mut left) = self.begin(source)? else {
            return Ok(None);
        };
        // A stash is older than the call, and is the first that it gets.
        let len = buf.len().min(*got + self.stash.len() + left);
        let buf = &mut buf[..len];
        if !self.stash.is_empty() {
            let stashed = self.stash.len().min(len);
            buf[..stashed].copy_from_slice(&self.stash[..stashed]);
            self.stash.drain(..stashed);
            *got = stashed;
        }
        while *got < len {
            let mut n = self.buffer.take(&mut buf[*got..]);
            if n == 0 {
                n = source.read(&mut buf[*got..])?;
                if n == 0 {
                    *got = 0;
                    return self.end(source, true);
                }
            }
            *got += n;
            left -= n;
            self.head = Head::Inside { left };
        }
        let last = left == 0 && self.stash.is_empty();
        if last {
            self.head = Head::Between;
        }
        Ok(Some(Part { len, last }))
    }

    /// Begins to receive a whole message. When the last one was large, the next is thought to be alike, and its first
    /// read goes to where it belongs in one system call. Afterwards `message` holds what has come of it; if that read
    /// fails, it is as it was.
    #[inline]
    pub(super) fn begin_whole(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
    ) -> io::Result<()> {
        let at_head = matches!(self.head, Head::Between) && self.buffer.len() == 0;
        if at_head && message.len() > READ_AHEAD {
            return self.read_in_place(source, message);
        }
        message.clear();
        Ok(())
    }

    fn read_in_place(&mut self, source: &mut impl Source, message: &mut Vec<u8>) -> io::Result<()> {
        source.connection().check_open()?;
        let mut header = [0; HEADER];
        let received = source.read_both(&mut header, message)?;
        let Some(came) = received.checked_sub(HEADER) else {
            self.buffer.keep(&header[..received]);
            message.clear();
            return Ok(());
        };
        let length = parse_header(source, header)?;
        let (own, ahead) = message[..came].split_at(came.min(length));
        self.head = Head::Inside {
            left: length - own.len(),
        };
        self.buffer.keep(ahead);
        let own = own.len();
        message.truncate(own);
        Ok(())
    }

    /// Receives a whole message with one read, if it has come, and says where in the vector it begins: behind its length,
    /// or at the start. If this fails, what has come is put aside.
    #[inline]
    pub(super) fn recv_in_place(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        message.clear();
        if !self.is_idle() {
            return self.recv_rest(source, message, 0);
        }
        source.connection().check_open()?;
        if message.capacity() < READ_AHEAD {
            message.try_reserve_exact(READ_AHEAD)?;
        }
        let came = source.append(message)?;
        let Some(header) = message.first_chunk::<HEADER>() else {
            if came == 0 {
                return self.end(source, false);
            }
            self.buffer.keep(message);
            message.clear();
            return self.recv_rest(source, message, 0);
        };
        let size = parse_header(source, *header)?;
        let whole = HEADER + size;
        let own = came.min(whole);
        self.buffer.keep(&message[own..]);
        message.truncate(own);
        if own < whole || size > source.connection().max_message {
            self.head = Head::Inside { left: whole - own };
            return self.recv_rest(source, message, HEADER);
        }
        Ok(Some(HEADER))
    }

    fn recv_rest(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
        start: usize,
    ) -> io::Result<Option<usize>> {
        let received = self.recv_whole(source, message, start);
        if received.is_err() {
            self.put_aside(message.get(start..).unwrap_or_default());
        }
        Ok(received?.map(|_| start))
    }

    /// Receives the rest of a whole message, of which `message` holds the beginning from `start` on.
    #[inline]
    pub(super) fn recv_whole(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
        start: usize,
    ) -> io::Result<Option<usize>> {
        let Some(mut left) = self.begin(source)? else {
            return Ok(None);
        };
        let size = message.len() - start + self.stash.len() + left;
        let limit = source.connection().max_message;
        if size > limit {
            message.clear();
            self.stash = Vec::new();
            self.head = Head::Discarding { left };
            return Err(Error::TooLarge { limit, size }.into());
        }
        if let Some(without_asking) = self.without_asking {
            Announced::check(size, without_asking.get(), &mut self.asked)?;
        }
        if !self.stash.is_empty() {
            message.append(&mut mem::take(&mut self.stash));
        }
        while left > 0 {
            if message.capacity() - message.len() < left {
                let room = left.min(TRUSTED_CLAIM.max(message.len()));
                if let Err(error) = message.try_reserve_exact(room) {
                    // The message costs itself, and not the next one.
                    message.clear();
                    self.head = Head::Discarding { left };
                    return Err(error.into());
                }
            }
            let buffered = self.buffer.unread();
            let n = buffered.len().min(left);
            if n > 0 {
                message.extend_from_slice(&buffered[..n]);
                self.buffer.consume(n);
                left -= n;
            } else {
                let n = source.append(message)?;
                if n == 0 {
                    message.clear();
                    return self.end(source, true);
                }
                // The vector may have more room than the message needs: the rest belongs to the next.
                let ahead = n.saturating_sub(left);
                let end = message.len() - ahead;
                self.buffer.keep(&message[end..]);
                message.truncate(end);
                left -= n - ahead;
            }
            self.head = Head::Inside { left };
        }
        self.head = Head::Between;
        self.asked = false;
        Ok(Some(size))
    }

    /// Keeps for the next receive what one that gives up has of the message at the head.
    pub(super) fn put_aside(&mut self, received: &[u8]) {
        self.stash.extend_from_slice(received);
    }
}

#[inline]
fn parse_header(source: &impl Source, header: [u8; HEADER]) -> io::Result<usize> {
    let length = u32::from_le_bytes(header);
    if length & RESERVED != 0 {
        source.connection().shut(CLOSED);
        return Err(Error::Malformed("a reserved bit of a length is set").into());
    }
    Ok(length as usize)
}

/// Hands a message out as slices, its length first.
pub(super) fn with_slices<R>(
    header: &[u8],
    pieces: &[IoSlice<'_>],
    send: impl FnOnce(&mut [IoSlice<'_>]) -> R,
) -> R {
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
    send(slices)
}
