//! The traits [`Stream`] and [`Listener`]: whole messages, with deadlines.

pub(crate) mod carrier;
pub(crate) mod local;
pub mod memory;
pub(crate) mod options;
pub(crate) mod own;
pub(crate) mod platform;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;

use std::fmt::{self, Debug};
use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;

use self::own::{Own, OwnListener};
use crate::base::caught::caught;
use crate::{Deadline, Error, Peer};

/// The largest message that can be sent on any transport: 2^28 - 1 bytes.
///
/// It is what the length field before a message on a Unix socket can say (`docs/wire.md`); the other transports
/// keep to it so that the same program works on each. What a receiver takes is a limit of its own,
/// [`DEFAULT_MAX_MESSAGE`] unless set.
pub const MAX_MESSAGE: usize = (1 << 28) - 1;

/// The largest message that a receiver takes unless told otherwise: 16 MiB.
pub const DEFAULT_MAX_MESSAGE: usize = 16 << 20;

/// What [`Stream::recv`] put into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// How many bytes were received, from the start of the buffer.
    pub len: usize,
    /// Whether the message ends here. If not, the buffer is full and the next receive goes on with the same
    /// message.
    pub last: bool,
}

/// What [`Stream::peek`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// How many bytes wait to be received. On a Unix socket this counts the four bytes before each message
    /// behind the first.
    pub bytes: usize,
    /// How many bytes are left of the message at the head; `None` if no message has arrived. On Windows an
    /// empty message cannot be told from none by a look.
    pub message: Option<usize>,
}

