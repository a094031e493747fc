//! A connected pipe.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Mutex, RwLock};
use windows_sys::Win32::Foundation::{
    ERROR_BAD_PIPE, ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED,
};
use windows_sys::Win32::System::Pipes::{
    DisconnectNamedPipe, GetNamedPipeClientProcessId, GetNamedPipeServerProcessId, PeekNamedPipe,
};

use super::listener::Instance;
use super::overlapped::{Done, Event, Meanwhile, Operation, Undone};
use super::security::{self, Impersonation};
use crate::transport::{check_sendable, gather, total_len};
use crate::{Deadline, Error, Part, Peer, ReadMode, UserId, Waiting};

/// The room for a message of which nothing is known yet: most fit, and cost one read.
const FIRST_READ: usize = 4096;

/// Up to this size one system call writes a request and reads the reply; a longer request is refused by it.
const MAX_TRANSACTION: usize = 64 << 10;

/// A vectored send gathers its pieces in a buffer that is kept up to this size.
const KEPT: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Stream {
    /// Every operation holds the lock for reading, so that closing can wait until the handle is not in use.
    pipe: RwLock<Option<OwnedHandle>>,
    /// Set to end what operations are under way, before the handle goes.
    closing: Event,
    state: AtomicU8,
    receiving: Mutex<Receiving>,
    sending: Mutex<Sending>,
    side: End,
    direction: Direction,
    read_mode: ReadMode,
    max_message: usize,
    /// The place that this connection takes among those of its listener.
    instance: Mutex<Option<Instance>>,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const POISONED: u8 = 2;

/// Which end of the pipe this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Server,
    Client,
}

/// In which direction messages may go, seen from this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Both,
    Inbound,
    Outbound,
}

#[derive(Debug)]
struct Receiving {
    event: Event,
    /// The last read stopped within a message.
    inside: bool,
    /// The message at the head was too large, and what is left of it is to be dropped.
    discarding: bool,
    /// The beginning of the message at the head, which a call had received before it timed out.
    stash: Vec<u8>,
}

#[derive(Debug)]
struct Sending {
    event: Event,
    gathered: Vec<u8>,
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
        side: End,
        direction: Direction,
        read_mode: ReadMode,
        max_message: usize,
    ) -> Stream {
        let receiving = Receiving {
            event: self.receiving,
            inside: false,
            discarding: false,
            stash: Vec::new(),
        };
        Stream {
            pipe: RwLock::new(Some(pipe)),
            closing: self.closing,
            state: AtomicU8::new(OPEN),
            receiving: Mutex::new(receiving),
            sending: Mutex::new(Sending {
                event: self.sending,
                gathered: Vec::new(),
            }),
            side,
            direction,
            read_mode,
            max_message,
            instance: Mutex::new(None),
        }
    }
}

impl Stream {
    pub(super) fn occupy(&self, instance: Instance) {
        *self.instance.lock() = Some(instance);
    }

