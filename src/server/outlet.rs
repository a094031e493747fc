//! What the sinks of a connection's streams hold of it: neither its stream nor the service, so that one which is kept
//! somewhere keeps only this.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Condvar, MappedMutexGuard, Mutex, MutexGuard};

use super::ServerHandle;
use super::budget::Budget;
use super::buffer::Buffer;
use super::connection::Connection;
use super::emit::PAUSE;
use super::job::Running;
use super::kept::{Kept, Spare};
use super::relief::Owing;
use super::share::{Hold, Share};
use super::streams::{Conversation, Line, Outbound, Waker};
use crate::codec::outgoing::Outgoing;
use crate::proto::ServerSession;

pub(super) struct Outlet {
    state: Mutex<State>,
    /// The largest message that the client takes.
    client_takes: AtomicU32,
    /// There are items to send.
    queued: Condvar,
    /// A thread sends items, or waits a moment for more.
    sending: AtomicBool,
    /// That thread, which the connection waits for before it goes.
    sender: Arc<Share>,
    connection: Weak<Connection>,
    handle: ServerHandle,
}

/// What the threads that serve one client share. A request takes the lock three times, so there is only one.
pub(super) struct State {
    pub(super) talk: Conversation,
    pub(super) running: Running,
    pub(super) handling: Handling,
    /// What is being sent that is large.
    pub(super) owing: Option<Owing>,
    /// Since when it is known that the client is idle, until it is not.
    pub(super) idle_since: Option<Instant>,
    /// The client has been told that no more is read, for another one to have its place.
    pub(super) evicted: bool,
    /// Buffers to receive into, kept for the next message.
    spare: Spare<Buffer>,
    /// Messages to send, kept for the next one.
    spare_out: Spare<Outgoing>,
}

/// What the connection's own thread handles.
#[derive(Default)]
pub(super) struct Handling {
    /// Since when, if it does.
    pub(super) since: Option<u64>,
    /// Somebody else receives meanwhile.
    pub(super) watched: bool,
}

impl Outlet {
    pub(super) fn new(
        max_in_flight: usize,
        handle: ServerHandle,
        budget: Arc<Budget>,
        kept: Arc<Kept>,
        connection: Weak<Connection>,
    ) -> Outlet {
        Outlet {
            state: Mutex::new(State {
                talk: Conversation::new(ServerSession::new(max_in_flight), budget),
                running: Running::default(),
                handling: Handling::default(),
                owing: None,
                idle_since: None,
                evicted: false,
                spare: Spare::new(&kept),
                spare_out: Spare::new(&kept),
            }),
            client_takes: AtomicU32::new(u32::MAX),
            queued: Condvar::new(),
            sending: AtomicBool::new(false),
            sender: Arc::default(),
            connection,
            handle,
        }
    }

    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    #[inline]
    pub(super) fn takes(&self) -> u32 {
        self.client_takes.load(Ordering::Acquire)
    }

    pub(super) fn set_takes(&self, bytes: u32) {
        self.client_takes.store(bytes, Ordering::Release);
    }

    /// The next message of a stream to send, waited for a moment; `None` if there is none, and then the sending is over.
    pub(super) fn next(&self) -> Option<Outbound> {
        let mut state = self.state.lock();
        loop {
            let next = state.talk.streams.next();
            if next.is_some() {
                return next;
            }
            let over = state.talk.streams.is_closed()
                || (self.queued.wait_for(&mut state, PAUSE).timed_out()
                    && !state.talk.streams.has_next());
            if over {
                state.talk.streams.let_go();
                // With the lock: who queues something has been seen here, or sees this.
                self.sending.store(false, Ordering::Release);
                return None;
            }
        }
    }

    /// Ends all streams, and what sends them. Who is to know.
    #[must_use]
    pub(super) fn stop_streams(&self) -> Vec<Waker> {
        let wakers = self.state.lock().talk.streams.close();
        self.queued.notify_all();
        wakers
    }

    /// Waits until nothing sends items any more. The streams are stopped, or it is not for long.
    pub(super) fn wait_for_sender(&self) {
        self.sender.wait_until_none();
    }

    /// Lets go of what was kept for the next messages. There will be none.
    pub(super) fn let_go(&self) {
        let mut state = self.state.lock();
        state.talk.streams.let_go();
        state.talk.streams.unsent.clear();
        state.spare.clear();
        state.spare_out.clear();
    }
}

impl Line for Outlet {
    fn lock(&self) -> MappedMutexGuard<'_, Conversation> {
        MutexGuard::map(self.state.lock(), |state| &mut state.talk)
    }

    fn is_queued(&self) {
        if self.sending.load(Ordering::Acquire) {
            self.queued.notify_one();
            return;
        }
        let state = self.state.lock();
        let streams = &state.talk.streams;
        if streams.is_closed() || !streams.has_next() || self.sending.swap(true, Ordering::AcqRel) {
            return;
        }
        // A connection that is not closed has not gone, and does not go before this is over.
        self.sender.add();
        drop(state);
        Connection::start_to_send(Hold::new(self.connection.upgrade(), &self.sender));
    }

    fn client_takes(&self) -> u32 {
        self.takes()
    }

    fn is_draining(&self) -> bool {
        self.handle.is_draining()
    }
}

impl State {
    /// Whether the client waits for nothing, and there is nothing to do for it.
    fn is_idle(&self) -> bool {
        let greeted = self.talk.session.client().is_some();
        greeted && self.talk.session.in_flight() == 0 && self.running.is_idle() && !self.evicted
    }

    /// Since when it is known to be idle, if it is.
    pub(super) fn idle_since(&mut self, now: Instant) -> Option<Instant> {
        let idle = self.is_idle();
        idle.then(|| *self.idle_since.get_or_insert(now))
    }

    /// Reads no more if it is idle, for another one to have its place.
    pub(super) fn evict_if_idle(&mut self) -> bool {
        let idle = self.is_idle();
        self.evicted |= idle;
        idle
    }

    /// An empty message to send.
    #[inline]
    pub(super) fn blank(&mut self) -> Outgoing {
        self.spare_out.take()
    }

    /// Takes back an empty message, for the next one.
    #[inline]
    pub(super) fn keep_out(&mut self, message: Outgoing) {
        self.spare_out.keep(message);
    }

    /// Cancels a request or a stream, and says whom to wake.
    pub(super) fn cancel(&mut self, id: u32) -> Option<Waker> {
        self.running.cancel(id);
        self.talk.streams.cancel(id)
    }

    /// A buffer to receive the next message into.
    pub(super) fn spare(&mut self) -> Buffer {
        self.spare.take()
    }

    /// Takes back a buffer to receive into, for the next message.
    pub(super) fn keep(&mut self, buffer: Buffer) {
        self.spare.keep(buffer);
    }
}