/// A connection over which whole messages travel both ways.
///
/// Every method takes `&self`: one thread may send while another receives, and an [`Arc`](std::sync::Arc)
/// shares a stream. Several senders never interleave, and several receivers each get whole messages as long as
/// each receives whole messages.
///
/// # Order of calls
///
/// ```text
///            connect / accept
///                   |
///                 open ---- send, recv, peek, transact ----+
///                   |  ^                                   |
///                   |  +-----------------------------------+
///       close, abort, drop, or a send that stopped half-way
///                   |
///                closed     send: NotConnected or BrokenPipe; recv: NotConnected or the end
/// ```
///
/// # Errors that every method may return
///
/// * `TimedOut`: the deadline passed.
/// * [`Error::Closed`]: this end was closed, perhaps by another thread while the call waited.
/// * [`Error::Poisoned`]: an earlier send stopped half-way.
///
/// # Implementing
///
/// [`send`](Stream::send), [`recv`](Stream::recv) and [`close`](Stream::close) are enough; the rest is provided
/// in terms of these, and a transport that can do better overrides it. One whose messages may stop half-way and
/// go on later should override [`recv_message`](Stream::recv_message): the provided one closes the stream when
/// a receive fails in mid-message. An implementation from outside this crate is in
/// `examples/custom_transport.rs`.
pub trait Stream: Debug + Send + Sync + 'static {
    /// Sends one message, whole. An empty message is a message too.
    ///
    /// # Errors
    ///
    /// * `BrokenPipe`: the peer has closed.
    /// * [`Error::TooLarge`]: the message is over [`MAX_MESSAGE`]; nothing was sent.
    /// * `TimedOut`: the peer did not make room in time, and nothing was sent. If a part of the message may have gone
    ///   already, the connection is closed for good, because the next message would be taken for its rest; on Windows
    ///   that is so of messages that are larger than [the pipe's buffer](crate::ListenOptions::buffer_size), as the
    ///   system does not say how much the peer had read, and not of smaller ones, which go at once or not at all.
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()>;

    /// Receives the next part of the message at the head: fills `buf`, or stops where the message ends.
    ///
    /// `None` means that the peer has closed and everything it sent was received. A receive that timed out
    /// loses nothing: the next one gets what this one would have.
    ///
    /// With an empty `buf` it waits for a message all the same, and takes nothing of it: [`Part::last`] says whether
    /// nothing is left of the message, and then this was its last part. So an empty message has been received.
    ///
    /// # Errors
    ///
    /// * [`Error::Truncated`]: the peer went away in the middle of the message.
    /// * [`Error::Malformed`]: the peer sent something that is not a message.
    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>>;

    /// Closes this end, and wakes whoever waits on it. What was sent before is still delivered; the peer then
    /// gets the end. Never waits for the peer. Closing twice is nothing.
    fn close(&self);

    /// Closes this end at once and drops what the peer has not yet received, where the system can do that
    /// (Windows, server side, and the in-memory transport); elsewhere the same as [`close`](Stream::close).
    fn abort(&self) {
        self.close();
    }

    /// The largest message that [`recv_message`](Stream::recv_message) takes, in bytes.
    fn max_message(&self) -> usize {
        DEFAULT_MAX_MESSAGE
    }

    /// Receives one whole message into `message`, replacing what was in it, and returns its length; `None` at
    /// the end. The vector grows to fit and is worth keeping from call to call.
    ///
    /// # Errors
    ///
    /// As [`recv`](Stream::recv), and [`Error::TooLarge`] if the message is larger than
    /// [`max_message`](Stream::max_message): the message is dropped and the next one is intact.
    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        recv_message_in_parts(self, message, deadline)
    }

    /// Sends one message that is given in pieces, as if they stood in one slice.
    ///
    /// # Errors
    ///
    /// As [`send`](Stream::send).
    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.send(&gather(pieces, Vec::new())?, deadline)
    }

    /// Sends one message that is given in pieces, and goes on receiving where sending has to wait: then `receive`
    /// is called whenever something may have come. It receives what it can without waiting, and says whether that
    /// was anything.
    ///
    /// With one of two ends sending in this way, the two never wait for each other, however much both send. The
    /// provided one just sends.
    ///
    /// `receive` may receive from this stream, look at it, and [`close`](Stream::close) or [`abort`](Stream::abort) it,
    /// which ends the send as closing from another thread does. It cannot send or transact here, since no message begins
    /// in the middle of another: that is refused as [`Error::Busy`]. If it panics, so does this, and the message is given
    /// up; where a part of it may have gone, the connection is closed for good.
    ///
    /// # Errors
    ///
    /// As [`send`](Stream::send).
    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let _ = receive;
        match pieces {
            [message] => self.send(message, deadline),
            pieces => self.send_vectored(pieces, deadline),
        }
    }

    /// Says what waits to be received, and consumes nothing; `None` at the end. Never waits. While another
    /// thread is receiving, nothing waits for this one.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the transport cannot tell.
    fn peek(&self) -> io::Result<Option<Waiting>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends a request and receives the first part of the reply, as one operation: nobody else's receive gets
    /// in between. A reply that is larger than `reply` continues in [`recv`](Stream::recv).
    ///
    /// # Errors
    ///
    /// As [`send`](Stream::send) and [`recv`](Stream::recv), and [`Error::Busy`] with nothing sent if a message
    /// waits unread. `TimedOut` closes the connection for good, because the late reply would be taken for that
    /// of the next request.
    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        match self.peek() {
            Ok(Some(Waiting {
                message: Some(_), ..
            })) => return Err(Error::Busy.into()),
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
            // Nothing waits, or nobody can tell.
            _ => {}
        }
        self.send(request, deadline)?;
        let part = self.recv(reply, deadline);
        if matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            self.close();
        }
        part
    }

    /// Who is at the other end.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the transport cannot tell.
    fn peer(&self) -> io::Result<Peer> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What a stream of this crate's own does beside what is promised here; a stream from outside does no such thing.
    #[doc(hidden)]
    #[inline]
    fn own(&self) -> Option<&dyn Own> {
        None
    }
}