    pub(crate) fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        check_sendable(message.len())?;
        let mut sending = deadline.lock(&self.sending)?;
        self.write(&mut sending.event, message, deadline, None)
    }

    pub(crate) fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.write_pieces(pieces, deadline, Some(receive))
    }

    pub(crate) fn send_vectored(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> io::Result<()> {
        self.write_pieces(pieces, deadline, None)
    }

    /// A pipe takes a message in one piece.
    fn write_pieces(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        meanwhile: Meanwhile<'_>,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let mut sending = deadline.lock(&self.sending)?;
        if let [message] = pieces {
            return self.write(&mut sending.event, message, deadline, meanwhile);
        }
        let gathered = gather(pieces, mem::take(&mut sending.gathered));
        let result = self.write(&mut sending.event, &gathered, deadline, meanwhile);
        if gathered.capacity() <= KEPT {
            sending.gathered = gathered;
        }
        result
    }

    pub(crate) fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        self.recv_part(&mut receiving, buf, deadline)
    }

    pub(crate) fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        message.clear();
        if !self.discard(&mut receiving, deadline)? {
            return Ok(None);
        }
        message.append(&mut mem::take(&mut receiving.stash));
        match self.recv_whole(&mut receiving, message, deadline) {
            Ok(Some(())) => Ok(Some(message.len())),
            Ok(None) => {
                message.clear();
                Ok(None)
            }
            Err(error) => {
                if receiving.inside && !receiving.discarding {
                    // Kept for the next receive.
                    receiving.stash.extend_from_slice(message);
                }
                message.clear();
                Err(error)
            }
        }
    }

    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    pub(crate) fn peek(&self) -> io::Result<Option<Waiting>> {
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
            receiving.inside = Error::of(error) == Some(&Error::Truncated);
        }
        seen
    }

    pub(crate) fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        let mut receiving = deadline.lock(&self.receiving)?;
        if receiving.inside || receiving.discarding {
            return Err(Error::Busy.into());
        }
        let one_call = request.len() <= MAX_TRANSACTION
            && self.read_mode == ReadMode::Message
            && self.direction == Direction::Both;
        let part = if one_call {
            self.transact_at_once(&mut receiving, request, reply, deadline)
        } else {
            match self.peek_pipe(&mut receiving)? {
                Some(Waiting {
                    message: Some(_), ..
                }) => return Err(Error::Busy.into()),
                _ => self.send(request, deadline)?,
            }
            self.recv_part(&mut receiving, reply, deadline)
        };
        if matches!(&part, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            self.shut(POISONED);
        }
        part
    }

    pub(crate) fn peer(&self) -> io::Result<Peer> {
        self.with_pipe(|pipe| {
            let mut pid = 0;
            let handle = pipe.as_raw_handle();
            let (known, user) = match self.side {
                End::Server => {
                    // SAFETY: the handle is open, and `pid` lives through the call.
                    let known = unsafe { GetNamedPipeClientProcessId(handle, &raw mut pid) };
                    (known, security::client_user(pipe.as_handle()))
                }
                End::Client => {
                    // SAFETY: the handle is open, and `pid` lives through the call.
                    let known = unsafe { GetNamedPipeServerProcessId(handle, &raw mut pid) };
                    (known, security::owner(pipe))
                }
            };
            Peer {
                pid: (known != 0).then_some(pid),
                user: user.ok().map(UserId::Sid),
            }
        })
    }

    pub(crate) fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        if self.side == End::Client {
            return Err(super::unsupported(
                "only the server of a pipe can act as its client".to_owned(),
            ));
        }
        // The lock is not held while `act` runs: it may use the stream, and close it.
        let guard = self.with_pipe(|pipe| Impersonation::begin(pipe.as_handle()))??;
        Ok(security::impersonate(guard, act))
    }

    pub(crate) fn close(&self) {
        self.shut(CLOSED);
    }

    pub(crate) fn abort(&self) {
        self.end(CLOSED, |pipe| {
            if self.side == End::Server {
                // SAFETY: the handle is open, and of the server's end. What is unread is dropped both ways; it
                // fails only if the client has gone, and then there is nothing to drop.
                unsafe { DisconnectNamedPipe(pipe.as_raw_handle()) };
            }
        });
    }

    fn shut(&self, why: u8) {
        self.end(why, |_| {});
    }

    /// Ends the connection for good; the first reason stays. The caller holds no lock on the pipe.
    fn end(&self, why: u8, last_act: impl FnOnce(&OwnedHandle)) {
        let _ = self
            .state
            .compare_exchange(OPEN, why, Ordering::SeqCst, Ordering::SeqCst);
        self.closing.set();
        let pipe = self.pipe.write().take();
        pipe.as_ref().map(last_act);
        // The listener puts up the next instance before this one goes, so that the name is never without any.
        drop(self.instance.lock().take());
        // What has been written is in the pipe, where the peer can read it: NPFS keeps it for the other end.
        drop(pipe);
    }

    fn closed(&self) -> io::Error {
        match self.state.load(Ordering::SeqCst) {
            POISONED => Error::Poisoned.into(),
            _ => Error::Closed.into(),
        }
    }

    fn with_pipe<R>(&self, act: impl FnOnce(&OwnedHandle) -> R) -> io::Result<R> {
        // Recursively, because what a send does meanwhile receives, on the same thread.
        match &*self.pipe.read_recursive() {
            Some(pipe) if self.state.load(Ordering::SeqCst) == OPEN => Ok(act(pipe)),
            _ => Err(self.closed()),
        }
    }

    fn check_direction(&self, wrong: Direction, what: &str) -> io::Result<()> {
        if self.direction == wrong {
            return Err(super::unsupported(format!(
                "this pipe is open in one direction only: it cannot {what}"
            )));
        }
        Ok(())
    }

    fn write(
        &self,
        event: &mut Event,
        message: &[u8],
        deadline: Deadline,
        meanwhile: Meanwhile<'_>,
    ) -> io::Result<()> {
        self.check_direction(Direction::Inbound, "send")?;
        let written = self.with_pipe(|pipe| {
            let mut operation = Operation::new(pipe, event, &self.closing, deadline);
            operation.meanwhile = meanwhile;
            operation.write(message)
        })?;
        match written {
            Ok(Done { count, .. }) if count as usize == message.len() => Ok(()),
            // No pipe of message type takes a part of a message, but if one did, the rest would be missing.
            Ok(_) => {
                self.shut(POISONED);
                Err(Error::Poisoned.into())
            }
            Err(Undone::TimedOut) => {
                // How much of it the peer has read nobody says.
                self.shut(POISONED);
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(Undone::Stopped) => Err(self.closed()),
            Err(Undone::Code(ERROR_BROKEN_PIPE | ERROR_NO_DATA | ERROR_PIPE_NOT_CONNECTED)) => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Err(Undone::Code(code)) => Err(io::Error::from_raw_os_error(code as i32)),
        }
    }

    /// One read into a buffer that need not be initialised; `None` at the end.
    fn read(
        &self,
        receiving: &mut Receiving,
        buf: &mut [MaybeUninit<u8>],
        deadline: Deadline,
    ) -> io::Result<Option<Done>> {
        self.check_direction(Direction::Outbound, "receive")?;
        let event = &mut receiving.event;
        let result =
            self.with_pipe(|pipe| Operation::new(pipe, event, &self.closing, deadline).read(buf))?;
        self.after_read(receiving, result)
    }

    /// What the end of a read means.
    fn after_read(
        &self,
        receiving: &mut Receiving,
        result: Result<Done, Undone>,
    ) -> io::Result<Option<Done>> {
        match result {
            Ok(mut done) => {
                // Byte mode has no messages to be inside of.
                done.more &= self.read_mode == ReadMode::Message;
                receiving.inside = done.more;
                Ok(Some(done))
            }
            Err(Undone::TimedOut) => Err(io::ErrorKind::TimedOut.into()),
            Err(Undone::Stopped) => Err(self.closed()),
            Err(Undone::Code(code)) => self.after_failed_read(receiving, code),
        }
    }

    fn after_failed_read<T>(&self, receiving: &mut Receiving, code: u32) -> io::Result<Option<T>> {
        match code {
            ERROR_BROKEN_PIPE | ERROR_PIPE_NOT_CONNECTED => {
                let in_message = mem::take(&mut receiving.inside);
                receiving.discarding = false;
                receiving.stash = Vec::new();
                if in_message {
                    Err(Error::Truncated.into())
                } else {
                    Ok(None)
                }
            }
            code => Err(io::Error::from_raw_os_error(code as i32)),
        }
    }

    /// Drops what is left of a message that was too large; `false` at the end.
    fn discard(&self, receiving: &mut Receiving, deadline: Deadline) -> io::Result<bool> {
        while receiving.discarding {
            let mut nowhere = [MaybeUninit::uninit(); FIRST_READ];
            match self.read(receiving, &mut nowhere, deadline)? {
                Some(done) => receiving.discarding = done.more,
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
        let stashed = receiving.stash.len().min(buf.len());
        buf[..stashed].copy_from_slice(&receiving.stash[..stashed]);
        receiving.stash.drain(..stashed);
        if stashed == buf.len() && receiving.inside {
            return Ok(Some(Part {
                len: stashed,
                last: false,
            }));
        }
        match self.read(receiving, as_uninit(&mut buf[stashed..]), deadline) {
            Ok(Some(done)) => Ok(Some(Part {
                len: stashed + done.count as usize,
                last: !done.more,
            })),
            Ok(None) => Ok(None),
            Err(error) => {
                if receiving.inside {
                    // Kept for the next receive.
                    receiving.stash.extend_from_slice(&buf[..stashed]);
                }
                Err(error)
            }
        }
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
            message.reserve(room);
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
            let size = size.saturating_add(left);
            if size > self.max_message {
                receiving.discarding = done.more;
                return Err(Error::TooLarge {
                    limit: self.max_message,
                    size,
                }
                .into());
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
        let (mut bytes, mut left) = (0, 0);
        let code = self.with_pipe(|pipe| {
            // SAFETY: the handle is open, nothing is to be copied, and both counts live through the call.
            let done = unsafe {
                PeekNamedPipe(
                    pipe.as_raw_handle(),
                    ptr::null_mut(),
                    0,
                    ptr::null_mut(),
                    &raw mut bytes,
                    &raw mut left,
                )
            };
            (done == 0).then(|| {
                io::Error::last_os_error()
                    .raw_os_error()
                    .unwrap_or_default() as u32
            })
        })?;
        if let Some(code) = code {
            return self.after_failed_read(receiving, code);
        }
        let stashed = receiving.stash.len();
        let (bytes, left) = (bytes as usize + stashed, left as usize + stashed);
        let message = (left > 0 || bytes > 0 || receiving.inside).then_some(left);
        Ok(Some(Waiting { bytes, message }))
    }

    /// TransactNamedPipe: one system call for both.
    fn transact_at_once(
        &self,
        receiving: &mut Receiving,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        let event = &mut receiving.event;
        let result = self.with_pipe(|pipe| {
            Operation::new(pipe, event, &self.closing, deadline).transact(request, reply)
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

impl Drop for Stream {
    fn drop(&mut self) {
        self.shut(CLOSED);
    }
}

/// A buffer that is to be written to only.
fn as_uninit(buf: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same memory for the same time, with the same layout. Only the kernel writes to it, and it
    // writes initialised bytes, so that `buf` stays initialised.
    unsafe { &mut *(ptr::from_mut(buf) as *mut [MaybeUninit<u8>]) }
}
