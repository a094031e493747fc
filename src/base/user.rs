//! [`UserId`]: a user of this machine.

use std::fmt;
use std::io;
use std::str::FromStr;

/// A user of this machine: a uid on Unix, a SID on Windows.
///
/// It is shown and parsed as the number (`1000`) or as the SID string (`S-1-5-18`).
///
/// ```
/// use pipetalk::UserId;
///
/// assert_eq!("1000".parse::<UserId>()?, UserId::Uid(1000));
/// assert_eq!("S-1-5-18".parse::<UserId>()?.to_string(), "S-1-5-18");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UserId {
    /// A Unix user id.
    Uid(u32),
    /// A Windows security identifier in its string form.
    Sid(String),
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserId::Uid(uid) => write!(f, "{uid}"),
            UserId::Sid(sid) => f.write_str(sid),
        }
    }
}

impl FromStr for UserId {
    type Err = io::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(uid) = text.parse() {
            return Ok(UserId::Uid(uid));
        }
        let rest = text.strip_prefix("S-1-").unwrap_or_default();
        let well_formed = rest.contains('-')
            && rest.split('-').all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'x')
            });
        if well_formed {
            return Ok(UserId::Sid(text.to_owned()));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text:?} is neither a user id (1000) nor a security identifier (S-1-5-18)"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_parsed_as_it_is_shown() {
        for user in [
            UserId::Uid(0),
            UserId::Uid(u32::MAX),
            UserId::Sid("S-1-5-21-1-2-3-1001".into()),
        ] {
            assert_eq!(user.to_string().parse::<UserId>().unwrap(), user);
        }
        for wrong in [
            "",
            "-1",
            "root",
            "S-1-",
            "S-1-5",
            "S-1-5-",
            "S-1-5-A)(B",
            "4294967296",
        ] {
            let error = wrong.parse::<UserId>().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }
}
