//! Users, owners and security descriptors.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use interprocess::os::windows::ToWtf16;
use interprocess::os::windows::security_descriptor::{
    AsSecurityDescriptorExt, BorrowedSecurityDescriptor, SecurityDescriptor,
};
use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, ERROR_SUCCESS, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, GetSecurityInfo, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetTokenInformation, LookupAccountNameW, OWNER_SECURITY_INFORMATION,
    PSECURITY_DESCRIPTOR, PSID, RevertToSelf, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

use super::{unsupported, wide};
use crate::Access;
use crate::name::invalid;

/// The SID of the user whose token this process runs under.
pub(super) fn current_user() -> io::Result<String> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: returns a pseudo handle, which needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: `process` is valid, and `token` lives through the call.
    check(unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the handle was just opened and nobody else has it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    user_of(&token)
}

/// The SID of the client at the other end of a server's handle, taken from its impersonation token: what a
/// process id leads to may be another process by then.
pub(super) fn client_user(pipe: BorrowedHandle<'_>) -> io::Result<String> {
    impersonate(Impersonation::begin(pipe)?, || {
        let mut token: HANDLE = ptr::null_mut();
        // SAFETY: returns a pseudo handle, which needs no closing.
        let thread = unsafe { GetCurrentThread() };
        // SAFETY: `thread` is valid, and `token` lives through the call. The token is opened with the rights of
        // the process, because the client's may not do to open it.
        check(unsafe { OpenThreadToken(thread, TOKEN_QUERY, 1, &raw mut token) })?;
        // SAFETY: the handle was just opened and nobody else has it.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
        user_of(&token)
    })
}

/// The SID of the owner of a pipe.
///
/// Every pipe of Windows has one. Wine records none for a pipe that was created without a security descriptor;
/// but all processes of a Wine server are the same user's, so that the owner is known all the same.
pub(super) fn owner(pipe: &OwnedHandle) -> io::Result<String> {
    let (descriptor, owner) = descriptor_of(pipe, OWNER_SECURITY_INFORMATION)?;
    if owner.is_null() && is_wine() {
        return current_user();
    }
    let text = sid_text(owner);
    drop(descriptor);
    text
}

/// Whether this is Wine, whose ntdll.dll says so.
fn is_wine() -> bool {
    let name = wide("ntdll.dll");
    // SAFETY: the name ends in a NUL and lives through the call. Every process has the module for life.
    let ntdll = unsafe { GetModuleHandleW(name.as_ptr()) };
    // SAFETY: the module is loaded, and the name ends in a NUL. The function is not called.
    !ntdll.is_null()
        && unsafe { GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()) }.is_some()
}

/// The owner and the DACL of a pipe, in the string form.
pub(super) fn sddl_of(pipe: &OwnedHandle) -> io::Result<String> {
    let selector = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    let (descriptor, _) = descriptor_of(pipe, selector)?;
    // SAFETY: the descriptor is valid, and outlives the borrow.
    let borrowed = unsafe { BorrowedSecurityDescriptor::from_ptr(descriptor.0) };
    borrowed.serialize(selector, |text| text.to_string_lossy())
}

/// The security descriptor that an access policy asks for.
pub(super) fn descriptor(access: &Access) -> io::Result<SecurityDescriptor> {
    let sddl = match access {
        Access::Sddl(sddl) => sddl.clone(),
        Access::Mode(_) => {
            return Err(unsupported(
                "a pipe has no mode: say who may connect by Access::Group, Everyone or Sddl"
                    .to_owned(),
            ));
        }
        Access::SameUser => own_sddl("")?,
        Access::Everyone => own_sddl(&client_entry("WD"))?,
        Access::Group(group) => own_sddl(&client_entry(&group_sid(group)?))?,
    };
    let text = sddl
        .as_str()
        .to_wtf_16()
        .map_err(|_| invalid("a security descriptor cannot hold a NUL"))?;
    SecurityDescriptor::deserialize(&text)
        .map_err(|error| invalid(format!("{sddl:?} is not a security descriptor: {error}")))
}

/// The owner and everything for the user himself: without an owner in so many words, an elevated process would
/// make the administrators the owner, and without a DACL, Windows would let everyone read.
fn own_sddl(more: &str) -> io::Result<String> {
    let user = current_user()?;
    Ok(format!("O:{user}D:P(A;;FA;;;{user}){more}"))
}

