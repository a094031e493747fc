//! How an instance of a listener's pipe is made, and what claiming the pipe's name asks of the system.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::marker::PhantomData;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::process;
use std::ptr;
use std::time::Duration;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptor, SecurityDescriptor};
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_LOCAL_INFORMATION, FilePipeLocalInformation, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{
    ERROR_FILE_NOT_FOUND, INVALID_HANDLE_VALUE, RtlNtStatusToDosError, WAIT_ABANDONED,
    WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_FLAG_WRITE_THROUGH,
    FILE_READ_ATTRIBUTES, OPEN_EXISTING, PIPE_ACCESS_DUPLEX, SECURITY_ANONYMOUS,
    SECURITY_SQOS_PRESENT, SYNCHRONIZE,
};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, NMPWAIT_NOWAIT, PIPE_READMODE_BYTE, PIPE_READMODE_MESSAGE,
    PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES, PIPE_WAIT,
    WaitNamedPipeW,
};
use windows_sys::Win32::System::Threading::{
    CreateMutexExW, MUTEX_MODIFY_STATE, ReleaseMutex, WaitForSingleObject,
};

use super::claim::System;
use super::win32::wide;
use super::{security, token};
use crate::{ListenOptions, ReadMode};

/// The default size of the buffers of a pipe, in bytes for each direction.
const BUFFER_SIZE: usize = 64 << 10;

/// How long somebody else may take to claim the same name: it is a matter of microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Recipe {
    /// With its closing NUL.
    path: Vec<u16>,
    security: SecurityDescriptor,
    buffer_size: u32,
    read_mode: ReadMode,
    write_through: bool,
}

/// Of a pipe, whatever is its first instance's to decide, and matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nature {
    /// Owner, DACL and integrity label. That they are texts makes no difference, as the system writes both.
    security: String,
    /// Whether it has messages, and whether it rejects other machines.
    kind: u32,
    direction: u32,
    limit: u32,
}

impl Recipe {
    pub(super) fn new(options: &ListenOptions, path: Vec<u16>) -> io::Result<Recipe> {
        let buffer_size = options.buffer_size.unwrap_or(BUFFER_SIZE);
        Ok(Recipe {
            path,
            security: security::descriptor(&options.access)?,
            buffer_size: u32::try_from(buffer_size).unwrap_or(u32::MAX),
            read_mode: options.read_mode,
            write_through: options.write_through,
        })
    }

