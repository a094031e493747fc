//! The connections of a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ::tokio::sync::Notify;
use parking_lot::Mutex;

use super::core::Core;
use super::kept::Kept;
use crate::server::LINGER;
use crate::server::budget::Budget;
use crate::tokio::runtime;
use crate::{Deadline, ServerHandle, ServerOptions};

/// Who is connected, and what all of them share beside the service.
pub(super) struct List<F> {
    connections: Mutex<Connections<F>>,
    /// A client has left, or the end has come nearer.
    pub(super) changed: Arc<Notify>,
    pub(super) kept: Kept,
    pub(super) budget: Arc<Budget>,
}

struct Connections<F> {
    open: HashMap<u64, Arc<Core<F>>>,
    /// How many of them have given up their place to others.
    evicted: usize,
}

impl<F> List<F> {
    pub(super) fn new(changed: Arc<Notify>, budget: Arc<Budget>) -> List<F> {
        List {
            connections: Mutex::new(Connections {
                open: HashMap::new(),
                evicted: 0,
            }),
            changed,
            kept: Kept::default(),
            budget,
        }
    }

    /// Puts a connection on the list, until it [leaves](Self::leave).
    pub(super) fn enter(&self, core: &Arc<Core<F>>) {
        let mut connections = self.connections.lock();
        connections.open.insert(core.number(), Arc::clone(core));
    }

    pub(super) fn leave(&self, core: &Core<F>) {
        let mut connections = self.connections.lock();
        let gone = connections.open.remove(&core.number());
        if gone.is_some() && core.evicted.load(Ordering::Relaxed) {
            connections.evicted -= 1;
        }
        drop(connections);
        drop(gone);
        self.changed.notify_waiters();
    }

    /// Whether another one may come: perhaps in the place of one that has been idle for long.
    pub(super) fn has_room(&self, options: &ServerOptions) -> bool {
        let full = {
            let connections = self.connections.lock();
            connections.open.len() - connections.evicted >= options.max_connections
        };
        !full || self.evict(options)
    }

    /// Ends the connection of those idle for long that has been idle longest, of the peer that has most.
    fn evict(&self, options: &ServerOptions) -> bool {
        let now = Instant::now();
        let idle = |core: &Arc<Core<F>>| {
            let since = core.idle_since(now)?;
            let is_long = now - since >= options.idle_when_full;
            is_long.then(|| (core.holder.siblings(), now - since))
        };
        let all = self.all();
        let longest = all
            .iter()
            .filter_map(|core| Some((idle(core)?, core)))
            .max_by_key(|(idle, _)| *idle);
        let Some((_, core)) = longest else {
            return false;
        };
        let mut connections = self.connections.lock();
        // It may have asked for something just now, or have left.
        if !connections.open.contains_key(&core.number()) || !core.part_if_idle() {
            return false;
        }
        core.evicted.store(true, Ordering::Relaxed);
        connections.evicted += 1;
        true
    }

    pub(super) fn all(&self) -> Vec<Arc<Core<F>>> {
        self.connections.lock().open.values().cloned().collect()
    }

    pub(super) fn each(&self, what: impl Fn(&Core<F>)) {
        self.all().iter().for_each(|connection| what(connection));
    }

    /// Lets the requests that are under way end, until the deadline of the drain, and then cancels them.
    pub(super) async fn finish(&self, handle: &ServerHandle) {
        let grace = handle.deadline();
        self.each(|connection| connection.go_away(grace));
        self.until_left(|| handle.deadline()).await;
        self.each(Core::wind_up);
        let linger = Deadline::after(LINGER);
        self.until_left(|| linger).await;
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
}
