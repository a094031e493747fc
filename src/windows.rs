//! The transport over Windows named pipes in message mode.
//!
//! A message is a pipe message, with nothing of ours in it: any program that speaks message-mode pipes can be at
//! the other end.
//!
//! From interprocess come the security descriptors. Its listener and its streams cannot be used: the listener
//! disconnects a client that has left, and with it what the client wrote; it passes no OVERLAPPED where the
//! handle is an overlapped one, in accepting and in receiving messages, so that another operation on the handle
//! ends the wait while the kernel still owns the buffer; and nothing of it takes a deadline. So every handle is
//! opened here, overlapped, and every operation goes through [`overlapped`]; those that wake a task, for async programs,
//! are below `tokio`.

mod begin;
mod claim;
mod handle;
mod head;
mod instances;
mod listener;
mod overlapped;
mod parting;
mod pipe;
mod recipe;
mod rights;
mod security;
mod stream;
pub(crate) mod system;
mod token;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;
mod win32;

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::thread;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND, ERROR_HANDLES_CLOSED, ERROR_INVALID_NAME,
    ERROR_INVALID_PARAMETER, ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED, ERROR_SEM_TIMEOUT,
    INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_TYPE_PIPE, GetFileType, OPEN_EXISTING,
    SECURITY_IDENTIFICATION, SECURITY_IMPERSONATION, SECURITY_SQOS_PRESENT,
};
use windows_sys::Win32::System::Pipes::{
    GetNamedPipeInfo, PIPE_READMODE_MESSAGE, PIPE_TYPE_MESSAGE, SetNamedPipeHandleState,
    WaitNamedPipeW,
};

use crate::base::backoff::Backoff;
use crate::base::error::{invalid, unsupported};
use crate::base::name::Kind;
use crate::transport::platform::Platform;
use crate::{ConnectOptions, Deadline, Error, ListenOptions, Name, ReadMode, UserId};
use listener::Listener;
use pipe::End;
use rights::{CLIENT_RIGHTS, Direction};
use stream::{Parts, Stream};
use system::Os;
use win32::wide;

impl Platform for Os {
    type Listener = Listener;
    type Stream = Stream;

    fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        Listener::bind(options, own_pipe_path(name)?)
    }

    fn connect(options: &ConnectOptions, name: &Name, deadline: Deadline) -> io::Result<Stream> {
        let (handle, direction) = open(options, name, &pipe_path(name)?, deadline)?;
        make_ready(options, name, &handle, direction)?;
        Ok(Parts::new()?.stream(
            handle,
            end_of_client(name),
            direction,
            options.read_mode,
            options.max_message,
            options.spin,
        ))
    }
}

/// The path of the pipe, with its closing NUL.
fn pipe_path(name: &Name) -> io::Result<Vec<u16>> {
    let path = match &name.0 {
        Kind::Portable(name) => format!(r"\\.\pipe\{name}"),
        Kind::Pipe { server, path } => format!(r"\\{server}\pipe\{path}"),
        Kind::Path(_) => {
            return Err(unsupported(format!(
                "{name} is a socket path, which means nothing on Windows"
            )));
        }
        Kind::Abstract(_) => {
            return Err(unsupported(format!(
                "{name} is an abstract name, which only Linux has"
            )));
        }
    };
    Ok(wide(&path))
}

/// The path of a pipe that can be listened at.
fn own_pipe_path(name: &Name) -> io::Result<Vec<u16>> {
    if is_remote(name) {
        return Err(unsupported(format!(
            "{name} is on another machine: it can only be connected to"
        )));
    }
    pipe_path(name)
}

fn is_remote(name: &Name) -> bool {
    matches!(&name.0, Kind::Pipe { server, .. } if server != ".")
}

fn end_of_client(name: &Name) -> End {
    if is_remote(name) {
        End::RemoteClient
    } else {
        End::Client
    }
}

