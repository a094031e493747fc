//! [`Server`]: requests, from any number of clients, to one handler.

mod admission;
mod ahead;
mod broadcast;
pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod call;
pub(crate) mod connection;
pub(crate) mod control;
pub(crate) mod crew;
pub(crate) mod emit;
mod handler;
pub(crate) mod job;
pub(crate) mod kept;
mod large;
mod outbox;
mod outlet;
mod pool;
mod relief;
mod requests;
mod sending;
pub(crate) mod service;
mod share;
mod shared;
#[cfg(feature = "signals")]
mod signals;
pub(crate) mod sink;
pub(crate) mod streams;
mod unsent;
mod watch;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::base::caught::caught;
use crate::codec::Codec;
use crate::proto::Party;
use crate::proto::wire::{Code, Failure};
use crate::transport::carrier::Doors as _;
use crate::{Deadline, ListenOptions, Listener, LocalListener, Peer, ToName, UserId};
pub use broadcast::{Broadcast, Event, Slow};
use budget::Budget;
pub use call::Call;
use crew::Crew;
use handler::Erased;
pub use handler::{Closure, HandleError, Handler, Payload, StreamClosure, encode_reply};
use pool::Pool;
use relief::Relief;
use shared::{Roster, Shared, turn_away};
pub use sink::{ItemSink, Opening, SinkError};
use watch::Watch;

pub use crate::codec::outgoing::Outgoing;
pub use service::Service;

/// How a server is made.
///
/// ```no_run
/// use std::time::Duration;
/// use pipetalk::ServerOptions;
///
/// ServerOptions::new()
///     .pool(4)
///     .connections(100)
///     .idle_timeout(Duration::from_secs(600))
///     .bind("acme.length")?
///     .serve(|text: String, _call: &_| text.len())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerOptions {
    pub(crate) listen: ListenOptions,
    pub(crate) max_message: usize,
    pub(crate) max_connections: usize,
    of_one_process: Option<usize>,
    memory: usize,
    memory_of_one: usize,
    pub(crate) idle_when_full: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) hello_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) send_timeout: Duration,
    pub(crate) stream_handlers: usize,
    pool: usize,
    name: Option<String>,
    version: String,
    fingerprint: Option<u64>,
    admit: Option<Rule>,
    control: Option<Rule>,
}

type Rule = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// What a rule says; one that panics lets nobody in.
fn allows(rule: &Rule, peer: &Peer) -> bool {
    caught(|| rule(peer)).unwrap_or(false)
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            listen: ListenOptions::default(),
            max_message: crate::DEFAULT_MAX_MESSAGE,
            max_connections: 1024,
            of_one_process: None,
            memory: 64 << 20,
            memory_of_one: 16 << 20,
            idle_when_full: Duration::from_secs(10),
            max_in_flight: 64,
            hello_timeout: Duration::from_secs(10),
            idle_timeout: None,
            send_timeout: Duration::from_secs(30),
            stream_handlers: crew::HANDLERS,
            pool: 0,
            name: None,
            version: String::new(),
            fingerprint: None,
            admit: None,
            control: None,
        }
    }
}