/// What accepts connections.
///
/// Methods take `&self`; several threads may accept from one listener.
pub trait Listener: Debug + Send + Sync + 'static {
    /// The connections that it accepts.
    type Stream: Stream;

    /// Waits for the next connection.
    ///
    /// A client that connected and left before this call is handed out like any other: what it sent can be
    /// received, then comes the end. Running out of descriptors, handles or memory is waited out, within the
    /// deadline.
    ///
    /// # Errors
    ///
    /// * `TimedOut`: nobody came.
    /// * [`Error::Stopped`]: the listener was stopped, perhaps by another thread while this call waited.
    fn accept(&self, deadline: Deadline) -> io::Result<Self::Stream>;

    /// Stops listening: wakes whoever waits in [`accept`](Listener::accept) and gives the name back. When this
    /// returns, nobody can connect any more. Streams that were accepted go on. Stopping twice is nothing.
    fn stop(&self);

    /// What a listener of this crate's own does beside what is promised here; a listener from outside does no such thing.
    #[doc(hidden)]
    #[inline]
    fn own(&self) -> Option<&dyn OwnListener> {
        None
    }

    /// An iterator over the connections, which ends when the listener is stopped.
    ///
    /// ```no_run
    /// use pipetalk::{Listener, LocalListener};
    ///
    /// let listener = LocalListener::bind("acme.kv")?;
    /// for stream in listener.incoming() {
    ///     let stream = stream?;
    ///     std::thread::spawn(move || drop(stream));
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn incoming(&self) -> Incoming<'_, Self>
    where
        Self: Sized,
    {
        Incoming { listener: self }
    }
}

/// The iterator of [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a, L> {
    listener: &'a L,
}

impl<L: Listener> Iterator for Incoming<'_, L> {
    type Item = io::Result<L::Stream>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.listener.accept(Deadline::NEVER) {
            Err(error) if Error::of(&error) == Some(&Error::Stopped) => None,
            accepted => Some(accepted),
        }
    }
}

/// A pointer to a stream is a stream, so that what takes one can share one.
macro_rules! forward_stream {
    ($($pointer:ident)+) => {$(
        impl<S: Stream + ?Sized> Stream for $pointer<S> {
            fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
                (**self).send(message, deadline)
            }

            fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
                (**self).recv(buf, deadline)
            }

            fn close(&self) {
                (**self).close();
            }

            fn abort(&self) {
                (**self).abort();
            }

            fn max_message(&self) -> usize {
                (**self).max_message()
            }

            fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
                (**self).recv_message(message, deadline)
            }

            fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
                (**self).send_vectored(pieces, deadline)
            }

            fn send_while_receiving(
                &self,
                pieces: &[IoSlice<'_>],
                deadline: Deadline,
                receive: &mut dyn FnMut() -> bool,
            ) -> io::Result<()> {
                (**self).send_while_receiving(pieces, deadline, receive)
            }

            fn peek(&self) -> io::Result<Option<Waiting>> {
                (**self).peek()
            }

            fn transact(
                &self,
                request: &[u8],
                reply: &mut [u8],
                deadline: Deadline,
            ) -> io::Result<Option<Part>> {
                (**self).transact(request, reply, deadline)
            }

            fn peer(&self) -> io::Result<Peer> {
                (**self).peer()
            }

            fn own(&self) -> Option<&dyn Own> {
                (**self).own()
            }
        }
    )+};
}

forward_stream!(Arc Box);

impl<L: Listener + ?Sized> Listener for Arc<L> {
    type Stream = L::Stream;

    fn accept(&self, deadline: Deadline) -> io::Result<L::Stream> {
        (**self).accept(deadline)
    }

    fn stop(&self) {
        (**self).stop();
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        (**self).own()
    }
}

/// Why a receive stopped: the message is larger than what is received [without asking](Stream::ask_before). Nothing of
/// it is lost.
#[derive(Debug)]
pub(crate) struct Announced {
    size: usize,
}

impl Announced {
    /// To be asked about the next message, or to say once that it was asked about: of so many bytes.
    pub(crate) fn check(size: usize, without_asking: usize, asked: &mut bool) -> io::Result<()> {
        if size > without_asking && !mem::replace(asked, true) {
            return Err(io::Error::other(Announced { size }));
        }
        Ok(())
    }

