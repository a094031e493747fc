//! Messages behind their lengths, whoever reads and writes the bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use super::connection::{CLOSED, Connection, Holds};
use super::read_ahead::{READ_AHEAD, ReadAhead};
use crate::transport::{Announced, TRUSTED_CLAIM};
use crate::{Error, MAX_MESSAGE, Part, Waiting};

/// The length before each message, in bytes.
pub(super) const HEADER: usize = 4;

/// The bits of the length that mean nothing yet.
const RESERVED: u32 = !(MAX_MESSAGE as u32);

/// No system takes more slices than this at once: `IOV_MAX`.
pub(super) const MAX_SLICES: usize = 1024;

/// From this length on a message is worth receiving where it belongs: into fewer bytes it is faster to copy it.
const ALIKE: usize = 512;

/// How much room a message is given at a time: bytes have to be there to be written over, and those that have just been
/// made are still in the processor's cache when the system writes to them.
const STEP: usize = 128 << 10;

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
    type Socket: Holds;

    fn connection(&self) -> &Connection<Self::Socket>;

    /// Behind what has been read ahead, which is less than a length.
    fn fill(&mut self, ahead: &mut ReadAhead) -> io::Result<usize>;

    /// Into slices, one after the other.
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
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
                n = source.read(&mut [IoSliceMut::new(&mut buf[*got..])])?;
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

    /// Receives a whole message. What has come of one that fails is put aside.
    #[inline]
    pub(super) fn recv_message(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        if message.len() < ALIKE && self.is_idle() {
            message.clear();
            source.connection().check_open()?;
            if source.fill(&mut self.buffer)? == 0 {
                return self.end(source, false);
            }
            if let Some(whole) = self.take_alone(source.connection().max_message) {
                message.try_reserve(whole.len())?;
                message.extend_from_slice(whole);
                return Ok(Some(whole.len()));
            }
        }
        self.recv_any(source, message)
    }

    /// A small message that has been read ahead in whole, with nothing behind it, as most are.
    #[inline]
    fn take_alone(&mut self, max_message: usize) -> Option<&[u8]> {
        let (header, rest) = self.buffer.unread().split_first_chunk::<HEADER>()?;
        let size = u32::from_le_bytes(*header) as usize;
        if size != rest.len() || size > max_message {
            return None;
        }
        Some(&self.buffer.take_all()[HEADER..])
    }

    fn recv_any(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        let mut filled = 0;
        let begun = self.begin_whole(source, message, &mut filled);
        let limit = source.connection().max_message;
        if begun.is_ok()
            && (1..=limit).contains(&filled)
            && matches!(self.head, Head::Inside { left: 0 })
        {
            // It came at once, as one that is like the last does.
            message.truncate(filled);
            self.head = Head::Between;
            return Ok(Some(filled));
        }
        let received = begun.and_then(|()| self.recv_whole(source, message, &mut filled));
        if received.is_err() {
            self.put_aside(&message[..filled]);
            message.clear();
        }
        received
    }

    /// Begins to receive a whole message. When the last one was not small, the next is thought to be alike, and its first
    /// read goes to where it belongs in one system call. Afterwards `message` holds what has come of it, which is as much
    /// as is `filled`, and room behind; if that read fails, it is as it was.
    #[inline]
    pub(super) fn begin_whole(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
        filled: &mut usize,
    ) -> io::Result<()> {
        let at_head = matches!(self.head, Head::Between) && self.buffer.len() == 0;
        if at_head && message.len() >= ALIKE {
            *filled = self.read_in_place(source, message)?;
        } else {
            message.clear();
        }
        Ok(())
    }

    fn read_in_place(&mut self, source: &mut impl Source, message: &mut [u8]) -> io::Result<usize> {
        source.connection().check_open()?;
        let mut header = [0; HEADER];
        // One that is somewhat longer comes at once as well.
        let ahead = if message.len() <= READ_AHEAD {
            self.buffer.room()
        } else {
            &mut []
        };
        let slices = [&mut header, &mut *message, ahead];
        let received = source.read(&mut slices.map(IoSliceMut::new))?;
        let Some(came) = received.checked_sub(HEADER) else {
            self.buffer.keep(&header[..received]);
            return Ok(0);
        };
        let length = parse_header(source, header)?;
        self.buffer.received(came.saturating_sub(message.len()));
        let (own, others) =
            message[..came.min(message.len())].split_at(came.min(length).min(message.len()));
        self.head = Head::Inside {
            left: length - own.len(),
        };
        self.buffer.put_before(others);
        Ok(own.len())
    }

    /// Receives the rest of a whole message, of which `message` holds the beginning, and room behind what is `filled`.
    #[inline]
    pub(super) fn recv_whole(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
        filled: &mut usize,
    ) -> io::Result<Option<usize>> {
        let Some(mut left) = self.begin(source)? else {
            message.truncate(*filled);
            return Ok(None);
        };
        let size = *filled + self.stash.len() + left;
        let limit = source.connection().max_message;
        if size > limit {
            *filled = 0;
            self.stash = Vec::new();
            self.head = Head::Discarding { left };
            return Err(Error::TooLarge { limit, size }.into());
        }
        // A vector that has the room already takes no more memory.
        if let Some(without_asking) = self.without_asking.filter(|_| message.capacity() < size) {
            Announced::check(size, without_asking.get(), &mut self.asked)?;
        }
        let n = self.buffer.len().min(left);
        if n > 0 || !self.stash.is_empty() {
            message.truncate(*filled);
            message.append(&mut mem::take(&mut self.stash));
            *filled = message.len();
            self.reserve(message, filled, left)?;
            message.extend_from_slice(&self.buffer.unread()[..n]);
            self.buffer.consume(n);
            *filled += n;
            left -= n;
            self.head = Head::Inside { left };
        }
        if left > 0 && !self.recv_into(source, message, filled, left)? {
            message.clear();
            *filled = 0;
            return self.end(source, true);
        }
        message.truncate(*filled);
        self.head = Head::Between;
        self.asked = false;
        Ok(Some(size))
    }

    /// Sets memory aside for what is left of a message.
    fn reserve(
        &mut self,
        message: &mut Vec<u8>,
        filled: &mut usize,
        left: usize,
    ) -> io::Result<()> {
        if message.capacity() - message.len() >= left {
            return Ok(());
        }
        let room = left.min(TRUSTED_CLAIM.max(message.len()));
        message.try_reserve_exact(room).map_err(|error| {
            // The message costs itself, and not the next one.
            message.clear();
            *filled = 0;
            self.head = Head::Discarding { left };
            error.into()
        })
    }

    /// Receives so many bytes behind those of a message; false where the peer has closed.
    fn recv_into(
        &mut self,
        source: &mut impl Source,
        message: &mut Vec<u8>,
        filled: &mut usize,
        mut left: usize,
    ) -> io::Result<bool> {
        while left > 0 {
            if message.len() == *filled {
                self.reserve(message, filled, left)?;
                message.resize(*filled + left.min(STEP), 0);
            }
            let end = message.len().min(*filled + left);
            let n = source.read(&mut [IoSliceMut::new(&mut message[*filled..end])])?;
            if n == 0 {
                return Ok(false);
            }
            *filled += n;
            left -= n;
            self.head = Head::Inside { left };
        }
        Ok(true)
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