impl ServerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> ServerOptions {
        ServerOptions::default()
    }

    /// How to listen, and for whom. The largest message is set by [`max_message`](Self::max_message).
    #[must_use]
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.listen = options;
        self
    }

    /// The largest request to take, in bytes with its header; 16 MiB unless set. A larger one ends its
    /// connection, after the client was told the limit.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// How many clients may be connected at once; 1024 unless set. The next is told so, unless there is one that has been
    /// [idle for long](Self::idle_when_full), which goes instead.
    #[must_use]
    pub fn connections(mut self, limit: usize) -> Self {
        self.max_connections = limit;
        self
    }

    /// How many of these may be from one other process; unless set, a quarter of [all](Self::connections), and at least
    /// 256. The next is told so.
    ///
    /// It keeps a careless program from shutting out all others, and no hostile one that begins new processes. Where the
    /// process is not known, as between containers, it is for the user; clients in the server's own process have no such
    /// limit.
    #[must_use]
    pub fn connections_of_one_process(mut self, limit: usize) -> Self {
        self.of_one_process = Some(limit);
        self
    }

    /// How long a client has to go without a request to lose its place where as many are
    /// [connected](Self::connections) as may be, and another one comes; 10 seconds unless set. It is told so in good
    /// order, and one that [reconnects](crate::ClientOptions::reconnect) does not notice. Of several it is the one that
    /// has been idle longest, of the process that has most connections. A client with an open stream is not idle.
    #[must_use]
    pub fn idle_when_full(mut self, time: Duration) -> Self {
        self.idle_when_full = time;
        self
    }

    /// How many bytes the server holds at most of what clients have sent, from before it is received until it has been
    /// answered; and how many of what they are to be sent; 64 MiB of either unless set. One other process has a half at
    /// most.
    ///
    /// Messages of up to 64 KiB get through in any case: each client has so much beside this, either way. A larger one
    /// waits for its share before it is received, whatever its size, and has it in its turn, until a large reply to it has
    /// been sent. (A transport from outside this crate receives it before that.) While clients have more to read than this, those that do not read are [cut off
    /// soon](Self::send_timeout), streams send no large items, and replies that would make it twice as much become errors
    /// with the name of the limit.
    ///
    /// It does not count what handlers make of requests: values decoded, and replies in hand. How many are at it at once
    /// is bounded by [`pool`](Self::pool), or by the runtime's threads for what blocks.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// How many bytes of its [memory](Self::memory) the server holds for one client at most; 16 MiB unless set. A
    /// message that is larger itself is taken when there is no other one.
    #[must_use]
    pub fn memory_of_one_client(mut self, bytes: usize) -> Self {
        self.memory_of_one = bytes;
        self
    }

    /// How many requests of one client may be unanswered at once; 64 unless set, and at least one. Clients of
    /// this crate wait their turn; what another sends beyond is answered with the name of the limit.
    ///
    /// A stream is a request until it ends. The handler of each may be a little behind: a client whose handlers do not
    /// notice that their streams are over has twice as many, and no more.
    #[must_use]
    pub fn in_flight(mut self, limit: usize) -> Self {
        self.max_in_flight = limit.clamp(1, crate::proto::MAX_IN_FLIGHT);
        self
    }

    /// How many handlers of streams may run at once, for all clients together; 1024 unless set, and beside these one for
    /// each client. One other process has a half of them, or one for each of its connections. What is beyond is answered
    /// with the name of the limit.
    ///
    /// A handler that blocks has a thread until it returns. One that only hands its sink on, to a [`Broadcast`] or to
    /// another thread, returns at once: then the stream takes up none of these.
    #[must_use]
    pub fn stream_handlers(mut self, limit: usize) -> Self {
        self.stream_handlers = limit;
        self
    }

    /// How long a client may take to say hello; 10 seconds unless set.
    #[must_use]
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.hello_timeout = timeout;
        self
    }

    /// How long a client may go without a request; for ever unless set. It is told when it is cut off.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// How long a client may take to read a reply before it is cut off; 30 seconds unless set. The items of streams wait
    /// for longer: a client may stay away from its streams for as long as it likes.
    ///
    /// It is also how long a client may take to send a request of more than 64 KiB that it has begun.
    ///
    /// A client that has more than a mebibyte to read is not asked for more. Where all of them together have more to read
    /// than the server's [memory](Self::memory), or others wait for a share of that, each has a second for a large message,
    /// and one for each 4 MiB of it; those that take longer are cut off one at a time, until it is enough.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = timeout;
        self
    }

    /// Handles requests on this many threads, for all clients together, so that a slow request does not hold up
    /// its neighbours. Clients have turns: one that asks for much keeps nobody waiting for all of it. With 0, which is the
    /// default, each client has a thread, which handles one request after the other and hands nothing to anybody; while
    /// it is at one for long, another thread receives what comes meanwhile, so that cancellations count, and deadlines
    /// from when their requests came. Streams have [threads of their own](Self::stream_handlers) either way.
    #[must_use]
    pub fn pool(mut self, threads: usize) -> Self {
        self.pool = threads;
        self
    }

    /// The name of the service and the version of this program, as [`ClientOptions::service`] on the other side.
    ///
    /// [`ClientOptions::service`]: crate::ClientOptions::service
    #[must_use]
    pub fn service(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self.version = version.into();
        self
    }

    /// The version of this program, for people to read.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// A number that differs where the requests and replies do, as [`ClientOptions::fingerprint`] on the other
    /// side.
    ///
    /// [`ClientOptions::fingerprint`]: crate::ClientOptions::fingerprint
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: u64) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// Decides on each client that the [access policy](ListenOptions::access) has let in; it is told if it is
    /// refused, and a panic refuses it. On Windows the user is not known yet at this time.
    #[must_use]
    pub fn admit(mut self, rule: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.admit = Some(Arc::new(rule));
        self
    }

    /// Decides who may end this server by a [`drain`] or [`stop`] request: clients of the server's own user
    /// unless set. A panic refuses it.
    ///
    /// [`drain`]: crate::Channel::drain
    /// [`stop`]: crate::Channel::stop
    #[must_use]
    pub fn control(mut self, rule: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.control = Some(Arc::new(rule));
        self
    }

    /// Listens at a name.
    ///
    /// # Errors
    ///
    /// As [`ListenOptions::bind`].
    pub fn bind(self, name: impl ToName) -> io::Result<Server> {
        let listener = self.listening().bind(name)?;
        Ok(self.on(listener))
    }

    /// Serves what another listener accepts, for example one in [`memory`](crate::memory); its own options say
    /// how large a message may be.
    #[must_use]
    pub fn on<L: Listener>(self, listener: L) -> Server<L> {
        let listener = Arc::new(listener);
        let served = Arc::new(OnceLock::new());
        let (stop, ours) = (Arc::clone(&listener), Arc::clone(&served));
        let handle = ServerHandle::new(move || {
            stop.close_door();
            // Those who have come already are told. So is who comes in between, by whoever accepts.
            let until = Deadline::after(LINGER);
            while let (Some(ours), false) = (ours.get(), until.has_passed()) {
                match stop.accept(Deadline::NOW) {
                    Ok(stream) => turn_away(&stream, ours, &ENDING),
                    Err(_) => break,
                }
            }
            stop.stop();
        });
        Server {
            listener,
            options: self,
            handle,
            served,
        }
    }
}

