//! [`Client`]: calls, from any number of tasks, over one connection.

mod dial;
mod guarded;
mod items;
mod link;

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::runtime;
use super::transport::Stream;
use crate::base::backoff::Backoff;
use crate::client::common::{Kept, encoding, may_try_again};
use crate::client::{CallOptions, ClientOptions, DEFAULT_WINDOW, ServerInfo};
use crate::codec::outgoing::Outgoing;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::Party;
use crate::proto::call_error::{CallError, Version};
use crate::proto::client::{Answer, drain};
use crate::proto::control;
use crate::trace::Span;
use crate::{Deadline, Name, ToName};
use dial::Dials;
pub use items::Items;
use link::Link;

/// For async programs, with feature `tokio`: within a tokio runtime that has its timers on.
impl ClientOptions {
    /// As [`connect_tokio`](Self::connect_tokio), for a client that [`service!`](crate::service) has made, or of
    /// another codec.
    ///
    /// # Errors
    ///
    /// As [`connect_tokio`](Self::connect_tokio).
    ///
    /// # Cancel safety
    ///
    /// As [`connect_tokio`](Self::connect_tokio).
    pub async fn channel_tokio<C: Codec>(self, name: impl ToName) -> Result<Channel<C>, CallError> {
        let name = name
            .to_name()
            .map_err(|error| CallError::unreachable(&error))?;
        let channel = Channel::new(self, Some(name));
        let deadline = channel.deadline();
        channel.inner.connect(deadline).await?;
        Ok(channel)
    }

    /// As [`over_tokio`](Self::over_tokio), for a client that [`service!`](crate::service) has made, or of another
    /// codec.
    ///
    /// # Errors
    ///
    /// As [`over_tokio`](Self::over_tokio).
    pub fn channel_over_tokio<C: Codec>(
        self,
        stream: impl Stream,
    ) -> Result<Channel<C>, CallError> {
        let channel = Channel::new(self, None);
        channel.inner.open(stream)?;
        Ok(channel)
    }
}

/// A client of a server that takes one type of request and gives one type of reply, for async programs: the mirror of
/// [`pipetalk::Client`](crate::Client).
///
/// A client can be shared by tasks, and cloned at no cost: all share one connection, and their calls overtake one
/// another. What they have ready goes out in one write, and what has arrived is taken in one read. For named methods
/// see [`service!`](crate::service).
///
/// The connection is served by a task of the runtime in which it was made. Calls can be made on any, and in none; when
/// that runtime ends, so does the connection.
///
/// ```no_run
/// use pipetalk::tokio::Client;
///
/// # async fn example() -> Result<(), pipetalk::CallError> {
/// let client: Client<String, usize> = Client::connect("acme.length").await?;
/// assert_eq!(client.call(&"hello".to_owned()).await?, 5);
/// # Ok(())
/// # }
/// ```
pub struct Client<Request, Reply, C = DefaultCodec> {
    channel: Channel<C>,
    types: PhantomData<fn(Request) -> Reply>,
}

impl<Request, Reply, C: Codec> Client<Request, Reply, C> {
    /// A client over a channel, which has the codec.
    #[must_use]
    pub fn from_channel(channel: Channel<C>) -> Self {
        Client {
            channel,
            types: PhantomData,
        }
    }

    /// The channel beneath.
    #[must_use]
    pub fn channel(&self) -> &Channel<C> {
        &self.channel
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped is given up: a request that has not been sent never is, and of one that has been the
    /// server is told that nobody waits for it. The connection and all other calls go on.
    pub async fn call(&self, request: &Request) -> Result<Reply, CallError>
    where
        Request: Serialize,
        Reply: DeserializeOwned,
    {
        self.call_with(request, CallOptions::new()).await
    }

    /// As [`call`](Self::call), with options for this one call.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_with(
        &self,
        request: &Request,
        options: CallOptions,
    ) -> Result<Reply, CallError>
    where
        Request: Serialize,
        Reply: DeserializeOwned,
    {
        self.channel.call(0, request, options).await
    }

    /// Sends what needs no reply, and does not wait for it to be read.
    ///
    /// # Errors
    ///
    /// [`CallError`]; that it was sent does not say that it was carried out.
    ///
    /// # Cancel safety
    ///
    /// One that is dropped either is sent or is not.
    pub async fn notify(&self, request: &Request) -> Result<(), CallError>
    where
        Request: Serialize,
    {
        self.channel.notify(0, request, CallOptions::new()).await
    }
}

impl<Request, Reply, C> Clone for Client<Request, Reply, C> {
    fn clone(&self) -> Self {
        Client {
            channel: self.channel.clone(),
            types: PhantomData,
        }
    }
}

