//! What others than its task hold of a connection: the server's list, the tasks of handlers, and whatever a handler
//! keeps of it, as calls and sinks. It is neither the stream, so that a connection that has ended lets go of its
//! descriptor, nor the service, so that a server that has ended lets go of that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::state::State;
use crate::server::budget::Holder;
use crate::server::call::{Caller, KnownPeer};
use crate::server::emit::wake;
use crate::server::streams::{Conversation, Line};
use crate::{Peer, ServerHandle, ServerOptions};

pub(super) struct Core<F> {
    pub(super) peer: KnownPeer,
    handle: ServerHandle,
    /// Whether dropping the future of a handler ends it.
    pub(super) aborts: bool,
    pub(super) idle_timeout: Option<Duration>,
    /// It gives up its place to another one.
    pub(super) evicted: AtomicBool,
    /// What the connection counts as.
    pub(super) holder: Holder,
    pub(super) state: Mutex<State<F>>,
}

impl<F> Core<F> {
    pub(super) fn new(
        peer: Peer,
        holder: Holder,
        handle: &ServerHandle,
        aborts: bool,
        options: &ServerOptions,
    ) -> Core<F> {
        Core {
            state: Mutex::new(State::new(options, Arc::clone(holder.budget()))),
            peer: KnownPeer::new(peer),
            handle: handle.clone(),
            aborts,
            idle_timeout: options.idle_timeout,
            evicted: AtomicBool::new(false),
            holder,
        }
    }

    /// Its number on the server's list.
    pub(super) fn number(&self) -> u64 {
        self.holder.connection()
    }

    /// Since when it is known to be idle, if it is.
    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let idle = state.is_idle();
        idle.then(|| *state.idle_since.get_or_insert(now))
    }

    /// Ends the connection in good order, if it is idle.
    pub(super) fn part_if_idle(&self) -> bool {
        let mut state = self.state.lock();
        let idle = state.is_idle();
        if idle {
            state.part(false);
            state.wake();
        }
        idle
    }

    pub(super) fn is_draining(&self) -> bool {
        self.handle.is_draining()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.lock().talk.session.in_flight()
    }
}

impl<F: Send + 'static> Caller for Core<F> {
    fn peer(&self) -> &Peer {
        self.peer.get()
    }

    fn client_version(&self) -> String {
        let state = self.state.lock();
        let client = state.talk.session.client();
        client
            .map(|client| client.version.clone())
            .unwrap_or_default()
    }

    /// The connection's task receives while handlers wait.
    fn look_ahead(&self) {}

    fn poll_room(&self, cx: Option<&mut Context<'_>>) -> Poll<()> {
        self.state.lock().poll_room(cx)
    }

    fn count_reply(&self, bytes: usize) -> bool {
        let counted = self.holder.budget().count(bytes);
        if counted.is_some() {
            self.state.lock().talk.streams.unsent.add(bytes);
        }
        counted.is_some()
    }

    fn uncount_reply(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.talk.streams.unsent.remove(bytes);
        let wakers = state.relieved();
        drop(state);
        wake(wakers);
        wake(self.holder.budget().relieved());
    }
}

impl<F: Send + 'static> Line for Core<F> {
    fn lock(&self) -> MappedMutexGuard<'_, Conversation> {
        MutexGuard::map(self.state.lock(), |state| &mut state.talk)
    }

    fn is_queued(&self) {
        self.state.lock().wake();
    }

    fn client_takes(&self) -> u32 {
        self.state.lock().client_takes
    }

    fn is_draining(&self) -> bool {
        self.handle.is_draining()
    }
}

/// Counts something that goes on elsewhere than in the connection's tasks, until it is dropped: the connection lasts
/// until then.
pub(super) struct Elsewhere<F: Send + 'static>(Arc<Core<F>>);

impl<F: Send + 'static> Elsewhere<F> {
    pub(super) fn begin(core: &Arc<Core<F>>) -> Elsewhere<F> {
        core.state.lock().elsewhere += 1;
        Elsewhere(Arc::clone(core))
    }
}

impl<F: Send + 'static> Drop for Elsewhere<F> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.elsewhere -= 1;
        state.wake();
    }
}

impl<F> fmt::Debug for Core<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", self.peer.get())
            .finish_non_exhaustive()
    }
}
