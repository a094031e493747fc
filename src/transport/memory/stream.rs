//! The two ends of a connection in memory.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::ends::{End, Ends, Signals};
use super::instance::Instance;
use super::queue::{Message, Queue};
use crate::base::callback::Callbacks;
use crate::transport::{self, check_sendable, copy, gather, total_len};
use crate::{Deadline, Error, Part, Peer, UserId, Waiting};

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
    callbacks: Callbacks,
    max_message: usize,
}

/// What the two ends share. The lock is held for a copy at the most, never while waiting.
#[derive(Default)]
struct Connection {
    ends: Mutex<[End; 2]>,
    signals: [Signals; 2],
}

/// How often a send that waits looks whether there is something to receive.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Stream {
    pub(super) fn pair(buffer_size: usize, max_message: usize) -> (Stream, Stream) {
        let connection = Arc::new(Connection::default());
        for end in connection.ends.lock().iter_mut() {
            end.inbox.capacity = buffer_size;
        }
        let stream = |me| Stream {
            connection: Arc::clone(&connection),
            me,
            callbacks: Callbacks::default(),
            max_message,
        };
        (stream(0), stream(1))
    }

    pub(super) fn occupy(&self, instance: Instance) {
        self.lock()[self.me].instance = Some(instance);
    }

    pub(crate) fn lock(&self) -> Ends<'_> {
        Ends::lock(&self.connection.ends, &self.connection.signals)
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.connection.signals[self.me]
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

    /// Puts a message into the other end's inbox, and says as what it is known there.
    pub(crate) fn begin_send(&self, ends: &mut Ends<'_>, message: Vec<u8>) -> io::Result<u64> {
        self.check_writable(ends)?;
        let id = ends[1 - self.me].inbox.push(message);
        ends.has_arrived(1 - self.me);
        Ok(id)
    }

    /// Whether a message has been sent; if not, there has to be [room](Signals::room).
    pub(crate) fn is_sent(&self, ends: &Ends<'_>, id: u64) -> io::Result<bool> {
        if ends[1 - self.me].inbox.is_sent(id) {
            return Ok(true);
        }
        self.check_writable(ends)?;
        Ok(false)
    }

    /// Takes a message back that has not been sent. That cannot be done once the receiver has begun with it: then the
    /// connection is closed for good.
    pub(crate) fn give_up_send(&self, ends: &mut Ends<'_>, id: u64) {
        if ends[1 - self.me].inbox.withdraw(id) {
            // What stood behind it may fit now.
            ends.has_room(self.me);
        } else {
            self.shut(ends, Error::Poisoned, false);
        }
    }

    fn push(
        &self,
        ends: &mut Ends<'_>,
        message: Vec<u8>,
        deadline: Deadline,
        mut meanwhile: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        self.callbacks.check_not_here()?;
        let id = self.begin_send(ends, message)?;
        while !self.is_sent(ends, id)? {
            let waited = match &mut meanwhile {
                Some(receive) if !deadline.has_passed() => {
                    let call_back = || self.callbacks.run(&mut **receive);
                    let received =
                        ends.unlocked(|| panic::catch_unwind(AssertUnwindSafe(call_back)));
                    match received {
                        Ok(true) => Ok(()),
                        Ok(false) => {
                            let soon = deadline.min(Deadline::after(LOOK_AGAIN));
                            ends.wait(&self.signals().room, soon).or(Ok(()))
                        }
                        Err(panic) => {
                            if let Ok(false) = self.is_sent(ends, id) {
                                self.give_up_send(ends, id);
                            }
                            panic::resume_unwind(panic);
                        }
                    }
                }
                _ => ends.wait(&self.signals().room, deadline),
            };
            if let Err(timed_out) = waited {
                self.give_up_send(ends, id);
                return Err(timed_out);
            }
        }
        Ok(())
    }

    /// What `take` finds in the inbox, which is `None` at the end; or nothing yet, until something has
    /// [arrived](Signals::arrived).
    pub(crate) fn receive_now<T>(
        &self,
        ends: &mut Ends<'_>,
        transacting: bool,
        take: impl FnOnce(&mut Queue) -> Option<T>,
    ) -> io::Result<Option<Option<T>>> {
        self.check_open(ends)?;
        let peer_is_closed = ends[1 - self.me].closed.is_some();
        let end = &mut ends[self.me];
        if end.transacting == transacting {
            if mem::take(&mut end.inbox.truncated) {
                return Err(Error::Truncated.into());
            }
            let taken = take(&mut end.inbox);
            if taken.is_some() || peer_is_closed {
                ends.has_room(1 - self.me);
                return Ok(Some(taken));
            }
        }
        Ok(None)
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
            if let Some(taken) = self.receive_now(ends, transacting, &mut take)? {
                return Ok(taken);
            }
            ends.wait(&self.signals().arrived, deadline)?;
        }
    }

    /// Puts a message that has been received into the caller's vector, or says that it is too large for it.
    pub(crate) fn keep(
        &self,
        taken: Option<Message>,
        message: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        let Some(taken) = taken else { return Ok(None) };
        let (limit, size) = (self.max_message, taken.rest().len());
        if size > limit {
            return Err(Error::TooLarge { limit, size }.into());
        }
        message.try_reserve_exact(size)?;
        message.extend_from_slice(taken.rest());
        Ok(Some(size))
    }

    /// Whether a transaction begins here; if not, another is to be waited for, whose end [arrives](Signals::arrived).
    pub(crate) fn begin_transaction(&self, ends: &mut Ends<'_>) -> io::Result<bool> {
        self.check_open(ends)?;
        let end = &mut ends[self.me];
        if end.transacting {
            return Ok(false);
        }
        if !end.inbox.messages.is_empty() {
            return Err(Error::Busy.into());
        }
        end.transacting = true;
        Ok(true)
    }

    pub(crate) fn end_transaction(&self, ends: &mut Ends<'_>) {
        ends[self.me].transacting = false;
        ends.has_arrived(self.me);
    }

    /// Closes this end. What is not sent yet is lost to the peer, and so is what is sent if it is to be dropped.
    pub(crate) fn shut(&self, ends: &mut Ends<'_>, why: Error, drop_sent: bool) {
        ends[self.me].closed.get_or_insert(why);
        ends[self.me].inbox.truncate(0);
        let outbox = &mut ends[1 - self.me].inbox;
        outbox.truncate(if drop_sent { 0 } else { outbox.first_unsent() });
        for end in [0, 1] {
            ends.has_arrived(end);
            ends.has_room(end);
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
        let message = copy(message)?;
        self.push(&mut self.lock(), message, deadline, None)
    }

    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let message = gather(pieces, Vec::new())?;
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
        self.keep(taken, message)
    }

    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let message = gather(pieces, Vec::new())?;
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
        self.callbacks.check_not_here()?;
        let request = copy(request)?;
        let mut ends = self.lock();
        while !self.begin_transaction(&mut ends)? {
            ends.wait(&self.signals().arrived, deadline)?;
        }
        let mut part = self.push(&mut ends, request, deadline, None).map(|()| None);
        if part.is_ok() {
            part = self.receive(&mut ends, true, deadline, |inbox| inbox.take_part(reply));
            if matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
                self.shut(&mut ends, Error::Poisoned, false);
            }
        }
        self.end_transaction(&mut ends);
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
