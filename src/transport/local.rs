//! [`LocalListener`] and [`LocalStream`]: the platform's own transport.

use std::io::{self, IoSlice};

use crate::transport::options::DEFAULT_TIMEOUT;
use crate::{
    ConnectOptions, Deadline, ListenOptions, Listener, Name, Part, Peer, Stream, ToName, Waiting,
    sys,
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
    sys: sys::Listener,
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
        let sys = sys::bind(options, &name)?;
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

    fn see_off(&self) -> bool {
        self.sys.see_off()
    }

    fn close_door(&self) {
        self.sys.close_door();
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
/// # let dir = tempfile::tempdir()?;
/// # let unix = format!("{}/docs.sock", dir.path().display());
/// # let name = if cfg!(windows) { format!("pipetalk-doc2-{}", std::process::id()) } else { unix };
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
    sys: sys::Stream,
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
            sys: sys::connect(options, &name, deadline)?,
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

    fn part(&self, courtesy: usize) {
        self.sys.part(courtesy);
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
    fn recv_in_place(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        self.sys.recv_in_place(message, deadline)
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

    #[inline]
    fn send_in_place(
        &self,
        message: &mut Vec<u8>,
        room: usize,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        self.sys.send_in_place(message, room, deadline, receive)
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

    fn ask_before(&self, bytes: usize) {
        self.sys.ask_before(bytes);
    }

    fn finish_later(&self) {
        self.sys.finish_later();
    }

    fn peer_listens(&self) -> bool {
        self.sys.peer_listens()
    }

    fn peer(&self) -> io::Result<Peer> {
        self.sys.peer()
    }
}
