//! [`Peer`]: who is at the other end. And who this process is.

use std::io;

use super::system::System;
use super::user::UserId;
use crate::sys::system::Os;

/// Who is at the other end of a stream, as far as the operating system says.
///
/// On a Unix socket this is who connected, or who began to listen, at that time (`SO_PEERCRED`; on macOS
/// `LOCAL_PEERCRED`, which has no process id). On a named pipe the process ids are those of the ends; the
/// client's user comes from its impersonation token and the server's is the owner of the pipe.
///
/// A Unix process in another namespace of process ids, as in another container, has its user but no process id here. A
/// user that has no number in this namespace of users is nobody's: neither this one's nor the system's, and not told.
///
/// A process id may be reused once its process has ended: make no security decision by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Peer {
    /// The process id, where the system tells.
    pub pid: Option<u32>,
    /// The user, where the system tells.
    pub user: Option<UserId>,
}

impl UserId {
    /// The user that this process runs as (the effective one on Unix, the process token's on Windows).
    ///
    /// # Errors
    ///
    /// What the system says when it cannot tell.
    pub fn current() -> io::Result<UserId> {
        Os::current_user()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_user_is_known() {
        let user = UserId::current().unwrap();
        assert_eq!(user.to_string().parse::<UserId>().unwrap(), user);
    }
}
