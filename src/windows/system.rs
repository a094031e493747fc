//! What is asked of Windows about this process and the time.

use std::io;
use std::time::Instant;

use super::token;
use crate::UserId;
use crate::base::by_instant;
use crate::base::system::System;

pub(crate) struct Os;

impl System for Os {
    /// The pipe file system is the machine's.
    const SYSTEM_DIRECTORY: Option<&'static str> = None;

    fn current_user() -> io::Result<UserId> {
        token::current_user().map(UserId::Sid)
    }

    fn epoch() -> (Instant, u64) {
        by_instant::epoch()
    }

    #[inline]
    fn now() -> u64 {
        by_instant::now()
    }

    /// There is no tick to speak of: `GetTickCount64` has one of 16 ms.
    #[inline]
    fn recently() -> u64 {
        by_instant::now()
    }
}
