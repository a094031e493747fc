//! [`Server`]: requests, from any number of clients, to one handler, whose futures run on the runtime.

mod budget;
mod connection;
mod ending;
mod handler;
mod job;
mod state;
mod streaming;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic;
use std::sync::Arc;

use ::tokio::sync::Notify;
use parking_lot::Mutex;

use super::alarm::Alarm;
use super::local::LocalListener;
use super::transport::{Listener, Stream};
use super::{fair, runtime};
use crate::codec::Codec;
use crate::outgoing::Outgoing;
use crate::server::connection::Buffer;
use crate::server::control;
use crate::server::{self, Call, HandleError, LINGER, Opening, Payload, SEEING_OFF, TURNED_AWAY};
use crate::session::Party;
use crate::trace::Within;
use crate::wire::{self, Failure};
use crate::{Deadline, Error, ServerHandle, ServerOptions, ToName};
use budget::Budget;
use connection::Connection;
pub use handler::{Handler, Replied, Replies};
use streaming::Opened;

/// For async programs, with feature `tokio`: within a tokio runtime that has its drivers on.
impl ServerOptions {
    /// Listens at a name. [`pool`](Self::pool) means nothing here.
    ///
    /// # Errors
    ///
    /// As [`ListenOptions::bind_tokio`](crate::ListenOptions::bind_tokio).
    pub fn bind_tokio(self, name: impl ToName) -> io::Result<Server> {
        let listener = self.listening().bind_tokio(name)?;
        Ok(self.on_tokio(listener))
    }

    /// Serves what another listener accepts; its own options say how large a message may be.
    #[must_use]
    pub fn on_tokio<L: Listener>(self, listener: L) -> Server<L> {
        let listener = Arc::new(listener);
        let changed = Arc::new(Notify::new());
        let (stop, tell) = (Arc::clone(&listener), Arc::clone(&changed));
        let handle = ServerHandle::new(move || {
            stop.stop();
            tell.notify_waiters();
        });
        Server {
            listener,
            options: self,
            handle,
            changed,
        }
    }
}

/// A server that listens, and serves once it is told how: the mirror of [`pipetalk::Server`](crate::Server) for async
/// programs.
///
/// Each connection has a task, and each handler that has to wait another, within the limit of
/// [requests in flight](ServerOptions::in_flight). A handler that has nothing to wait for costs no task.
///
/// A future that computes for long without waiting holds up its connection, and as many others as share the thread:
/// for such handlers, and for those that block, there is [`serve_blocking`](Server::serve_blocking).
///
/// ```no_run
/// use pipetalk::tokio::Server;
///
/// # async fn example() -> std::io::Result<()> {
/// let server = Server::bind("acme.length")?;
/// server.serve(|text: String, _call| async move { text.len() }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server<L = LocalListener> {
    listener: Arc<L>,
    options: ServerOptions,
    handle: ServerHandle,
    /// A client has left, or the end has come nearer.
    changed: Arc<Notify>,
}

impl Server {
    /// Listens at a name, with the [defaults](ServerOptions).
    ///
    /// # Errors
    ///
    /// As [`ServerOptions::bind_tokio`].
    pub fn bind(name: impl ToName) -> io::Result<Server> {
        ServerOptions::new().bind_tokio(name)
    }
}

