//! A system on which a process cannot be pinned.

use std::io;

/// The cores that this process can be kept on: none.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    Ok(Vec::new())
}

pub(crate) fn to_core(_: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
