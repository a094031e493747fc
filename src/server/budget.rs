//! How much memory the clients of a server may make it hold, and how many of them may come from one process.
//!
//! What a client has sent counts from before it is received until its request is answered, and what a client is sent
//! counts until it is sent. A connection has [`SMALL`] of either for nothing, so that small messages get through whatever
//! the others do; what is beyond that comes out of the server's budget, of which a process has a half at most.
//!
//! A large message waits for its share before it is received ([`Holder::lease`]): so nothing is held while something is
//! waited for, and nobody can hold up a neighbour by what is half received. Replies cannot wait, as they have been made:
//! so a client that has too much to read is not asked for more requests, and while the server has too much to send,
//! clients that do not read are cut off soon ([`Budget::patience`]).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
#[cfg(feature = "tokio")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use super::streams;
#[cfg(feature = "tokio")]
use crate::base::clock::{self, nanoseconds};
use crate::{Deadline, Peer, UserId};

/// What a connection may hold of requests, and of replies and items, beside the server's budget.
pub(crate) const SMALL: usize = 64 << 10;

/// A client that has more than this to read is not asked for more requests, and its streams send no more items.
pub(crate) const QUEUED: usize = 1 << 20;

/// How long a client may take to send a large message while others wait for its share, and to read one while the server
/// has too much to send: so long, and a second for each so many bytes.
const HURRY: Duration = Duration::from_secs(1);
const HURRY_BYTES: usize = 4 << 20;

/// How long to wait for what comes of cutting off a client before there is another one.
pub(crate) const BETWEEN: Duration = Duration::from_millis(250);

/// How often to look whether a client holds up others.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The most that is held of what has been received, and as much again of what is to be sent.
pub(crate) struct Budget {
    most: usize,
    most_of_one: usize,
    received: Mutex<Received>,
    /// How many wait for a share.
    waiting: AtomicUsize,
    /// What is to be sent beyond what each connection has for nothing.
    unsent: AtomicUsize,
    /// What is called when others are held up.
    on_held_up: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Streams that wait until the server has less to send.
    held_up: Mutex<Vec<streams::Waker>>,
    any_held_up: AtomicUsize,
    /// When a client was cut off last that held up others.
    #[cfg(feature = "tokio")]
    last_cut_off: AtomicU64,
}

#[derive(Debug, Default)]
struct Received {
    peers: HashMap<PeerKey, Share>,
    /// What each connection holds that holds anything.
    connections: HashMap<u64, usize>,
    held: usize,
    /// The handlers of streams that have not returned.
    streams: usize,
    waiting: Vec<Waiting>,
    next_connection: u64,
    next_waiting: u64,
}

/// Of all connections of one peer.
#[derive(Debug, Default)]
struct Share {
    connections: usize,
    streams: usize,
    held: usize,
}

/// Whose connections have a share together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PeerKey {
    Process(u32),
    /// Where the process is not known, as between containers.
    User(Box<UserId>),
    /// Nothing is known, or it is a client in the server's own process.
    Connection(u64),
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    peer: PeerKey,
    connection: u64,
    bytes: usize,
    granted: bool,
    waker: Waker,
}

