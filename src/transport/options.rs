//! [`ListenOptions`] and [`ConnectOptions`]: how an endpoint is opened.

use std::io;
use std::time::Duration;

use crate::transport::{DEFAULT_MAX_MESSAGE, MAX_MESSAGE};
use crate::{Access, Spin, Trust};

/// How [`LocalStream::connect`](crate::LocalStream::connect) waits when nothing else is said: 30 seconds.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a read takes from a Windows pipe.
///
/// A message is written as a message either way; this is about the reader of this end only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ReadMode {
    /// A message, or as much of it as fits.
    #[default]
    Message,
    /// Whatever bytes are there: the boundaries of messages are lost, each part is a last one, and the end in
    /// the middle of a message passes unseen. Windows only, for peers that do not keep to messages; a client
    /// needs it to read from a pipe of byte type.
    Byte,
}

/// How a [`LocalListener`](crate::LocalListener) is opened.
///
/// ```
/// use pipetalk::{Access, ListenOptions, Name};
/// # let system = if cfg!(target_os = "linux") { "@" } else { "" };
/// # let name = format!("{system}pipetalk-doc-{}", std::process::id());
///
/// let listener = ListenOptions::new()
///     .access(Access::SameUser)
///     .instances(8)
///     .max_message(1 << 20)
///     .bind(&name)?;
/// assert_eq!(listener.name(), &Name::new(&name)?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListenOptions {
    pub(crate) access: Access,
    pub(crate) instances: Option<usize>,
    pub(crate) backlog: Option<u32>,
    pub(crate) buffer_size: Option<usize>,
    pub(crate) max_message: usize,
    pub(crate) read_mode: ReadMode,
    pub(crate) write_through: bool,
    pub(crate) spin: Spin,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            access: Access::SameUser,
            instances: None,
            backlog: None,
            buffer_size: None,
            max_message: DEFAULT_MAX_MESSAGE,
            read_mode: ReadMode::Message,
            write_through: false,
            spin: Spin::OFF,
        }
    }
}

impl ListenOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> ListenOptions {
        ListenOptions::default()
    }

    /// Who may connect; [`Access::SameUser`] unless set.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// How many connections may be open at once; unlimited unless set. Where the limit is reached, the next
    /// client finds the endpoint busy until one of them closes. On Unix systems other than Linux the next
    /// client waits in the backlog instead.
    #[must_use]
    pub fn instances(mut self, limit: usize) -> Self {
        self.instances = Some(limit);
        self
    }

    /// Unix: how many clients may wait to be accepted before the next finds the endpoint busy; the system's
    /// maximum unless set. On Windows one instance waits for a client at any time, and clients wait for it.
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = Some(backlog);
        self
    }

    /// How many bytes the system holds for each direction of each connection before a sender has to wait:
    /// 64 KiB on Windows, the system's own default on Unix, unless set. A message may be larger.
    #[must_use]
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.buffer_size = Some(bytes);
        self
    }

    /// The largest message that the accepted streams take, [`DEFAULT_MAX_MESSAGE`] unless set;
    /// [`Stream::recv`](crate::Stream::recv), which has a buffer of its caller's, takes any.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Windows: what a read takes; [`ReadMode::Message`] unless set, and `Unsupported` otherwise on Unix.
    #[must_use]
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Windows: writes to a client go all the way before they are done (`FILE_FLAG_WRITE_THROUGH`). It makes a
    /// difference only between machines, so that no listener of this crate needs it; nothing on Unix.
    #[must_use]
    pub fn write_through(mut self, write_through: bool) -> Self {
        self.write_through = write_through;
        self
    }

    /// Whether receives on the accepted streams look for a message for a while before they sleep; [`Spin::OFF`] unless
    /// set.
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// What no platform could do.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.instances == Some(0) {
            return Err(crate::base::error::invalid(
                "a limit of no instances leaves nobody to connect to",
            ));
        }
        check_max_message(self.max_message)
    }
}

/// How a [`LocalStream`](crate::LocalStream) is opened.
///
/// ```no_run
/// use std::time::Duration;
/// use pipetalk::{ConnectOptions, Deadline};
///
/// // Waits for a server that is still starting, and for a busy one.
/// let stream = ConnectOptions::new()
///     .wait_for_server(true)
///     .connect("acme.kv", Deadline::after(Duration::from_secs(5)))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(crate) trust: Trust,
    pub(crate) wait_for_server: bool,
    pub(crate) max_message: usize,
    pub(crate) buffer_size: Option<usize>,
    pub(crate) read_mode: ReadMode,
    pub(crate) allow_impersonation: bool,
    pub(crate) spin: Spin,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            trust: Trust::default(),
            wait_for_server: false,
            max_message: DEFAULT_MAX_MESSAGE,
            buffer_size: None,
            read_mode: ReadMode::Message,
            allow_impersonation: false,
            spin: Spin::OFF,
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> ConnectOptions {
        ConnectOptions::default()
    }

    /// Whom to talk to; [`Trust::SameUserOrSystem`] unless set.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Whether to wait, until the deadline, for a server that does not listen yet; if not, that is `NotFound`
    /// at once.
    #[must_use]
    pub fn wait_for_server(mut self, wait: bool) -> Self {
        self.wait_for_server = wait;
        self
    }

    /// The largest message that the stream takes, [`DEFAULT_MAX_MESSAGE`] unless set;
    /// [`Stream::recv`](crate::Stream::recv), which has a buffer of its caller's, takes any.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Unix: how many bytes the system holds for this end before its sender has to wait; the system's own
    /// default unless set. On Windows the listener decides.
    #[must_use]
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.buffer_size = Some(bytes);
        self
    }

    /// Windows: what a read takes; [`ReadMode::Message`] unless set, and `Unsupported` otherwise on Unix.
    #[must_use]
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Windows: lets the server act as this user ([`LocalStream::impersonate`](crate::LocalStream::impersonate)). Unless set, it can only see
    /// who this user is. Nothing on Unix.
    #[must_use]
    pub fn allow_impersonation(mut self, allow: bool) -> Self {
        self.allow_impersonation = allow;
        self
    }

    /// Whether receives look for a message for a while before they sleep; [`Spin::OFF`] unless set.
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// What no platform could do.
    pub(crate) fn check(&self) -> io::Result<()> {
        check_max_message(self.max_message)
    }
}

fn check_max_message(limit: usize) -> io::Result<()> {
    if limit > MAX_MESSAGE {
        return Err(crate::base::error::invalid(format!(
            "no message is larger than {MAX_MESSAGE} bytes, so no limit can be"
        )));
    }
    Ok(())
}
