//! A connected pipe, for tasks.

use std::io::{self, IoSlice};
use std::mem;
use std::os::windows::io::OwnedHandle;
use std::sync::atomic::AtomicU8;
use std::task::Poll;

use windows_sys::Win32::Foundation::ERROR_OPERATION_ABORTED;

use super::operation::{Ended, Operation, Stage, cancel_all};
use super::scratch;
use crate::transport::tokio;
use crate::transport::tokio::own::Own;
use crate::transport::tokio::platform::PlatformStream;
use crate::transport::tokio::runtime as rt;
use crate::transport::tokio::turn::{Taken, Turn};
use crate::transport::{check_sendable, gather, total_len};
use crate::windows::head::Head;
use crate::windows::instances::Instance;
use crate::windows::overlapped::Done;
use crate::windows::pipe::{End, Pipe, Why, write_error};
use crate::windows::rights::Direction;
use crate::{Deadline, Error, Part, Peer, ReadMode, Waiting};

/// The room for a message of which nothing is known yet. Every idle connection has that much, and what is larger costs
/// one read more.
const FIRST_READ: usize = 1 << 10;

/// How much is dropped at once of a message that was too large; also the most that is read at once in byte mode.
const LARGE_READ: usize = 64 << 10;

/// Up to what size the buffer of parts is kept.
const KEPT_PARTS: usize = 2 * FIRST_READ;

#[derive(Debug)]
pub(crate) struct Stream {
    pipe: Pipe,
    receiving: Turn<Receiving>,
    /// Whoever sends holds it.
    sending: Turn<()>,
    // Beside the locks, because closing wakes who waits, and he has the lock.
    reading: Operation,
    writing: Operation,
    /// How many calls there were, for other tasks to get their turn.
    receives: AtomicU8,
    sends: AtomicU8,
    max_message: usize,
}

#[derive(Debug, Default)]
struct Receiving {
    /// While a read is under way, it has the stash.
    head: Head,
    /// How much of the stash has been handed out.
    at: usize,
}

/// What a stream needs beside its pipe: made first, where a pipe in hand must not be lost for want of it.
#[derive(Debug)]
pub(super) struct Parts {
    reading: Operation,
    writing: Operation,
}

impl Parts {
    pub(super) fn new() -> io::Result<Parts> {
        Ok(Parts {
            reading: Operation::new()?,
            writing: Operation::new()?,
        })
    }

    pub(super) fn stream(
        self,
        pipe: OwnedHandle,
        end: End,
        direction: Direction,
        read_mode: ReadMode,
        max_message: usize,
    ) -> Stream {
        Stream {
            pipe: Pipe::new(pipe, end, direction, read_mode),
            receiving: Turn::default(),
            sending: Turn::default(),
            reading: self.reading,
            writing: self.writing,
            receives: AtomicU8::new(0),
            sends: AtomicU8::new(0),
            max_message,
        }
    }
}

impl Stream {
    pub(super) fn occupy(&self, instance: Instance) {
        self.pipe.occupy(instance);
    }

    fn shut(&self, why: Why) {
        self.pipe.end(why);
        self.pipe.release(cancel_all);
        // They need not wait for what they have begun: it keeps what it needs until it has ended.
        self.reading.wake();
        self.writing.wake();
    }

    /// Waits for the end of an operation, until the deadline or the stream's end.
    async fn wait(&self, operation: &Operation, deadline: Deadline) -> io::Result<()> {
        if rt::by(deadline, operation.ended(|| self.pipe.is_open())).await? {
            Ok(())
        } else {
            Err(self.pipe.ended())
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
        let mut receiving = self.receive(deadline).await?;
        self.recv_part(&mut receiving, buf, deadline).await
    }

    fn close(&self) {
        self.shut(Why::Closed);
    }

    fn abort(&self) {
        self.shut(Why::Aborted);
    }

    fn max_message(&self) -> usize {
        self.max_message
    }

    async fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let mut receiving = self.receive(deadline).await?;
        message.clear();
        if !self.discard(&mut receiving, deadline).await? {
            return Ok(None);
        }
        if self.holds_nothing(&receiving) {
            // Lent: what is read goes where it belongs.
            mem::swap(&mut receiving.head.stash, message);
        }
        match self.recv_whole(&mut receiving, deadline).await {
            Ok(Some(())) => {
                mem::swap(&mut receiving.head.stash, message);
                message.drain(..receiving.at);
                receiving.next();
                Ok(Some(message.len()))
            }
            end_or_error => {
                if self.holds_nothing(&receiving) {
                    mem::swap(&mut receiving.head.stash, message);
                }
                end_or_error.map(|_| None)
            }
        }
    }

