//! [`LocalListener`] and [`LocalStream`]: the platform's own transport.

use std::io::{self, IoSlice};

use super::own::{Own, OwnListener};
use super::platform::{Platform, PlatformListener as _, PlatformStream as _};
use crate::sys::system::Os;
use crate::transport::options::DEFAULT_TIMEOUT;
use crate::{
    ConnectOptions, Deadline, ListenOptions, Listener, Name, Part, Peer, Stream, ToName, Waiting,
};

/// A listener on a Windows named pipe or a Unix domain socket.
///
/// Dropping it stops it: the name is free again, and streams that were accepted go on.
///
/// On Unix a process that forks shares it with its child. Dropping one of the two, or ending either process, leaves it to
/// the other, and the name is free when both have let go. To tell such a child from a program that is just being started,
/// dropping it in the process that has bound it takes up to a second then. [`stop`](Listener::stop) does not wait, and
/// frees the name at once, whatever the child has, if it is called in the process that has bound it; in the child it ends
/// the child's use alone.
///
/// What each platform does with it, call by call, is in the sources `src/windows/listener.rs` and
/// `src/unix/listener.rs`; what they promise is the same.
#[derive(Debug)]
pub struct LocalListener {
    name: Name,
    sys: <Os as Platform>::Listener,
}

impl LocalListener {
    /// Listens at a name, with the [defaults](ListenOptions): for the same user only.
    ///
    /// # Errors
    ///
    /// As [`ListenOptions::bind`].
    pub fn bind(name: impl ToName) -> io::Result<LocalListener> {
        ListenOptions::new().bind(name)
    }

    pub(crate) fn open(options: &ListenOptions, name: Name) -> io::Result<LocalListener> {
        let sys = Os::bind(options, &name)?;
        Ok(LocalListener { name, sys })
    }

    /// The name that it listens at.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Who may connect, read back from the system: the security descriptor of the pipe in its string form, or
    /// the owner, group and mode of the socket file (`uid 1000 gid 1000 mode 0600`).
    ///
    /// The string form has two letters for many well-known SIDs, whichever way they were asked for: `WD` for Everyone,
    /// `SY` for the system, `LA` for the built-in administrator.
    ///
    /// # Errors
    ///
    /// What the system says; [`Error::Stopped`](crate::Error::Stopped) after [`stop`](Listener::stop).
    pub fn access(&self) -> io::Result<String> {
        self.sys.access()
    }
}

impl Listener for LocalListener {
    type Stream = LocalStream;

    fn accept(&self, deadline: Deadline) -> io::Result<LocalStream> {
        Ok(LocalStream {
            sys: self.sys.accept(deadline)?,
        })
    }

    fn stop(&self) {
        self.sys.stop();
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        Some(&self.sys)
    }
}

/// A connection over a Windows named pipe or a Unix domain socket.
///
/// Dropping it closes it, promptly: it never waits for the peer, and what was sent is still delivered.
///
/// ```
/// use std::thread;
/// use std::time::Duration;
/// use pipetalk::{Deadline, Listener, LocalListener, LocalStream, Stream};
/// # let system = if cfg!(target_os = "linux") { "@" } else { "" };
/// # let name = format!("{system}pipetalk-doc2-{}", std::process::id());
///
/// let listener = LocalListener::bind(&name)?;
/// let server = thread::spawn(move || {
///     let stream = listener.accept(Deadline::NEVER)?;
///     let mut message = Vec::new();
///     while stream.recv_message(&mut message, Deadline::NEVER)?.is_some() {
///         stream.send(&message, Deadline::NEVER)?;
///     }
///     Ok::<_, std::io::Error>(())
/// });
///
/// let soon = Deadline::after(Duration::from_secs(5));
/// let stream = LocalStream::connect(&name)?;
/// stream.send(b"hello", soon)?;
/// let mut reply = Vec::new();
/// assert_eq!(stream.recv_message(&mut reply, soon)?, Some(5));
/// assert_eq!(reply, b"hello");
/// drop(stream);
/// server.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalStream {
    sys: <Os as Platform>::Stream,
}

impl LocalStream {
    /// Connects to the listener at `name`, with the [defaults](ConnectOptions): to a server of the same user or
    /// of the system, waiting up to 30 seconds for a busy one.
    ///
    /// # Errors
    ///
    /// As [`ConnectOptions::connect`].
    pub fn connect(name: impl ToName) -> io::Result<LocalStream> {
        ConnectOptions::new().connect(name, Deadline::after(DEFAULT_TIMEOUT))
    }

    pub(crate) fn open(
        options: &ConnectOptions,
        name: Name,
        deadline: Deadline,
    ) -> io::Result<LocalStream> {
        Ok(LocalStream {
            sys: Os::connect(options, &name, deadline)?,
        })
    }

    /// Windows, server side: runs `act` on this thread as the client's user (`ImpersonateNamedPipeClient`), and then
    /// gives the thread the token back that it had before, or none, also when `act` panics. So it can be nested, and
    /// [`peer`](Stream::peer) can be called within. If going back fails, the process is aborted, because it must not
    /// go on as somebody else.
    ///
    /// # Errors
    ///
    /// With any of them `act` does not run. `PermissionDenied` if the client has allowed to be identified only
    /// ([`ConnectOptions::allow_impersonation`]), or if this process has no right to act as other users
    /// (`SeImpersonatePrivilege`). What the system says if it refuses: before anything was received from the client, for
    /// example. `Unsupported` on Unix and on the client's side.
    pub fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        self.sys.impersonate(act)
    }
}

impl Stream for LocalStream {
    #[inline]
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.sys.send(message, deadline)
    }

    #[inline]
    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.sys.recv(buf, deadline)
    }

    fn close(&self) {
        self.sys.close();
    }

    fn abort(&self) {
        self.sys.abort();
    }

    fn max_message(&self) -> usize {
        self.sys.max_message()
    }

    #[inline]
    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        self.sys.recv_message(message, deadline)
    }

    #[inline]
    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.sys.send_vectored(pieces, deadline)
    }

    #[inline]
    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.sys.send_while_receiving(pieces, deadline, receive)
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        self.sys.peek()
    }

    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        self.sys.transact(request, reply, deadline)
    }

    fn peer(&self) -> io::Result<Peer> {
        self.sys.peer()
    }

    #[inline]
    fn own(&self) -> Option<&dyn Own> {
        Some(&self.sys)
    }
}

impl ListenOptions {
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
}

impl ConnectOptions {
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