/// Opens the client's end, waiting for an instance until the deadline.
fn open(
    options: &ConnectOptions,
    name: &Name,
    path: &[u16],
    deadline: Deadline,
) -> io::Result<(OwnedHandle, Direction)> {
    let mut backoff = Backoff::new();
    let mut was_busy = false;
    loop {
        let error = match open_once(options, path) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        match after_refusal(options, name, error, was_busy, deadline)? {
            Wait::ForInstance => {
                was_busy = true;
                if !wait_for_instance(path, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Wait::ForServer => thread::sleep(backoff.next(deadline)?),
        }
    }
}

/// What to wait for before the next try to open a pipe.
enum Wait {
    ForInstance,
    ForServer,
}

/// What to do when a pipe could not be opened.
fn after_refusal(
    options: &ConnectOptions,
    name: &Name,
    error: io::Error,
    was_busy: bool,
    deadline: Deadline,
) -> io::Result<Wait> {
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_PIPE_BUSY) if deadline == Deadline::NOW => Err(Error::Busy.into()),
        Some(ERROR_PIPE_BUSY) => Ok(Wait::ForInstance),
        // Between two waits the last instance may have gone and the next not have come.
        Some(ERROR_FILE_NOT_FOUND) if was_busy || options.wait_for_server => Ok(Wait::ForServer),
        Some(ERROR_FILE_NOT_FOUND) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("nobody listens at {name}"),
        )),
        Some(ERROR_ACCESS_DENIED) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("this user may not connect to {name}"),
        )),
        Some(ERROR_INVALID_NAME) => Err(invalid(format!("{name} cannot be the name of a pipe"))),
        _ => Err(error),
    }
}

/// Opens the client's end both ways, or in the one direction that the pipe allows.
fn open_once(options: &ConnectOptions, path: &[u16]) -> io::Result<(OwnedHandle, Direction)> {
    // Who opens a pipe lets its server act in his name unless he says otherwise:
    // <https://learn.microsoft.com/en-us/windows/win32/api/fileapi/nf-fileapi-createfilew>
    let level = if options.allow_impersonation {
        SECURITY_IMPERSONATION
    } else {
        SECURITY_IDENTIFICATION
    };
    let flags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | level;
    let mut first = None;
    for (direction, rights) in CLIENT_RIGHTS {
        // SAFETY: `path` ends in a NUL and lives through the call; no attributes and no template are given.
        let handle = unsafe {
            CreateFileW(
                path.as_ptr(),
                rights,
                0,
                ptr::null(),
                OPEN_EXISTING,
                flags,
                ptr::null_mut(),
            )
        };
        if handle != INVALID_HANDLE_VALUE {
            // SAFETY: the handle was just opened and nobody else has it.
            let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
            check_is_pipe(&handle)?;
            return Ok((handle, direction));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(ERROR_ACCESS_DENIED as i32) {
            return Err(error);
        }
        first.get_or_insert(error);
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::PermissionDenied.into()))
}

/// Whatever the name looked like: what was opened may not be a file or a device.
fn check_is_pipe(handle: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open.
    if unsafe { GetFileType(handle.as_raw_handle()) } == FILE_TYPE_PIPE {
        Ok(())
    } else {
        Err(invalid("what has this name is not a pipe"))
    }
}

/// Waits until an instance is free, perhaps only for a moment; `false` if the deadline passed first.
fn wait_for_instance(path: &[u16], deadline: Deadline) -> io::Result<bool> {
    let timeout = match overlapped::milliseconds(deadline) {
        // Zero would mean the server's default.
        0 => return Ok(false),
        timeout => timeout,
    };
    // SAFETY: `path` ends in a NUL and lives through the call.
    if unsafe { WaitNamedPipeW(path.as_ptr(), timeout) } != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().map(|code| code as u32) {
        // The next open says whether the deadline has passed, or who is there. The third is what Wine says when
        // the last instance goes in the meantime.
        Some(ERROR_SEM_TIMEOUT | ERROR_FILE_NOT_FOUND | ERROR_HANDLES_CLOSED) => Ok(true),
        _ => Err(error),
    }
}

