//! The connected socket, for tasks that wait.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::AtomicU8;
use std::task::{Poll, ready};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::super::connection::{CLOSED, Connection, Holds, POISONED, impersonate};
use super::super::endpoint::{BACKOFF, is_passing};
use super::super::framing::{Framing, HEADER, NOTHING, Source};
use super::super::instance::Instance;
use super::super::os;
use super::super::read_ahead::{READ_AHEAD, ReadAhead};
use super::super::receiving::Received;
use super::super::socket::Socket;
use super::outgoing::Outgoing;
use super::scratch;
use crate::transport::tokio::own::Own;
use crate::transport::tokio::platform::PlatformStream;
use crate::transport::tokio::runtime;
use crate::transport::tokio::turn::Turn;
use crate::transport::tokio::{self, Stream as _};
use crate::{Deadline, Error, Part, Peer, Waiting};

/// A socket, and what the runtime knows of it.
type Watched = AsyncFd<Socket>;

impl Holds for Watched {
    fn socket(&self) -> &Socket {
        self.get_ref()
    }
}

/// Has the runtime watch a socket.
///
/// Not as a `UnixStream`, of which tokio watches both directions.
#[allow(
    deprecated,
    reason = "tokio deprecates it for what its argument might be; this is a descriptor that is owned"
)]
fn watch<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    runtime::with_driver("enable_io", || AsyncFd::with_interest(socket, interest))
}

#[derive(Debug)]
pub(crate) struct Stream {
    connection: Connection<Watched>,
    /// Held across waits: the runtime knows one waiting task for each direction.
    receiving: Turn<Option<Box<Framing>>>,
    sending: Turn<()>,
    /// How many sends there were.
    sends: AtomicU8,
}

impl Stream {
    /// Of a socket that does not block.
    pub(super) fn new(
        socket: Socket,
        peer: Option<Peer>,
        max_message: usize,
    ) -> io::Result<Stream> {
        let socket = watch(socket, os::tokio::READABLE)?;
        Ok(Stream {
            connection: Connection::new(socket, peer, max_message),
            receiving: Turn::default(),
            sending: Turn::default(),
            sends: AtomicU8::new(0),
        })
    }

    pub(super) fn occupy(&self, instance: Instance) {
        self.connection.occupy(instance);
    }

    async fn transmit(&self, mut outgoing: Outgoing<'_>, deadline: Deadline) -> io::Result<()> {
        runtime::take_turns(&self.sends, deadline).await;
        let _turn = runtime::take(deadline, &self.sending).await?;
        self.connection.check_open()?;
        let socket = &self.connection.socket;
        // Most messages go at once, whatever the runtime knows of the socket.
        match outgoing.send_now(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => {
                let sent = outgoing.sent();
                return result.map_err(|error| self.connection.after_failed_send(sent, error));
            }
        }
        // Few messages have to wait: those that do not need no place for it.
        Box::pin(self.transmit_rest(&mut outgoing, deadline)).await
    }

