//! The listening end: one instance of the pipe that waits for a client, and the next one before it is handed out.

use std::io;
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptor, SecurityDescriptor};
use parking_lot::Mutex;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_COMMITMENT_LIMIT, ERROR_NO_DATA, ERROR_NO_SYSTEM_RESOURCES,
    ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_ENOUGH_QUOTA, ERROR_OUTOFMEMORY, ERROR_PIPE_BUSY,
    ERROR_PIPE_CONNECTED, ERROR_TOO_MANY_OPEN_FILES, INVALID_HANDLE_VALUE,
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

use super::overlapped::{self, Event, Operation, Undone, Woken};
use super::security;
use super::stream::{Direction, End, Parts, Stream};
use crate::{Deadline, Error, ListenOptions, ReadMode};

/// The default size of the buffers of a pipe, in bytes for each direction.
const BUFFER_SIZE: usize = 64 << 10;

/// How long to wait before trying again when the system has run out of something.
const BACKOFF: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Listener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    recipe: Recipe,
    limit: Option<usize>,
    max_message: usize,
    stopped: AtomicBool,
    /// Set when the listener is stopped.
    stop: Event,
    /// Set when there is room for an instance again.
    freed: Event,
    /// Whoever accepts holds it, and uses the event in it.
    accepting: Mutex<Event>,
    slot: Mutex<Slot>,
}

/// The instance that waits for the next client.
#[derive(Debug, Default)]
struct Slot {
    waiting: Option<OwnedHandle>,
    /// A client is at the waiting instance, but could not be handed out yet.
    connected: bool,
    /// Whoever accepts has taken the instance out for the time being.
    taken: bool,
    /// How many instances are handed out.
    live: usize,
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, path: Vec<u16>) -> io::Result<Listener> {
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
        Ok(Listener(Arc::new(Shared {
            recipe,
            limit: options.instances,
            max_message: options.max_message,
            stopped: AtomicBool::new(false),
            stop: Event::new()?,
            freed: Event::new()?,
            accepting: Mutex::new(Event::new()?),
            slot: Mutex::new(Slot {
                waiting: Some(first),
                ..Slot::default()
            }),
        })))
    }

    pub(crate) fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        self.accept_once(deadline).inspect_err(|error| {
            if Error::of(error) == Some(&Error::Stopped) {
                // Another thread is stopping it: not before the instance is gone does this one go on.
                self.stop();
            }
        })
    }

    fn accept_once(&self, deadline: Deadline) -> io::Result<Stream> {
        let shared = &self.0;
        let mut event = deadline.lock(&shared.accepting)?;
        let mut taken = shared.take_instance(deadline)?;
        taken.connect(&mut event, deadline)?;
        loop {
            match taken.hand_out() {
                Err((unused, error)) if is_passing(&error) => {
                    taken = unused;
                    shared.pause(deadline)?;
                }
                result => return result.map_err(|(_, error)| error),
            }
        }
    }

    pub(crate) fn stop(&self) {
        let shared = &self.0;
        // Under the lock: from here on nobody puts an instance up.
        let slot = shared.slot.lock();
        shared.stopped.store(true, Ordering::SeqCst);
        drop(slot);
        shared.stop.set();
        // Whoever is accepting leaves at once, and gives the instance back or drops it.
        drop(shared.accepting.lock());
        shared.slot.lock().waiting = None;
    }

    pub(crate) fn access(&self) -> io::Result<String> {
        let slot = self.0.slot.lock();
        match &slot.waiting {
            Some(instance) => security::sddl_of(instance),
            None if self.0.stopped.load(Ordering::SeqCst) => Err(Error::Stopped.into()),
            // Every instance is made by the same recipe.
            None => security::sddl_of(&self.0.recipe.create(false)?),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn check_open(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(Error::Stopped.into())
        } else {
            Ok(())
        }
    }

    /// The instance that waits for a client, once there may be one.
    fn take_instance(self: &Arc<Self>, deadline: Deadline) -> io::Result<Taken<'_>> {
        loop {
            let created = {
                let mut slot = self.slot.lock();
                self.check_open()?;
                let instance = match slot.waiting.take() {
                    Some(instance) => Some(Ok(instance)),
                    None if self.has_room(&slot) => Some(self.recipe.create(false)),
                    None => {
                        // Under the lock, so that no instance is freed in between.
                        self.freed.reset();
                        None
                    }
                };
                if let Some(Ok(instance)) = instance {
                    slot.taken = true;
                    let connected = std::mem::take(&mut slot.connected);
                    return Ok(Taken {
                        shared: self,
                        instance: Some(instance),
                        connected,
                    });
                }
                instance
            };
            match created {
                Some(Err(error)) if is_passing(&error) => self.pause(deadline)?,
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => match overlapped::wait(&self.stop, &self.freed, deadline)? {
                    Woken::First => return Err(Error::Stopped.into()),
                    Woken::Second => {}
                    Woken::Deadline => return Err(io::ErrorKind::TimedOut.into()),
                },
            }
        }
    }

    fn has_room(&self, slot: &Slot) -> bool {
        self.limit.is_none_or(|limit| slot.live < limit)
    }

    /// Waits a little, or until the listener is stopped.
    fn pause(&self, deadline: Deadline) -> io::Result<()> {
        match overlapped::wait(
            &self.stop,
            &self.stop,
            deadline.min(Deadline::after(BACKOFF)),
        )? {
            Woken::Deadline if deadline.has_passed() => Err(io::ErrorKind::TimedOut.into()),
            Woken::Deadline => Ok(()),
            Woken::First | Woken::Second => Err(Error::Stopped.into()),
        }
    }
}

