//! What is asked of a Unix system about this process and the time.

use std::io;
use std::time::Instant;

use super::os::system;
use crate::UserId;
use crate::base::system::System;

pub(crate) struct Os;

impl System for Os {
    const SYSTEM_DIRECTORY: Option<&'static str> = Some(system::DIRECTORY);

    fn current_user() -> io::Result<UserId> {
        Ok(UserId::Uid(rustix::process::geteuid().as_raw()))
    }

    fn epoch() -> (Instant, u64) {
        system::epoch()
    }

    #[inline]
    fn now() -> u64 {
        system::now()
    }

    #[inline]
    fn recently() -> u64 {
        system::recently()
    }
}