    async fn transmit_rest(
        &self,
        outgoing: &mut Outgoing<'_>,
        deadline: Deadline,
    ) -> io::Result<()> {
        let mut unfinished = Unfinished {
            connection: &self.connection,
            outgoing,
            armed: true,
        };
        // An error of the runtime's leaves the message as unfinished as a dropped future does.
        let result = loop {
            // Watched once more, for as long as there is to be room: whoever is always told of that is woken whenever
            // the peer has read something, which costs as much again as the message did.
            let socket = self.connection.socket.get_ref();
            let room = socket.as_fd().try_clone_to_owned();
            match room.and_then(|socket| watch(socket, Interest::WRITABLE)) {
                Ok(room) => break unfinished.goes_on(&room, deadline).await?,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            let late = deadline.has_passed();
            runtime::sleep(
                deadline
                    .remaining()
                    .map_or(BACKOFF, |left| left.min(BACKOFF)),
            )
            .await?;
            match in_time(unfinished.outgoing.send_now(socket)) {
                Some(result) => break result,
                None if late => break Err(io::ErrorKind::TimedOut.into()),
                None => {}
            }
        };
        unfinished.armed = false;
        let sent = unfinished.outgoing.sent();
        result.map_err(|error| self.connection.after_failed_send(sent, error))
    }

    async fn recv_part(
        &self,
        framing: &mut Framing,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        let mut part = InParts {
            framing,
            buf,
            got: 0,
            done: false,
        };
        let received = self.receive(&mut part, deadline).await;
        part.done = received.is_ok();
        received
    }

    /// Brings the head of the next message in, if it has come.
    fn begin_now(&self, framing: &mut Framing) -> io::Result<Option<usize>> {
        let begun = lending(framing, |framing| framing.begin(&mut self.source(Try::Now)));
        in_time(begun).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Receives what has come, and then waits for the rest.
    async fn receive<R: Receive>(
        &self,
        receive: &mut R,
        deadline: Deadline,
    ) -> io::Result<R::Received> {
        let idle = receive.framing().is_idle() && self.connection.check_open().is_ok();
        let mut recv = |source: &mut Ready<'_>| in_time(receive.recv(source));
        let too_late = || Err(io::ErrorKind::TimedOut.into());
        if deadline == Deadline::NOW {
            return recv(&mut self.source(Try::Now)).unwrap_or_else(too_late);
        }
        if !idle {
            if let Some(received) = recv(&mut self.source(Try::Buffered)) {
                return received;
            }
        }
        let mut timer = pin!(None);
        poll_fn(|cx| {
            let over = loop {
                match self.connection.socket.poll_read_ready(cx) {
                    Poll::Ready(Ok(mut ready)) => {
                        let mut source = self.source(Try::Now);
                        let received = recv(&mut source);
                        // The runtime is told that nothing is left also where this took the last: the next call need
                        // not ask.
                        if source.drained {
                            ready.clear_ready();
                        }
                        if let Some(received) = received {
                            return Poll::Ready(received);
                        }
                    }
                    Poll::Ready(Err(error)) => break error,
                    Poll::Pending => {
                        match ready!(runtime::poll_passed(deadline, timer.as_mut(), cx)) {
                            Ok(()) => break io::ErrorKind::TimedOut.into(),
                            Err(error) => break error,
                        }
                    }
                }
            };
            // What has come, and the runtime has not told yet, is in time.
            Poll::Ready(recv(&mut self.source(Try::Now)).unwrap_or(Err(over)))
        })
        .await
    }

    fn source(&self, attempt: Try) -> Ready<'_> {
        Ready {
            connection: &self.connection,
            attempt,
            drained: false,
        }
    }
}

impl tokio::Stream for Stream {
    #[inline]
    fn own(&self) -> Option<&dyn Own> {
        Some(self)
    }

    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.send_vectored(&[IoSlice::new(message)], deadline).await
    }

    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let mut turn = runtime::take(deadline, &self.receiving).await?;
        let framing = turn.get_or_insert_default();
        self.recv_part(framing, buf, deadline).await
    }

    fn close(&self) {
        self.connection.shut(CLOSED);
    }

    fn abort(&self) {
        // What has been sent is in the peer's own queue, out of reach.
        self.connection.shut(CLOSED);
    }

    fn max_message(&self) -> usize {
        self.connection.max_message
    }

    async fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let mut turn = runtime::take(deadline, &self.receiving).await?;
        let mut whole = Whole {
            framing: turn.get_or_insert_default(),
            message,
            filled: None,
            done: false,
        };
        let received = self.receive(&mut whole, deadline).await;
        whole.done = received.is_ok();
        received
    }

    async fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.transmit(Outgoing::pieces(pieces)?, deadline).await
    }

    async fn send_all(&self, messages: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.transmit(Outgoing::messages(messages)?, deadline).await
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        // Whoever receives at the moment gets what comes.
        let Some(mut turn) = self.receiving.try_take() else {
            return Ok(Some(NOTHING));
        };
        let framing = turn.get_or_insert_default();
        let begun = self.begin_now(framing);
        framing.peek(&self.connection.socket, begun)
    }

    async fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        let request = [IoSlice::new(request)];
        let request = Outgoing::pieces(&request)?;
        let mut turn = runtime::take(deadline, &self.receiving).await?;
        let framing = turn.get_or_insert_default();
        match self.begin_now(framing) {
            Ok(Some(_)) => return Err(Error::Busy.into()),
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
            // At the end, sending says what there is to say.
            Ok(None) | Err(_) => {}
        }
        self.transmit(request, deadline).await?;
        let mut unanswered = Unanswered {
            connection: &self.connection,
            armed: true,
        };
        let part = self.recv_part(framing, reply, deadline).await;
        // Where the time is up, the runtime has gone, or the system could not receive, the reply may still come.
        unanswered.armed = matches!(&part, Err(error) if Error::of(error).is_none());
        part
    }

    fn peer(&self) -> io::Result<Peer> {
        Ok(self.connection.peer())
    }
}

