//! What is asked of a pipe's handle, whatever it is a part of.

use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::System::Pipes::{DisconnectNamedPipe, PeekNamedPipe};

/// How many bytes are in a pipe, and how many of them are of the message at the head; or the system's code.
pub(super) fn look(handle: &OwnedHandle) -> Result<(usize, usize), u32> {
    let (mut bytes, mut left) = (0, 0);
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
}

/// Drops what is unread of a server's end, both ways, and lets go of the client's end.
pub(super) fn disconnect(handle: &OwnedHandle) {
    // SAFETY: the handle is open, and of the server's end. It fails only if the client has gone, and then there is
    // nothing to drop.
    unsafe { DisconnectNamedPipe(handle.as_raw_handle()) };
}
