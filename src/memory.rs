//! The in-memory transport: streams and a listener that exist only in this process.
//!
//! It keeps the promises of [`Stream`](crate::Stream) and [`Listener`](crate::Listener) with no operating-system
//! object: no name, no file, no handle, nothing left behind. The conformance suite runs against it, and it stands
//! in for a [`LocalStream`](crate::LocalStream) in tests. Write a handler against the trait, and hand it one end
//! of a [`pair`]:
//!
//! ```
//! use std::io;
//! use std::time::Duration;
//! use pipetalk::{Deadline, Stream, memory};
//!
//! /// Answers every message with its length.
//! fn serve(stream: &impl Stream) -> io::Result<()> {
//!     let mut message = Vec::new();
//!     while let Some(len) = stream.recv_message(&mut message, Deadline::NEVER)? {
//!         stream.send(len.to_string().as_bytes(), Deadline::after(Duration::from_secs(5)))?;
//!     }
//!     Ok(())
//! }
//!
//! let (client, server) = memory::pair();
//! let server = std::thread::spawn(move || serve(&server));
//! client.send(b"hello", Deadline::NOW)?;
//! let mut reply = Vec::new();
//! client.recv_message(&mut reply, Deadline::after(Duration::from_secs(5)))?;
//! assert_eq!(reply, b"5");
//! drop(client);
//! server.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! Code that accepts connections takes a [`listener`]. [`Options`] make room scarce, limits small and endpoints
//! busy, so that the paths that are hard to reach on a real system can be tested.
//!
//! # How it works
//!
//! Each direction is a queue of whole messages, after the model of a Windows message pipe. A send puts its message
//! into the queue, and is done when it fits into the [buffer](Options::buffer_size) together with the unread
//! messages before it, or when the receiver has taken all of it. If neither has come true by the deadline, the
//! message is taken back and the connection goes on; only if the receiver has a part of it already is the
//! connection closed for good.

mod queue;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::transport::{self, DEFAULT_MAX_MESSAGE, check_sendable, gather, total_len};
use crate::{Deadline, Error, Part, Peer, UserId, Waiting};
use queue::Queue;

/// Two connected streams with the [defaults](Options).
#[must_use]
pub fn pair() -> (Stream, Stream) {
    Options::new().pair()
}

/// A listener with the [defaults](Options), and what connects to it.
///
/// ```
/// use pipetalk::{Deadline, Listener, Stream, memory};
///
/// let (listener, connector) = memory::listener();
/// let client = connector.connect(Deadline::NOW)?;
/// let server = listener.accept(Deadline::NOW)?;
/// client.send(b"hello", Deadline::NOW)?;
/// let mut message = Vec::new();
/// assert_eq!(server.recv_message(&mut message, Deadline::NOW)?, Some(5));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn listener() -> (Listener, Connector) {
    Options::new().listener()
}

/// How streams in memory are made.
///
/// ```
/// use std::io::ErrorKind;
/// use pipetalk::{Deadline, Stream, memory};
///
/// let (left, _right) = memory::Options::new().buffer_size(4).pair();
/// left.send(b"fits", Deadline::NOW)?;
/// assert_eq!(left.send(b"more", Deadline::NOW).unwrap_err().kind(), ErrorKind::TimedOut);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    buffer_size: usize,
    max_message: usize,
    instances: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            buffer_size: 64 << 10,
            max_message: DEFAULT_MAX_MESSAGE,
            instances: usize::MAX,
        }
    }
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// How many bytes each direction of a connection holds before a sender has to wait; 64 KiB unless set. A
    /// message may be larger. An empty message counts as one byte. With 0 every send waits for its receiver.
    #[must_use]
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// The largest message that the streams take, at both ends, [`DEFAULT_MAX_MESSAGE`] unless set;
    /// [`recv`](transport::Stream::recv), which has a buffer of its caller's, takes any.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// How many connections of a listener may be open at once, those not yet accepted included; unlimited unless
    /// set. A connection counts until the accepted stream is closed. With 0 the listener is always busy.
    #[must_use]
    pub fn instances(mut self, limit: usize) -> Self {
        self.instances = limit;
        self
    }

    /// Two connected streams.
    #[must_use]
    pub fn pair(&self) -> (Stream, Stream) {
        let connection = Arc::new(Connection::default());
        for end in connection.ends.lock().iter_mut() {
            end.inbox.capacity = self.buffer_size;
        }
        let stream = |me| Stream {
            connection: Arc::clone(&connection),
            me,
            max_message: self.max_message,
        };
        (stream(0), stream(1))
    }

    /// A listener, and what connects to it.
    #[must_use]
    pub fn listener(&self) -> (Listener, Connector) {
        let port = Arc::new(Port {
            state: Mutex::default(),
            changed: Condvar::new(),
            options: self.clone(),
        });
        (Listener(Arc::clone(&port)), Connector(port))
    }
}