impl Own for Stream {
    /// No client keeps a name here.
    fn part(&self, _courtesy: usize) {
        self.close();
    }

    /// Before anybody receives.
    fn ask_before(&self, bytes: usize) {
        if let Some(mut receiving) = self.receiving.try_take() {
            receiving.get_or_insert_default().without_asking = NonZeroUsize::new(bytes);
        }
    }

    fn peer_listens(&self) -> bool {
        self.connection.peer_listens()
    }

    fn tries_to_send(&self) -> bool {
        os::tokio::UNSPLIT > 0
    }

    /// Sends a message that the system does not split.
    fn try_send(&self, message: &[u8]) -> bool {
        if HEADER + message.len() > os::tokio::UNSPLIT || !runtime::has_turn(&self.sends) {
            return false;
        }
        let Some(_turn) = self.sending.try_take_in_turn() else {
            return false;
        };
        if self.connection.check_open().is_err() {
            return false;
        }
        match super::outgoing::send_alone(&self.connection.socket, message) {
            Ok(true) => true,
            Ok(false) => {
                self.connection.shut(POISONED);
                false
            }
            Err(_) => false,
        }
    }
}

impl PlatformStream for Stream {
    fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        impersonate(act)
    }
}

/// What a receive got, unless it is to wait.
fn in_time<T>(received: io::Result<T>) -> Option<io::Result<T>> {
    match received {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        received => Some(received),
    }
}

/// Lends a connection room to read ahead, as long as it is at work.
fn lending<T>(
    framing: &mut Framing,
    recv: impl FnOnce(&mut Framing) -> io::Result<T>,
) -> io::Result<T> {
    if framing.buffer.len() == 0 {
        framing.buffer.exchange(scratch::borrow_ahead());
    }
    let received = recv(framing);
    if framing.buffer.len() == 0 {
        scratch::give_back_ahead(framing.buffer.exchange(Vec::new()));
    } else if received.is_err() {
        // A piece of a length, until the rest comes.
        framing.buffer.shrink();
    }
    received
}

/// A receive that goes on where it stopped.
trait Receive {
    type Received;

    fn framing(&self) -> &Framing;

    /// Receives as far as that can be done now; `WouldBlock` if there is more to come.
    fn recv(&mut self, source: &mut Ready<'_>) -> io::Result<Self::Received>;
}

/// One that wants a message in whole. Dropped before it has it, it leaves what has come to the next.
struct Whole<'a> {
    framing: &'a mut Framing,
    message: &'a mut Vec<u8>,
    /// How much of the beginning of the message `message` holds, from when it does; behind it is room.
    filled: Option<usize>,
    done: bool,
}

impl Whole<'_> {
    /// Receives a small message that is there in whole, with nothing behind it, as most are; `None` if that is not so,
    /// and then what has come is read ahead.
    fn recv_alone(&mut self, source: &mut Ready<'_>) -> io::Result<Option<usize>> {
        source.connection.check_open()?;
        scratch::with_read(|buffer| {
            let n = source.read(&mut [IoSliceMut::new(buffer)])?;
            let came = &buffer[..n];
            if let Some((header, whole)) = came.split_first_chunk::<HEADER>() {
                let size = u32::from_le_bytes(*header) as usize;
                if size == whole.len() && size <= source.connection.max_message {
                    self.message.clear();
                    self.message.try_reserve_exact(size)?;
                    self.message.extend_from_slice(whole);
                    return Ok(Some(size));
                }
            }
            if n > 0 {
                let ahead = &mut self.framing.buffer;
                ahead.exchange(scratch::borrow_ahead());
                ahead.extend(came);
            }
            Ok(None)
        })
    }
}

impl Receive for Whole<'_> {
    type Received = Option<usize>;

    fn framing(&self) -> &Framing {
        self.framing
    }

    fn recv(&mut self, source: &mut Ready<'_>) -> io::Result<Option<usize>> {
        if self.filled.is_none() && self.message.len() <= READ_AHEAD && self.framing.is_idle() {
            if let Some(received) = self.recv_alone(source)? {
                return Ok(Some(received));
            }
        }
        let Whole {
            message, filled, ..
        } = self;
        lending(self.framing, |framing| {
            let filled = match filled {
                Some(filled) => filled,
                None => {
                    let mut begun = 0;
                    framing.begin_whole(source, message, &mut begun)?;
                    filled.insert(begun)
                }
            };
            framing.recv_whole(source, message, filled)
        })
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.done {
            if let Some(filled) = self.filled {
                self.framing.put_aside(&self.message[..filled]);
            }
            self.message.clear();
        }
    }
}

