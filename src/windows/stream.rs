//! A connected pipe.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::windows::io::OwnedHandle;
use std::ptr;

use parking_lot::Mutex;
use windows_sys::Win32::Foundation::{
    ERROR_BAD_PIPE, ERROR_NO_DATA, ERROR_OPERATION_ABORTED, ERROR_PIPE_BUSY,
    ERROR_PIPE_NOT_CONNECTED,
};

use super::head::Head;
use super::instances::Instance;
use super::overlapped::{Block, Done, Event, Left, Meanwhile, Operation, Undone};
use super::pipe::{End, Pipe, Why, write_error};
use super::rights::Direction;
use crate::base::callback::Callbacks;
use crate::base::spin::Spinner;
use crate::transport::own::Own;
use crate::transport::platform::PlatformStream;
use crate::transport::{self, Unfinished, check_sendable, gather, total_len};
use crate::{Deadline, Error, Part, Peer, ReadMode, Spin, Waiting};

/// The room for a message of which nothing is known yet: most fit, and cost one read.
const FIRST_READ: usize = 4096;

/// Up to this size one system call writes a request and reads the reply; a longer request is refused by it.
const MAX_TRANSACTION: usize = 64 << 10;

/// A vectored send gathers its pieces in a buffer that is kept up to this size.
const KEPT: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Stream {
    pipe: Pipe,
    /// Set to end what operations are under way, before the handle goes.
    closing: Event,
    receiving: Mutex<Receiving>,
    sending: Mutex<Sending>,
    /// A message that a send has given up and that is still being written. It is taken out by who waits for it, while it
    /// holds the lock of those that send.
    left: Mutex<Option<Left>>,
    callbacks: Callbacks,
    max_message: usize,
}

#[derive(Debug)]
struct Receiving {
    event: Event,
    spinner: Spinner,
    /// Its stash is the beginning of a message: what a call had received before it timed out, or what was read to see
    /// whether there is a message.
    head: Head,
}

#[derive(Debug)]
struct Sending {
    event: Event,
    gathered: Vec<u8>,
    /// Whether a message may be left to be written.
    finishes_later: bool,
    block: Option<Block>,
}

