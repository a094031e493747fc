//! In which direction messages go, and the rights that a client asks for.

use windows_sys::Win32::Storage::FileSystem::{
    FILE_READ_ATTRIBUTES, FILE_READ_DATA, FILE_READ_EA, FILE_WRITE_ATTRIBUTES, FILE_WRITE_DATA,
    FILE_WRITE_EA, READ_CONTROL, SYNCHRONIZE,
};

/// In which direction messages may go, seen from this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Both,
    Inbound,
    Outbound,
}

/// What a client asks for. GENERIC_WRITE would include FILE_CREATE_PIPE_INSTANCE, the right to pose as the
/// server, which a careful server gives nobody:
/// <https://learn.microsoft.com/en-us/windows/win32/ipc/named-pipe-security-and-access-rights>
const CLIENT_READ: u32 =
    SYNCHRONIZE | READ_CONTROL | FILE_READ_ATTRIBUTES | FILE_READ_DATA | FILE_READ_EA;
const CLIENT_WRITE: u32 =
    SYNCHRONIZE | READ_CONTROL | FILE_READ_ATTRIBUTES | FILE_WRITE_DATA | FILE_WRITE_EA;
/// Setting the read mode takes the right to write attributes.
pub(super) const CLIENT_RIGHTS: [(Direction, u32); 3] = [
    (
        Direction::Both,
        CLIENT_READ | CLIENT_WRITE | FILE_WRITE_ATTRIBUTES,
    ),
    (Direction::Inbound, CLIENT_READ | FILE_WRITE_ATTRIBUTES),
    (Direction::Outbound, CLIENT_WRITE | FILE_WRITE_ATTRIBUTES),
];