/// One that wants as much of a message as its buffer takes. Dropped before it has it, it leaves what has come to the
/// next.
struct InParts<'a> {
    framing: &'a mut Framing,
    buf: &'a mut [u8],
    got: usize,
    done: bool,
}

impl Receive for InParts<'_> {
    type Received = Option<Part>;

    fn framing(&self) -> &Framing {
        self.framing
    }

    fn recv(&mut self, source: &mut Ready<'_>) -> io::Result<Option<Part>> {
        let InParts { buf, got, .. } = self;
        lending(self.framing, |framing| framing.recv_part(source, buf, got))
    }
}

impl Drop for InParts<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.framing.put_aside(&self.buf[..self.got]);
        }
    }
}

/// A message on its way. Dropped when a part of it has gone, it ends the connection, because the next message would be
/// taken for the rest.
struct Unfinished<'a, 'b> {
    connection: &'a Connection<Watched>,
    outgoing: &'a mut Outgoing<'b>,
    armed: bool,
}

impl Unfinished<'_, '_> {
    /// Sends the rest as there is room for it; a result is the socket's, and an error the runtime's.
    async fn goes_on(
        &mut self,
        room: &AsyncFd<OwnedFd>,
        deadline: Deadline,
    ) -> io::Result<io::Result<()>> {
        let mut timer = pin!(None);
        poll_fn(|cx| {
            while room.poll_write_ready(cx)?.is_ready() {
                let send = |socket: &OwnedFd| self.outgoing.send_now(socket);
                if let Some(result) = in_time(room.try_io(Interest::WRITABLE, send)) {
                    return Poll::Ready(Ok(result));
                }
            }
            runtime::poll_passed(deadline, timer.as_mut(), cx)
                .map_ok(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }
}

impl Drop for Unfinished<'_, '_> {
    fn drop(&mut self) {
        if self.armed && self.outgoing.sent() > 0 {
            self.connection.shut(POISONED);
        }
    }
}

/// A request that waits for its reply. Dropped before that, it ends the connection, because the late reply would be
/// taken for that of the next request.
struct Unanswered<'a> {
    connection: &'a Connection<Watched>,
    armed: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.connection.shut(POISONED);
        }
    }
}

/// When to ask the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    /// Not at all: for what has been read ahead.
    Buffered,
    /// Whatever the runtime knows of it.
    Now,
}

/// Receives from a socket what is there, and never waits.
struct Ready<'a> {
    connection: &'a Connection<Watched>,
    attempt: Try,
    /// Nothing is left in it.
    drained: bool,
}

impl Source for Ready<'_> {
    type Socket = Watched;

    fn connection(&self) -> &Connection<Watched> {
        self.connection
    }

    fn fill(&mut self, ahead: &mut ReadAhead) -> io::Result<usize> {
        scratch::with_read(|buffer| {
            let n = self.read(&mut [IoSliceMut::new(buffer)])?;
            ahead.extend(&buffer[..n]);
            Ok(n)
        })
    }

    /// By `recvmsg(2)`: one that got less than it had room for has taken all. Only behind descriptors, and before a byte
    /// that was sent out of band, it ends early.
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.attempt == Try::Buffered {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = slices.iter().map(|slice| slice.len()).sum();
        let socket = &self.connection.socket;
        loop {
            match socket.get_ref().receive(slices, RecvFlags::DONTWAIT) {
                Ok(Received { bytes, early }) => {
                    if (1..room).contains(&bytes) && !early && !os::tokio::is_urgent(socket) {
                        (self.drained, self.attempt) = (true, Try::Buffered);
                    }
                    return Ok(bytes);
                }
                Err(Errno::INTR) => {}
                // The peer has closed without having read everything; all that it sent has been received by now.
                Err(Errno::CONNRESET) => return Ok(0),
                Err(error) => {
                    self.drained = error == Errno::AGAIN;
                    return Err(error.into());
                }
            }
        }
    }
}
