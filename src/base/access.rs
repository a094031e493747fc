//! [`Access`] and [`Trust`]: who may connect, and whom a client talks to.

use std::io;

use crate::UserId;

/// Who may connect to a listener.
///
/// The default is the safe one: nobody but the user that the listener runs as. Clients from other machines are
/// always rejected.
///
/// | | Windows | Unix |
/// |---|---|---|
/// | `SameUser` | a DACL that names the process token's user only, and its package in an AppContainer | mode 0600 from before the socket has a name, and each client's uid checked |
/// | `Group` | and the group, with the rights to read and write | mode 0660 and the group as owner |
/// | `Everyone` | and Everyone, with the rights to read and write | mode 0666 |
/// | `Sddl` | the DACL as given | `Unsupported` |
/// | `Mode` | `Unsupported` | the mode as given |
///
/// The rights to read and write (0x12019B) are what a client of this crate asks for. A client of another kind that
/// asks for GENERIC_WRITE asks for the right to create instances with it, and is refused unless it runs as the
/// listener's own user; let it ask for less, or give an SDDL string that allows more.
///
/// To a process in an AppContainer Windows gives only what both its user and its package have been given. So a listener
/// in one lets in its own package, and the user's programs outside of containers; `Everyone` does not mean the other
/// packages. Let those in by an SDDL string with their SIDs, or `AC` for all of them.
///
/// On Unix the mode and the group are set before the socket listens, so that nobody connects earlier; what the process's
/// umask takes away is given back, on Linux by way of `/proc`. Nothing else that somebody puts at the path meanwhile is
/// changed.
///
/// On Unix a portable name lies in a directory that only its user can enter, so that anything wider than
/// `SameUser` needs a name elsewhere ([`Name::system`](crate::Name::system), or a path); binding says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// The user that the listener runs as.
    #[default]
    SameUser,
    /// Also the members of a group: a name, or its number (Unix) or SID (Windows).
    Group(String),
    /// Every user of this machine.
    Everyone,
    /// Windows: a security descriptor in [the string format][sddl]. It has to let the listener's own user
    /// create further instances, and in an AppContainer its own package too.
    ///
    /// [sddl]: https://learn.microsoft.com/en-us/windows/win32/secauthz/security-descriptor-string-format
    Sddl(String),
    /// Unix: the mode of the socket file; connecting takes the right to write. The clients' uids are not
    /// checked beyond it.
    Mode(u32),
}

/// Whom a client talks to.
///
/// Anyone may create a name that is not in use, and wait for clients to tell it their secrets (squatting). So a
/// client looks who serves the name before it says anything: the owner of the pipe on Windows, the uid of the
/// process that listens on Unix. A server that is not trusted gives `PermissionDenied`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Trust {
    /// The user that the client runs as, and the system: uid 0, or on Windows the local system account and the
    /// administrators.
    #[default]
    SameUserOrSystem,
    /// One user only.
    User(UserId),
    /// Whoever serves the name.
    Anyone,
}

impl Trust {
    /// Decides on the server's user; `None` is a server of which the system tells no user.
    pub(crate) fn check(&self, server: Option<&UserId>) -> io::Result<()> {
        let trusted = match (self, server) {
            (Trust::Anyone, _) => true,
            (_, None) => false,
            (Trust::User(trusted), Some(server)) => trusted == server,
            (Trust::SameUserOrSystem, Some(server)) => {
                is_system(server) || UserId::current()? == *server
            }
        };
        if trusted {
            return Ok(());
        }
        let server = server.map_or_else(
            || "an unknown user".to_owned(),
            |user| format!("user {user}"),
        );
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the server runs as {server}, whom this client does not trust"),
        ))
    }
}

fn is_system(user: &UserId) -> bool {
    match user {
        UserId::Uid(uid) => *uid == 0,
        // The local system account and the administrators.
        UserId::Sid(sid) => sid == "S-1-5-18" || sid == "S-1-5-32-544",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i03_trust_is_the_same_user_or_the_system() {
        let system = [
            UserId::Uid(0),
            UserId::Sid("S-1-5-18".into()),
            UserId::Sid("S-1-5-32-544".into()),
        ];
        let stranger = [
            UserId::Uid(54_321),
            UserId::Sid("S-1-5-21-1-2-3-1001".into()),
        ];
        let me = UserId::current().unwrap();
        let default = Trust::default();
        for user in system.iter().chain([&me]) {
            default.check(Some(user)).unwrap();
        }
        for user in stranger.iter().map(Some).chain([None]) {
            let error = default.check(user).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            Trust::Anyone.check(user).unwrap();
            assert!(Trust::User(me.clone()).check(user).is_err());
        }
        Trust::User(stranger[0].clone())
            .check(Some(&stranger[0]))
            .unwrap();
    }
}
