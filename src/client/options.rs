//! [`ClientOptions`] and [`CallOptions`]: how a client is made, and what one call asks for.

use std::time::Duration;

use super::Channel;
use crate::codec::Codec;
use crate::proto::Party;
use crate::proto::call_error::CallError;
use crate::service::hidden::Definition;
use crate::transport::options::DEFAULT_TIMEOUT;
use crate::{ConnectOptions, Deadline, Stream, ToName};

/// How a client is made.
///
/// ```no_run
/// use std::time::Duration;
/// use pipetalk::{Client, ClientOptions};
///
/// let client: Client<String, usize> = ClientOptions::new()
///     .timeout(Duration::from_secs(5))
///     .reconnect(true)
///     .connect("acme.length")?;
/// assert_eq!(client.call(&"hello".to_owned())?, 5);
/// # Ok::<(), pipetalk::CallError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub(crate) connect: ConnectOptions,
    pub(crate) timeout: Option<Duration>,
    pub(crate) reconnect: bool,
    pub(super) party: Party,
    /// The names of the service's methods.
    pub(crate) methods: &'static [&'static str],
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            connect: ConnectOptions::default(),
            timeout: Some(DEFAULT_TIMEOUT),
            reconnect: false,
            party: Party::default(),
            methods: &[],
        }
    }
}

impl ClientOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> ClientOptions {
        ClientOptions::default()
    }

    /// How long a call may take, connecting included, where nothing else is said; 30 seconds unless set, and
    /// for ever with `None`.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Whether to connect again when the connection has broken, or the server has ended it. A call whose request was not sent is then tried
    /// again until its deadline, and so is one that is [idempotent](CallOptions::idempotent).
    #[must_use]
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How to connect: whom to trust, whether to wait for a server, and the largest message to take.
    #[must_use]
    pub fn connect_options(mut self, options: ConnectOptions) -> Self {
        self.connect = options;
        self
    }

    /// The service to ask for, and the version of this program, for people to read. Both are empty unless set; a
    /// server with a service of another name is incompatible. [`service!`](crate::service) sets the name.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.party.service = name.into();
        self.party.version = version.into();
        self
    }

    /// The version of this program, for people to read.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.party.version = version.into();
        self
    }

    /// A number that differs where the requests and replies do: a server with another one is incompatible. 0,
    /// which fits all, unless set. [`service!`](crate::service) computes it from the methods.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: u64) -> Self {
        self.party.fingerprint = fingerprint;
        self
    }

    /// Those of a client of a service; a version that was given stays.
    pub(crate) fn of_service(mut self, definition: &Definition) -> Self {
        self.party.service = definition.name.to_owned();
        self.party.fingerprint = definition.fingerprint;
        self.methods = definition.methods;
        if self.party.version.is_empty() {
            self.party.version = definition.version.to_owned();
        }
        self
    }

    /// Who the client is to its server.
    pub(crate) fn party<C: Codec>(&self) -> Party {
        Party {
            codec: C::NAME.to_owned(),
            max_message: u32::try_from(self.connect.max_message).unwrap_or(u32::MAX),
            ..self.party.clone()
        }
    }

    /// As [`connect`](Self::connect), for a client that [`service!`](crate::service) has made, or of another codec.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn channel<C: Codec>(self, name: impl ToName) -> Result<Channel<C>, CallError> {
        let name = name
            .to_name()
            .map_err(|error| CallError::unreachable(&error))?;
        let channel = Channel::new(self, Some(name));
        let deadline = channel.deadline();
        channel.link(deadline)?;
        Ok(channel)
    }

    /// As [`over`](Self::over), for a client that [`service!`](crate::service) has made, or of another codec.
    ///
    /// # Errors
    ///
    /// As [`over`](Self::over).
    pub fn channel_over<C: Codec>(self, stream: impl Stream) -> Result<Channel<C>, CallError> {
        let channel = Channel::new(self, None);
        channel.greet(Box::new(stream), channel.deadline())?;
        Ok(channel)
    }
}

/// What one call asks for beyond the [options of its client](ClientOptions).
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions {
    pub(crate) deadline: Option<Deadline>,
    pub(crate) idempotent: bool,
    pub(crate) window: Option<u32>,
    pub(crate) item_timeout: Option<Duration>,
}

/// How much of a stream comes ahead of its consumer, in credits.
pub(crate) const DEFAULT_WINDOW: u32 = 64;

impl CallOptions {
    /// The client's own.
    #[must_use]
    pub fn new() -> CallOptions {
        CallOptions::default()
    }

    /// Until when the call may take; of a stream, when it ends as a whole, if it has not ended before. For ever unless
    /// set, of a stream: the [time-out of the client](ClientOptions::timeout) counts for opening it.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.deadline = Some(deadline.into());
        self
    }

    /// Whether it does no harm to carry the request out twice. Then a client that
    /// [reconnects](ClientOptions::reconnect) tries again also where it cannot know whether it was carried out.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Of a stream: how much the server may send ahead of its consumer, in credits; 64 unless set, and at least one.
    ///
    /// One credit pays for each started KiB of an item, so that 64 are about 64 KiB or 64 small items. At most the
    /// window and one item are ever on their way or waiting, at both ends together: what the system holds, what this
    /// program holds until it is taken, and what the server waits to send.
    #[must_use]
    pub fn window(mut self, credits: u32) -> Self {
        self.window = Some(credits);
        self
    }

    /// Of a stream: how long each item may take from when it is waited for; as long as the stream lasts unless set,
    /// because many a stream has nothing to say for hours. A server that dies is noticed at once all the same.
    #[must_use]
    pub fn item_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.item_timeout = timeout.into();
        self
    }
}