    async fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let _sending = rt::take(deadline, &self.sending).await?;
        rt::take_turns(&self.sends, deadline).await;
        self.write(pieces, deadline).await
    }

    async fn send_all(&self, messages: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        let _sending = rt::take(deadline, &self.sending).await?;
        for message in messages {
            check_sendable(message.len())?;
            rt::take_turns(&self.sends, deadline).await;
            let piece = [IoSlice::new(message)];
            self.write(&piece, deadline).await?;
        }
        Ok(())
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        const NOTHING: Waiting = Waiting {
            bytes: 0,
            message: None,
        };
        // Whoever receives at the moment gets what comes.
        let Some(mut receiving) = self.receiving.try_take() else {
            return Ok(Some(NOTHING));
        };
        let receiving = &mut *receiving;
        while receiving.head.discarding {
            match self.discard_some(receiving)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Ok(None),
                Poll::Pending => return Ok(Some(NOTHING)),
            }
        }
        // What an earlier receive has begun to read.
        match self.reading.look() {
            Stage::Idle => {}
            Stage::Pending if self.pipe.is_open() => return Ok(Some(NOTHING)),
            Stage::Pending => return Err(self.pipe.ended()),
            Stage::Ended(Ok(_) | Err(ERROR_OPERATION_ABORTED)) => {
                let Poll::Ready(_) = self.read_some(receiving, FIRST_READ)? else {
                    return Ok(Some(NOTHING));
                };
            }
            Stage::Ended(Err(code)) => return receiving.look_fails(code),
        }
        let held = receiving.held();
        match self.pipe.look()? {
            Ok(seen) => Ok(Some(receiving.head.waiting(seen, held))),
            Err(_) if receiving.head.whole => Ok(Some(receiving.head.waiting((0, 0), held))),
            Err(code) => receiving.look_fails(code),
        }
    }

    async fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        let mut receiving = self.receive(deadline).await?;
        self.pipe.check_can_send()?;
        self.pipe.check_can_receive()?;
        if !receiving.holds_nothing() || self.fetch(&mut receiving).await? {
            return Err(Error::Busy.into());
        }
        let sending = rt::take(deadline, &self.sending).await?;
        self.finish_earlier(deadline).await?;
        let unsent = TakeBackOnDrop(self);
        self.write(&[IoSlice::new(request)], deadline).await?;
        mem::forget(unsent);
        // From here on a reply may come that nobody has asked for.
        let unanswered = PoisonOnDrop(self);
        drop(sending);
        let part = self.recv_part(&mut receiving, reply, deadline).await;
        if self.reading.is_idle() {
            mem::forget(unanswered);
        }
        part
    }

    fn peer(&self) -> io::Result<Peer> {
        self.pipe.peer()
    }
}

impl Own for Stream {
    fn part(&self, courtesy: usize) {
        self.shut(Why::Parted(courtesy));
    }

    /// Before anybody receives.
    fn ask_before(&self, bytes: usize) {
        if let Some(mut receiving) = self.receiving.try_take() {
            receiving.head.without_asking = Some(bytes);
        }
    }

    /// A pipe has one end for both directions.
    fn peer_listens(&self) -> bool {
        false
    }
}

impl PlatformStream for Stream {
    fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        self.pipe.impersonate(act)
    }
}