impl Budget {
    /// For so many bytes of all clients together, and so many of each connection.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Budget {
        Budget {
            most,
            most_of_one,
            received: Mutex::default(),
            waiting: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            on_held_up: OnceLock::new(),
            held_up: Mutex::default(),
            any_held_up: AtomicUsize::new(0),
            #[cfg(feature = "tokio")]
            last_cut_off: AtomicU64::new(0),
        }
    }

    /// Counts another connection of a peer; `None` if that has so many.
    pub(crate) fn join(self: &Arc<Self>, peer: &Peer, most: usize) -> Option<Holder> {
        let mut received = self.received.lock();
        let connection = received.next_connection;
        let key = match (peer.pid, &peer.user) {
            (Some(pid), _) if pid != std::process::id() => PeerKey::Process(pid),
            (None, Some(user)) => PeerKey::User(Box::new(user.clone())),
            _ => PeerKey::Connection(connection),
        };
        let share = received.peers.entry(key.clone()).or_default();
        if share.connections >= most.max(1) {
            return None;
        }
        share.connections += 1;
        received.next_connection += 1;
        Some(Holder {
            budget: Arc::clone(self),
            peer: key,
            connection,
        })
    }

    /// Whether somebody waits for a share.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Has all who wait look again: one of them may have been told to give up.
    pub(crate) fn wake_all(&self) {
        if self.is_wanted() {
            let received = self.received.lock();
            let wakers: Vec<_> = received
                .waiting
                .iter()
                .map(|waiting| waiting.waker.clone())
                .collect();
            drop(received);
            wakers.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Whether there is too much to send.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.unsent.load(Ordering::SeqCst) > self.most
    }

    /// Whether somebody is held up by what others do not read: there is too much to send, or one waits for a share.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_short() || self.is_wanted()
    }

    /// Has this called whenever somebody is held up from then on. The caller may hold locks.
    pub(crate) fn when_held_up(&self, call: impl Fn() + Send + Sync + 'static) {
        // It is set once.
        let _ = self.on_held_up.set(Box::new(call));
    }

    pub(super) fn remove_unsent(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Ordering::SeqCst);
    }

    pub(super) fn add_unsent(&self, bytes: usize) {
        let before = self.unsent.fetch_add(bytes, Ordering::SeqCst);
        self.has_grown(before, before.saturating_add(bytes));
    }

    /// There is more to send than before: perhaps so much that it holds up others.
    fn has_grown(&self, before: usize, after: usize) {
        if let (true, Some(call)) = (
            before <= self.most && after > self.most,
            self.on_held_up.get(),
        ) {
            call();
        }
    }

    /// Counts so many bytes among what is to be sent, until that is dropped; `None` if that would be too much by any
    /// measure. One message never is. It is asked and counted in one step: many threads may ask at once.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> Option<Counted> {
        let most = self.most.saturating_mul(2);
        let add = |before: usize| {
            let after = before.saturating_add(bytes);
            (before == 0 || after <= most).then_some(after)
        };
        let (load, store) = (Ordering::SeqCst, Ordering::SeqCst);
        let before = self.unsent.fetch_update(store, load, add).ok()?;
        self.has_grown(before, before.saturating_add(bytes));
        Some(Counted {
            budget: Arc::clone(self),
            bytes,
        })
    }

    /// How long a client may take to send a message of so many bytes that it has begun, and `usually`.
    pub(crate) fn patience_for_message(&self, bytes: usize, usually: Duration) -> Duration {
        match self.is_wanted() {
            true => usually.min(Budget::patience(bytes)),
            false => usually,
        }
    }

    /// Whether another client may be cut off that holds up others. Not one right after the other: where the whole machine
    /// has been busy, all are late at once, and one of them may be enough.
    #[cfg(feature = "tokio")]
    pub(crate) fn may_cut_off(&self) -> bool {
        let now = clock::now();
        let last = self.last_cut_off.load(Ordering::Relaxed);
        let soon = last > 0 && now.saturating_sub(last) < nanoseconds(BETWEEN);
        !soon
            && self
                .last_cut_off
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// How long a client may take for so many bytes where that holds up others.
    pub(crate) fn patience(bytes: usize) -> Duration {
        HURRY + HURRY * u32::try_from(bytes / HURRY_BYTES).unwrap_or(u32::MAX)
    }

    /// Has somebody told when there is less to send. False if that is so already.
    pub(crate) fn hold_up(&self, waker: streams::Waker) -> bool {
        let mut held_up = self.held_up.lock();
        if !held_up.iter().any(|other| is_same(other, &waker)) {
            held_up.push(Arc::clone(&waker));
        }
        self.any_held_up.store(held_up.len(), Ordering::SeqCst);
        // Or who has just had it sent has seen nobody here.
        let short = self.is_short();
        if !short {
            held_up.retain(|other| !is_same(other, &waker));
            self.any_held_up.store(held_up.len(), Ordering::SeqCst);
        }
        short
    }

    /// Who waited for that, if it has come about.
    #[inline]
    pub(crate) fn relieved(&self) -> Vec<streams::Waker> {
        if self.any_held_up.load(Ordering::SeqCst) == 0 || self.is_short() {
            return Vec::new();
        }
        let mut held_up = self.held_up.lock();
        self.any_held_up.store(0, Ordering::SeqCst);
        mem::take(&mut held_up)
    }
}