impl ServerOptions {
    /// How to listen, with the limit of the server.
    pub(crate) fn listening(&self) -> ListenOptions {
        self.listen.clone().max_message(self.max_message)
    }

    /// Who the server is to its clients; what the options do not say comes from the handler.
    pub(crate) fn party(
        &self,
        codec: &str,
        service: &str,
        version: &str,
        fingerprint: u64,
    ) -> Party {
        Party {
            codec: codec.to_owned(),
            service: self.name.as_deref().unwrap_or(service).to_owned(),
            fingerprint: self.fingerprint.unwrap_or(fingerprint),
            version: match &*self.version {
                "" => version.to_owned(),
                given => given.to_owned(),
            },
            max_message: u32::try_from(self.max_message).unwrap_or(u32::MAX),
            max_in_flight: u32::try_from(self.max_in_flight).unwrap_or(u32::MAX),
            features: 0,
        }
    }

    /// Whether the rule for new clients lets one in.
    pub(crate) fn admits(&self, peer: &Peer) -> bool {
        let rule = self.admit.as_ref();
        rule.is_none_or(|admit| allows(admit, peer))
    }

    /// Why a client is turned away, if it is.
    pub(crate) fn why_not(
        &self,
        admitted: bool,
        joins: impl FnOnce() -> bool,
        has_room: impl FnOnce() -> bool,
    ) -> Option<Failure<'static>> {
        if !admitted {
            Some(Failure::new(Code::Denied, "this client may not connect"))
        } else if !joins() {
            Some(Failure::new(Code::OverLimit, "connections of one process"))
        } else if !has_room() {
            Some(Failure::new(Code::OverLimit, "connections"))
        } else {
            None
        }
    }

    /// How many connections one process may have.
    pub(crate) fn of_one_process(&self) -> usize {
        let quarter = self.max_connections / 4;
        self.of_one_process.unwrap_or(quarter.max(256))
    }

    /// What clients may make the server hold.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.memory, self.memory_of_one)
    }

    /// Whether a client may end the server.
    pub(crate) fn may_control(&self, peer: &Peer) -> bool {
        match &self.control {
            Some(rule) => allows(rule, peer),
            None => peer.user.is_some() && UserId::current().ok() == peer.user,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("listen", &self.listen)
            .field("connections", &self.max_connections)
            .field("in_flight", &self.max_in_flight)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// A server that listens, and serves once it is told how.
///
/// ```no_run
/// use pipetalk::Server;
///
/// Server::bind("acme.length")?.serve(|text: String, _call: &_| text.len())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Server<L = LocalListener> {
    listener: Arc<L>,
    options: ServerOptions,
    handle: ServerHandle,
    /// As whom, once somebody serves.
    served: Arc<OnceLock<Party>>,
}

impl Server {
    /// Listens at a name, with the [defaults](ServerOptions).
    ///
    /// # Errors
    ///
    /// As [`ListenOptions::bind`].
    pub fn bind(name: impl ToName) -> io::Result<Server> {
        ServerOptions::new().bind(name)
    }
}

impl<L: Listener> Server<L> {
    /// What ends the server, from another thread.
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
    pub fn serve_with<C: Codec, Marker: 'static>(
        self,
        handler: impl Handler<C, Marker>,
    ) -> io::Result<()> {
        let Server {
            listener,
            options,
            handle,
            served: identity,
        } = self;
        let ours = options.party(
            C::NAME,
            handler.service(),
            handler.version(),
            handler.fingerprint(),
        );
        let methods = handler.methods();
        let pool = if options.pool > 0 {
            Some(Pool::new(options.pool)?)
        } else {
            None
        };
        let crew = Arc::new(Crew::default());
        let budget = Arc::new(options.budget());
        let relief = Arc::new(Relief::default());
        let roster = Arc::new(Roster::new(handle));
        let watch = match pool {
            Some(_) => None,
            None => Some(Watch::start(Arc::clone(&roster))?),
        };
        let (relieves, of, over) = (
            Arc::clone(&relief),
            Arc::downgrade(&budget),
            Arc::clone(&roster),
        );
        budget.when_held_up(move || {
            if let Some(budget) = of.upgrade() {
                relieves.begin(&budget, &over);
            }
        });
        // From here on, whoever ends it tells those who wait to be accepted.
        let _ = identity.set(ours.clone());
        let shared = Arc::new(Shared {
            ours,
            budget,
            relief,
            options,
            methods,
            handler: Box::new(Erased::<_, C, Marker>(handler, PhantomData)),
            pool,
            kept: Arc::default(),
            crew,
            roster,
            watch,
        });
        let served = listener.incoming().try_for_each(|stream| {
            let stream = stream?;
            // A transport or a rule that panics keeps its own client out.
            let _ = caught(|| shared.welcome(stream));
            Ok(())
        });
        if !shared.is_draining() {
            // The listener failed, or was stopped behind the server's back.
            shared.handle().stop();
        }
        shared.finish();
        while !listener.see_off() {
            thread::sleep(SEEING_OFF);
        }
        shared.handle().has_ended();
        served
    }
}

