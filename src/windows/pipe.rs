//! The handle of a connected pipe, and when it goes.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::{Mutex, RwLock};
use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED};
use windows_sys::Win32::System::Pipes::{
    GetNamedPipeClientProcessId, GetNamedPipeInfo, GetNamedPipeServerProcessId,
};

use super::handle::{disconnect, look};
use super::instances::Instance;
use super::rights::Direction;
use super::security;
use super::token::{self, Impersonation};
use crate::base::error::unsupported;
use crate::{Error, Peer, ReadMode, UserId};

/// A pipe that is connected until it is ended.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Every use of the handle holds the lock for reading, so that closing can wait until it is not in use.
    handle: RwLock<Option<OwnedHandle>>,
    state: AtomicU8,
    /// What is unread is to be dropped at the end.
    aborted: AtomicBool,
    /// How many bytes of courtesy were sent last.
    courtesy: Mutex<Option<usize>>,
    pub(super) end: End,
    direction: Direction,
    pub(super) read_mode: ReadMode,
    quota: OnceLock<usize>,
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
    /// A client whose server is on another machine.
    RemoteClient,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was closed.
    Closed,
    /// It was closed, and what is unread is dropped, both ways.
    Aborted,
    /// It was closed after the last words, which are so many bytes of courtesy: what becomes of those that the peer has
    /// not read is the listener's to see to.
    Parted(usize),
    /// A message was sent in part.
    Poisoned,
}

impl Pipe {
    pub(super) fn new(
        handle: OwnedHandle,
        end: End,
        direction: Direction,
        read_mode: ReadMode,
    ) -> Pipe {
        Pipe {
            handle: RwLock::new(Some(handle)),
            state: AtomicU8::new(OPEN),
            aborted: AtomicBool::new(false),
            courtesy: Mutex::new(None),
            end,
            direction,
            read_mode,
            quota: OnceLock::new(),
            instance: Mutex::new(None),
        }
    }

    pub(super) fn occupy(&self, instance: Instance) {
        *self.instance.lock() = Some(instance);
    }

