//! The instances of a listener's pipe: the one that waits for the next client, and how many are handed out.

use std::fmt::Debug;
use std::io;
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptor, SecurityDescriptor};
use parking_lot::{Mutex, MutexGuard};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_COMMITMENT_LIMIT, ERROR_NO_SYSTEM_RESOURCES,
    ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_ENOUGH_QUOTA, ERROR_OUTOFMEMORY, ERROR_PIPE_BUSY,
    ERROR_TOO_MANY_OPEN_FILES, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_FLAG_WRITE_THROUGH,
    PIPE_ACCESS_DUPLEX,
};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, PIPE_READMODE_BYTE, PIPE_READMODE_MESSAGE, PIPE_REJECT_REMOTE_CLIENTS,
    PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES, PIPE_WAIT,
};

use super::security;
use crate::{Error, ListenOptions, ReadMode};

/// The default size of the buffers of a pipe, in bytes for each direction.
const BUFFER_SIZE: usize = 64 << 10;

/// How long to wait before trying again when the system has run out of something.
pub(super) const BACKOFF: Duration = Duration::from_millis(50);

/// How whoever waits for room for an instance is woken.
pub(super) trait Bell: Debug + Send + Sync + 'static {
    fn ring(&self);
}

#[derive(Debug)]
pub(super) struct Instances<B> {
    recipe: Recipe,
    limit: Option<usize>,
    pub(super) max_message: usize,
    stopped: AtomicBool,
    /// Rung when there is room for an instance again.
    pub(super) freed: B,
    slot: Mutex<Slot>,
}

/// The instance that waits for the next client.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) waiting: Option<OwnedHandle>,
    /// A client is at the waiting instance, but could not be handed out yet.
    pub(super) connected: bool,
    /// Whoever accepts has taken the instance out for the time being.
    pub(super) taken: bool,
    /// How many instances are handed out.
    live: usize,
}

impl<B: Bell> Instances<B> {
    pub(super) fn bind(options: &ListenOptions, path: Vec<u16>, freed: B) -> io::Result<Self> {
        let buffer_size = options.buffer_size.unwrap_or(BUFFER_SIZE);
        let recipe = Recipe {
            path,
            security: security::descriptor(&options.access)?,
            buffer_size: u32::try_from(buffer_size).unwrap_or(u32::MAX),
            read_mode: options.read_mode,
            write_through: options.write_through,
        };
        let first = recipe.create(true).map_err(|error| {
            match error.raw_os_error().map(|code| code as u32) {
                // FILE_FLAG_FIRST_PIPE_INSTANCE: somebody has an instance already, who may be another user.
                Some(ERROR_ACCESS_DENIED | ERROR_PIPE_BUSY) => {
                    io::Error::new(io::ErrorKind::AddrInUse, "the name has a listener already")
                }
                _ => error,
            }
        })?;
        Ok(Instances {
            recipe,
            limit: options.instances,
            max_message: options.max_message,
            stopped: AtomicBool::new(false),
            freed,
            slot: Mutex::new(Slot {
                waiting: Some(first),
                ..Slot::default()
            }),
        })
    }

    pub(super) fn read_mode(&self) -> ReadMode {
        self.recipe.read_mode
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// From here on nobody puts an instance up. The slot's lock is asked for, because that is done under it.
    pub(super) fn stop(&self, _slot: &mut Slot) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.is_stopped() {
            Err(Error::Stopped.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn has_room(&self, slot: &Slot) -> bool {
        self.limit.is_none_or(|limit| slot.live < limit)
    }

    pub(super) fn create(&self) -> io::Result<OwnedHandle> {
        self.recipe.create(false)
    }

    /// Counts the connected instance as handed out, and creates the next one where there may be one. If that fails,
    /// or `parts` does, which makes what the stream needs besides, nothing has changed.
    pub(super) fn succeed<P>(
        &self,
        slot: &mut Slot,
        parts: impl FnOnce() -> io::Result<P>,
    ) -> io::Result<(Option<OwnedHandle>, P)> {
        slot.live += 1;
        let next = if self.has_room(slot) && !self.is_stopped() {
            self.create().map(Some)
        } else {
            Ok(None)
        };
        let made = next.and_then(|next| Ok((next, parts()?)));
        if made.is_err() {
            slot.live -= 1;
        }
        made
    }

    pub(super) fn access(&self) -> io::Result<String> {
        let slot = self.slot.lock();
        match &slot.waiting {
            Some(instance) => security::sddl_of(instance),
            None if self.is_stopped() => Err(Error::Stopped.into()),
            // Every instance is made by the same recipe.
            None => security::sddl_of(&self.create()?),
        }
    }
}

/// One of the connections that a listener has handed out. Dropping it makes room for the next, and puts up an
/// instance where there was none because of the limit: the pipe's own handle is closed after that, so that the
/// name never goes while the listener is there.
#[derive(Debug)]
pub(super) struct Instance(Arc<dyn Place>);

impl Instance {
    pub(super) fn of<B: Bell>(instances: &Arc<Instances<B>>) -> Instance {
        Instance(Arc::clone(instances) as Arc<dyn Place>)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Where an instance takes a place.
trait Place: Debug + Send + Sync {
    fn leave(&self);
}

impl<B: Bell> Place for Instances<B> {
    fn leave(&self) {
        let mut slot = self.slot.lock();
        slot.live -= 1;
        if slot.waiting.is_none() && !slot.taken && !self.is_stopped() {
            // If that fails, the next accept tries again.
            slot.waiting = self.create().ok();
        }
        drop(slot);
        self.freed.ring();
    }
}

/// How an instance of the pipe is made.
#[derive(Debug)]
struct Recipe {
    path: Vec<u16>,
    security: SecurityDescriptor,
    buffer_size: u32,
    read_mode: ReadMode,
    write_through: bool,
}

impl Recipe {
    fn create(&self, first: bool) -> io::Result<OwnedHandle> {
        let mut open_mode = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED;
        if first {
            open_mode |= FILE_FLAG_FIRST_PIPE_INSTANCE;
        }
        if self.write_through {
            open_mode |= FILE_FLAG_WRITE_THROUGH;
        }
        let read_mode = match self.read_mode {
            ReadMode::Message => PIPE_READMODE_MESSAGE,
            ReadMode::Byte => PIPE_READMODE_BYTE,
        };
        let attributes = SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.security.as_sd().cast_mut(),
            bInheritHandle: 0,
        };
        // The limit on instances is kept by the listener: when the system keeps it, an instance has to be
        // closed before the next can be created, and in between the name is anybody's.
        // SAFETY: the path ends in a NUL, and the attributes with their descriptor live through the call.
        let handle = unsafe {
            CreateNamedPipeW(
                self.path.as_ptr(),
                open_mode,
                PIPE_TYPE_MESSAGE | read_mode | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                PIPE_UNLIMITED_INSTANCES,
                self.buffer_size,
                self.buffer_size,
                0,
                &raw const attributes,
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just created and nobody else has it.
        Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
    }
}

/// Whether trying again later may help.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let passing = [
        ERROR_TOO_MANY_OPEN_FILES,
        ERROR_NOT_ENOUGH_MEMORY,
        ERROR_OUTOFMEMORY,
        ERROR_PIPE_BUSY,
        ERROR_NO_SYSTEM_RESOURCES,
        ERROR_COMMITMENT_LIMIT,
        ERROR_NOT_ENOUGH_QUOTA,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| passing.contains(&(code as u32)))
}
