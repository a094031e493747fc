//! [`Client`]: calls, from any number of threads, over one connection.

pub(crate) mod common;
mod feed;
mod items;
mod link;
#[cfg(all(test, pipetalk_loom))]
mod model;
mod options;
mod reading;
#[cfg(not(pipetalk_loom))]
mod sync;
#[cfg(pipetalk_loom)]
#[path = "client/model/sync.rs"]
mod sync;
mod turn;

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::backoff::Backoff;
use crate::codec::outgoing::Outgoing;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::Party;
use crate::proto::call_error::{CallError, Version};
pub use crate::proto::client::ServerInfo;
use crate::proto::client::{Answer, Asked, drain};
use crate::proto::control;
use crate::trace::Span;
use crate::transport::carrier::Carrier;
use crate::{Deadline, Name};
use common::{Kept, encoding, may_try_again};
use feed::Feed;
pub use items::Items;
use link::Link;
pub(crate) use options::DEFAULT_WINDOW;
pub use options::{CallOptions, ClientOptions};

/// A client of a server that takes one type of request and gives one type of reply: usually two enums.
///
/// A client can be shared by threads, and cloned at no cost: all share one connection, and their calls overtake
/// one another. For named methods see [`service!`](crate::service).
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
    pub fn call(&self, request: &Request) -> Result<Reply, CallError>
    where
        Request: Serialize,
        Reply: DeserializeOwned,
    {
        self.call_with(request, CallOptions::new())
    }

    /// As [`call`](Self::call), with options for this one call.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    pub fn call_with(&self, request: &Request, options: CallOptions) -> Result<Reply, CallError>
    where
        Request: Serialize,
        Reply: DeserializeOwned,
    {
        self.channel.call(0, request, options)
    }

    /// Sends a request that is answered by a stream, of which the replies are the items: to a server whose closure has
    /// an [`ItemSink`](crate::ItemSink) behind the [`Call`](crate::Call).
    ///
    /// ```
    /// use pipetalk::{Call, Client, ClientOptions, Deadline, ItemSink, ServerOptions, memory};
    ///
    /// let (listener, connector) = memory::listener();
    /// let server = ServerOptions::new().on(listener);
    /// # let handle = server.handle();
    /// let serving = std::thread::spawn(move || {
    ///     server.serve(|word: String, _: &Call, letters: ItemSink<char>| {
    ///         // An error says that nobody wants more.
    ///         let _ = word.chars().try_for_each(|letter| letters.send(&letter));
    ///     })
    /// });
    ///
    /// let client: Client<String, char> = ClientOptions::new().over(connector.connect(Deadline::NEVER)?)?;
    /// let letters: Result<Vec<char>, _> = client.open(&"word".to_owned())?.collect();
    /// assert_eq!(letters?, ['w', 'o', 'r', 'd']);
    /// # handle.stop();
    /// # serving.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Channel::open`].
    pub fn open(&self, request: &Request) -> Result<Items<Reply, C>, CallError>
    where
        Request: Serialize,
        Reply: DeserializeOwned,
    {
        self.open_with(request, CallOptions::new())
    }

    /// As [`open`](Self::open), with options for this one stream.
    ///
    /// # Errors
    ///
    /// As [`Channel::open`].
    pub fn open_with(
        &self,
        request: &Request,
        options: CallOptions,
    ) -> Result<Items<Reply, C>, CallError>
    where
        Request: Serialize,
        Reply: DeserializeOwned,
    {
        self.channel.open(0, request, options)
    }

    /// Sends what needs no reply, and does not wait for it to be read.
    ///
    /// # Errors
    ///
    /// [`CallError`]; that it was sent does not say that it was carried out.
    pub fn notify(&self, request: &Request) -> Result<(), CallError>
    where
        Request: Serialize,
    {
        self.channel.notify(0, request, CallOptions::new())
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

/// What a client of any kind calls through: methods by number.
///
/// Clones share the connection.
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
    /// Held by whoever connects.
    connecting: Mutex<()>,
}