    pub(super) fn is_both_ways(&self) -> bool {
        self.direction == Direction::Both
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    /// Why nothing can be done with it any more.
    pub(super) fn ended(&self) -> io::Error {
        match self.state.load(Ordering::SeqCst) {
            POISONED => Error::Poisoned.into(),
            _ => Error::Closed.into(),
        }
    }

    pub(super) fn with<R>(&self, act: impl FnOnce(&OwnedHandle) -> R) -> io::Result<R> {
        // Recursively, because what a send does meanwhile receives, on the same thread.
        match &*self.handle.read_recursive() {
            Some(handle) if self.is_open() => Ok(act(handle)),
            _ => Err(self.ended()),
        }
    }

    /// Ends the connection for good; the first reason stays. Operations that are under way go on until they are ended,
    /// and then the handle is to be [let go](Pipe::release).
    pub(super) fn end(&self, why: Why) {
        let why = match why {
            Why::Closed => CLOSED,
            Why::Aborted => {
                self.aborted.store(true, Ordering::SeqCst);
                CLOSED
            }
            Why::Parted(courtesy) => {
                *self.courtesy.lock() = Some(courtesy);
                CLOSED
            }
            Why::Poisoned => POISONED,
        };
        let _ = self
            .state
            .compare_exchange(OPEN, why, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Closes the handle of a pipe that has ended, once nothing uses it any more. The caller holds no lock on the pipe.
    ///
    /// `last_act` is done with the handle before it goes.
    pub(super) fn release(&self, last_act: impl FnOnce(&OwnedHandle)) {
        let handle = self.handle.write().take();
        if let Some(handle) = &handle {
            last_act(handle);
            if self.aborted.load(Ordering::SeqCst) {
                self.disconnect(handle);
            }
        }
        let instance = self.instance.lock().take();
        // What has been written is in the pipe, where the peer can read it: NPFS keeps it for the other end.
        match instance {
            Some(instance) => instance.leave(handle, *self.courtesy.lock()),
            None => drop(handle),
        }
    }

    /// Drops what is unread, both ways.
    fn disconnect(&self, handle: &OwnedHandle) {
        if self.end == End::Server {
            disconnect(handle);
        }
    }

    pub(super) fn check_can_send(&self) -> io::Result<()> {
        self.check_direction(Direction::Inbound, "send")
    }

    pub(super) fn check_can_receive(&self) -> io::Result<()> {
        self.check_direction(Direction::Outbound, "receive")
    }

    fn check_direction(&self, wrong: Direction, what: &str) -> io::Result<()> {
        if self.direction == wrong {
            return Err(unsupported(format!(
                "this pipe is open in one direction only: it cannot {what}"
            )));
        }
        Ok(())
    }

    /// How many bytes are in the pipe, and how many of them are of the message at the head; or the system's code.
    pub(super) fn look(&self) -> io::Result<Result<(usize, usize), u32>> {
        self.with(look)
    }

    /// Whether a message of that size, the write of which was pending and was cancelled, is gone as if it had never been
    /// written. If not, the peer may have received a part of it.
    ///
    /// The pipe keeps a message as a whole from the beginning, and charges it to its quota; the write is pending as long
    /// as the quota does not suffice, and cancelling it takes the message out of the queue. Of one that fits the quota
    /// of an empty pipe, nothing can have been received by then: it is pending because of the messages before it, and
    /// when these have been received, the same step of the system that takes the last of them charges this message in full
    /// and completes its write.
    /// <https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-createnamedpipea#remarks>
    ///
    /// What is left is the instant in which the system has decided to cancel and does not have the pipe's lock yet: a peer
    /// that in there takes what came before, and then a part of this, is told of nothing. It is far shorter than the two
    /// calls that this takes.
    ///
    /// To ask for what the quota has left before a message is written would not do: while the peer waits in a read, the
    /// system counts the room of that read as used, so that an empty pipe looks full.
    pub(super) fn takes_back(&self, size: usize) -> bool {
        // There is no part of nothing.
        size == 0 || self.end != End::RemoteClient && self.quota().is_ok_and(|quota| size <= quota)
    }

    /// How many bytes the pipe holds before a write is pending. That does not change.
    fn quota(&self) -> io::Result<usize> {
        if let Some(quota) = self.quota.get() {
            return Ok(*quota);
        }
        let (mut outgoing, mut incoming) = (0, 0);
        self.with(|handle| {
            // SAFETY: the handle is open, both sizes live through the call, and nothing else is asked for.
            let done = unsafe {
                GetNamedPipeInfo(
                    handle.as_raw_handle(),
                    ptr::null_mut(),
                    &raw mut outgoing,
                    &raw mut incoming,
                    ptr::null_mut(),
                )
            };
            if done == 0 {
                return Err(io::Error::last_os_error());
            }
            // Systems differ in which of the two is which at the client's end.
            let quota = outgoing.min(incoming) as usize;
            Ok(*self.quota.get_or_init(|| quota))
        })?
    }

    pub(super) fn peer(&self) -> io::Result<Peer> {
        self.with(|handle| {
            let mut pid = 0;
            let raw = handle.as_raw_handle();
            let (known, user) = match self.end {
                End::Server => {
                    // SAFETY: the handle is open, and `pid` lives through the call.
                    let known = unsafe { GetNamedPipeClientProcessId(raw, &raw mut pid) };
                    (known, token::client_user(handle.as_handle()))
                }
                End::Client | End::RemoteClient => {
                    // SAFETY: the handle is open, and `pid` lives through the call.
                    let known = unsafe { GetNamedPipeServerProcessId(raw, &raw mut pid) };
                    (known, security::owner(handle))
                }
            };
            Peer {
                pid: (known != 0).then_some(pid),
                user: user.ok().map(UserId::Sid),
            }
        })
    }

    pub(super) fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        if self.end != End::Server {
            return Err(unsupported(
                "only the server of a pipe can act as its client".to_owned(),
            ));
        }
        // The lock is not held while `act` runs: it may use the stream, and close it.
        let guard = self.with(|handle| Impersonation::begin(handle.as_handle()))??;
        token::impersonate(guard, act)
    }
}

/// What a write that failed with the system's code tells.
pub(super) fn write_error(code: u32) -> io::Error {
    match code {
        ERROR_BROKEN_PIPE | ERROR_NO_DATA | ERROR_PIPE_NOT_CONNECTED => {
            io::ErrorKind::BrokenPipe.into()
        }
        code => io::Error::from_raw_os_error(code as i32),
    }
}