/// What is to be written.
enum Message<'a> {
    Lent(&'a [u8]),
    /// What is behind so many bytes.
    Own(&'a mut Vec<u8>, usize),
}

/// What a stream needs beside its pipe: made first, where a pipe in hand must not be lost for want of it.
#[derive(Debug)]
pub(super) struct Parts {
    closing: Event,
    receiving: Event,
    sending: Event,
}

impl Parts {
    pub(super) fn new() -> io::Result<Parts> {
        Ok(Parts {
            closing: Event::new()?,
            receiving: Event::new()?,
            sending: Event::new()?,
        })
    }

    pub(super) fn stream(
        self,
        pipe: OwnedHandle,
        end: End,
        direction: Direction,
        read_mode: ReadMode,
        max_message: usize,
        spin: Spin,
    ) -> Stream {
        Stream {
            pipe: Pipe::new(pipe, end, direction, read_mode),
            closing: self.closing,
            receiving: Mutex::new(Receiving {
                event: self.receiving,
                spinner: Spinner::new(spin),
                head: Head::default(),
            }),
            sending: Mutex::new(Sending {
                event: self.sending,
                gathered: Vec::new(),
                finishes_later: false,
                block: None,
            }),
            left: Mutex::default(),
            callbacks: Callbacks::default(),
            max_message,
        }
    }
}

impl Stream {
    pub(super) fn occupy(&self, instance: Instance) {
        self.pipe.occupy(instance);
    }

    /// A pipe takes a message in one piece.
    fn write_pieces(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        meanwhile: Meanwhile<'_>,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        if let [message] = pieces {
            return self.write(&mut sending, Message::Lent(message), deadline, meanwhile);
        }
        let mut gathered = gather(pieces, mem::take(&mut sending.gathered))?;
        let message = Message::Own(&mut gathered, 0);
        let result = self.write(&mut sending, message, deadline, meanwhile);
        if gathered.capacity() <= KEPT {
            sending.gathered = gathered;
        }
        result
    }

    fn shut(&self, why: Why) {
        self.pipe.end(why);
        self.closing.set();
        // Nobody puts another one there without seeing that it is the end.
        let left = self.left.lock().take();
        drop(left);
        // A thread that is called back by a send uses the pipe: then that send ends, and lets it go.
        if !self.callbacks.is_here() {
            self.pipe.release(|_| {});
        }
    }

    fn write(
        &self,
        sending: &mut Sending,
        message: Message<'_>,
        deadline: Deadline,
        meanwhile: Meanwhile<'_>,
    ) -> io::Result<()> {
        let Some(receive) = meanwhile else {
            return self.write_now(sending, message, deadline, None);
        };
        let called_back = CalledBack {
            stream: self,
            size: message.bytes().len(),
        };
        let mut receive = || self.callbacks.run(&mut *receive);
        let written = self.write_now(sending, message, deadline, Some(&mut receive));
        called_back.returned();
        written
    }

    fn write_now(
        &self,
        sending: &mut Sending,
        message: Message<'_>,
        deadline: Deadline,
        mut meanwhile: Meanwhile<'_>,
    ) -> io::Result<()> {
        self.pipe.check_can_send()?;
        self.finish_last(deadline, &mut meanwhile)?;
        let size = message.bytes().len();
        let may_leave = sending.finishes_later && size > FIRST_READ && !self.pipe.takes_back(size);
        let Sending { event, block, .. } = sending;
        let written = self.pipe.with(|pipe| {
            let mut operation = Operation::new(pipe, event, &self.closing, deadline);
            operation.meanwhile = meanwhile;
            match message {
                Message::Own(message, room) if may_leave => {
                    operation.write_or_leave(message, room, block)
                }
                message => Ok(operation.write(message.bytes())),
            }
        })?;
        match written {
            Ok(written) => self.after_write(written, size),
            Err(left) => self.leave(left),
        }
    }

    /// Waits for the message that the last send has given up.
    fn finish_last(&self, deadline: Deadline, meanwhile: &mut Meanwhile<'_>) -> io::Result<()> {
        let left = self.left.lock().take();
        let Some(mut left) = left else {
            return Ok(());
        };
        let meanwhile: Meanwhile<'_> = match meanwhile {
            Some(receive) => Some(&mut **receive),
            None => None,
        };
        match left.wait(&self.closing, deadline, meanwhile) {
            Err(Undone::TimedOut) => {
                // Nothing of the next one has gone.
                let _ = self.leave(left);
                Err(io::ErrorKind::TimedOut.into())
            }
            written => self.after_write(written, left.size()),
        }
    }

    /// Leaves a message to be written.
    fn leave(&self, left: Left) -> io::Result<()> {
        *self.left.lock() = Some(left);
        if self.pipe.is_open() {
            return Err(Unfinished::error());
        }
        let left = self.left.lock().take();
        drop(left);
        Err(self.pipe.ended())
    }

    /// What it means for the connection what has come of writing a message of that size.
    fn after_write(&self, written: Result<Done, Undone>, size: usize) -> io::Result<()> {
        match written {
            Ok(Done { count, .. }) if count as usize == size => Ok(()),
            // No pipe of message type takes a part of a message, but if one did, the rest would be missing.
            Ok(_) => {
                self.shut(Why::Poisoned);
                Err(Error::Poisoned.into())
            }
            Err(Undone::TimedOut) => {
                self.after_cancelled(size);
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(Undone::Stopped) => Err(self.pipe.ended()),
            Err(Undone::Code(code)) => {
                if code == ERROR_OPERATION_ABORTED {
                    // Somebody else has cancelled what this thread began.
                    self.after_cancelled(size);
                }
                Err(write_error(code))
            }
        }
    }

    /// The write of a message of that size was cancelled while the peer made no room.
    fn after_cancelled(&self, size: usize) {
        if !self.pipe.takes_back(size) {
            // How much of it the peer has read nobody says.
            self.shut(Why::Poisoned);
        }
    }

    /// One read into a buffer that need not be initialised; `None` at the end.
    fn read(
        &self,
        receiving: &mut Receiving,
        buf: &mut [MaybeUninit<u8>],
        deadline: Deadline,
    ) -> io::Result<Option<Done>> {
        self.pipe.check_can_receive()?;
        let Receiving { event, spinner, .. } = receiving;
        let result = self.pipe.with(|pipe| {
            let mut operation = Operation::new(pipe, event, &self.closing, deadline);
            operation.spinner = Some(spinner);
            operation.read(buf)
        })?;
        self.after_read(receiving, result)
    }

    /// What the end of a read means.
    fn after_read(
        &self,
        receiving: &mut Receiving,
        result: Result<Done, Undone>,
    ) -> io::Result<Option<Done>> {
        let result = match result {
            Ok(done) => Ok(done),
            Err(Undone::TimedOut) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Undone::Stopped) => return Err(self.pipe.ended()),
            Err(Undone::Code(code)) => Err(code),
        };
        receiving.head.after_read(self.pipe.read_mode, result)
    }

    /// Drops what is left of a message that was too large; `false` at the end.
    fn discard(&self, receiving: &mut Receiving, deadline: Deadline) -> io::Result<bool> {
        while receiving.head.discarding {
            let mut nowhere = [MaybeUninit::uninit(); FIRST_READ];
            match self.read(receiving, &mut nowhere, deadline)? {
                Some(done) => receiving.head.discarding = done.more,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn recv_part(
        &self,
        receiving: &mut Receiving,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        if !self.discard(receiving, deadline)? {
            return Ok(None);
        }
        // A read without room does not tell whether the message is empty: NPFS says that it has succeeded, and takes
        // nothing, not even an empty message.
        if buf.is_empty()
            && !receiving.head.holds_something()
            && !self.fetch(receiving, deadline)?
        {
            return Ok(None);
        }
        let head = &mut receiving.head;
        let stashed = head.stash.len().min(buf.len());
        buf[..stashed].copy_from_slice(&head.stash[..stashed]);
        head.stash.drain(..stashed);
        if head.whole || stashed == buf.len() && head.inside {
            let ends = head.whole && head.stash.is_empty();
            // Byte mode has no messages.
            let last = ends || head.whole && self.pipe.read_mode == ReadMode::Byte;
            head.whole &= !ends;
            return Ok(Some(Part { len: stashed, last }));
        }
        match self.read(receiving, as_uninit(&mut buf[stashed..]), deadline) {
            Ok(Some(done)) => Ok(Some(Part {
                len: stashed + done.count as usize,
                last: !done.more,
            })),
            Ok(None) => Ok(None),
            Err(error) => {
                if receiving.head.inside {
                    // Kept for the next receive.
                    receiving.head.stash.extend_from_slice(&buf[..stashed]);
                }
                Err(error)
            }
        }
    }

    /// Reads the message at the head, or its beginning, into the stash, where nothing is yet; `false` at the end.
    fn fetch(&self, receiving: &mut Receiving, deadline: Deadline) -> io::Result<bool> {
        let mut stash = mem::take(&mut receiving.head.stash);
        stash.reserve(FIRST_READ);
        let done = self.read(receiving, stash.spare_capacity_mut(), deadline)?;
        if let Some(done) = done {
            let size = stash.len() + done.count as usize;
            // SAFETY: the read has initialised that many bytes of the spare capacity.
            unsafe { stash.set_len(size) };
            receiving.head.stash = stash;
            receiving.head.whole = !done.more;
        }
        Ok(done.is_some())
    }

    /// The rest of a message, to the end of `message`.
    fn recv_whole(
        &self,
        receiving: &mut Receiving,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<()>> {
        let mut room = FIRST_READ;
        loop {
            if let Err(error) = message.try_reserve(room) {
                // The message costs itself, and not the next one.
                receiving.head.discarding = receiving.head.inside;
                return Err(error.into());
            }
            let Some(done) = self.read(receiving, message.spare_capacity_mut(), deadline)? else {
                return Ok(None);
            };
            let size = message.len() + done.count as usize;
            // SAFETY: the read has initialised that many bytes of the spare capacity.
            unsafe { message.set_len(size) };
            // What is left is there to be read, so that it can be believed, and read at once.
            let left = if done.more {
                self.left_of_message(receiving)?
            } else {
                0
            };
            receiving.head.check_size(size, left, self.max_message)?;
            // A vector that has the room already takes no more memory.
            if message.capacity() - size < left {
                receiving.head.ask(size, left)?;
            }
            if !done.more {
                return Ok(Some(()));
            }
            room = left.max(1);
        }
    }

    fn left_of_message(&self, receiving: &mut Receiving) -> io::Result<usize> {
        match self.peek_pipe(receiving)? {
            Some(Waiting {
                message: Some(left),
                ..
            }) => Ok(left),
            // The writer took the message back or has gone: the next read says which.
            _ => Ok(0),
        }
    }

    /// What is in the pipe, and in the stash.
    fn peek_pipe(&self, receiving: &mut Receiving) -> io::Result<Option<Waiting>> {
        let held = receiving.head.stash.len();
        match self.pipe.look()? {
            Ok(seen) => Ok(Some(receiving.head.waiting(seen, held))),
            Err(_) if receiving.head.whole => Ok(Some(receiving.head.waiting((0, 0), held))),
            Err(code) => receiving.head.after_failed_read(code),
        }
    }

    /// TransactNamedPipe: one system call for both.
    fn transact_at_once(
        &self,
        receiving: &mut Receiving,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        let Receiving { event, spinner, .. } = receiving;
        let result = self.pipe.with(|pipe| {
            let mut operation = Operation::new(pipe, event, &self.closing, deadline);
            operation.spinner = Some(spinner);
            operation.transact(request, reply)
        })?;
        match result {
            Err(Undone::Code(ERROR_PIPE_BUSY)) => Err(Error::Busy.into()),
            // The peer has gone before the request; if it goes before the reply, that is the end.
            Err(Undone::Code(ERROR_BAD_PIPE | ERROR_NO_DATA | ERROR_PIPE_NOT_CONNECTED)) => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            result => {
                let done = self.after_read(receiving, result)?;
                Ok(done.map(|done| Part {
                    len: done.count as usize,
                    last: !done.more,
                }))
            }
        }
    }
}

impl transport::Stream for Stream {
    #[inline]
    fn own(&self) -> Option<&dyn Own> {
        Some(self)
    }

    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        check_sendable(message.len())?;
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.write(&mut sending, Message::Lent(message), deadline, None)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        self.recv_part(&mut receiving, buf, deadline)
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

    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        message.clear();
        if !self.discard(&mut receiving, deadline)? {
            return Ok(None);
        }
        message.append(&mut mem::take(&mut receiving.head.stash));
        let received = if mem::take(&mut receiving.head.whole) {
            let checked = receiving
                .head
                .check_size(message.len(), 0, self.max_message);
            checked.map(Some)
        } else {
            self.recv_whole(&mut receiving, message, deadline)
        };
        match received {
            Ok(Some(())) => Ok(Some(message.len())),
            Ok(None) => {
                message.clear();
                Ok(None)
            }
            Err(error) => {
                if receiving.head.inside && !receiving.head.discarding {
                    // Kept for the next receive.
                    receiving.head.stash.extend_from_slice(message);
                }
                message.clear();
                Err(error)
            }
        }
    }

    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.write_pieces(pieces, deadline, None)
    }

    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.write_pieces(pieces, deadline, Some(receive))
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        // Whoever receives at the moment gets what comes.
        let Some(mut receiving) = self.receiving.try_lock() else {
            return Ok(Some(Waiting {
                bytes: 0,
                message: None,
            }));
        };
        match self.discard(&mut receiving, Deadline::NOW) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Ok(Some(Waiting {
                    bytes: 0,
                    message: None,
                }));
            }
            Err(error) => return Err(error),
        }
        let seen = self.peek_pipe(&mut receiving);
        if let Err(error) = &seen {
            // Looking takes nothing: the next receive is to be told as well.
            receiving.head.inside = Error::of(error) == Some(&Error::Truncated);
        }
        seen
    }

    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        self.callbacks.check_not_here()?;
        let mut receiving = deadline.lock(&self.receiving)?;
        if receiving.head.holds_something() {
            return Err(Error::Busy.into());
        }
        let one_call = request.len() <= MAX_TRANSACTION
            && self.pipe.read_mode == ReadMode::Message
            && self.pipe.is_both_ways();
        let part = if one_call {
            self.transact_at_once(&mut receiving, request, reply, deadline)
        } else {
            // As the system's transaction does. A look into the pipe does not show an empty message, but a read gets it.
            match self.fetch(&mut receiving, Deadline::NOW) {
                Ok(true) => return Err(Error::Busy.into()),
                Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
                // Nothing waits; or it is the end, of which the send says what there is to say.
                Ok(false) | Err(_) => self.send(request, deadline)?,
            }
            self.recv_part(&mut receiving, reply, deadline)
        };
        if matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            self.shut(Why::Poisoned);
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

    /// There is nothing to write before a message.
    fn send_in_place(
        &self,
        message: &mut Vec<u8>,
        room: usize,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        check_sendable(message.len() - room)?;
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.write(&mut sending, Message::Own(message, room), deadline, receive)
    }

    fn ask_before(&self, bytes: usize) {
        self.receiving.lock().head.without_asking = Some(bytes);
    }

    fn finish_later(&self) {
        self.sending.lock().finishes_later = true;
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

impl Drop for Stream {
    fn drop(&mut self) {
        self.shut(Why::Closed);
    }
}

impl Message<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Message::Lent(bytes) => bytes,
            Message::Own(bytes, room) => &bytes[*room..],
        }
    }
}

/// A send that calls back: afterwards the pipe goes, if the callback has closed it, and is closed for good, if the callback
/// has panicked in the middle of the message.
struct CalledBack<'a> {
    stream: &'a Stream,
    size: usize,
}

impl CalledBack<'_> {
    fn returned(self) {
        if !self.stream.pipe.is_open() {
            self.stream.pipe.release(|_| {});
        }
        mem::forget(self);
    }
}

impl Drop for CalledBack<'_> {
    fn drop(&mut self) {
        // The write has been cancelled.
        self.stream.after_cancelled(self.size);
        if !self.stream.pipe.is_open() {
            self.stream.pipe.release(|_| {});
        }
    }
}

/// A buffer that is to be written to only.
fn as_uninit(buf: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same memory for the same time, with the same layout. Only the kernel writes to it, and it
    // writes initialised bytes, so that `buf` stays initialised.
    unsafe { &mut *(ptr::from_mut(buf) as *mut [MaybeUninit<u8>]) }
}