/// One end of a connection in memory. Dropping it closes it.
///
/// What [`Stream`](crate::Stream) leaves open is here as follows:
///
/// * A send that timed out closes the connection only if the receiver had begun with the message.
/// * Closing while a send waits takes the message back; a receiver in the middle of it gets
///   [`Error::Truncated`], once, and then the end.
/// * [`abort`](transport::Stream::abort) drops what is unread, from both ends.
/// * A transaction has its turn before any receive that waits, and after a transaction that was first.
/// * The [`peer`](transport::Stream::peer) is this process.
pub struct Stream {
    connection: Arc<Connection>,
    /// Which of the two ends this is: 0 or 1. The other is `1 - me`.
    me: usize,
    max_message: usize,
}

/// What the two ends share. The lock is held for a copy at the most, never while waiting.
#[derive(Default)]
struct Connection {
    ends: Mutex<[End; 2]>,
    signals: [Signals; 2],
}

type Ends<'a> = MutexGuard<'a, [End; 2]>;

#[derive(Default)]
struct End {
    /// What whoever uses this end from now on is told.
    closed: Option<Error>,
    /// What the other end has sent.
    inbox: Queue,
    /// Whether the next message in the inbox is for a transaction, and for no other receiver.
    transacting: bool,
    /// An accepted stream is an instance of its listener until it is closed.
    instance: Option<Instance>,
}

/// Who waits at an end: its receivers for a message, and its senders for room at the other end. Each wakes for
/// the end of the connection, too.
#[derive(Default)]
struct Signals {
    arrived: Condvar,
    room: Condvar,
}

/// How often a send that waits looks whether there is something to receive.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Lets go of the lock until somebody signals.
fn wait<T>(signal: &Condvar, guard: &mut MutexGuard<'_, T>, deadline: Deadline) -> io::Result<()> {
    if deadline.has_passed() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match deadline.instant() {
        Some(at) => {
            signal.wait_until(guard, at);
        }
        None => signal.wait(guard),
    }
    Ok(())
}

impl Stream {
    fn lock(&self) -> Ends<'_> {
        self.connection.ends.lock()
    }

    fn signals(&self) -> &Signals {
        &self.connection.signals[self.me]
    }

    fn peer_signals(&self) -> &Signals {
        &self.connection.signals[1 - self.me]
    }

    fn check_open(&self, ends: &[End; 2]) -> io::Result<()> {
        ends[self.me]
            .closed
            .clone()
            .map_or(Ok(()), |error| Err(error.into()))
    }

    fn check_writable(&self, ends: &[End; 2]) -> io::Result<()> {
        self.check_open(ends)?;
        match ends[1 - self.me].closed {
            Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }

    fn push(
        &self,
        ends: &mut Ends<'_>,
        message: Vec<u8>,
        deadline: Deadline,
        mut meanwhile: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        let peer = 1 - self.me;
        self.check_writable(ends)?;
        let id = ends[peer].inbox.push(message);
        self.peer_signals().arrived.notify_all();
        while !ends[peer].inbox.is_sent(id) {
            self.check_writable(ends)?;
            let waited = match &mut meanwhile {
                Some(receive) if !deadline.has_passed() => {
                    if !MutexGuard::unlocked(ends, &mut **receive) {
                        let soon = deadline.min(Deadline::after(LOOK_AGAIN));
                        wait(&self.signals().room, ends, soon).or(Ok(()))
                    } else {
                        Ok(())
                    }
                }
                _ => wait(&self.signals().room, ends, deadline),
            };
            if let Err(timed_out) = waited {
                if ends[peer].inbox.withdraw(id) {
                    // What stood behind it may fit now.
                    self.signals().room.notify_all();
                } else {
                    self.shut(ends, Error::Poisoned, false);
                }
                return Err(timed_out);
            }
        }
        Ok(())
    }

    /// Waits until `take` finds something in the inbox; `None` at the end.
    fn receive<T>(
        &self,
        ends: &mut Ends<'_>,
        transacting: bool,
        deadline: Deadline,
        mut take: impl FnMut(&mut Queue) -> Option<T>,
    ) -> io::Result<Option<T>> {
        loop {
            self.check_open(ends)?;
            let peer_is_closed = ends[1 - self.me].closed.is_some();
            let end = &mut ends[self.me];
            if end.transacting == transacting {
                if mem::take(&mut end.inbox.truncated) {
                    return Err(Error::Truncated.into());
                }
                let taken = take(&mut end.inbox);
                if taken.is_some() || peer_is_closed {
                    self.peer_signals().room.notify_all();
                    return Ok(taken);
                }
            }
            wait(&self.signals().arrived, ends, deadline)?;
        }
    }

    /// Closes this end. What is not sent yet is lost to the peer, and so is what is sent if it is to be dropped.
    fn shut(&self, ends: &mut Ends<'_>, why: Error, drop_sent: bool) {
        ends[self.me].closed.get_or_insert(why);
        ends[self.me].inbox.truncate(0);
        let outbox = &mut ends[1 - self.me].inbox;
        outbox.truncate(if drop_sent { 0 } else { outbox.first_unsent() });
        for signals in &self.connection.signals {
            signals.arrived.notify_all();
            signals.room.notify_all();
        }
    }

    fn end(&self, drop_sent: bool) {
        let mut ends = self.lock();
        self.shut(&mut ends, Error::Closed, drop_sent);
        let instance = ends[self.me].instance.take();
        drop(ends);
        drop(instance);
    }
}

