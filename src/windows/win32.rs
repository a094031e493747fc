//! The values that system calls take and give: success, text, memory of theirs, security identifiers.

use std::ffi::c_void;
use std::io;
use std::ptr;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::PSID;

/// Text with its closing NUL.
pub(super) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Memory from the local heap.
#[derive(Debug)]
pub(super) struct Local(pub(super) *mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the pointer is from a system call whose documentation gives it to LocalFree, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// The string form of a SID, which is valid or null.
pub(super) fn sid_text(sid: PSID) -> io::Result<String> {
    if sid.is_null() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut text = ptr::null_mut();
    // SAFETY: the callers' SID is valid, and `text` lives through the call.
    check(unsafe { ConvertSidToStringSidW(sid, &raw mut text) })?;
    let text = Local(text.cast());
    let mut units = Vec::new();
    let mut next = text.0.cast::<u16>().cast_const();
    loop {
        // SAFETY: the text ends in a NUL, and this is not behind it.
        let unit = unsafe { next.read() };
        if unit == 0 {
            return Ok(String::from_utf16_lossy(&units));
        }
        units.push(unit);
        next = next.wrapping_add(1);
    }
}

pub(super) fn check(done: windows_sys::core::BOOL) -> io::Result<()> {
    if done == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
