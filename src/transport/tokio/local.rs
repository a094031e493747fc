//! [`LocalListener`] and [`LocalStream`] for async programs.

use std::future::Future;
use std::io::{self, IoSlice};

use super::own::Own;
use super::platform::{Platform, PlatformListener as _, PlatformStream as _};
use super::runtime;
use super::{Listener, Stream};
use crate::sys::system::Os;
use crate::transport::local::no_reply;
use crate::transport::options::DEFAULT_TIMEOUT;
use crate::transport::own::OwnListener;
use crate::{ConnectOptions, Deadline, ListenOptions, Name, Part, Peer, ToName, Waiting};

/// A listener on a Windows named pipe or a Unix domain socket, for async programs: the mirror of
/// [`pipetalk::LocalListener`](crate::LocalListener).
///
/// It is made within a tokio runtime that has its drivers on ([`enable_all`]), and accepts on any task of any runtime
/// as long as that one lives. Dropping it stops it: the name is free again, and streams that were accepted go on.
///
/// A process that forks has no runtime in its child. The child may drop its copy, which does the parent no harm.
///
/// [`enable_all`]: https://docs.rs/tokio/1/tokio/runtime/struct.Builder.html#method.enable_all
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
    /// As [`ListenOptions::bind_tokio`].
    pub fn bind(name: impl ToName) -> io::Result<LocalListener> {
        ListenOptions::new().bind_tokio(name)
    }

    /// The name that it listens at.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Who may connect, read back from the system: see
    /// [`pipetalk::LocalListener::access`](crate::LocalListener::access).
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

    async fn accept(&self, deadline: Deadline) -> io::Result<LocalStream> {
        Ok(LocalStream {
            sys: self.sys.accept(deadline).await?,
        })
    }

    fn stop(&self) {
        self.sys.stop();
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        Some(&self.sys)
    }
}

/// A connection over a Windows named pipe or a Unix domain socket, for async programs: the mirror of
/// [`pipetalk::LocalStream`](crate::LocalStream).
///
/// Dropping it closes it, promptly and anywhere, inside a runtime or not: it never waits for the peer, and what was
/// sent is still delivered.
///
/// ```
/// use std::time::Duration;
/// use pipetalk::Deadline;
/// use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
/// # let system = if cfg!(target_os = "linux") { "@" } else { "" };
/// # let name = format!("{system}pipetalk-doc4-{}", std::process::id());
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
///
/// let listener = LocalListener::bind(&name)?;
/// let server = tokio::spawn(async move {
///     let stream = listener.accept(Deadline::NEVER).await?;
///     let mut message = Vec::new();
///     while stream.recv_message(&mut message, Deadline::NEVER).await?.is_some() {
///         stream.send(&message, Deadline::NEVER).await?;
///     }
///     Ok::<_, std::io::Error>(())
/// });
///
/// let soon = Deadline::after(Duration::from_secs(5));
/// let stream = LocalStream::connect(&name).await?;
/// stream.send(b"hello", soon).await?;
/// let mut reply = Vec::new();
/// assert_eq!(stream.recv_message(&mut reply, soon).await?, Some(5));
/// assert_eq!(reply, b"hello");
/// drop(stream);
/// server.await.unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalStream {
    sys: <Os as Platform>::Stream,
}

impl LocalStream {
    /// Connects to the listener at `name`, with the [defaults](ConnectOptions): to a server of the same user or of the
    /// system, waiting up to 30 seconds for a busy one.
    ///
    /// # Errors
    ///
    /// As [`ConnectOptions::connect_tokio`].
    ///
    /// # Cancel safety
    ///
    /// One that is dropped leaves no connection behind.
    pub async fn connect(name: impl ToName) -> io::Result<LocalStream> {
        let deadline = Deadline::after(DEFAULT_TIMEOUT);
        ConnectOptions::new().connect_tokio(name, deadline).await
    }

    /// Windows, server side: runs `act` on this thread as the client's user: see
    /// [`pipetalk::LocalStream::impersonate`](crate::LocalStream::impersonate). It blocks for as long as `act` does,
    /// and `act` cannot wait for a future, because the thread would then serve other tasks as that user.
    ///
    /// # Errors
    ///
    /// As [`pipetalk::LocalStream::impersonate`](crate::LocalStream::impersonate).
    pub fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        self.sys.impersonate(act)
    }
}

impl Stream for LocalStream {
    #[inline]
    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.sys.send(message, deadline).await
    }

    #[inline]
    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.sys.recv(buf, deadline).await
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

    // Not one future around another, for these two: every typed call goes through them.
    fn recv_message(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<Option<usize>>> + Send {
        self.sys.recv_message(message, deadline)
    }

    #[inline]
    async fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        self.sys.send_vectored(pieces, deadline).await
    }

    fn send_all(
        &self,
        messages: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> impl Future<Output = io::Result<()>> + Send {
        self.sys.send_all(messages, deadline)
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        self.sys.peek()
    }

    async fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        self.sys.transact(request, reply, deadline).await
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
    /// Creates the endpoint and begins to listen, as [`bind`](Self::bind) does, for async programs (feature `tokio`).
    ///
    /// It has to be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), and `Other`, in words, where there is no runtime, or one without what it takes.
    pub fn bind_tokio(&self, name: impl ToName) -> io::Result<LocalListener> {
        self.check()?;
        runtime::check()?;
        let name = name.to_name()?;
        let sys = <Os as Platform>::bind(self, &name)?;
        Ok(LocalListener { name, sys })
    }
}

impl ConnectOptions {
    /// Connects to the listener at `name`, as [`connect`](Self::connect) does, for async programs (feature `tokio`).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and `Other`, in words, where there is no runtime, or one without what it takes.
    ///
    /// # Cancel safety
    ///
    /// One that is dropped leaves no connection behind.
    pub async fn connect_tokio(
        &self,
        name: impl ToName,
        deadline: Deadline,
    ) -> io::Result<LocalStream> {
        self.check()?;
        runtime::check()?;
        let name = name.to_name()?;
        let sys = <Os as Platform>::connect(self, &name, deadline).await?;
        Ok(LocalStream { sys })
    }

    /// Connects, sends a request, receives the reply into `reply`, and closes, as [`call`](Self::call) does, for async
    /// programs (feature `tokio`). Returns the length of the reply.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call) and [`connect_tokio`](Self::connect_tokio).
    ///
    /// # Cancel safety
    ///
    /// One that is dropped leaves no connection behind. The request may have been sent.
    pub async fn call_tokio(
        &self,
        name: impl ToName,
        request: &[u8],
        reply: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<usize> {
        let stream = self.connect_tokio(name, deadline).await?;
        stream.send(request, deadline).await?;
        let received = stream.recv_message(reply, deadline).await?;
        received.ok_or_else(no_reply)
    }
}
