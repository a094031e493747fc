//! The traits [`Stream`] and [`Listener`] for async programs.

pub(crate) mod carrier;
pub(crate) mod local;
pub mod memory;
pub(crate) mod own;
pub(crate) mod platform;
pub(crate) mod runtime;
pub(crate) mod turn;

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice};
use std::sync::Arc;

use self::own::Own;
use crate::transport::own::OwnListener;
use crate::transport::{gather, recv_step};
use crate::{DEFAULT_MAX_MESSAGE, Deadline, Error, Part, Peer, Waiting};

/// A connection over which whole messages travel both ways, for async programs: the mirror of
/// [`pipetalk::Stream`](crate::Stream), with the same promises, order of calls and errors.
///
/// Every method takes `&self`: one task may send while another receives, and an [`Arc`] shares a stream. Several
/// senders never interleave, and several receivers each get whole messages as long as each receives whole messages.
///
/// A deadline that is not [`Deadline::NEVER`] is kept by the runtime's timer, which is only asked where a call has to
/// wait.
///
/// # Cancel safety
///
/// * A receive that is dropped loses nothing: the next one gets what this one would have.
/// * A send that is dropped either sends all of its message or nothing; where neither can be had because a part has
///   gone already, the connection is closed for good ([`Error::Poisoned`]), so that the next message is never taken
///   for the rest of this one.
///
/// # Implementing
///
/// [`send`](Stream::send), [`recv`](Stream::recv) and [`close`](Stream::close) are enough; the rest is provided in
/// terms of these, and a transport that can do better overrides it.
pub trait Stream: Debug + Send + Sync + 'static {
    /// Sends one message, whole. An empty message is a message too.
    ///
    /// # Errors
    ///
    /// As [`pipetalk::Stream::send`](crate::Stream::send).
    ///
    /// # Cancel safety
    ///
    /// See [the trait](Stream#cancel-safety).
    fn send(
        &self,
        message: &[u8],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Receives the next part of the message at the head: fills `buf`, or stops where the message ends. `None` at the
    /// end.
    ///
    /// # Errors
    ///
    /// As [`pipetalk::Stream::recv`](crate::Stream::recv).
    ///
    /// # Cancel safety
    ///
    /// See [the trait](Stream#cancel-safety).
    fn recv(
        &self,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<Part>>> + Send;

    /// Closes this end, and wakes whoever waits on it. What was sent before is still delivered; the peer then gets
    /// the end. Never waits for the peer. Closing twice is nothing.
    fn close(&self);

    /// Closes this end at once and drops what the peer has not yet received, where the system can do that; elsewhere
    /// the same as [`close`](Stream::close).
    fn abort(&self) {
        self.close();
    }

    /// The largest message that [`recv_message`](Stream::recv_message) takes, in bytes.
    fn max_message(&self) -> usize {
        DEFAULT_MAX_MESSAGE
    }

    /// Receives one whole message into `message`, replacing what was in it, and returns its length; `None` at the
    /// end. The vector grows to fit and is worth keeping from call to call.
    ///
    /// # Errors
    ///
    /// As [`recv`](Stream::recv), and [`Error::TooLarge`] if the message is larger than
    /// [`max_message`](Stream::max_message): the message is dropped and the next one is intact.
    ///
    /// # Cancel safety
    ///
    /// The provided one closes the stream if it is dropped, or fails, in the middle of a message. Those of this crate
    /// lose nothing.
    fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<usize>>> + Send {
        recv_message_in_parts(self, message, deadline)
    }

    /// Sends one message that is given in pieces, as if they stood in one slice.
    ///
    /// # Errors
    ///
    /// As [`send`](Stream::send).
    ///
    /// # Cancel safety
    ///
    /// See [the trait](Stream#cancel-safety).
    fn send_vectored(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send {
        let message = gather(pieces, Vec::new());
        async move { self.send(&message?, deadline).await }
    }

    /// Sends several messages, one after the other, in as few system calls as the transport can. Each slice is a
    /// message.
    ///
    /// # Errors
    ///
    /// As [`send`](Stream::send). Those before the one that failed may have been sent.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Stream::send), for each message.
    fn send_all(
        &self,
        messages: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            for message in messages {
                self.send(message, deadline).await?;
            }
            Ok(())
        }
    }

    /// Says what waits to be received, and consumes nothing; `None` at the end. Never waits. While another task is
    /// receiving, nothing waits for this one.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the transport cannot tell.
    fn peek(&self) -> io::Result<Option<Waiting>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends a request and receives the first part of the reply, as one operation: nobody else's receive gets in
    /// between. A reply that is larger than `reply` continues in [`recv`](Stream::recv).
    ///
    /// # Errors
    ///
    /// As [`pipetalk::Stream::transact`](crate::Stream::transact).
    ///
    /// # Cancel safety
    ///
    /// One that is dropped when its request has been sent closes the connection for good, because the late reply
    /// would be taken for that of the next request.
    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<Part>>> + Send {
        async move {
            match self.peek() {
                Ok(Some(Waiting {
                    message: Some(_), ..
                })) => return Err(Error::Busy.into()),
                Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
                // Nothing waits, or nobody can tell.
                _ => {}
            }
            self.send(request, deadline).await?;
            let unanswered = CloseUnless::new(self);
            let part = self.recv(reply, deadline).await;
            if !matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
                unanswered.went_well();
            }
            part
        }
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

/// What accepts connections, for async programs: the mirror of [`pipetalk::Listener`](crate::Listener).
///
/// Methods take `&self`; several tasks may accept from one listener.
pub trait Listener: Debug + Send + Sync + 'static {
    /// The connections that it accepts.
    type Stream: Stream;

    /// Waits for the next connection.
    ///
    /// A client that connected and left before this call is handed out like any other: what it sent can be received,
    /// then comes the end. Running out of descriptors, handles or memory is waited out, within the deadline.
    ///
    /// # Errors
    ///
    /// * `TimedOut`: nobody came.
    /// * [`Error::Stopped`]: the listener was stopped, perhaps by another task while this call waited.
    ///
    /// # Cancel safety
    ///
    /// One that is dropped loses no connection: the next one gets it.
    fn accept(&self, deadline: Deadline) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Stops listening: wakes whoever waits in [`accept`](Listener::accept) and gives the name back. When this
    /// returns, nobody can connect any more. Streams that were accepted go on. Stopping twice is nothing.
    fn stop(&self);

    /// What a listener of this crate's own does beside what is promised here; a listener from outside does no such thing.
    #[doc(hidden)]
    fn own(&self) -> Option<&dyn OwnListener> {
        None
    }
}

/// A pointer to a stream is a stream, so that what takes one can share one.
impl<S: Stream> Stream for Arc<S> {
    fn send(
        &self,
        message: &[u8],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send {
        (**self).send(message, deadline)
    }

    fn recv(
        &self,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<Part>>> + Send {
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

    fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<usize>>> + Send {
        (**self).recv_message(message, deadline)
    }

    fn send_vectored(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send {
        (**self).send_vectored(pieces, deadline)
    }

    fn send_all(
        &self,
        messages: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send {
        (**self).send_all(messages, deadline)
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        (**self).peek()
    }

    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<Part>>> + Send {
        (**self).transact(request, reply, deadline)
    }

    fn peer(&self) -> io::Result<Peer> {
        (**self).peer()
    }

    #[inline]
    fn own(&self) -> Option<&dyn Own> {
        (**self).own()
    }
}

impl<L: Listener> Listener for Arc<L> {
    type Stream = L::Stream;

    fn accept(&self, deadline: Deadline) -> impl Future<Output = io::Result<L::Stream>> + Send {
        (**self).accept(deadline)
    }

    fn stop(&self) {
        (**self).stop();
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        (**self).own()
    }
}

/// Closes a stream, unless told in time that all is well: also where a future is dropped half-way.
struct CloseUnless<'a, S: Stream + ?Sized>(Option<&'a S>);

impl<'a, S: Stream + ?Sized> CloseUnless<'a, S> {
    fn new(stream: &'a S) -> Self {
        CloseUnless(Some(stream))
    }

    fn went_well(mut self) {
        self.0 = None;
    }
}

impl<S: Stream + ?Sized> Drop for CloseUnless<'_, S> {
    fn drop(&mut self) {
        if let Some(stream) = self.0 {
            stream.close();
        }
    }
}

/// What [`Stream::recv_message`] does where the transport has nothing better: parts into a growing vector, and past
/// the limit into nothing.
async fn recv_message_in_parts<S: Stream + ?Sized>(
    stream: &S,
    message: &mut Vec<u8>,
    deadline: Deadline,
) -> io::Result<Option<usize>> {
    let limit = stream.max_message();
    message.clear();
    let mut size = 0_usize;
    let mut inside = None;
    loop {
        let at = recv_step(message, size, limit)?;
        let part = match stream.recv(&mut message[at..], deadline).await {
            Ok(Some(part)) => part,
            // If something of the message has come, it is lost, so that the stream is closed here.
            end_or_error => {
                message.clear();
                return end_or_error.map(|_| None);
            }
        };
        size = size.saturating_add(part.len);
        if part.last {
            break;
        }
        inside.get_or_insert_with(|| CloseUnless::new(stream));
    }
    if let Some(inside) = inside {
        inside.went_well();
    }
    if size > limit {
        message.clear();
        return Err(Error::TooLarge { limit, size }.into());
    }
    message.truncate(size);
    Ok(Some(size))
}