impl<Request, Reply, C> fmt::Debug for Client<Request, Reply, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.channel).finish()
    }
}

/// What a client of any kind calls through: methods by number. The mirror of [`pipetalk::Channel`](crate::Channel).
///
/// Clones share the connection, which ends with the last of them, once what they have queued has been sent.
///
/// # Cancel safety
///
/// Every call here can be dropped, as [`Client::call`] can.
pub struct Channel<C = DefaultCodec> {
    inner: Arc<Inner>,
    codec: PhantomData<fn() -> C>,
}

struct Inner {
    name: Option<Name>,
    options: ClientOptions,
    ours: Arc<Party>,
    link: Mutex<Kept<Link>>,
    /// The same connection again, where there will never be another: then nobody needs the lock.
    only: OnceLock<Arc<Link>>,
    dials: Dials,
}

impl<C: Codec> Channel<C> {
    fn new(options: ClientOptions, name: Option<Name>) -> Channel<C> {
        let inner = Inner {
            name,
            ours: Arc::new(options.party::<C>()),
            options,
            link: Mutex::new(Kept::Never),
            only: OnceLock::new(),
            dials: Dials::default(),
        };
        Channel {
            inner: Arc::new(inner),
            codec: PhantomData,
        }
    }

    /// Calls a method by its number.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    pub async fn call<Request, Reply>(
        &self,
        method: u32,
        request: &Request,
        options: CallOptions,
    ) -> Result<Reply, CallError>
    where
        Request: Serialize + ?Sized,
        Reply: DeserializeOwned,
    {
        let encode = encoding::<C, _>(request);
        self.call_raw(method, encode, options, Answer::decode::<C, Reply>)
            .await
    }

    /// Opens a stream: a method that is answered by any number of items.
    ///
    /// It is ready when the request has been sent; that the server has no such method, for example, is what the first
    /// item says. A stream that has been opened is never opened again by itself, whatever
    /// [`ClientOptions::reconnect`] says: after what has come, [`Items`] ends with the error.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    pub async fn open<Request, Item>(
        &self,
        method: u32,
        request: &Request,
        options: CallOptions,
    ) -> Result<Items<Item, C>, CallError>
    where
        Request: Serialize + ?Sized,
        Item: DeserializeOwned,
    {
        let mut encode = encoding::<C, _>(request);
        let ends = options.deadline.unwrap_or(Deadline::NEVER);
        let deadline = ends.min(self.deadline());
        let window = options.window.unwrap_or(DEFAULT_WINDOW);
        let span = self.span(method);
        let opened = within(
            &span,
            pin!(Some(async {
                let mut attempts = Attempts::new(&self.inner, deadline, false);
                loop {
                    let attempted = match attempts.link().await {
                        Ok(link) => {
                            span.peer(|| link.peer_pid());
                            let link = link.as_arc();
                            link.open_stream(method, &mut encode, window, deadline, ends)
                                .await
                        }
                        Err(error) => Err(error),
                    };
                    match attempted {
                        Ok(feed) => return Ok(feed),
                        Err(error) => attempts.after(error).await?,
                    }
                }
            })),
        )
        .await;
        span.end_call(opened.as_ref().map(|_| ()));
        Ok(Items::new(opened?, options.item_timeout))
    }

    /// Sends what needs no reply to a method by its number. One of more than 64 KiB waits until the server has taken the
    /// connection and said how much it takes.
    ///
    /// # Errors
    ///
    /// [`CallError`]; that it was sent does not say that it was carried out.
    pub async fn notify<Request>(
        &self,
        method: u32,
        request: &Request,
        options: CallOptions,
    ) -> Result<(), CallError>
    where
        Request: Serialize + ?Sized,
    {
        let mut encode = encoding::<C, _>(request);
        let deadline = options.deadline.unwrap_or_else(|| self.deadline());
        let span = self.span(method);
        let notified = within(
            &span,
            pin!(Some(async {
                let mut attempts = Attempts::new(&self.inner, deadline, options.idempotent);
                loop {
                    let attempted = match attempts.link().await {
                        Ok(link) => {
                            span.peer(|| link.peer_pid());
                            link.notify(method, &mut encode, deadline).await
                        }
                        Err(error) => Err(error),
                    };
                    match attempted {
                        Ok(()) => return Ok(()),
                        Err(error) => attempts.after(error).await?,
                    }
                }
            })),
        )
        .await;
        span.end_call(notified.as_ref().map(|_| ()));
        notified
    }

    /// Asks the server who it is, whatever its service and version.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    pub async fn info(&self) -> Result<ServerInfo, CallError> {
        let options = CallOptions::new().idempotent(true);
        self.call_raw(control::INFO, |_| Ok(()), options, Answer::server_info)
            .await
    }

    /// Asks the server to take no more requests, to finish those it has within `timeout`, and to end; whatever
    /// its service and version. It answers before it does so.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if the server does not let this client do that.
    pub async fn drain(&self, timeout: Duration) -> Result<(), CallError> {
        let encode = |out: &mut Outgoing| {
            drain(out, timeout);
            Ok(())
        };
        self.call_raw(control::DRAIN, encode, CallOptions::new(), |_| Ok(()))
            .await
    }

    /// Asks the server to end at once, whatever its service and version. It answers before it does so.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub async fn stop(&self) -> Result<(), CallError> {
        self.call_raw(control::STOP, |_| Ok(()), CallOptions::new(), |_| Ok(()))
            .await
    }

    /// Who the server is, if it has said so yet: with the first reply at the latest.
    #[must_use]
    pub fn server(&self) -> Option<Version> {
        let kept = self.inner.link.lock();
        let (link, before) = match &*kept {
            Kept::Never => (None, None),
            Kept::Current(link) => (Some(Arc::clone(link)), None),
            Kept::Past(_, server) => (None, server.clone()),
        };
        drop(kept);
        // It reads what has come, which wakes those whom that concerns.
        let server = link.and_then(|link| link.read_server()).or(before);
        server.as_ref().map(Version::from)
    }

    /// Ends the connection: calls that wait fail with [`CallError::Disconnected`].
    pub fn close(&self) {
        // That wakes those who wait, and closing is the transport's: neither is done under the lock.
        let link = self.inner.link.lock().any();
        if let Some(link) = link {
            link.close();
        }
    }

    async fn call_raw<R>(
        &self,
        method: u32,
        mut encode: impl FnMut(&mut Outgoing) -> Result<(), CallError>,
        options: CallOptions,
        decode: impl Fn(&Answer) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let timeout = self.inner.options.timeout;
        let (deadline, left) = match options.deadline {
            Some(deadline) => (deadline, None),
            None => (timeout.map_or(Deadline::NEVER, Deadline::after), timeout),
        };
        let span = self.span(method);
        let called = within(
            &span,
            pin!(Some(async {
                let mut attempts = Attempts::new(&self.inner, deadline, options.idempotent);
                loop {
                    let left = left.filter(|_| attempts.is_at_once());
                    let attempted = match attempts.link().await {
                        Ok(link) => {
                            span.peer(|| link.peer_pid());
                            let answer = link.call(method, &mut encode, deadline, left).await;
                            answer.and_then(|answer| {
                                let decoded = decode(&answer);
                                link.recycle(answer);
                                decoded
                            })
                        }
                        Err(error) => Err(error),
                    };
                    match attempted {
                        Ok(reply) => return Ok(reply),
                        Err(error) => attempts.after(error).await?,
                    }
                }
            })),
        )
        .await;
        span.end_call(called.as_ref().map(|_| ()));
        called
    }

    /// The span of a call.
    fn span(&self, method: u32) -> Span {
        let Inner { ours, options, .. } = &*self.inner;
        Span::of_call(&ours.service, options.methods, method)
    }

    fn deadline(&self) -> Deadline {
        self.inner
            .options
            .timeout
            .map_or(Deadline::NEVER, Deadline::after)
    }
}

