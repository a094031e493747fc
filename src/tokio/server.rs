//! [`Server`]: requests, from any number of clients, to one handler, whose futures run on the runtime.

mod connection;
mod core;
mod ending;
mod handler;
mod job;
mod kept;
mod list;
mod state;
mod streaming;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use ::tokio::runtime::Handle;
use ::tokio::sync::{Notify, oneshot};

use self::core::Core;
use super::alarm::Alarm;
use super::local::LocalListener;
use super::transport::{Listener, Stream};
use super::{fair, runtime};
use crate::base::caught::caught;
use crate::codec::Codec;
use crate::codec::outgoing::Outgoing;
use crate::proto::Party;
use crate::proto::wire::{self, Code, Failure};
use crate::server::budget::{Budget, SMALL};
use crate::server::buffer::Buffer;
use crate::server::call::Caller;
use crate::server::control;
use crate::server::crew::Crew;
use crate::server::{
    self, Call, ENDING, HandleError, LINGER, Opening, Payload, SEEING_OFF, TURNED_AWAY,
};
use crate::trace::Within;
use crate::transport::tokio::carrier::{Carrier as _, Doors as _};
use crate::{Deadline, Error, ServerHandle, ServerOptions, ToName};
use connection::{Connection, Listed};
pub use handler::{Handler, Replied, Replies};
use job::Reply;
use list::List;
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
        let serving = Arc::new(AtomicBool::new(false));
        let (stop, tell) = (Arc::clone(&listener), Arc::clone(&changed));
        let is_served = Arc::clone(&serving);
        let handle = ServerHandle::new(move || {
            // Whoever serves tells those who have come before it stops.
            stop.close_door();
            if !is_served.load(Ordering::SeqCst) {
                stop.stop();
            }
            tell.notify_waiters();
        });
        Server {
            listener,
            options: self,
            handle,
            changed,
            serving,
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
    /// Somebody accepts.
    serving: Arc<AtomicBool>,
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
            Ok(Box::pin(Arc::clone(&opener).open(method, payload, call, opening)) as Opened)
        };
        let start = move |request, call, reply| Arc::clone(&handler).handle(request, call, reply);
        let budget = Arc::new(self.options.budget());
        self.run(ours, methods, true, budget, decode, start, open)
            .await
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
        let budget = Arc::new(self.options.budget());
        let decode = |method, payload: Payload| (Ok((method, payload)), None);
        let opener = Arc::clone(&handler);
        let crew = Crew::default();
        let open = move |method, payload: Payload, call: Call, opening| {
            let handler = Arc::clone(&opener);
            let open = move || handler.open(method, &payload, &call, opening);
            Ok(Box::pin(on_a_thread_of(&crew, open)?) as Opened)
        };
        let start = move |(method, payload): (u32, Payload), call: Call, mut reply: Outgoing| {
            let handler = Arc::clone(&handler);
            let caller = Arc::clone(&call.caller);
            on_a_thread_in_turn(Arc::clone(&call.caller), move |waited| {
                let handled = match waited && call.deadline.has_passed() {
                    true => Ok(()),
                    false => handler.handle(method, &payload, &call, &mut reply),
                };
                // Replies may be made faster here than they are taken.
                Reply::counted(reply, handled, caller)
            })
        };
        self.run(ours, methods, false, budget, decode, start, open)
            .await
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what both kinds of handlers differ in"
    )]
    async fn run<Q, F>(
        self,
        ours: Party,
        methods: &'static [&'static str],
        aborts: bool,
        budget: Arc<Budget>,
        decode: impl Fn(u32, Payload) -> Decoded<Q> + Send + Sync + 'static,
        start: impl Fn(Q, Call, Outgoing) -> F + Send + Sync + 'static,
        open: impl Fn(u32, Payload, Call, Opening) -> io::Result<Opened> + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        Q: Send + 'static,
        F: Future<Output: Into<Reply>> + Send + 'static,
    {
        let Server {
            listener,
            options,
            handle,
            changed,
            serving,
        } = self;
        Alarm::check()?;
        let list = Arc::new(List::new(changed, budget));
        let shared = Arc::new(Shared {
            ours,
            options,
            methods,
            aborts,
            decode: Box::new(decode),
            start: Box::new(start),
            open: Box::new(open),
            handle: handle.clone(),
            list: Arc::clone(&list),
        });
        serving.store(true, Ordering::SeqCst);
        let mut stops = Stops(Some((&handle, &*listener, &list)));
        // By when those have to be told who have come before the end.
        let mut until = None;
        let served = loop {
            match shared.accept(&*listener, &mut until).await {
                Ok(stream) if handle.is_draining() => shared.turn_away(stream, &ENDING).await,
                Ok(stream) => {
                    shared.welcome(stream).await;
                    // Those who have come, and may have gone, have their turn before the next: a crowd at the door is
                    // not to count as connected.
                    fair::yield_now().await;
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break Ok(()),
                Err(error) if Error::of(&error) == Some(&Error::Stopped) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if !handle.is_draining() {
            // The listener failed, or was stopped behind the server's back.
            handle.stop();
        }
        listener.stop();
        // With the connections it is what is left of the service.
        drop(shared);
        list.finish(&handle).await;
        while !listener.see_off() {
            if runtime::sleep(SEEING_OFF).await.is_err() {
                break;
            }
        }
        stops.0 = None;
        handle.has_ended();
        served
    }
}

/// The same once the client has not too much to read. It is told whether it has waited for that.
async fn on_a_thread_in_turn<R: Send + 'static>(
    caller: Arc<dyn Caller>,
    mut run: impl FnOnce(bool) -> R + Send + 'static,
) -> R {
    let mut waited = false;
    loop {
        poll_fn(|cx| {
            let room = caller.poll_room(Some(cx));
            waited |= room.is_pending();
            room
        })
        .await;
        // It may take a while until there is a thread for it, and others have been before it by then.
        let asked = Arc::clone(&caller);
        let begun = on_a_thread(move || match asked.poll_room(None) {
            Poll::Ready(()) => Ok(run(waited)),
            Poll::Pending => Err(run),
        });
        match begun.await {
            Ok(result) => return result,
            Err(back) => run = back,
        }
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

/// Runs what may block for long on a thread for that, which is as one of the runtime's in all else.
fn on_a_thread_of<R, F>(
    crew: &Crew,
    run: F,
) -> io::Result<impl Future<Output = R> + Send + use<R, F>>
where
    R: Send + 'static,
    F: FnOnce() -> R + Send + 'static,
{
    let span = Within::current();
    let runtime = Handle::current();
    let (told, result) = oneshot::channel();
    crew.run(move || {
        let _entered = runtime.enter();
        // Nobody waits for it any more where the runtime has gone.
        let _ = told.send(caught(|| span.run(run)));
    })?;
    Ok(async move {
        match result.await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => panic::resume_unwind(Box::new(panicked)),
            Err(_) => std::future::pending().await,
        }
    })
}

/// A request that was decoded, or not; and what it was received in, if that is not needed any more.
type Decoded<Q> = (Result<Q, HandleError>, Option<Buffer>);

type Decode<Q> = Box<dyn Fn(u32, Payload) -> Decoded<Q> + Send + Sync>;
type Start<Q, F> = Box<dyn Fn(Q, Call, Outgoing) -> F + Send + Sync>;

type Open = Box<dyn Fn(u32, Payload, Call, Opening) -> io::Result<Opened> + Send + Sync>;

/// What the connections of a server share. `Q` is a decoded request, `F` the future of its handler.
struct Shared<Q, F> {
    ours: Party,
    options: ServerOptions,
    /// The names of the service's methods.
    methods: &'static [&'static str],
    /// Whether dropping the future of a handler ends it.
    aborts: bool,
    decode: Decode<Q>,
    start: Start<Q, F>,
    open: Open,
    handle: ServerHandle,
    list: Arc<List<F>>,
}

impl<Q, F> Shared<Q, F>
where
    Q: Send + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    /// The next client. Once the server is ending, those are still told so who have come before; `TimedOut` when there
    /// are no more.
    async fn accept<L: Listener>(
        &self,
        listener: &L,
        until: &mut Option<Deadline>,
    ) -> io::Result<L::Stream> {
        {
            let mut accepted = pin!(listener.accept(Deadline::NEVER));
            let mut changed = pin!(self.list.changed.notified());
            let accepted = poll_fn(|cx| {
                // From here on nothing is missed.
                while changed.as_mut().poll(cx).is_ready() {
                    changed.set(self.list.changed.notified());
                }
                match self.handle.is_draining() {
                    true => Poll::Ready(None),
                    false => accepted.as_mut().poll(cx).map(Some),
                }
            });
            if let Some(accepted) = accepted.await {
                return accepted;
            }
        }
        let until = *until.get_or_insert_with(|| Deadline::after(LINGER));
        if until.has_passed() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        runtime::by(until, listener.accept(Deadline::NOW)).await?
    }

    /// Takes a client in, in a task of its own, or tells it why not.
    async fn welcome<S: Stream>(self: &Arc<Self>, stream: S) {
        if let Err((stream, failure)) = self.take_in(stream) {
            self.turn_away(stream, &failure).await;
        }
    }

    fn take_in<S: Stream>(self: &Arc<Self>, stream: S) -> Result<(), (S, Failure<'static>)> {
        let peer = stream.peer().unwrap_or_default();
        let options = &self.options;
        let admitted = options.admits(&peer);
        let mut holder = None;
        let joins = || {
            holder = self.list.budget.join(&peer, options.of_one_process());
            holder.is_some()
        };
        let why_not = options.why_not(admitted, joins, || self.list.has_room(options));
        let holder = match (why_not, holder) {
            (None, Some(holder)) => holder,
            (Some(failure), _) => return Err((stream, failure)),
            (None, None) => return Ok(()),
        };
        stream.ask_before(SMALL);
        let core = Arc::new(Core::new(peer, holder, &self.handle, self.aborts, options));
        self.list.enter(&core);
        let shared = Arc::clone(self);
        let listed = Listed::new(Connection { core, shared }, Arc::clone(&self.list));
        ::tokio::spawn(listed.serve(stream));
        Ok(())
    }

    async fn turn_away<S: Stream>(&self, stream: S, failure: &Failure<'_>) {
        let mut out = Vec::new();
        wire::refusal(&mut out, &self.ours.identity(), failure);
        // A client that does not read this goes without.
        let _ = stream.send(&out, Deadline::after(TURNED_AWAY)).await;
        match failure.code {
            Code::Unavailable => stream.part(out.len()),
            _ => stream.close(),
        }
    }

    fn info(&self) -> wire::Info<'_> {
        let connections = self.list.all();
        let in_flight = connections.iter().map(|connection| connection.in_flight());
        control::info(
            &self.ours,
            connections.len(),
            in_flight.sum(),
            self.handle.is_draining(),
        )
    }
}

impl<Q, F> fmt::Debug for Shared<Q, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("service", &self.ours.service)
            .finish_non_exhaustive()
    }
}

/// Ends a server that nobody serves any more.
struct Stops<'a, L: Listener, F>(Option<(&'a ServerHandle, &'a L, &'a Arc<List<F>>)>);

impl<L: Listener, F> Drop for Stops<'_, L, F> {
    fn drop(&mut self) {
        if let Some((handle, listener, list)) = self.0 {
            handle.stop();
            listener.stop();
            list.each(Core::close);
            handle.has_ended();
        }
    }
}
