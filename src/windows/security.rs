//! Users, owners and security descriptors.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;

use interprocess::os::windows::ToWtf16;
use interprocess::os::windows::security_descriptor::{
    AsSecurityDescriptorExt, BorrowedSecurityDescriptor, SecurityDescriptor,
};
use windows_sys::Win32::Foundation::ERROR_SUCCESS;
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_KERNEL_OBJECT};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, LABEL_SECURITY_INFORMATION, LookupAccountNameW,
    OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

use super::rights::CLIENT_RIGHTS;
use super::token::{current_user, package};
use super::win32::{Local, check, sid_text, wide};
use crate::Access;
use crate::base::error::{invalid, unsupported};

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
pub(super) fn is_wine() -> bool {
    let name = wide("ntdll.dll");
    // SAFETY: the name ends in a NUL and lives through the call. Every process has the module for life.
    let ntdll = unsafe { GetModuleHandleW(name.as_ptr()) };
    // SAFETY: the module is loaded, and the name ends in a NUL. The function is not called.
    !ntdll.is_null()
        && unsafe { GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()) }.is_some()
}

/// The owner and the DACL of a pipe, in the string form.
pub(super) fn sddl_of(pipe: &OwnedHandle) -> io::Result<String> {
    sddl_with(pipe, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION)
}

/// Everything that decides on who may open a pipe: the integrity label as well, which keeps out programs that are
/// trusted less than the listener's, of the same user too.
pub(super) fn whole_sddl_of(pipe: &OwnedHandle) -> io::Result<String> {
    sddl_with(
        pipe,
        OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION,
    )
}

fn sddl_with(pipe: &OwnedHandle, selector: u32) -> io::Result<String> {
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
    parse(&sddl)
}

/// The security descriptor of what nobody but this user has a use for; with everything allowed that `rights` are, as the
/// string format writes them.
pub(super) fn private(rights: &str) -> io::Result<SecurityDescriptor> {
    parse(&sddl_for(&current_user()?, package()?.as_deref(), rights))
}

fn parse(sddl: &str) -> io::Result<SecurityDescriptor> {
    let text = sddl
        .to_wtf_16()
        .map_err(|_| invalid("a security descriptor cannot hold a NUL"))?;
    SecurityDescriptor::deserialize(&text)
        .map_err(|error| invalid(format!("{sddl:?} is not a security descriptor: {error}")))
}

/// The owner and everything for the listener's own user, and what others may.
fn own_sddl(more: &str) -> io::Result<String> {
    let own = sddl_for(&current_user()?, package()?.as_deref(), "FA");
    Ok(own + more)
}

/// A user as the owner, with rights, and nobody else. Without an owner in so many words, an elevated process would
/// make the administrators the owner, and without a DACL, Windows would let everyone read.
///
/// A process in an AppContainer has only such access as both its user and its package have been given, so that its
/// second instance would be denied to a packaged listener whose package is not named:
/// <https://learn.microsoft.com/en-us/windows/win32/secauthz/appcontainer-isolation>
fn sddl_for(user: &str, package: Option<&str>, rights: &str) -> String {
    let mut sddl = format!("O:{user}D:P(A;;{rights};;;{user})");
    if let Some(package) = package {
        sddl.push_str(&format!("(A;;{rights};;;{package})"));
    }
    sddl
}

/// What a client needs: not the right to create an instance.
fn client_entry(sid: &str) -> String {
    format!("(A;;0x{:x};;;{sid})", CLIENT_RIGHTS[0].1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i02_a_packaged_listener_may_create_its_second_instance() {
        let user = "S-1-5-21-1-2-3-1001";
        let package = "S-1-15-2-1-2-3-4-5-6-7";
        assert_eq!(
            sddl_for(user, None, "FA"),
            format!("O:{user}D:P(A;;FA;;;{user})")
        );
        let packaged = sddl_for(user, Some(package), "FA");
        assert_eq!(
            packaged,
            format!("O:{user}D:P(A;;FA;;;{user})(A;;FA;;;{package})")
        );
        parse(&packaged).unwrap();
        // No test runs in an AppContainer.
        assert_eq!(package_or_panic(), None);
    }

    fn package_or_panic() -> Option<String> {
        package().unwrap()
    }
}