impl Inner {
    fn was_connected(&self) -> bool {
        self.link.lock().was_connected()
    }

    fn can_reconnect(&self) -> bool {
        self.options.reconnect && self.name.is_some()
    }

    /// The connection, made anew if there is none that can be used, and that is asked for.
    async fn link(self: &Arc<Self>, deadline: Deadline) -> Result<Arc<Link>, CallError> {
        if let Some(link) = self.current()? {
            return Ok(link);
        }
        if deadline.has_passed() {
            // It waits for nobody.
            return self.connect(Deadline::NOW).await;
        }
        let dialled = self.dials.dial(|| {
            let inner = Arc::clone(self);
            async move {
                match inner.usable() {
                    // Another attempt has just come to that.
                    Some(link) => Ok(link),
                    // For as long as anybody waits.
                    None => inner.connect(Deadline::NEVER).await,
                }
            }
        });
        match runtime::by(deadline, dialled).await {
            Ok(dialled) => dialled,
            Err(late) => Err(CallError::unreachable(&late)),
        }
    }

    /// The connection that there is, if it can be used or there will be no other. One that cannot is let go of.
    fn current(&self) -> Result<Option<Arc<Link>>, CallError> {
        let mut kept = self.link.lock();
        match kept.current().cloned() {
            Some(link) if link.is_usable() => Ok(Some(link)),
            Some(old) if self.can_reconnect() => {
                *kept = Kept::Past(Arc::downgrade(&old), old.server());
                drop(kept);
                // That ends it, if nobody calls through it any more.
                drop(old);
                Ok(None)
            }
            // What is wrong with it, it says itself.
            Some(old) => Ok(Some(old)),
            None if self.name.is_some() => Ok(None),
            None => Err(CallError::Disconnected { sent: false }),
        }
    }