/// Ends a server, from any thread. Clones end the same server.
#[derive(Clone)]
pub struct ServerHandle(Arc<Ending>);

struct Ending {
    state: Mutex<State>,
    /// The state has changed, or a client has left.
    changed: Condvar,
    /// Whether the state is another than serving, for who asks often.
    draining: AtomicBool,
    /// Nothing is served any more.
    ended: AtomicBool,
    /// Stops listening, and wakes what waits for nothing else than that.
    stop: Box<dyn Fn() + Send + Sync>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    Draining(Deadline),
}

impl ServerHandle {
    /// `stop` is called whenever the end comes, or comes nearer.
    pub(crate) fn new(stop: impl Fn() + Send + Sync + 'static) -> ServerHandle {
        ServerHandle(Arc::new(Ending {
            state: Mutex::new(State::Serving),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            changed: Condvar::new(),
            stop: Box::new(stop),
        }))
    }

    /// Notes that nothing is served any more.
    pub(crate) fn has_ended(&self) {
        self.0.ended.store(true, Ordering::Release);
    }

    /// Until when requests may be under way.
    pub(crate) fn deadline(&self) -> Deadline {
        self.0.state.lock().deadline()
    }

    /// Takes no more clients and no more requests, tells the clients, and gives those requests that are under way
    /// until `timeout` to end; then they are cancelled. Clients that have connected and were not accepted yet are told as
    /// well. So it is with streams, except those of a [`Broadcast`], which end
    /// behind what they have to say. Returns at once; [`Server::serve`] returns when it is
    /// done. Draining again can only make it shorter.
    ///
    /// On Windows clients that are idle have 100 ms to notice, and are disconnected then, because their ends would keep
    /// the name. What they find is the end instead of the server's word that it ends.
    pub fn drain(&self, timeout: Duration) {
        let deadline = Deadline::after(timeout);
        let mut state = self.0.state.lock();
        *state = State::Draining(match *state {
            State::Draining(earlier) => earlier.min(deadline),
            State::Serving => deadline,
        });
        self.0.draining.store(true, Ordering::Release);
        drop(state);
        self.0.changed.notify_all();
        (self.0.stop)();
    }

    /// Ends the server at once: requests that are under way are cancelled.
    pub fn stop(&self) {
        self.drain(Duration::ZERO);
    }

    /// Whether the server is ending.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }
}

impl State {
    /// Until when requests may be under way.
    fn deadline(&self) -> Deadline {
        match *self {
            State::Serving => Deadline::NEVER,
            State::Draining(deadline) => deadline,
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("draining", &self.is_draining())
            .finish()
    }
}

/// What those are told who have come, and whom nobody will serve.
pub(crate) const ENDING: Failure<'static> = Failure::new(Code::Unavailable, "ending");

/// How long a client that is turned away may take to read why.
pub(crate) const TURNED_AWAY: Duration = Duration::from_millis(20);

/// How often it is looked whether the last clients have read the last words.
pub(crate) const SEEING_OFF: Duration = Duration::from_millis(2);

/// How long handlers have, once cancelled, to notice it before the server ends without them.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
