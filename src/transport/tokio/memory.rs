//! The in-memory transport for async programs: the mirror of [`pipetalk::memory`](crate::memory).
//!
//! ```
//! use std::time::Duration;
//! use pipetalk::Deadline;
//! use pipetalk::tokio::{Stream, memory};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let (client, server) = memory::pair();
//! client.send(b"hello", Deadline::NOW).await?;
//! let mut message = Vec::new();
//! server.recv_message(&mut message, Deadline::after(Duration::from_secs(5))).await?;
//! assert_eq!(message, b"hello");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The queues are those of the blocking transport, with the same [`Options`], so that one end of a connection may be
//! async and the other blocking: each kind of stream [makes](From) the other.
//!
//! ```
//! use pipetalk::{Deadline, Stream as _, memory};
//!
//! let (blocking, other) = memory::pair();
//! let other = pipetalk::tokio::memory::Stream::from(other);
//! blocking.send(b"hello", Deadline::NOW)?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let mut message = Vec::new();
//! pipetalk::tokio::Stream::recv_message(&other, &mut message, Deadline::NOW).await?;
//! assert_eq!(message, b"hello");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, IoSlice};
use std::sync::atomic::AtomicU8;

use super::runtime;
use crate::transport::memory::{self, queue::Queue};
use crate::transport::own::OwnListener;
use crate::transport::{Stream as _, check_sendable, copy, gather, total_len};
use crate::{Deadline, Error, Part, Peer, Waiting};

pub use crate::transport::memory::Options;

/// Two connected streams with the [defaults](Options).
#[must_use]
pub fn pair() -> (Stream, Stream) {
    Options::new().pair_tokio()
}

/// A listener with the [defaults](Options), and what connects to it.
#[must_use]
pub fn listener() -> (Listener, Connector) {
    Options::new().listener_tokio()
}

impl Options {
    /// Two connected streams for async programs (feature `tokio`).
    #[must_use]
    pub fn pair_tokio(&self) -> (Stream, Stream) {
        let (left, right) = self.pair();
        (left.into(), right.into())
    }

    /// A listener for async programs, and what connects to it (feature `tokio`).
    #[must_use]
    pub fn listener_tokio(&self) -> (Listener, Connector) {
        let (listener, connector) = self.listener();
        (listener.into(), connector.into())
    }
}

/// One end of a connection in memory, for async programs. Dropping it closes it.
///
/// What is said of [`pipetalk::memory::Stream`](crate::transport::memory::Stream) is true here. A send that is dropped before its
/// message is sent takes it back; only if the receiver has begun with it is the connection closed for good.
#[derive(Debug)]
pub struct Stream {
    inner: memory::Stream,
    /// How many calls there were.
    calls: AtomicU8,
}

impl From<memory::Stream> for Stream {
    fn from(inner: memory::Stream) -> Self {
        Stream {
            inner,
            calls: AtomicU8::new(0),
        }
    }
}

impl From<Stream> for memory::Stream {
    fn from(stream: Stream) -> Self {
        stream.inner
    }
}

impl Stream {
    async fn push(&self, message: Vec<u8>, deadline: Deadline) -> io::Result<()> {
        runtime::take_turns(&self.calls, deadline).await;
        let stream = &self.inner;
        let id = stream.begin_send(&mut stream.lock(), message)?;
        let unsent = Unsent { stream, id };
        loop {
            let room = {
                let ends = stream.lock();
                if stream.is_sent(&ends, id)? {
                    return Ok(());
                }
                stream.signals().room.notified()
            };
            if let Err(error) = runtime::by(deadline, room).await {
                // What has been sent in the meantime has been sent.
                let sent = unsent.end()?;
                return if sent { Ok(()) } else { Err(error) };
            }
        }
    }

    async fn receive<T>(
        &self,
        transacting: bool,
        deadline: Deadline,
        mut take: impl FnMut(&mut Queue) -> Option<T>,
    ) -> io::Result<Option<T>> {
        runtime::take_turns(&self.calls, deadline).await;
        loop {
            let arrived = {
                let mut ends = self.inner.lock();
                if let Some(taken) = self.inner.receive_now(&mut ends, transacting, &mut take)? {
                    return Ok(taken);
                }
                self.inner.signals().arrived.notified()
            };
            runtime::by(deadline, arrived).await?;
        }
    }
}