impl transport::Stream for Stream {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        check_sendable(message.len())?;
        let message = message.to_vec();
        self.push(&mut self.lock(), message, deadline, None)
    }

    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let message = gather(pieces, Vec::new());
        self.push(&mut self.lock(), message, deadline, Some(receive))
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.receive(&mut self.lock(), false, deadline, |inbox| {
            inbox.take_part(buf)
        })
    }

    fn close(&self) {
        self.end(false);
    }

    fn abort(&self) {
        self.end(true);
    }

    fn max_message(&self) -> usize {
        self.max_message
    }

    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        message.clear();
        let taken = self.receive(&mut self.lock(), false, deadline, Queue::take)?;
        let Some(taken) = taken else { return Ok(None) };
        let (limit, size) = (self.max_message, taken.rest().len());
        if size > limit {
            return Err(Error::TooLarge { limit, size }.into());
        }
        message.extend_from_slice(taken.rest());
        Ok(Some(size))
    }

    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let message = gather(pieces, Vec::new());
        self.push(&mut self.lock(), message, deadline, None)
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        let ends = self.lock();
        self.check_open(&ends)?;
        let end = &ends[self.me];
        let (mut bytes, mut message) = (0, None);
        if !end.transacting {
            if end.inbox.truncated {
                return Err(Error::Truncated.into());
            }
            let mut waiting = end
                .inbox
                .messages
                .iter()
                .map(|message| message.rest().len());
            message = waiting.next();
            if message.is_none() && ends[1 - self.me].closed.is_some() {
                return Ok(None);
            }
            bytes = waiting.chain(message).sum();
        }
        Ok(Some(Waiting { bytes, message }))
    }

    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        let request = request.to_vec();
        let mut ends = self.lock();
        self.check_open(&ends)?;
        while ends[self.me].transacting {
            wait(&self.signals().arrived, &mut ends, deadline)?;
            self.check_open(&ends)?;
        }
        if !ends[self.me].inbox.messages.is_empty() {
            return Err(Error::Busy.into());
        }

        ends[self.me].transacting = true;
        let mut part = self.push(&mut ends, request, deadline, None).map(|()| None);
        if part.is_ok() {
            part = self.receive(&mut ends, true, deadline, |inbox| inbox.take_part(reply));
            if matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
                self.shut(&mut ends, Error::Poisoned, false);
            }
        }
        ends[self.me].transacting = false;
        self.signals().arrived.notify_all();
        part
    }

    fn peer(&self) -> io::Result<Peer> {
        Ok(Peer {
            pid: Some(std::process::id()),
            user: Some(UserId::current()?),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        transport::Stream::close(self);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.lock();
        let (closed, waiting) = (
            ends[self.me].closed.clone(),
            ends[self.me].inbox.messages.len(),
        );
        drop(ends);
        let mut debug = f.debug_struct("Stream");
        debug
            .field("closed", &closed)
            .field("messages_waiting", &waiting);
        debug.finish_non_exhaustive()
    }
}

/// A listener in memory. Dropping it stops it: who has connected and is not yet accepted gets the end, and streams
/// that were accepted go on.
#[derive(Debug)]
pub struct Listener(Arc<Port>);

/// What connects to a [`Listener`] in memory, in place of a name.
#[derive(Debug, Clone)]
pub struct Connector(Arc<Port>);

struct Port {
    state: Mutex<PortState>,
    changed: Condvar,
    options: Options,
}

#[derive(Default)]
struct PortState {
    stopped: bool,
    /// How many instances there are.
    open: usize,
    /// Who has connected and waits to be accepted.
    backlog: VecDeque<Stream>,
}

/// One connection of those that a listener may have open.
struct Instance(Arc<Port>);

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.state.lock().open -= 1;
        self.0.changed.notify_all();
    }
}