    /// How large the message is of which an error says so.
    pub(crate) fn size(error: &io::Error) -> Option<usize> {
        let announced: &Announced = error.get_ref()?.downcast_ref()?;
        Some(announced.size)
    }
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} bytes waits to be received", self.size)
    }
}

impl std::error::Error for Announced {}

/// Why a send stopped: its deadline passed when a part of the message had gone, or may have. The rest of it goes before
/// whatever is sent next, if the connection is there for so long: see [`Stream::finish_later`].
#[derive(Debug)]
pub(crate) struct Unfinished;

impl Unfinished {
    pub(crate) fn error() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, Unfinished)
    }

    /// Whether an error says so.
    pub(crate) fn is(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(|inner| inner.is::<Unfinished>())
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rest of the message is sent before the next one")
    }
}

impl std::error::Error for Unfinished {}

/// A transport that panics is one that failed: nobody else who uses the connection is to wait for that thread.
#[inline]
pub(crate) fn unless_it_panics<T>(io: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    caught(io).unwrap_or_else(|_| Err(io::Error::other("the transport panicked")))
}

/// Sends are refused before they begin when no receiver could be told how long the message is.
#[inline]
pub(crate) fn check_sendable(size: usize) -> io::Result<()> {
    if size > MAX_MESSAGE {
        return Err(Error::TooLarge {
            limit: MAX_MESSAGE,
            size,
        }
        .into());
    }
    Ok(())
}

/// How much of a message is believed to come before any of it has: a peer's claim of a length costs no more
/// memory than this until it sends what it claimed.
pub(crate) const TRUSTED_CLAIM: usize = 1 << 20;

/// The pieces one after the other, in a buffer whose content is replaced; an error where memory is short.
pub(crate) fn gather(pieces: &[IoSlice<'_>], mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    buffer.clear();
    buffer.try_reserve_exact(total_len(pieces))?;
    pieces
        .iter()
        .for_each(|piece| buffer.extend_from_slice(piece));
    Ok(buffer)
}

/// A copy of a message; an error where memory is short.
pub(crate) fn copy(message: &[u8]) -> io::Result<Vec<u8>> {
    gather(&[IoSlice::new(message)], Vec::new())
}

/// The length of all pieces together, saturating.
#[inline]
pub(crate) fn total_len(pieces: &[IoSlice<'_>]) -> usize {
    pieces
        .iter()
        .fold(0, |sum, piece| sum.saturating_add(piece.len()))
}

/// Makes room for the next part of a message of which `size` bytes have come, and says where it goes: past the limit
/// the tail of the vector is overwritten again and again. An error where memory is short.
pub(crate) fn recv_step(message: &mut Vec<u8>, size: usize, limit: usize) -> io::Result<usize> {
    const STEP: usize = 4096;
    let at = if size > limit { 0 } else { size };
    if message.len() < at + STEP {
        let len = (at + STEP).max(message.capacity().min(at + TRUSTED_CLAIM));
        message.try_reserve(len - message.len())?;
        message.resize(len, 0);
    }
    Ok(at)
}

/// What [`Stream::recv_message`] does where the transport has nothing better: parts into a growing vector, and
/// past the limit into nothing.
fn recv_message_in_parts<S: Stream + ?Sized>(
    stream: &S,
    message: &mut Vec<u8>,
    deadline: Deadline,
) -> io::Result<Option<usize>> {
    let limit = stream.max_message();
    message.clear();
    let mut size = 0_usize;
    loop {
        let received = recv_step(message, size, limit)
            .and_then(|at| stream.recv(&mut message[at..], deadline));
        let part = match received {
            Ok(Some(part)) => part,
            end_or_error => {
                message.clear();
                if size > 0 {
                    // What came of the message is lost, so the rest must not pass for a message.
                    stream.close();
                }
                return end_or_error.map(|_| None);
            }
        };
        size = size.saturating_add(part.len);
        if part.last {
            break;
        }
    }
    if size > limit {
        message.clear();
        return Err(Error::TooLarge { limit, size }.into());
    }
    message.truncate(size);
    Ok(Some(size))
}
