//! [`ListenOptions`] and [`ConnectOptions`]: how an endpoint is opened.

use std::io;
use std::time::Duration;

use crate::transport::{DEFAULT_MAX_MESSAGE, MAX_MESSAGE};
use crate::{Access, Deadline, LocalListener, LocalStream, Spin, Stream, ToName, Trust};

/// How [`LocalStream::connect`] waits when nothing else is said: 30 seconds.
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

/// How a [`LocalListener`] is opened.
///
/// ```
/// use pipetalk::{Access, ListenOptions, Name};
/// # let dir = tempfile::tempdir()?;
/// # let unix = format!("{}/docs.sock", dir.path().display());
/// # let name = if cfg!(windows) { format!("pipetalk-doc-{}", std::process::id()) } else { unix };
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
    /// [`Stream::recv`], which has a buffer of its caller's, takes any.
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

    /// Creates the endpoint and begins to listen.
    ///
    /// Clients of an earlier listener that have not yet closed their end do not keep the name from the next one. On
    /// Windows the system keeps a pipe for such clients, with its access: a listener with the same access takes it over,
    /// and for one with another it is in use until the last of them has gone.
    ///
    /// # Errors
    ///
    /// * `AddrInUse`: the name has a listener already, whoever holds it; on Unix the error says where, and which process
    ///   it is where the system tells. A socket that a dead process of this user left behind is taken over; one that
    ///   anybody has open is not, whether or not it listens. On Windows also a name that cannot be taken over from an
    ///   earlier listener's clients, for a reason that the error tells in words.
    /// * `AlreadyExists`: there is something at the path that is not a socket.
    /// * `InvalidInput`: a name or an option that cannot be, in words.
    /// * `Unsupported`: this platform has no such name or option.
    /// * `PermissionDenied` and others: what the system says about the place. On Unix also, in words: somebody has put
    ///   something else at the path meanwhile, or there is no directory for a portable name that only this user can enter.
    pub fn bind(&self, name: impl ToName) -> io::Result<LocalListener> {
        self.check()?;
        LocalListener::open(self, name.to_name()?)
    }

    /// What no platform could do.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.instances == Some(0) {
            return Err(crate::base::name::invalid(
                "a limit of no instances leaves nobody to connect to",
            ));
        }
        check_max_message(self.max_message)
    }
}

/// How a [`LocalStream`] is opened.
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
    /// [`Stream::recv`], which has a buffer of its caller's, takes any.
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

    /// Windows: lets the server act as this user ([`LocalStream::impersonate`]). Unless set, it can only see
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

    /// Connects to the listener at `name`.
    ///
    /// A busy endpoint is waited for until the deadline; with [`Deadline::NOW`] it is [`Error::Busy`] at once.
    ///
    /// [`Error::Busy`]: crate::Error::Busy
    ///
    /// # Errors
    ///
    /// * `NotFound`: nobody listens there. On Unix the error names all places where the name was looked for, see
    ///   [`Name`](crate::Name). Nothing is created by looking.
    /// * `TimedOut`: it was busy, or with [`wait_for_server`](Self::wait_for_server) nobody listened, until the
    ///   deadline.
    /// * `PermissionDenied`: the listener does not let this user in, or this client does not trust the server.
    /// * `InvalidInput`: a name that cannot be, or a Windows pipe of byte type that was not asked for.
    /// * `BrokenPipe`: on Windows, the listener let this client in and disconnected it at once.
    /// * `Unsupported`: this platform has no such name or option.
    pub fn connect(&self, name: impl ToName, deadline: Deadline) -> io::Result<LocalStream> {
        self.check()?;
        LocalStream::open(self, name.to_name()?, deadline)
    }

    /// What no platform could do.
    pub(crate) fn check(&self) -> io::Result<()> {
        check_max_message(self.max_message)
    }

    /// Connects, sends a request, receives the reply into `reply`, and closes, all by one deadline. Returns the
    /// length of the reply.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), [`Stream::send`] and [`Stream::recv_message`]; `UnexpectedEof` if the
    /// server closed without a reply.
    pub fn call(
        &self,
        name: impl ToName,
        request: &[u8],
        reply: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<usize> {
        let stream = self.connect(name, deadline)?;
        stream.send(request, deadline)?;
        stream.recv_message(reply, deadline)?.ok_or_else(no_reply)
    }
}

pub(crate) fn no_reply() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed without a reply",
    )
}

fn check_max_message(limit: usize) -> io::Result<()> {
    if limit > MAX_MESSAGE {
        return Err(crate::base::name::invalid(format!(
            "no message is larger than {MAX_MESSAGE} bytes, so no limit can be"
        )));
    }
    Ok(())
}

/// Retries of an open that cannot be waited for by an event: short at first, so that a server that is just
/// coming up is found at once, and never so often that waiting costs anything.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff(Duration::from_millis(1))
    }

    /// How long to wait before the next try, or `TimedOut` if the deadline has passed.
    pub(crate) fn next(&mut self, deadline: Deadline) -> io::Result<Duration> {
        let pause = match deadline.remaining() {
            Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
            Some(left) => self.0.min(left),
            None => self.0,
        };
        self.0 = (self.0 * 2).min(Duration::from_millis(50));
        Ok(pause)
    }
}