impl<L: Listener> Server<L> {
    /// What ends the server, from any task or thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// The listener beneath.
    #[must_use]
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// As [`serve`](Self::serve), with a codec of your choice.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_with<C: Codec, Marker: 'static>(
        self,
        handler: impl Handler<C, Marker>,
    ) -> io::Result<()> {
        let ours = self.options.party(
            C::NAME,
            handler.service(),
            handler.version(),
            handler.fingerprint(),
        );
        let methods = handler.methods();
        let handler = Arc::new(handler);
        let decoder = Arc::clone(&handler);
        let decode = move |method, payload: Payload| {
            let request = decoder.decode(method, &payload);
            (request, Some(payload.message))
        };
        let opener = Arc::clone(&handler);
        let open = move |method, payload, call, opening| {
            Box::pin(Arc::clone(&opener).open(method, payload, call, opening)) as Opened
        };
        let start = move |request, call, reply| Arc::clone(&handler).handle(request, call, reply);
        self.run(ours, methods, true, decode, start, open).await
    }

    /// As [`serve_blocking`](Self::serve_blocking), with a codec of your choice.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_blocking_with<C: Codec, Marker: 'static>(
        self,
        handler: impl server::Handler<C, Marker>,
    ) -> io::Result<()> {
        let ours = self.options.party(
            C::NAME,
            handler.service(),
            handler.version(),
            handler.fingerprint(),
        );
        let methods = handler.methods();
        let handler = Arc::new(handler);
        let decode = |method, payload: Payload| (Ok((method, payload)), None);
        let opener = Arc::clone(&handler);
        let open = move |method, payload: Payload, call: Call, opening| {
            let handler = Arc::clone(&opener);
            Box::pin(on_a_thread(move || {
                handler.open(method, &payload, &call, opening)
            })) as Opened
        };
        let start = move |(method, payload): (u32, Payload), call: Call, mut reply: Outgoing| {
            let handler = Arc::clone(&handler);
            on_a_thread(move || {
                let handled = handler.handle(method, &payload, &call, &mut reply);
                (reply, handled)
            })
        };
        self.run(ours, methods, false, decode, start, open).await
    }

    async fn run<Q, F>(
        self,
        ours: Party,
        methods: &'static [&'static str],
        aborts: bool,
        decode: impl Fn(u32, Payload) -> Decoded<Q> + Send + Sync + 'static,
        start: impl Fn(Q, Call, Outgoing) -> F + Send + Sync + 'static,
        open: impl Fn(u32, Payload, Call, Opening) -> Opened + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        Q: 'static,
        F: Future<Output = Replied> + Send + 'static,
    {
        let Server {
            listener,
            options,
            handle,
            changed,
        } = self;
        Alarm::check()?;
        let shared = Arc::new(Shared {
            ours,
            options,
            methods,
            aborts,
            decode: Box::new(decode),
            start: Box::new(start),
            open: Box::new(open),
            handle,
            changed,
            budget: Budget::default(),
            connections: Mutex::default(),
        });
        let mut stops = Stops(Some(&shared));
        let served = loop {
            match listener.accept(Deadline::NEVER).await {
                Ok(stream) => {
                    shared.welcome(stream).await;
                    // Those who have come, and may have gone, have their turn before the next: a crowd at the door is
                    // not to count as connected.
                    fair::yield_now().await;
                }
                Err(error) if Error::of(&error) == Some(&Error::Stopped) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if !shared.handle.is_draining() {
            // The listener failed, or was stopped behind the server's back.
            shared.handle.stop();
        }
        shared.finish().await;
        while !listener.see_off() {
            if runtime::sleep(SEEING_OFF).await.is_err() {
                break;
            }
        }
        stops.0 = None;
        shared.handle.has_ended();
        served
    }
}

/// Runs what blocks on a thread of the runtime's for that.
fn on_a_thread<R: Send + 'static>(
    run: impl FnOnce() -> R + Send + 'static,
) -> impl Future<Output = R> + Send {
    let span = Within::current();
    async move {
        match ::tokio::task::spawn_blocking(move || span.run(run)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => panic::resume_unwind(panic),
                // Only a runtime that ends drops what has not begun.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// A request that was decoded, or not; and what it was received in, if that is not needed any more.
type Decoded<Q> = (Result<Q, HandleError>, Option<Buffer>);

type Decode<Q> = Box<dyn Fn(u32, Payload) -> Decoded<Q> + Send + Sync>;
type Start<Q, F> = Box<dyn Fn(Q, Call, Outgoing) -> F + Send + Sync>;

/// What the connections of a server share. `Q` is a decoded request, `F` the future of its handler.
struct Shared<S, Q, F> {
    ours: Party,
    options: ServerOptions,
    /// The names of the service's methods.
    methods: &'static [&'static str],
    /// Whether dropping the future of a handler ends it.
    aborts: bool,
    decode: Decode<Q>,
    start: Start<Q, F>,
    open: Box<dyn Fn(u32, Payload, Call, Opening) -> Opened + Send + Sync>,
    handle: ServerHandle,
    changed: Arc<Notify>,
    budget: Budget,
    connections: Mutex<Connections<S, Q, F>>,
}

struct Connections<S, Q, F> {
    open: HashMap<u64, Arc<Connection<S, Q, F>>>,
    next: u64,
}

impl<S, Q, F> Default for Connections<S, Q, F> {
    fn default() -> Self {
        Connections {
            open: HashMap::new(),
            next: 0,
        }
    }
}

impl<S, Q, F> Shared<S, Q, F>
where
    S: Stream,
    Q: 'static,
    F: Future<Output = Replied> + Send + 'static,
{
    /// Takes a client in, in a task of its own, or tells it why not.
    async fn welcome(self: &Arc<Self>, stream: S) {
        if let Err((stream, failure)) = self.take_in(stream) {
            self.turn_away(stream, &failure).await;
        }
    }

    fn take_in(self: &Arc<Self>, stream: S) -> Result<(), (S, Failure<'static>)> {
        let peer = stream.peer().unwrap_or_default();
        let admitted = self.options.admits(&peer);
        let mut connections = self.connections.lock();
        if let Some(failure) = self.options.why_not(admitted, connections.open.len()) {
            return Err((stream, failure));
        }
        let number = connections.next;
        connections.next += 1;
        let connection = Connection::new(stream, peer, number, Arc::clone(self));
        let connection = Arc::new(connection);
        connections.open.insert(number, Arc::clone(&connection));
        drop(connections);
        ::tokio::spawn(connection.serve());
        Ok(())
    }

    async fn turn_away(&self, stream: S, failure: &Failure<'_>) {
        let mut out = Vec::new();
        wire::refusal(&mut out, &self.ours.identity(), failure);
        // A client that does not read this goes without.
        let _ = stream.send(&out, Deadline::after(TURNED_AWAY)).await;
        stream.close();
    }

    fn leave(&self, number: u64) {
        let gone = self.connections.lock().open.remove(&number);
        drop(gone);
        self.changed.notify_waiters();
    }

    /// Lets the requests that are under way end, until the deadline of the drain, and then cancels them.
    async fn finish(&self) {
        let grace = self.handle.deadline();
        self.each(|connection| connection.go_away(grace));
        self.until_left(|| self.handle.deadline()).await;
        self.each(Connection::wind_up);
        let linger = Deadline::after(LINGER);
        self.until_left(|| linger).await;
    }

    fn each(&self, what: impl Fn(&Connection<S, Q, F>)) {
        let connections: Vec<_> = self.connections.lock().open.values().cloned().collect();
        connections.iter().for_each(|connection| what(connection));
    }

    /// Waits until the last client has left, or until a deadline, which may come nearer.
    async fn until_left(&self, until: impl Fn() -> Deadline) {
        loop {
            let changed = self.changed.notified();
            let deadline = until();
            if self.connections.lock().open.is_empty() || deadline.has_passed() {
                return;
            }
            // When the time is up, it has passed.
            let _ = runtime::by(deadline, changed).await;
        }
    }

    fn info(&self) -> wire::Info<'_> {
        let connections: Vec<_> = self.connections.lock().open.values().cloned().collect();
        let in_flight = connections.iter().map(|connection| connection.in_flight());
        control::info(
            &self.ours,
            connections.len(),
            in_flight.sum(),
            self.handle.is_draining(),
        )
    }
}

impl<S, Q, F> fmt::Debug for Shared<S, Q, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("service", &self.ours.service)
            .finish_non_exhaustive()
    }
}

/// Ends a server that nobody serves any more.
struct Stops<'a, S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static>(
    Option<&'a Arc<Shared<S, Q, F>>>,
);

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Drop
    for Stops<'_, S, Q, F>
{
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.handle.stop();
            shared.each(Connection::close);
            shared.handle.has_ended();
        }
    }
}
