//! A system on which nobody counts system calls.

use std::io;

use super::Syscalls;

pub(crate) fn counter() -> Option<&'static str> {
    None
}

pub(crate) fn count(_: [u32; 2], _: impl FnOnce() -> io::Result<u64>) -> io::Result<Syscalls> {
    Err(io::ErrorKind::Unsupported.into())
}
