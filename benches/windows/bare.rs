//! The bare system: an overlapped message pipe with buffers as large as [`pipetalk::LocalListener`]'s, and messages
//! of a size that both sides know. One operation at a time, with one event for all.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_IO_PENDING, ERROR_PIPE_CONNECTED, HANDLE, INVALID_HANDLE_VALUE, TRUE,
    WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX, ReadFile, WriteFile,
};
use windows_sys::Win32::System::IO::{GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, PIPE_READMODE_MESSAGE, PIPE_REJECT_REMOTE_CLIENTS,
    PIPE_TYPE_MESSAGE, PIPE_WAIT, SetNamedPipeHandleState,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};
use windows_sys::core::BOOL;

pub(crate) const WHAT: &str = "a bare overlapped message pipe";

const BUFFER_SIZE: u32 = 64 << 10;

/// Where a listener of either kind is: pipes are in no directory.
pub(crate) fn address(_: &Path, name: &str) -> String {
    format!(r"\\.\pipe\{name}")
}

pub(crate) struct Listener(Stream);

impl Listener {
    pub(crate) fn bind(path: &str) -> io::Result<Listener> {
        let path: Vec<u16> = OsStr::new(path).encode_wide().chain([0]).collect();
        // SAFETY: `path` ends with a NUL and outlives the call; no security attributes are given.
        let pipe = unsafe {
            CreateNamedPipeW(
                path.as_ptr(),
                PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                1,
                BUFFER_SIZE,
                BUFFER_SIZE,
                0,
                ptr::null(),
            )
        };
        if pipe == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made just now, and nobody else has it.
        let pipe = unsafe { OwnedHandle::from_raw_handle(pipe) };
        Stream::new(pipe).map(Listener)
    }

    pub(crate) fn accept(self) -> io::Result<Stream> {
        let mut stream = self.0;
        let connected = stream.operate(|pipe, overlapped| {
            // SAFETY: the handle is open and overlapped, and `operate` keeps `overlapped` to the end of the operation.
            unsafe { ConnectNamedPipe(pipe, overlapped) }
        });
        match connected {
            Err(error) if !is(&error, ERROR_PIPE_CONNECTED) => Err(error),
            _ => Ok(stream),
        }
    }
}

pub(crate) struct Stream {
    pipe: OwnedHandle,
    event: OwnedHandle,
}

impl Stream {
    pub(crate) fn connect(path: &str) -> io::Result<Stream> {
        let mut options = OpenOptions::new();
        let pipe = options
            .read(true)
            .write(true)
            .custom_flags(FILE_FLAG_OVERLAPPED)
            .open(path)?;
        let pipe = OwnedHandle::from(pipe);
        // SAFETY: the handle is open, the mode outlives the call, and the other two may be null.
        let done = unsafe {
            SetNamedPipeHandleState(
                pipe.as_raw_handle(),
                &PIPE_READMODE_MESSAGE,
                ptr::null(),
                ptr::null(),
            )
        };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        Stream::new(pipe)
    }

    fn new(pipe: OwnedHandle) -> io::Result<Stream> {
        // SAFETY: neither attributes nor a name are given.
        let event = unsafe { CreateEventW(ptr::null(), TRUE, 0, ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made just now, and nobody else has it.
        let event = unsafe { OwnedHandle::from_raw_handle(event) };
        Ok(Stream { pipe, event })
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let size = length(message)?;
        let sent = self.operate(|pipe, overlapped| {
            // SAFETY: the handle is open and overlapped; `operate` returns, and with it the borrow of `message` ends,
            // only when the operation has ended.
            unsafe { WriteFile(pipe, message.as_ptr(), size, ptr::null_mut(), overlapped) }
        })?;
        whole(sent, size)
    }

    /// Fills `message`; `false` at the end.
    pub(crate) fn receive(&mut self, message: &mut [u8]) -> io::Result<bool> {
        let size = length(message)?;
        let received = self.operate(|pipe, overlapped| {
            // SAFETY: the handle is open and overlapped; `operate` returns, and with it the borrow of `message` ends,
            // only when the operation has ended.
            unsafe {
                ReadFile(
                    pipe,
                    message.as_mut_ptr(),
                    size,
                    ptr::null_mut(),
                    overlapped,
                )
            }
        });
        match received {
            Ok(received) => whole(received, size).map(|()| true),
            Err(error) if is(&error, ERROR_BROKEN_PIPE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins an operation and waits for its end, however it ends. As `self` is borrowed for as long, no other
    /// operation uses the event meanwhile.
    fn operate(&mut self, begin: impl FnOnce(HANDLE, *mut OVERLAPPED) -> BOOL) -> io::Result<u32> {
        let pipe = self.pipe.as_raw_handle();
        let event = self.event.as_raw_handle();
        let mut overlapped = OVERLAPPED {
            hEvent: event,
            ..OVERLAPPED::default()
        };
        let overlapped = &raw mut overlapped;
        if begin(pipe, overlapped) == 0 {
            let error = io::Error::last_os_error();
            if !is(&error, ERROR_IO_PENDING) {
                return Err(error);
            }
            // SAFETY: the event is open.
            let waited = unsafe { WaitForSingleObject(event, INFINITE) };
            if waited != WAIT_OBJECT_0 {
                // The system may still write to memory that is about to be given up.
                std::process::abort();
            }
        }
        let mut transferred = 0;
        // SAFETY: both handles are open, and both pointers are to variables of this function.
        let done = unsafe { GetOverlappedResult(pipe, overlapped, &raw mut transferred, TRUE) };
        if done == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(transferred)
        }
    }
}

fn length(message: &[u8]) -> io::Result<u32> {
    message.len().try_into().map_err(io::Error::other)
}

fn whole(transferred: u32, size: u32) -> io::Result<()> {
    if transferred == size {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{transferred} of {size} bytes were transferred"
        )))
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error
        .raw_os_error()
        .is_some_and(|error| error as u32 == code)
}
