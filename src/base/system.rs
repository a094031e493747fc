//! [`System`]: what a platform says of this process and of the time.

use std::io;
use std::time::Instant;

use super::user::UserId;

/// What a platform says when it is asked, without any connection. Each has an `Os` that implements it, in
/// `src/unix/system.rs` and `src/windows/system.rs`; these import nothing but what is here.
pub(crate) trait System {
    /// The directory of the machine's own names, where a name is a file; `None` where all names are the machine's.
    const SYSTEM_DIRECTORY: Option<&'static str>;

    /// The user whom this process runs as.
    fn current_user() -> io::Result<UserId>;

    /// One point in time, both as an [`Instant`] and as a number.
    fn epoch() -> (Instant, u64);

    /// The time in nanoseconds, by the clock that [`Instant`] reads.
    fn now() -> u64;

    /// The time as of less than a tick ago, by the cheapest clock.
    fn recently() -> u64;
}
