//! [`Platform`]: the async transport that a platform supplies.

use std::future::Future;
use std::io;

use super::own::Own;
use super::{Listener, Stream};
use crate::transport::options::{ConnectOptions, ListenOptions};
use crate::transport::own::OwnListener;
use crate::{Deadline, Name};

/// What a platform supplies, in `src/NAME/tokio.rs`, beside its [blocking transport](crate::transport::platform).
pub(crate) trait Platform {
    type Listener: PlatformListener<Stream = Self::Stream>;
    type Stream: PlatformStream;

    fn bind(options: &ListenOptions, name: &Name) -> io::Result<Self::Listener>;

    fn connect(
        options: &ConnectOptions,
        name: &Name,
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// What accepts a platform's async streams.
pub(crate) trait PlatformListener: Listener + OwnListener {
    /// Who may connect, read back from the system.
    fn access(&self) -> io::Result<String>;
}

/// A platform's async stream.
pub(crate) trait PlatformStream: Stream + Own {
    /// Runs `act` on this thread as the client's user.
    fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R>;
}