impl transport::Listener for Listener {
    type Stream = Stream;

    fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        let mut state = self.0.state.lock();
        loop {
            if state.stopped {
                return Err(Error::Stopped.into());
            }
            if let Some(stream) = state.backlog.pop_front() {
                return Ok(stream);
            }
            wait(&self.0.changed, &mut state, deadline)?;
        }
    }

    fn stop(&self) {
        let mut state = self.0.state.lock();
        state.stopped = true;
        let refused = mem::take(&mut state.backlog);
        drop(state);
        self.0.changed.notify_all();
        // Each gives its instance back, which takes the lock.
        drop(refused);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        transport::Listener::stop(self);
    }
}

impl Connector {
    /// Connects to the listener; does not wait to be accepted.
    ///
    /// # Errors
    ///
    /// * `NotFound`: the listener was stopped or dropped.
    /// * [`Error::Busy`]: as many connections as [may be](Options::instances) are open, and the deadline is
    ///   [`Deadline::NOW`].
    /// * `TimedOut`: so it was until any other deadline.
    pub fn connect(&self, deadline: Deadline) -> io::Result<Stream> {
        let mut state = self.0.state.lock();
        loop {
            if state.stopped {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "nobody listens any more",
                ));
            }
            if state.open < self.0.options.instances {
                break;
            }
            if deadline == Deadline::NOW {
                return Err(Error::Busy.into());
            }
            wait(&self.0.changed, &mut state, deadline)?;
        }
        let (client, server) = self.0.options.pair();
        state.open += 1;
        server.lock()[server.me].instance = Some(Instance(Arc::clone(&self.0)));
        state.backlog.push_back(server);
        drop(state);
        self.0.changed.notify_all();
        Ok(client)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (stopped, open, backlog) = (state.stopped, state.open, state.backlog.len());
        drop(state);
        let mut debug = f.debug_struct("Port");
        debug
            .field("stopped", &stopped)
            .field("open", &open)
            .field("backlog", &backlog);
        debug.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::{Listener as _, Stream as _};

    const NOW: Deadline = Deadline::NOW;
    const NEVER: Deadline = Deadline::NEVER;

    fn kind<T: fmt::Debug>(result: io::Result<T>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn a_send_that_timed_out_half_way_poisons() {
        let (left, right) = Options::new().buffer_size(4).pair();
        thread::scope(|scope| {
            let sender =
                scope.spawn(|| left.send(&[7; 100], Deadline::after(Duration::from_millis(200))));
            assert_eq!(
                right
                    .recv(&mut [0; 10], Deadline::after(Duration::from_secs(5)))
                    .unwrap(),
                Some(Part {
                    len: 10,
                    last: false
                })
            );
            assert_eq!(kind(sender.join().unwrap()), ErrorKind::TimedOut);
        });
        let error = right.recv(&mut [0; 10], NOW).unwrap_err();
        assert_eq!(Error::of(&error), Some(&Error::Truncated));
        assert_eq!(right.recv(&mut [0; 10], NOW).unwrap(), None);
        assert_eq!(kind(right.send(b"x", NOW)), ErrorKind::BrokenPipe);
        left.close();
        for result in [left.send(b"x", NOW), left.recv(&mut [], NOW).map(drop)] {
            assert_eq!(Error::of(&result.unwrap_err()), Some(&Error::Poisoned));
        }
    }

    #[test]
    fn no_number_of_empty_messages_fits() {
        let (left, right) = Options::new().buffer_size(3).pair();
        for _ in 0..3 {
            left.send(b"", NOW).unwrap();
        }
        assert_eq!(kind(left.send(b"", NOW)), ErrorKind::TimedOut);
        assert_eq!(
            right.peek().unwrap(),
            Some(Waiting {
                bytes: 0,
                message: Some(0)
            })
        );
        assert_eq!(
            right.recv(&mut [], NOW).unwrap(),
            Some(Part { len: 0, last: true })
        );
        left.send(b"", NOW).unwrap();
    }

    #[test]
    fn an_instance_is_free_when_the_accepted_stream_closes() {
        let (listener, connector) = Options::new().instances(1).listener();
        let client = connector.connect(NOW).unwrap();
        drop(client);
        assert_eq!(
            Error::of(&connector.connect(NOW).unwrap_err()),
            Some(&Error::Busy)
        );
        assert_eq!(
            kind(connector.connect(Deadline::after(Duration::from_millis(20)))),
            ErrorKind::TimedOut
        );
        let server = listener.accept(NOW).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| connector.connect(NEVER));
            server.close();
            waiting.join().unwrap().unwrap();
        });
        drop(listener);
        assert_eq!(kind(connector.connect(NEVER)), ErrorKind::NotFound);
    }
}
