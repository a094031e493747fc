//! Windows: a process is pinned as a whole.

use std::io;

use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessAffinityMask, SetProcessAffinityMask,
};

/// The cores that this process may run on.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    let (mut allowed, mut system) = (0_usize, 0_usize);
    // SAFETY: the call has no preconditions; what it returns needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the handle is good for this process, and both pointers are to variables of this function.
    let done = unsafe { GetProcessAffinityMask(process, &raw mut allowed, &raw mut system) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..usize::BITS as usize)
        .filter(|core| allowed >> core & 1 == 1)
        .collect())
}

/// Keeps this process, and those that it starts from now on, on one core.
pub(crate) fn to_core(core: usize) -> io::Result<()> {
    // SAFETY: the call has no preconditions; what it returns needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the handle is good for this process.
    let done = unsafe { SetProcessAffinityMask(process, 1 << core) };
    if done == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