/// Sets up a pipe that was opened, and looks whose it is.
fn make_ready(
    options: &ConnectOptions,
    name: &Name,
    handle: &OwnedHandle,
    direction: Direction,
) -> io::Result<()> {
    set_read_mode(options, handle, direction, name)?;
    let owner = match security::owner(handle).map_err(or_gone) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(error),
        owner => owner.ok().map(UserId::Sid),
    };
    options.trust.check(owner.as_ref())
}

/// The listener may have let the client in, and have disconnected it by now: then nobody is there to be asked about.
fn or_gone(error: io::Error) -> io::Error {
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_PIPE_NOT_CONNECTED) => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

/// Puts the client's end in message read mode, which every pipe handle begins without.
fn set_read_mode(
    options: &ConnectOptions,
    handle: &OwnedHandle,
    direction: Direction,
    name: &Name,
) -> io::Result<()> {
    let byte_type = || {
        invalid(format!(
            "{name} is a pipe of byte type, which has no messages: connect to it with ReadMode::Byte"
        ))
    };
    match (options.read_mode, direction) {
        (ReadMode::Byte, _) => Ok(()),
        (ReadMode::Message, Direction::Both | Direction::Inbound) => {
            let mode = PIPE_READMODE_MESSAGE;
            // SAFETY: the handle is open, `mode` lives through the call, and the other settings stay as they are.
            let done = unsafe {
                SetNamedPipeHandleState(
                    handle.as_raw_handle(),
                    &raw const mode,
                    ptr::null(),
                    ptr::null(),
                )
            };
            if done != 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            Err(match error.raw_os_error().map(|code| code as u32) {
                Some(ERROR_INVALID_PARAMETER) => byte_type(),
                _ => or_gone(error),
            })
        }
        (ReadMode::Message, Direction::Outbound) => {
            let mut flags = 0;
            // SAFETY: the handle is open, `flags` lives through the call, and nothing else is asked for.
            let done = unsafe {
                GetNamedPipeInfo(
                    handle.as_raw_handle(),
                    &raw mut flags,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            };
            if done == 0 {
                return Err(or_gone(io::Error::last_os_error()));
            }
            if flags & PIPE_TYPE_MESSAGE == 0 {
                Err(byte_type())
            } else {
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalListener, ToName};

    /// Not that its server is somebody unknown: whoever reconnects tries again.
    #[test]
    fn a_client_that_is_disconnected_before_it_is_ready_has_a_broken_pipe() {
        let soon = || Deadline::after(std::time::Duration::from_secs(30));
        for read_mode in [ReadMode::Message, ReadMode::Byte] {
            let text = format!("pipetalk-unit-{}-disconnected", std::process::id());
            let name = text.to_name().unwrap();
            let listener = LocalListener::bind(&*text).unwrap();
            let options = ConnectOptions::new().read_mode(read_mode);
            let (handle, direction) =
                open(&options, &name, &pipe_path(&name).unwrap(), soon()).unwrap();
            crate::Stream::abort(&crate::Listener::accept(&listener, soon()).unwrap());
            let error = make_ready(&options, &name, &handle, direction).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error:?}");
        }
    }

    /// Names that lead out of the pipes are refused before; this is for those that nobody has thought of.
    #[test]
    fn what_is_opened_has_to_be_a_pipe() {
        let file = std::env::temp_dir().join(format!("pipetalk-unit-{}", std::process::id()));
        std::fs::write(&file, b"not a pipe").unwrap();
        let opened = open_once(&ConnectOptions::new(), &wide(file.to_str().unwrap()));
        assert_eq!(std::fs::read(&file).unwrap(), b"not a pipe");
        std::fs::remove_file(&file).unwrap();
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error:?}");
        assert!(error.to_string().contains("not a pipe"), "{error}");
    }

    #[test]
    fn c06_a_client_asks_for_no_more_rights_than_it_needs() {
        assert_eq!(CLIENT_RIGHTS[0].1, 0x12019B);
        const FILE_CREATE_PIPE_INSTANCE: u32 = 4;
        assert!(
            CLIENT_RIGHTS
                .iter()
                .all(|(_, rights)| rights & FILE_CREATE_PIPE_INSTANCE == 0)
        );
    }
}