    fn create_at(&self, path: &[u16], first: bool) -> io::Result<OwnedHandle> {
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
        let attributes = attributes(&self.security);
        // The limit on instances is kept by the listener: when the system keeps it, an instance has to be
        // closed before the next can be created, and in between the name is anybody's.
        // SAFETY: the path ends in a NUL, and the attributes with their descriptor live through the call.
        let handle = unsafe {
            CreateNamedPipeW(
                path.as_ptr(),
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

    /// A name beside this pipe's that nobody has, and nobody can have foreseen.
    fn name_beside(&self) -> Vec<u16> {
        let last = self.path.iter().rposition(|unit| *unit == u16::from(b'\\'));
        let mut path = self.path[..last.map_or(0, |at| at + 1)].to_vec();
        let random = RandomState::new().hash_one(process::id());
        path.extend(wide(&format!("pipetalk.{}.{random:016x}", process::id())));
        path
    }
}

/// That of an object which is not inherited.
fn attributes(security: &SecurityDescriptor) -> SECURITY_ATTRIBUTES {
    SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: security.as_sd().cast_mut(),
        bInheritHandle: 0,
    }
}

impl System for Recipe {
    type Instance = OwnedHandle;
    type Lock = NameLock;
    type Nature = Nature;

    fn lock(&self) -> io::Result<NameLock> {
        NameLock::take(&self.path, PATIENCE)
    }

    fn create(&self, first: bool) -> io::Result<OwnedHandle> {
        self.create_at(&self.path, first)
    }

    fn is_served(&self) -> bool {
        // SAFETY: the path ends in a NUL and lives through the call.
        if unsafe { WaitNamedPipeW(self.path.as_ptr(), NMPWAIT_NOWAIT) } != 0 {
            // An instance waits for a client, and need not be given one that comes only to look.
            return true;
        }
        // Where no instance is waiting this fails, in one way if servers have any and in another if nobody has.
        // SAFETY: the path ends in a NUL and lives through the call; no attributes and no template are given.
        let handle = unsafe {
            CreateFileW(
                self.path.as_ptr(),
                FILE_READ_ATTRIBUTES,
                0,
                ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS,
                ptr::null_mut(),
            )
        };
        if handle != INVALID_HANDLE_VALUE {
            // SAFETY: the handle was just opened and nobody else has it.
            drop(unsafe { OwnedHandle::from_raw_handle(handle) });
            return true;
        }
        let error = io::Error::last_os_error();
        error.raw_os_error() != Some(ERROR_FILE_NOT_FOUND as i32)
    }

    fn nature(&self, instance: &OwnedHandle) -> io::Result<Nature> {
        let known = local_information(instance)?;
        Ok(Nature {
            security: security::whole_sddl_of(instance)?,
            kind: known.NamedPipeType,
            direction: known.NamedPipeConfiguration,
            limit: known.MaximumInstances,
        })
    }

    fn asked_for(&self) -> io::Result<Nature> {
        self.nature(&self.create_at(&self.name_beside(), true)?)
    }
}

/// What the system knows of a pipe and of this end of an instance.
pub(super) fn local_information(pipe: &OwnedHandle) -> io::Result<FILE_PIPE_LOCAL_INFORMATION> {
    let mut status = IO_STATUS_BLOCK::default();
    let mut known = FILE_PIPE_LOCAL_INFORMATION::default();
    // SAFETY: the handle is open, the size is that of what is asked for, and both are there through the call, which the
    // system waits for to end on an overlapped handle too.
    let result = unsafe {
        NtQueryInformationFile(
            pipe.as_raw_handle(),
            &raw mut status,
            (&raw mut known).cast(),
            size_of_val(&known) as u32,
            FilePipeLocalInformation,
        )
    };
    if result < 0 {
        // SAFETY: takes and returns a number.
        let code = unsafe { RtlNtStatusToDosError(result) };
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    Ok(known)
}

/// The lock of those of this user who claim one name.
///
/// It is a mutex of the machine's, as the pipe is. That its name has the user's SID in it, and its DACL names the user
/// only, keeps other users from it by mistake, but not from having one of that name first: then it cannot be had.
#[derive(Debug)]
pub(super) struct NameLock {
    mutex: OwnedHandle,
    /// It is one thread's.
    here: PhantomData<*const ()>,
}

impl NameLock {
    fn take(path: &[u16], patience: Duration) -> io::Result<NameLock> {
        let name = mutex_name(path)?;
        let in_words = |what: &str, error: &dyn std::fmt::Display| {
            io::Error::other(format!("the mutex {name} {what}: {error}"))
        };
        // MUTEX_ALL_ACCESS: <https://learn.microsoft.com/en-us/windows/win32/sync/synchronization-object-security-and-access-rights>
        let security = security::private("0x1f0001")?;
        let attributes = attributes(&security);
        let wide = wide(&name);
        let rights = SYNCHRONIZE | MUTEX_MODIFY_STATE;
        // SAFETY: the name ends in a NUL, and it and the attributes with their descriptor live through the call.
        let handle = unsafe { CreateMutexExW(&raw const attributes, wide.as_ptr(), 0, rights) };
        if handle.is_null() {
            return Err(in_words("cannot be opened", &io::Error::last_os_error()));
        }
        // SAFETY: the handle was just opened and nobody else has it.
        let mutex = unsafe { OwnedHandle::from_raw_handle(handle) };
        let milliseconds = patience.as_millis() as u32;
        // SAFETY: the handle is a mutex and open.
        match unsafe { WaitForSingleObject(mutex.as_raw_handle(), milliseconds) } {
            // What a process that ended in the midst of it had in hand has gone with it.
            WAIT_OBJECT_0 | WAIT_ABANDONED => Ok(NameLock {
                mutex,
                here: PhantomData,
            }),
            WAIT_TIMEOUT => Err(in_words("is somebody else's", &format!("for {patience:?}"))),
            _ => Err(in_words("cannot be had", &io::Error::last_os_error())),
        }
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // SAFETY: the handle is a mutex and open, and this thread has it.
        unsafe { ReleaseMutex(self.mutex.as_raw_handle()) };
    }
}

/// The same for all names that mean the same pipe. Where others share it, they wait for each other for nothing.
fn mutex_name(path: &[u16]) -> io::Result<String> {
    let user = token::current_user()?;
    // What is created in an AppContainer lies in a place of its own, and so do the pipes that it may create.
    let place = match token::package()? {
        Some(_) => "Local",
        None => "Global",
    };
    // FNV-1a. Which other letters mean the same the system alone knows.
    let hash = path.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, unit| {
        let letter = u8::try_from(*unit).map_or(b'?', |byte| match byte.is_ascii() {
            true => byte.to_ascii_lowercase(),
            false => b'?',
        });
        (hash ^ u64::from(letter)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!(r"{place}\pipetalk.{user}.{hash:016x}"))
}

#[cfg(test)]
mod tests;
