//! [`Platform`]: the transport that a platform supplies.

use std::io;

use super::options::{ConnectOptions, ListenOptions};
use super::own::{Own, OwnListener};
use super::{Listener, Stream};
use crate::base::system::System;
use crate::{Deadline, Name};

/// What a platform supplies, in `src/NAME.rs`, beside what it [says](System) of this process.
pub(crate) trait Platform: System {
    type Listener: PlatformListener<Stream = Self::Stream>;
    type Stream: PlatformStream;

    fn bind(options: &ListenOptions, name: &Name) -> io::Result<Self::Listener>;

    fn connect(
        options: &ConnectOptions,
        name: &Name,
        deadline: Deadline,
    ) -> io::Result<Self::Stream>;
}

/// What accepts a platform's streams.
pub(crate) trait PlatformListener: Listener + OwnListener {
    /// Who may connect, read back from the system.
    fn access(&self) -> io::Result<String>;
}

/// A platform's stream.
pub(crate) trait PlatformStream: Stream + Own {
    /// Runs `act` on this thread as the client's user.
    fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R>;
}