/// A message that is on its way. When the call ends, however it ends, it has been sent or is taken back.
struct Unsent<'a> {
    stream: &'a memory::Stream,
    id: u64,
}

impl Unsent<'_> {
    /// Takes the message back unless it has been sent, and says which of the two. An error says that there is nothing
    /// any more to take back. In one step, because the receiver may take it at any moment; again, it is nothing.
    fn end(&self) -> io::Result<bool> {
        let mut ends = self.stream.lock();
        let sent = self.stream.is_sent(&ends, self.id)?;
        if !sent {
            self.stream.give_up_send(&mut ends, self.id);
        }
        Ok(sent)
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A transaction. Dropped after its request was sent and before the reply came, it closes the connection for good.
struct Transaction<'a> {
    stream: &'a memory::Stream,
    unanswered: bool,
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let mut ends = self.stream.lock();
        if self.unanswered {
            self.stream.shut(&mut ends, Error::Poisoned, false);
        }
        self.stream.end_transaction(&mut ends);
    }
}

impl super::Stream for Stream {
    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        check_sendable(message.len())?;
        self.push(copy(message)?, deadline).await
    }

    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.receive(false, deadline, |inbox| inbox.take_part(buf))
            .await
    }

    fn close(&self) {
        self.inner.close();
    }

    fn abort(&self) {
        self.inner.abort();
    }

    fn max_message(&self) -> usize {
        self.inner.max_message()
    }

    async fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        message.clear();
        let taken = self.receive(false, deadline, Queue::take).await?;
        self.inner.keep(taken, message)
    }

    async fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        self.push(gather(pieces, Vec::new())?, deadline).await
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        self.inner.peek()
    }

    async fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        let stream = &self.inner;
        loop {
            let ended = {
                let mut ends = stream.lock();
                if stream.begin_transaction(&mut ends)? {
                    break;
                }
                stream.signals().arrived.notified()
            };
            runtime::by(deadline, ended).await?;
        }
        let mut transaction = Transaction {
            stream,
            unanswered: false,
        };
        self.push(copy(request)?, deadline).await?;
        transaction.unanswered = true;
        let part = self
            .receive(true, deadline, |inbox| inbox.take_part(reply))
            .await;
        // Where the time is up, or the runtime has no timer, the reply may still come.
        transaction.unanswered = matches!(&part, Err(error)
            if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Other));
        part
    }

    fn peer(&self) -> io::Result<Peer> {
        self.inner.peer()
    }
}

/// A listener in memory, for async programs. Dropping it stops it: who has connected and is not yet accepted gets the
/// end, and streams that were accepted go on.
#[derive(Debug)]
pub struct Listener(memory::Listener);

impl From<memory::Listener> for Listener {
    fn from(listener: memory::Listener) -> Self {
        Listener(listener)
    }
}

impl From<Listener> for memory::Listener {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}

impl super::Listener for Listener {
    type Stream = Stream;

    async fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        let port = &self.0.0;
        loop {
            let changed = {
                let mut state = port.lock();
                if let Some(stream) = state.accept()? {
                    return Ok(stream.into());
                }
                port.changed.notified()
            };
            runtime::by(deadline, changed).await?;
        }
    }

    fn stop(&self) {
        crate::Listener::stop(&self.0);
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        crate::Listener::own(&self.0)
    }
}

/// What connects to a [`Listener`] in memory, in place of a name.
#[derive(Debug, Clone)]
pub struct Connector(memory::Connector);

impl From<memory::Connector> for Connector {
    fn from(connector: memory::Connector) -> Self {
        Connector(connector)
    }
}

impl From<Connector> for memory::Connector {
    fn from(connector: Connector) -> Self {
        connector.0
    }
}

impl Connector {
    /// Connects to the listener; does not wait to be accepted.
    ///
    /// # Errors
    ///
    /// As [`pipetalk::memory::Connector::connect`](crate::transport::memory::Connector::connect).
    ///
    /// # Cancel safety
    ///
    /// One that is dropped leaves no connection behind.
    pub async fn connect(&self, deadline: Deadline) -> io::Result<Stream> {
        let port = &self.0.0;
        loop {
            let changed = {
                let mut state = port.lock();
                if let Some(stream) = port.connect(&mut state, deadline)? {
                    drop(state);
                    port.changed.notify_all();
                    return Ok(stream.into());
                }
                port.changed.notified()
            };
            runtime::by(deadline, changed).await?;
        }
    }
}