impl Received {
    /// Takes the share of the next that can have it, and says whom to wake.
    ///
    /// It is the turn of the peer that holds least, so that one with many connections is not before the others; and who
    /// waits for much is not overtaken for ever by those that want little.
    fn grant(&mut self, most: usize, most_of_one: usize) -> Vec<Waker> {
        let mut wakers = Vec::new();
        loop {
            let fits = |held: usize, bytes: usize, most: usize| {
                held == 0 || bytes <= most - held.min(most)
            };
            let next = self
                .waiting
                .iter()
                .enumerate()
                .filter(|(_, waiting)| !waiting.granted)
                .map(|(place, waiting)| {
                    let peer = self.peers.get(&waiting.peer).map_or(0, |share| share.held);
                    (place, waiting, peer)
                })
                .filter(|(_, waiting, peer)| {
                    let one = self.connections.get(&waiting.connection).copied();
                    fits(*peer, waiting.bytes, most / 2)
                        && fits(one.unwrap_or(0), waiting.bytes, most_of_one)
                })
                .min_by_key(|(_, waiting, peer)| (*peer, waiting.number));
            let Some((place, waiting, _)) = next else {
                return wakers;
            };
            let bytes = waiting.bytes;
            if !fits(self.held, bytes, most) {
                return wakers;
            }
            let waiting = &mut self.waiting[place];
            waiting.granted = true;
            wakers.push(waiting.waker.clone());
            self.held += bytes;
            *self.connections.entry(waiting.connection).or_default() += bytes;
            self.peers.entry(waiting.peer.clone()).or_default().held += bytes;
        }
    }

    fn release(&mut self, peer: &PeerKey, connection: u64, bytes: usize) {
        self.held -= bytes;
        if let Some(held) = self.connections.get_mut(&connection) {
            *held -= bytes;
            if *held == 0 {
                self.connections.remove(&connection);
            }
        }
        self.change(peer, |share| share.held -= bytes);
    }

    fn change(&mut self, peer: &PeerKey, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.peers.get_mut(peer) {
            change(share);
            if share.connections == 0 && share.streams == 0 && share.held == 0 {
                self.peers.remove(peer);
            }
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("received", &self.received)
            .field("unsent", &self.unsent)
            .finish_non_exhaustive()
    }
}

/// A connection, as it counts.
#[derive(Debug)]
pub(crate) struct Holder {
    budget: Arc<Budget>,
    peer: PeerKey,
    connection: u64,
}

impl Holder {
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A number that no other connection of the server has.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// The share for a large message. It is waited for in its turn.
    pub(crate) fn lease(&self, bytes: usize) -> Wanted<'_> {
        Wanted {
            holder: self,
            bytes,
            number: None,
            waits: false,
        }
    }

    /// Counts another handler of a stream until it has returned; `None` if there are too many. The first of a connection
    /// always has a place, so that nobody is kept out by what others have open; and of the places beyond these, one
    /// process has a half at most.
    pub(crate) fn begin_stream(&self, most: usize, is_first: bool) -> Option<StreamPlace> {
        let mut received = self.budget.received.lock();
        let full = received.streams >= most && !is_first;
        let share = received.peers.get_mut(&self.peer)?;
        let is_one = matches!(self.peer, PeerKey::Connection(_));
        let half = most.div_ceil(2).max(share.connections);
        if full || (!is_one && share.streams >= half) {
            return None;
        }
        share.streams += 1;
        received.streams += 1;
        Some(StreamPlace {
            budget: Arc::clone(&self.budget),
            peer: self.peer.clone(),
        })
    }

    /// How many connections the peer has.
    pub(crate) fn siblings(&self) -> usize {
        let received = self.budget.received.lock();
        received
            .peers
            .get(&self.peer)
            .map_or(0, |share| share.connections)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut received = self.budget.received.lock();
        received.change(&self.peer, |share| share.connections -= 1);
    }
}