// Sending.
impl Stream {
    /// Writes one message. If this is dropped, the write goes on.
    async fn write(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.pipe.check_can_send()?;
        self.finish_earlier(deadline).await?;
        let buffer = gather(pieces, scratch::borrow(total_len(pieces)))?;
        let stage = self.pipe.with(|pipe| self.writing.write(pipe, buffer))?;
        if let Stage::Ended(ended) = stage {
            return self.after_write(ended);
        }
        match self.wait(&self.writing, deadline).await {
            Ok(()) => self.finish_earlier(deadline).await,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.cancel_write(total_len(pieces)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the write that is under way, if there is one, and says what came of it.
    async fn finish_earlier(&self, deadline: Deadline) -> io::Result<()> {
        loop {
            match self.writing.take() {
                Stage::Idle => return Ok(()),
                Stage::Pending => self.wait(&self.writing, deadline).await?,
                Stage::Ended(ended) if self.is_taken_back(&ended) => {
                    // The thread that began it is no more, and has taken it along: it is begun again.
                    let stage = self
                        .pipe
                        .with(|pipe| self.writing.write(pipe, ended.buffer))?;
                    if let Stage::Ended(ended) = stage {
                        return self.after_write(ended);
                    }
                }
                Stage::Ended(ended) => return self.after_write(ended),
            }
        }
    }

    /// Whether the write was cancelled, and nothing of the message has gone.
    fn is_taken_back(&self, ended: &Ended) -> bool {
        matches!(ended.result, Err(ERROR_OPERATION_ABORTED))
            && self.pipe.takes_back(ended.buffer.len())
    }

    /// The deadline has passed while the peer made no room for a message of that size.
    async fn cancel_write(&self, size: usize) -> io::Result<()> {
        // How much of it the peer has read nobody says.
        let half_sent = (!self.pipe.takes_back(size)).then(|| PoisonOnDrop(self));
        self.pipe.with(|pipe| self.writing.cancel(pipe))?;
        self.wait(&self.writing, Deadline::NEVER).await?;
        match self.writing.take() {
            Stage::Ended(Ended {
                result: Err(ERROR_OPERATION_ABORTED),
                buffer,
            }) => {
                scratch::give_back(buffer);
                Err(io::ErrorKind::TimedOut.into())
            }
            Stage::Ended(ended) => {
                // It ended before it could be cancelled.
                mem::forget(half_sent);
                self.after_write(ended)
            }
            Stage::Idle | Stage::Pending => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Takes back what is being written, if it can be had whole.
    fn take_write_back(&self) -> io::Result<()> {
        self.pipe.with(|pipe| self.writing.cancel(pipe))?;
        match self.writing.take() {
            Stage::Idle => Ok(()),
            Stage::Ended(ended) if self.is_taken_back(&ended) => {
                scratch::give_back(ended.buffer);
                Ok(())
            }
            Stage::Pending | Stage::Ended(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// What the end of a write means.
    fn after_write(&self, ended: Ended) -> io::Result<()> {
        let length = ended.buffer.len();
        scratch::give_back(ended.buffer);
        match ended.result {
            Ok(Done { count, .. }) if count as usize == length => Ok(()),
            // No pipe of message type takes a part of a message, but if one did, the rest would be missing. Cancelled by
            // the end of its thread it may have gone in part as well.
            Ok(_) | Err(ERROR_OPERATION_ABORTED) => {
                self.shut(Why::Poisoned);
                Err(self.pipe.ended())
            }
            Err(_) if !self.pipe.is_open() => Err(self.pipe.ended()),
            Err(code) => Err(write_error(code)),
        }
    }
}

// Receiving.
impl Stream {
    async fn receive(&self, deadline: Deadline) -> io::Result<Taken<'_, Receiving>> {
        let receiving = rt::take(deadline, &self.receiving).await?;
        rt::take_turns(&self.receives, deadline).await;
        Ok(receiving)
    }

    /// Whether nothing of a message has been read, and nothing is being read.
    fn holds_nothing(&self, receiving: &Receiving) -> bool {
        receiving.holds_nothing() && self.reading.is_idle()
    }

    /// Reads what waits into the stash, and says whether something did. If not, the read is pending afterwards, for what is
    /// to come. A look into the pipe would not do, because it does not show an empty message.
    async fn fetch(&self, receiving: &mut Receiving) -> io::Result<bool> {
        match self.read(receiving, FIRST_READ, Deadline::NOW).await {
            Ok(Some(_)) => Ok(true),
            Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(error),
            // Nothing waits; or it is the end, of which the send says what there is to say.
            Ok(None) | Err(_) => Ok(false),
        }
    }

    /// One read to the end of the stash, of `room` bytes or more, as far as it goes without waiting; or the end of the
    /// one that is under way. `None` is the end of the connection.
    fn read_some(&self, receiving: &mut Receiving, room: usize) -> io::Result<Poll<Option<Done>>> {
        self.pipe.check_can_receive()?;
        loop {
            let stage = match self.reading.take() {
                Stage::Idle => {
                    let mut buffer = mem::take(&mut receiving.head.stash);
                    if let Err(error) = buffer.try_reserve(room) {
                        // The message costs itself, and not the next one.
                        receiving.head.discarding = receiving.head.inside;
                        receiving.next();
                        return Err(error.into());
                    }
                    self.pipe.with(|pipe| self.reading.read(pipe, buffer))?
                }
                stage => stage,
            };
            let Stage::Ended(ended) = stage else {
                return Ok(Poll::Pending);
            };
            receiving.head.stash = ended.buffer;
            if ended.result.is_err() && !self.pipe.is_open() {
                return Err(self.pipe.ended());
            }
            if matches!(ended.result, Err(ERROR_OPERATION_ABORTED)) {
                // The thread that began it is no more, and has taken it along. Nothing is lost.
                continue;
            }
            let done = receiving.head.after_read(self.pipe.read_mode, ended.result);
            // At the end, what was held is gone.
            receiving.at = receiving.at.min(receiving.head.stash.len());
            let done = done?;
            receiving.head.whole = done.is_some_and(|done| !done.more);
            return Ok(Poll::Ready(done));
        }
    }

    /// The same to its end.
    async fn read(
        &self,
        receiving: &mut Receiving,
        room: usize,
        deadline: Deadline,
    ) -> io::Result<Option<Done>> {
        let mut is_earlier = deadline == Deadline::NOW && !self.reading.is_idle();
        loop {
            match self.read_some(receiving, room)? {
                Poll::Ready(done) => return Ok(done),
                // What an earlier receive has begun may have got what has come, and be about to say so. Only a read that
                // begins now tells what is there now.
                Poll::Pending if mem::take(&mut is_earlier) => {
                    self.pipe.with(|pipe| self.reading.cancel(pipe))?;
                }
                Poll::Pending => self.wait(&self.reading, deadline).await?,
            }
        }
    }

    /// Drops some of a message that was too large; `false` at the end.
    fn discard_some(&self, receiving: &mut Receiving) -> io::Result<Poll<bool>> {
        let Poll::Ready(done) = self.read_some(receiving, LARGE_READ)? else {
            return Ok(Poll::Pending);
        };
        receiving.next();
        receiving.head.discarding = done.is_some_and(|done| done.more);
        Ok(Poll::Ready(done.is_some()))
    }

    /// Drops what is left of a message that was too large; `false` at the end.
    async fn discard(&self, receiving: &mut Receiving, deadline: Deadline) -> io::Result<bool> {
        while receiving.head.discarding {
            match self.discard_some(receiving)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Ok(false),
                Poll::Pending => self.wait(&self.reading, deadline).await?,
            }
        }
        Ok(true)
    }

    async fn recv_part(
        &self,
        receiving: &mut Receiving,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        if !self.discard(receiving, deadline).await? {
            return Ok(None);
        }
        let by_bytes = self.pipe.read_mode == ReadMode::Byte;
        // Nothing is handed out before all of it is there, so that nothing is lost if this is dropped.
        while !(receiving.head.whole || receiving.head.inside && receiving.held() >= buf.len()) {
            receiving.head.stash.drain(..mem::take(&mut receiving.at));
            let room = if receiving.head.inside {
                buf.len() - receiving.held()
            } else if by_bytes {
                buf.len().min(LARGE_READ)
            } else {
                0
            };
            let room = room.max(FIRST_READ);
            if self.read(receiving, room, deadline).await?.is_none() {
                return Ok(None);
            }
        }
        let len = receiving.held().min(buf.len());
        let from = &receiving.head.stash[receiving.at..];
        buf[..len].copy_from_slice(&from[..len]);
        receiving.at += len;
        let rest = receiving.held() > 0;
        let last = receiving.head.whole && (by_bytes || !rest);
        if !rest {
            receiving.next();
        }
        Ok(Some(Part { len, last }))
    }

    /// All of the message, to the end of the stash.
    async fn recv_whole(
        &self,
        receiving: &mut Receiving,
        deadline: Deadline,
    ) -> io::Result<Option<()>> {
        loop {
            // What is left is there to be read, so that it can be believed, and read at once.
            let begun = receiving.head.inside && self.reading.is_idle();
            let left = if begun {
                self.left_of_message(receiving)?
            } else {
                0
            };
            let checked = receiving
                .head
                .check_size(receiving.held(), left, self.max_message);
            if let Err(too_large) = checked {
                receiving.next();
                return Err(too_large);
            }
            // A vector that has the room already takes no more memory.
            if receiving.head.stash.capacity() - receiving.head.stash.len() < left {
                receiving.head.ask(receiving.held(), left)?;
            }
            if receiving.head.whole {
                return Ok(Some(()));
            }
            let room = if begun { left.max(1) } else { FIRST_READ };
            if self.read(receiving, room, deadline).await?.is_none() {
                return Ok(None);
            }
        }
    }

    fn left_of_message(&self, receiving: &mut Receiving) -> io::Result<usize> {
        match self.pipe.look()? {
            // If the writer took the message back, there may be nothing: the next read says what there is.
            Ok((_, left)) => Ok(left),
            Err(code) => {
                let ended = receiving.head.after_failed_read::<()>(code);
                receiving.at = receiving.at.min(receiving.head.stash.len());
                ended.map(|_| 0)
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shut(Why::Closed);
    }
}

impl Receiving {
    /// How much of the message has been read and not handed out.
    fn held(&self) -> usize {
        self.head.stash.len() - self.at
    }

    fn holds_nothing(&self) -> bool {
        !self.head.inside && !self.head.discarding && !self.head.whole && self.held() == 0
    }

    /// What was read has been handed out.
    fn next(&mut self) {
        self.at = 0;
        self.head.whole = false;
        self.head.stash.clear();
        if self.head.stash.capacity() > KEPT_PARTS {
            self.head.stash = Vec::new();
        }
    }

    /// Looking takes nothing: the next receive is told as well.
    fn look_fails(&mut self, code: u32) -> io::Result<Option<Waiting>> {
        let inside = self.head.inside;
        let seen = self.head.after_failed_read(code);
        self.head.inside = inside;
        self.at = self.at.min(self.head.stash.len());
        seen
    }
}

/// Takes back what is being written, unless it is forgotten; if that cannot be, it ends the connection.
struct TakeBackOnDrop<'a>(&'a Stream);

impl Drop for TakeBackOnDrop<'_> {
    fn drop(&mut self) {
        if self.0.take_write_back().is_err() {
            self.0.shut(Why::Poisoned);
        }
    }
}

/// Ends the connection, unless it is forgotten: what follows would be taken for something else.
struct PoisonOnDrop<'a>(&'a Stream);

impl Drop for PoisonOnDrop<'_> {
    fn drop(&mut self) {
        self.0.shut(Why::Poisoned);
    }
}