/// The waiting instance while somebody accepts on it. Dropping it puts it back.
#[derive(Debug)]
struct Taken<'a> {
    shared: &'a Arc<Shared>,
    instance: Option<OwnedHandle>,
    connected: bool,
}

impl<'a> Taken<'a> {
    /// Waits for a client.
    fn connect(&mut self, event: &mut Event, deadline: Deadline) -> io::Result<()> {
        let Some(instance) = self.instance.as_ref().filter(|_| !self.connected) else {
            return Ok(());
        };
        loop {
            let stop = &self.shared.stop;
            let result = Operation::new(instance, &mut *event, stop, deadline).connect();
            match result {
                // A client may have come before the call, and have left again: what it wrote is still there.
                Ok(_) | Err(Undone::Code(ERROR_PIPE_CONNECTED | ERROR_NO_DATA)) => break,
                Err(Undone::TimedOut) => return Err(io::ErrorKind::TimedOut.into()),
                Err(Undone::Stopped) => return Err(Error::Stopped.into()),
                Err(Undone::Code(code)) => {
                    let error = io::Error::from_raw_os_error(code as i32);
                    if !is_passing(&error) {
                        return Err(error);
                    }
                    self.shared.pause(deadline)?;
                }
            }
        }
        self.connected = true;
        Ok(())
    }

    /// Makes a stream of a connected instance, with the next instance in its place before anybody sees it.
    fn hand_out(mut self) -> Result<Stream, (Taken<'a>, io::Error)> {
        let shared = self.shared;
        let mut slot = shared.slot.lock();
        slot.live += 1;
        let next = if shared.has_room(&slot) && !shared.stopped.load(Ordering::SeqCst) {
            shared.recipe.create(false).map(Some)
        } else {
            Ok(None)
        };
        let made = next.and_then(|next| Ok((next, Parts::new()?)));
        match (made, self.instance.take()) {
            (Ok((next, parts)), Some(instance)) => {
                slot.waiting = next;
                slot.taken = false;
                drop(slot);
                let stream = parts.stream(
                    instance,
                    End::Server,
                    Direction::Both,
                    shared.recipe.read_mode,
                    shared.max_message,
                );
                stream.occupy(Instance(Arc::clone(shared)));
                Ok(stream)
            }
            (made, instance) => {
                slot.live -= 1;
                drop(slot);
                self.instance = instance;
                let error = made.err().unwrap_or_else(|| Error::Stopped.into());
                Err((self, error))
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            let mut slot = self.shared.slot.lock();
            slot.taken = false;
            slot.connected = self.connected;
            slot.waiting = Some(instance);
        }
    }
}

/// One of the connections that a listener has handed out. Dropping it makes room for the next, and puts up an
/// instance where there was none because of the limit: the pipe's own handle is closed after that, so that the
/// name never goes while the listener is there.
#[derive(Debug)]
pub(super) struct Instance(Arc<Shared>);

impl Drop for Instance {
    fn drop(&mut self) {
        let shared = &self.0;
        let mut slot = shared.slot.lock();
        slot.live -= 1;
        if slot.waiting.is_none() && !slot.taken && !shared.stopped.load(Ordering::SeqCst) {
            // If that fails, the next accept tries again.
            slot.waiting = shared.recipe.create(false).ok();
        }
        drop(slot);
        shared.freed.set();
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
fn is_passing(error: &io::Error) -> bool {
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