/// What a client needs: not the right to create an instance.
fn client_entry(sid: &str) -> String {
    format!("(A;;0x{:x};;;{sid})", super::CLIENT_RIGHTS[0].1)
}

/// The SID of a group that is given by its name, or as a SID.
fn group_sid(group: &str) -> io::Result<String> {
    if let Ok(crate::UserId::Sid(sid)) = group.parse() {
        return Ok(sid);
    }
    let name = wide(group);
    // A SID has at most 68 bytes, and a domain name at most 256 characters; u32s keep the SID aligned.
    let mut sid = [0_u32; 17];
    let mut sid_size = size_of_val(&sid) as u32;
    let mut domain = [0_u16; 257];
    let mut domain_size = domain.len() as u32;
    let mut kind = 0;
    // SAFETY: `name` ends in a NUL, the sizes are those of the buffers (bytes of the SID, characters of the
    // domain), and everything lives through the call.
    let found = unsafe {
        LookupAccountNameW(
            ptr::null(),
            name.as_ptr(),
            sid.as_mut_ptr().cast(),
            &raw mut sid_size,
            domain.as_mut_ptr(),
            &raw mut domain_size,
            &raw mut kind,
        )
    };
    check(found).map_err(|error| {
        invalid(format!(
            "there is no group {group:?} on this machine: {error}"
        ))
    })?;
    sid_text(sid.as_mut_ptr().cast())
}

/// A thread that acts as the client of a pipe. Dropping it goes back.
#[derive(Debug)]
pub(super) struct Impersonation(());

impl Impersonation {
    pub(super) fn begin(pipe: BorrowedHandle<'_>) -> io::Result<Impersonation> {
        // SAFETY: the handle is open. The guard goes back on this thread, as it stays within `impersonate`.
        check(unsafe { ImpersonateNamedPipeClient(pipe.as_raw_handle()) })?;
        Ok(Impersonation(()))
    }
}

impl Drop for Impersonation {
    fn drop(&mut self) {
        // SAFETY: ends what `begin` began on this thread.
        if unsafe { RevertToSelf() } == 0 {
            // "If RevertToSelf fails, your application continues to run in the context of the client, which is
            // not appropriate. You should shut down the process": so its documentation.
            std::process::abort();
        }
    }
}

/// Acts as somebody else and goes back, also out of a panic.
pub(super) fn impersonate<R>(guard: Impersonation, act: impl FnOnce() -> R) -> R {
    let result = act();
    drop(guard);
    result
}

/// Memory from the local heap.
#[derive(Debug)]
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the pointer is from a system call whose documentation gives it to LocalFree, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// Reads a security descriptor, which the returned owner (null unless asked for) points into.
fn descriptor_of(pipe: &OwnedHandle, what: u32) -> io::Result<(Local, PSID)> {
    let mut owner: PSID = ptr::null_mut();
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: the handle is open, and `owner` and `descriptor` live through the call.
    let code = unsafe {
        GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            what,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if code != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    Ok((Local(descriptor), owner))
}

/// The SID of the user of a token.
fn user_of(token: &OwnedHandle) -> io::Result<String> {
    // A TOKEN_USER with its SID behind it: 16 bytes and at most 68. u64s keep it aligned.
    let mut buffer = [0_u64; 16];
    let mut size = 0;
    // SAFETY: the buffer has the size that is said, is aligned for a TOKEN_USER, and lives through the call.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &raw mut size,
        )
    };
    check(done)?;
    if (size as usize) < size_of::<TOKEN_USER>() {
        return Err(io::Error::from_raw_os_error(
            ERROR_INSUFFICIENT_BUFFER as i32,
        ));
    }
    // SAFETY: the call has put a TOKEN_USER at the start of the buffer.
    let user = unsafe { buffer.as_ptr().cast::<TOKEN_USER>().read() };
    // The SID is in the buffer, which is still there.
    sid_text(user.User.Sid)
}

/// The string form of a SID, which is valid or null.
fn sid_text(sid: PSID) -> io::Result<String> {
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

fn check(done: windows_sys::core::BOOL) -> io::Result<()> {
    if done == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