/// The place of a stream among those that there may be. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    budget: Arc<Budget>,
    peer: PeerKey,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut received = self.budget.received.lock();
        received.streams -= 1;
        received.change(&self.peer, |share| share.streams -= 1);
    }
}

/// The wait for a share. Dropping it gives it up.
#[derive(Debug)]
#[must_use = "it is a future"]
pub(crate) struct Wanted<'a> {
    holder: &'a Holder,
    bytes: usize,
    /// Once it waits.
    number: Option<u64>,
    /// It has been polled before.
    waits: bool,
}

impl Future for Wanted<'_> {
    type Output = Lease;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lease> {
        let Wanted {
            holder,
            bytes,
            number,
            waits,
        } = &mut *self;
        let Budget {
            most,
            most_of_one,
            received,
            waiting,
            on_held_up,
            ..
        } = &*holder.budget;
        let mut received = received.lock();
        let mut wakers = Vec::new();
        let number = match *number {
            Some(number) => number,
            None => {
                let new = received.next_waiting;
                received.next_waiting += 1;
                received.waiting.push(Waiting {
                    number: new,
                    peer: holder.peer.clone(),
                    connection: holder.connection,
                    bytes: *bytes,
                    granted: false,
                    waker: cx.waker().clone(),
                });
                *number = Some(new);
                waiting.fetch_add(1, Ordering::AcqRel);
                wakers = received.grant(*most, *most_of_one);
                new
            }
        };
        let place = received
            .waiting
            .iter()
            .position(|waiting| waiting.number == number);
        let Some(place) = place else {
            // It was taken before: nobody polls this again.
            return Poll::Pending;
        };
        let first = !mem::replace(waits, true);
        let polled = if received.waiting[place].granted {
            received.waiting.swap_remove(place);
            waiting.fetch_sub(1, Ordering::AcqRel);
            Poll::Ready(Lease {
                budget: Arc::clone(&holder.budget),
                peer: holder.peer.clone(),
                connection: holder.connection,
                bytes: *bytes,
            })
        } else {
            received.waiting[place].waker.clone_from(cx.waker());
            Poll::Pending
        };
        drop(received);
        // This one among them, perhaps, which does no harm.
        wakers.into_iter().for_each(Waker::wake);
        if let (true, true, Some(call)) = (first, polled.is_pending(), on_held_up.get()) {
            call();
        }
        polled
    }
}

impl Wanted<'_> {
    /// Waits on a thread, until the deadline or until told to [look](Budget::wake_all) whether it is over.
    pub(crate) fn wait(mut self, deadline: Deadline, is_over: impl Fn() -> bool) -> Option<Lease> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(lease) = Pin::new(&mut self).poll(&mut cx) {
                return Some(lease);
            }
            if is_over() || deadline.has_passed() {
                return None;
            }
            match deadline.remaining() {
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else {
            return;
        };
        let budget = &self.holder.budget;
        let mut received = budget.received.lock();
        let place = received
            .waiting
            .iter()
            .position(|waiting| waiting.number == number);
        let Some(place) = place else {
            return;
        };
        budget.waiting.fetch_sub(1, Ordering::AcqRel);
        let waiting = received.waiting.swap_remove(place);
        if waiting.granted {
            received.release(&waiting.peer, waiting.connection, waiting.bytes);
        }
        let wakers = received.grant(budget.most, budget.most_of_one);
        drop(received);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn is_same(one: &streams::Waker, other: &streams::Waker) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A share of the budget, for a message that is received or handled. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    peer: PeerKey,
    connection: u64,
    bytes: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Budget {
            most, most_of_one, ..
        } = *self.budget;
        let mut received = self.budget.received.lock();
        received.release(&self.peer, self.connection, self.bytes);
        let wakers = received.grant(most, most_of_one);
        drop(received);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Something that is to be sent, while no connection counts it.
#[derive(Debug)]
pub(crate) struct Counted {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.remove_unsent(self.bytes);
    }
}

#[cfg(test)]
#[path = "budget/tests.rs"]
mod tests;
