//! What the connections of a server share, and how they come and go.

use std::fmt;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::budget::{Budget, SMALL};
use super::connection::{COURTESY, Connection};
use super::control;
use super::crew::Crew;
use super::handler::AnyHandler;
use super::kept::Kept;
use super::pool::Pool;
use super::relief::Relief;
use super::watch::Watch;
use super::{ENDING, Ending, LINGER, ServerHandle, ServerOptions, State, TURNED_AWAY};
use crate::proto::Party;
use crate::proto::wire::{self, Code, Failure};
use crate::transport::carrier::Carrier;
use crate::{Deadline, Stream};

/// What the connections of a server share. It goes with the last of them, and the service with it.
pub(super) struct Shared {
    pub(super) ours: Party,
    pub(super) options: ServerOptions,
    /// The names of the service's methods.
    pub(super) methods: &'static [&'static str],
    pub(super) handler: Box<dyn AnyHandler>,
    pub(super) pool: Option<Pool>,
    pub(super) kept: Arc<Kept>,
    /// Threads for streams.
    pub(super) crew: Arc<Crew>,
    pub(super) roster: Arc<Roster>,
    /// Over handlers that run on the threads of their connections.
    pub(super) watch: Option<Watch>,
    pub(super) budget: Arc<Budget>,
    pub(super) relief: Arc<Relief>,
}

/// The connections that there are.
pub(super) struct Roster {
    handle: ServerHandle,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    /// With their numbers. A connection is on the list for somewhat longer than it is there.
    connections: Vec<(u64, Weak<Connection>)>,
    /// Those of them that have given up their places to others.
    evicted: Vec<u64>,
}

impl Roster {
    pub(super) fn new(handle: ServerHandle) -> Roster {
        Roster {
            handle,
            list: Mutex::default(),
        }
    }

    /// How many there are, those included of which only the list knows.
    fn len(&self) -> usize {
        self.list.lock().connections.len()
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        let mut connections = Vec::new();
        self.add_connections(&mut connections);
        connections
    }

    /// Adds those that there are.
    pub(super) fn add_connections(&self, connections: &mut Vec<Arc<Connection>>) {
        let list = self.list.lock();
        let open = list.connections.iter();
        connections.extend(open.filter_map(|(_, connection)| connection.upgrade()));
    }

    /// Waits until the last client has left, or until a deadline, which the state may bring nearer.
    fn wait_until_left(&self, until: impl Fn(&State) -> Deadline) {
        let Ending { state, changed, .. } = &*self.handle.0;
        let mut state = state.lock();
        loop {
            let deadline = until(&state);
            if self.len() == 0 || deadline.has_passed() {
                return;
            }
            match deadline.instant() {
                Some(at) => {
                    changed.wait_until(&mut state, at);
                }
                None => changed.wait(&mut state),
            }
        }
    }
}

/// A place on the list. Dropping it, when nothing else is left of its connection, takes it off.
struct Listed {
    roster: Arc<Roster>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let Listed { roster, number } = self;
        let mut list = roster.list.lock();
        list.connections.retain(|(other, _)| other != number);
        list.evicted.retain(|other| other != number);
        drop(list);
        // Whoever waits has either seen that, or sleeps by now.
        drop(roster.handle.0.state.lock());
        roster.handle.0.changed.notify_all();
    }
}

/// Tells a client why it is not taken in.
pub(super) fn turn_away(stream: &impl Stream, ours: &Party, failure: &Failure<'_>) {
    let mut out = Vec::new();
    wire::refusal(&mut out, &ours.identity(), failure);
    // A client that does not read this goes without.
    let _ = stream.send(&out, Deadline::after(TURNED_AWAY));
    match failure.code {
        Code::Unavailable => stream.part(out.len()),
        _ => stream.close(),
    }
}

impl Shared {
    pub(super) fn handle(&self) -> &ServerHandle {
        &self.roster.handle
    }

    pub(super) fn is_draining(&self) -> bool {
        self.handle().is_draining()
    }