    async fn connect(&self, deadline: Deadline) -> Result<Arc<Link>, CallError> {
        let Some(name) = &self.name else {
            return Err(CallError::Disconnected { sent: false });
        };
        let stream = self
            .options
            .connect
            .connect_tokio(name, deadline)
            .await
            .map_err(|error| CallError::unreachable(&error))?;
        self.open(stream)
    }

    fn open(&self, stream: impl Stream) -> Result<Arc<Link>, CallError> {
        let link = Arc::new(Link::open(stream, Arc::clone(&self.ours))?);
        let before = mem::replace(&mut *self.link.lock(), Kept::Current(Arc::clone(&link)));
        drop(before);
        if !self.can_reconnect() {
            self.only.get_or_init(|| Arc::clone(&link));
        }
        Ok(link)
    }

    fn usable(&self) -> Option<Arc<Link>> {
        self.link
            .lock()
            .current()
            .filter(|link| link.is_usable())
            .cloned()
    }
}

/// Does something within a span, whenever it is polled, and drops it there as well. It is pinned where it is, because
/// it is large.
async fn within<F: Future>(span: &Span, what: Pin<&mut Option<F>>) -> F::Output {
    let mut inside = Inside { span, what };
    poll_fn(|cx| inside.poll(cx)).await
}

struct Inside<'a, F> {
    span: &'a Span,
    what: Pin<&'a mut Option<F>>,
}

impl<F: Future> Inside<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.what.as_mut().as_pin_mut() {
            Some(what) => self.span.run(|| what.poll(cx)),
            // It is there until it is dropped.
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Inside<'_, F> {
    fn drop(&mut self) {
        let what = &mut self.what;
        self.span.run(|| what.set(None));
    }
}

/// One attempt after another, each over its connection, as far as that is asked for and safe.
struct Attempts<'a> {
    inner: &'a Arc<Inner>,
    deadline: Deadline,
    idempotent: bool,
    backoff: Backoff,
    /// An earlier attempt may have been carried out.
    sent: bool,
    tried: bool,
}

impl<'a> Attempts<'a> {
    fn new(inner: &'a Arc<Inner>, deadline: Deadline, idempotent: bool) -> Self {
        Attempts {
            inner,
            deadline,
            idempotent,
            backoff: Backoff::new(),
            sent: false,
            tried: false,
        }
    }

    /// Whether nothing has taken any time before the next attempt.
    fn is_at_once(&mut self) -> bool {
        !mem::replace(&mut self.tried, true) && self.inner.only.get().is_some()
    }

    async fn link(&self) -> Result<Cow<'a>, CallError> {
        match self.inner.only.get() {
            Some(link) => Ok(Cow::Borrowed(link)),
            None => self.inner.link(self.deadline).await.map(Cow::Owned),
        }
    }

    /// Waits for the next attempt after one that failed, or says why there is none.
    async fn after(&mut self, error: CallError) -> Result<(), CallError> {
        self.sent |= error.was_sent();
        let again = self.inner.can_reconnect()
            && may_try_again(&error, self.idempotent, self.inner.was_connected());
        let pause = match again {
            true => self.backoff.next(self.deadline).ok(),
            false => None,
        };
        match pause {
            Some(pause) => match runtime::by(Deadline::after(pause), pending::<()>()).await {
                Err(late) if late.kind() != io::ErrorKind::TimedOut => {
                    Err(CallError::unreachable(&late))
                }
                _ => Ok(()),
            },
            // An earlier attempt may have been sent, although the last one was not.
            None if self.sent => Err(error.although_sent()),
            None => Err(error),
        }
    }
}

/// A connection that is the only one, or perhaps not.
enum Cow<'a> {
    Borrowed(&'a Arc<Link>),
    Owned(Arc<Link>),
}

impl Cow<'_> {
    fn as_arc(&self) -> &Arc<Link> {
        match self {
            Cow::Borrowed(link) => link,
            Cow::Owned(link) => link,
        }
    }
}

impl std::ops::Deref for Cow<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        self.as_arc()
    }
}

impl<C> Clone for Channel<C> {
    fn clone(&self) -> Self {
        Channel {
            inner: Arc::clone(&self.inner),
            codec: PhantomData,
        }
    }
}

impl<C> fmt::Debug for Channel<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Channel");
        debug
            .field("name", &self.inner.name)
            .field("service", &self.inner.ours.service)
            .finish_non_exhaustive()
    }
}