impl<C: Codec> Channel<C> {
    fn new(options: ClientOptions, name: Option<Name>) -> Channel<C> {
        let ours = options.party::<C>();
        let inner = Inner {
            name,
            options,
            ours: Arc::new(ours),
            link: Mutex::new(Kept::Never),
            only: OnceLock::new(),
            connecting: Mutex::new(()),
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
    pub fn call<Request, Reply>(
        &self,
        method: u32,
        request: &Request,
        options: CallOptions,
    ) -> Result<Reply, CallError>
    where
        Request: Serialize + ?Sized,
        Reply: DeserializeOwned,
    {
        let mut encode = encoding::<C, _>(request);
        self.call_raw(method, &mut encode, options, Answer::decode::<C, Reply>)
    }

    /// Opens a stream: a method that is answered by any number of items.
    ///
    /// It returns when the request has been sent; that the server has no such method, for example, is what the first
    /// item says. A stream that has been opened is never opened again by itself, whatever
    /// [`ClientOptions::reconnect`] says: after what has come, [`Items`] ends with the error.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail. The request was not sent then.
    pub fn open<Request, Item>(
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
        let feed = self.traced(method, |span| {
            self.retrying(deadline, false, |link, _| {
                span.peer(|| link.peer_pid());
                let asked = Asked::Items { method, window };
                Feed::open(link, asked, &mut encode, deadline, ends)
            })
        })?;
        Ok(Items::new(feed, ends, options.item_timeout))
    }

    /// Sends what needs no reply to a method by its number. One of more than 64 KiB waits until the server has taken the
    /// connection and said how much it takes.
    ///
    /// # Errors
    ///
    /// [`CallError`]; that it was sent does not say that it was carried out.
    pub fn notify<Request>(
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
        self.traced(method, |span| {
            self.retrying(deadline, options.idempotent, |link, _| {
                span.peer(|| link.peer_pid());
                link.notify(method, &mut encode, deadline)
            })
        })
    }

    /// Asks the server who it is, whatever its service and version.
    ///
    /// # Errors
    ///
    /// [`CallError`] says how a call can fail.
    pub fn info(&self) -> Result<ServerInfo, CallError> {
        let nothing = &mut |_: &mut Outgoing| Ok(());
        self.call_raw(
            control::INFO,
            nothing,
            CallOptions::new().idempotent(true),
            Answer::server_info,
        )
    }

    /// Asks the server to take no more requests, to finish those it has within `timeout`, and to end; whatever
    /// its service and version. It answers before it does so.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if the server does not let this client do that.
    pub fn drain(&self, timeout: Duration) -> Result<(), CallError> {
        let encode = &mut |out: &mut Outgoing| {
            drain(out, timeout);
            Ok(())
        };
        self.call_raw(control::DRAIN, encode, CallOptions::new(), |_| Ok(()))
    }

    /// Asks the server to end at once, whatever its service and version. It answers before it does so.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn stop(&self) -> Result<(), CallError> {
        self.call_raw(control::STOP, &mut |_| Ok(()), CallOptions::new(), |_| {
            Ok(())
        })
    }

    /// Who the server is, if it has said so yet: with the first reply at the latest.
    #[must_use]
    pub fn server(&self) -> Option<Version> {
        let server = match &*self.inner.link.lock() {
            Kept::Never => None,
            Kept::Current(link) => link.server(),
            Kept::Past(_, server) => server.clone(),
        };
        server.as_ref().map(Version::from)
    }

    /// Ends the connection: calls that wait fail with [`CallError::Disconnected`].
    pub fn close(&self) {
        // Closing is the transport's, and never done under the lock.
        let link = self.inner.link.lock().any();
        if let Some(link) = link {
            link.close();
        }
    }

    fn call_raw<R>(
        &self,
        method: u32,
        encode: &mut dyn FnMut(&mut Outgoing) -> Result<(), CallError>,
        options: CallOptions,
        decode: impl Fn(&Answer) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let timeout = self.inner.options.timeout;
        let (deadline, left) = match options.deadline {
            Some(deadline) => (deadline, None),
            None => (timeout.map_or(Deadline::NEVER, Deadline::about), timeout),
        };
        self.traced(method, |span| {
            self.retrying(deadline, options.idempotent, |link, at_once| {
                span.peer(|| link.peer_pid());
                let left = left.filter(|_| at_once);
                let answer = link.call(method, encode, deadline, left)?;
                let decoded = decode(&answer);
                link.recycle(answer);
                decoded
            })
        })
    }

    /// Makes a call within its span.
    fn traced<R>(
        &self,
        method: u32,
        call: impl FnOnce(&Span) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let Inner { ours, options, .. } = &*self.inner;
        let span = Span::of_call(&ours.service, options.methods, method);
        let result = span.run(|| call(&span));
        span.end_call(result.as_ref().map(|_| ()));
        result
    }

    /// Tries on one connection after another, as far as that is asked for and safe. An attempt is told whether nothing
    /// has taken any time before it.
    fn retrying<R>(
        &self,
        deadline: Deadline,
        idempotent: bool,
        mut attempt: impl FnMut(&Arc<Link>, bool) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let mut backoff = Backoff::new();
        let (mut sent, mut tried) = (false, false);
        loop {
            let attempted = match self.inner.only.get() {
                Some(link) => attempt(link, !mem::replace(&mut tried, true)),
                None => self.link(deadline).and_then(|link| attempt(&link, false)),
            };
            let error = match attempted {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            sent |= error.was_sent();
            let again = may_try_again(&error, idempotent, self.inner.was_connected());
            let pause = match again && self.can_reconnect() {
                true => backoff.next(deadline).ok(),
                false => None,
            };
            match pause {
                Some(pause) => thread::sleep(pause),
                // An earlier attempt may have been sent, although the last one was not.
                None if sent => return Err(error.although_sent()),
                None => return Err(error),
            }
        }
    }

    fn can_reconnect(&self) -> bool {
        self.inner.options.reconnect && self.inner.name.is_some()
    }

    fn deadline(&self) -> Deadline {
        self.inner
            .options
            .timeout
            .map_or(Deadline::NEVER, Deadline::after)
    }

    /// The connection, made anew if there is none that can be used, and that is asked for.
    fn link(&self, deadline: Deadline) -> Result<Arc<Link>, CallError> {
        if let Some(link) = self.usable() {
            return Ok(link);
        }
        let Ok(_connecting) = deadline.lock(&self.inner.connecting) else {
            return Err(CallError::TimedOut { sent: false });
        };
        if let Some(link) = self.usable() {
            return Ok(link);
        }
        let old = self.inner.link.lock().current().cloned();
        let name = match (&self.inner.name, old) {
            (Some(name), None) => name,
            (Some(name), Some(old)) if self.inner.options.reconnect => {
                *self.inner.link.lock() = Kept::Past(Arc::downgrade(&old), old.server());
                old.let_go();
                name
            }
            // What is wrong with it, it says itself.
            (_, Some(old)) => return Ok(old),
            (None, None) => return Err(CallError::Disconnected { sent: false }),
        };
        let stream = self
            .inner
            .options
            .connect
            .connect(name, deadline)
            .map_err(|error| CallError::unreachable(&error))?;
        self.greet(Box::new(stream), deadline)
    }

    fn greet(&self, stream: Box<dyn Carrier>, deadline: Deadline) -> Result<Arc<Link>, CallError> {
        let inner = &*self.inner;
        let link = Arc::new(Link::open(stream, Arc::clone(&inner.ours), deadline)?);
        let before = mem::replace(&mut *inner.link.lock(), Kept::Current(Arc::clone(&link)));
        drop(before);
        if !self.can_reconnect() {
            inner.only.get_or_init(|| Arc::clone(&link));
        }
        Ok(link)
    }

    fn usable(&self) -> Option<Arc<Link>> {
        self.inner
            .link
            .lock()
            .current()
            .filter(|link| link.is_usable())
            .cloned()
    }
}

impl Inner {
    fn was_connected(&self) -> bool {
        self.link.lock().was_connected()
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