    /// A connection's own thread handles something: that it does has been noted, with the lock of the connection.
    #[inline]
    pub(super) fn see_to_it(&self) {
        if let Some(watch) = &self.watch {
            watch.see_to_it();
        }
    }

    /// Takes a client in, on a thread of its own, or tells it why not.
    pub(super) fn welcome(self: &Arc<Self>, stream: impl Stream) {
        if self.is_draining() {
            return turn_away(&stream, &self.ours, &ENDING);
        }
        let peer = stream.peer().unwrap_or_default();
        let options = &self.options;
        let admitted = options.admits(&peer);
        let mut holder = None;
        let joins = || {
            holder = self.budget.join(&peer, options.of_one_process());
            holder.is_some()
        };
        let why_not = options.why_not(admitted, joins, || self.has_room());
        let holder = match (why_not, holder) {
            (None, Some(holder)) => holder,
            (Some(failure), _) => return turn_away(&stream, &self.ours, &failure),
            (None, None) => return,
        };
        stream.ask_before(SMALL);
        let number = holder.connection();
        let connection = Connection::new(Arc::new(stream), peer, holder, Arc::clone(self));
        let roster = &self.roster;
        let listed = (number, Arc::downgrade(&connection));
        roster.list.lock().connections.push(listed);
        let listed = Listed {
            roster: Arc::clone(roster),
            number,
        };
        let serving = Arc::clone(&connection);
        let thread = thread::Builder::new()
            .name("pipetalk".to_owned())
            .spawn(move || {
                let _listed = listed;
                serving.serve();
            });
        if thread.is_err() {
            connection.refuse(&Failure::new(Code::OverLimit, "threads"));
            connection.close();
        }
    }

    /// Whether another one may come: perhaps in the place of one that has been idle for long.
    fn has_room(&self) -> bool {
        let open = {
            let list = self.roster.list.lock();
            list.connections.len() - list.evicted.len()
        };
        open < self.options.max_connections || self.evict()
    }

    /// Ends the connection of those idle for long that has been idle longest, of the peer that has most.
    fn evict(&self) -> bool {
        let now = Instant::now();
        let idle = |connection: &Connection| {
            let since = connection.idle_since(now)?;
            let is_long = now - since >= self.options.idle_when_full;
            is_long.then(|| (connection.holder.siblings(), now - since))
        };
        let connections = self.roster.connections();
        let longest = connections
            .iter()
            .filter_map(|connection| Some((idle(connection)?, connection)))
            .max_by_key(|(idle, _)| *idle);
        let Some((_, connection)) = longest else {
            return false;
        };
        {
            let mut list = self.roster.list.lock();
            let number = connection.holder.connection();
            let is_there = list.connections.iter().any(|(other, _)| *other == number);
            // It may have asked for something just now, or have left.
            if !is_there || !connection.evict_if_idle() {
                return false;
            }
            list.evicted.push(number);
        }
        // A client that does not read goes without a word.
        connection.part(Deadline::NOW);
        true
    }

    /// Lets the requests that are under way end, until the deadline of the drain, and then cancels them.
    pub(super) fn finish(&self) {
        // For all of them together, however many do not read.
        let courtesy = Deadline::after(COURTESY);
        let grace = self.handle().deadline();
        self.each(|connection| connection.go_away(grace, courtesy));
        self.roster.wait_until_left(State::deadline);
        self.each(Connection::close);
        let linger = Deadline::after(LINGER);
        self.roster.wait_until_left(|_| linger);
        if let Some(pool) = &self.pool {
            pool.end();
        }
        self.crew.end();
        if let Some(watch) = &self.watch {
            watch.end();
        }
        self.relief.end();
    }

    fn each(&self, what: impl Fn(&Connection)) {
        let connections = self.roster.connections();
        connections.iter().for_each(|connection| what(connection));
    }

    pub(super) fn info(&self) -> wire::Info<'_> {
        let connections = self.roster.connections();
        let in_flight = connections.iter().map(|connection| connection.in_flight());
        control::info(
            &self.ours,
            self.roster.len(),
            in_flight.sum(),
            self.is_draining(),
        )
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("service", &self.ours.service)
            .finish_non_exhaustive()
    }
}
