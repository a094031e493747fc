//! The handle of a connected pipe, and when it goes.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Mutex, RwLock};
use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED, GetLastError,
};
use windows_sys::Win32::System::Pipes::{
    DisconnectNamedPipe, GetNamedPipeClientProcessId, GetNamedPipeServerProcessId, PeekNamedPipe,
};

use super::instances::Instance;
use super::security::{self, Impersonation};
use crate::{Error, Peer, ReadMode, UserId};

/// A pipe that is connected until it is ended.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Every use of the handle holds the lock for reading, so that closing can wait until it is not in use.
    handle: RwLock<Option<OwnedHandle>>,
    state: AtomicU8,
    pub(super) end: End,
    direction: Direction,
    pub(super) read_mode: ReadMode,
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

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was closed.
    Closed,
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
            end,
            direction,
            read_mode,
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

    /// Ends the connection for good; the first reason stays. The caller holds no lock on the pipe.
    ///
    /// `wake` has whoever uses the handle let go of it; `last_act` is done when nobody does any more.
    pub(super) fn end(&self, why: Why, wake: impl FnOnce(), last_act: impl FnOnce(&OwnedHandle)) {
        let why = match why {
            Why::Closed => CLOSED,
            Why::Poisoned => POISONED,
        };
        let _ = self
            .state
            .compare_exchange(OPEN, why, Ordering::SeqCst, Ordering::SeqCst);
        wake();
        let handle = self.handle.write().take();
        handle.as_ref().map(last_act);
        // The listener puts up the next instance before this one goes, so that the name is never without any.
        drop(self.instance.lock().take());
        // What has been written is in the pipe, where the peer can read it: NPFS keeps it for the other end.
        drop(handle);
    }

    /// Drops what is unread, both ways: the last act of an abort.
    pub(super) fn disconnect(&self, handle: &OwnedHandle) {
        if self.end == End::Server {
            // SAFETY: the handle is open, and of the server's end. It fails only if the client has gone, and then
            // there is nothing to drop.
            unsafe { DisconnectNamedPipe(handle.as_raw_handle()) };
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
            return Err(super::unsupported(format!(
                "this pipe is open in one direction only: it cannot {what}"
            )));
        }
        Ok(())
    }

    /// How many bytes are in the pipe, and how many of them are of the message at the head; or the system's code.
    pub(super) fn look(&self) -> io::Result<Result<(usize, usize), u32>> {
        let (mut bytes, mut left) = (0, 0);
        self.with(|handle| {
            // SAFETY: the handle is open, nothing is to be copied, and both counts live through the call.
            let done = unsafe {
                PeekNamedPipe(
                    handle.as_raw_handle(),
                    ptr::null_mut(),
                    0,
                    ptr::null_mut(),
                    &raw mut bytes,
                    &raw mut left,
                )
            };
            if done != 0 {
                return Ok((bytes as usize, left as usize));
            }
            // SAFETY: reads the thread's last error.
            Err(unsafe { GetLastError() })
        })
    }

    pub(super) fn peer(&self) -> io::Result<Peer> {
        self.with(|handle| {
            let mut pid = 0;
            let raw = handle.as_raw_handle();
            let (known, user) = match self.end {
                End::Server => {
                    // SAFETY: the handle is open, and `pid` lives through the call.
                    let known = unsafe { GetNamedPipeClientProcessId(raw, &raw mut pid) };
                    (known, security::client_user(handle.as_handle()))
                }
                End::Client => {
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
        if self.end == End::Client {
            return Err(super::unsupported(
                "only the server of a pipe can act as its client".to_owned(),
            ));
        }
        // The lock is not held while `act` runs: it may use the stream, and close it.
        let guard = self.with(|handle| Impersonation::begin(handle.as_handle()))??;
        Ok(security::impersonate(guard, act))
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
