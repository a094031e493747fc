//! A watch over handlers that run on the threads of their connections: where one takes long, somebody else receives what
//! comes meanwhile. So it is known when a request came that has to wait for its turn, and that it was cancelled.
//!
//! It costs a call nothing but a look whether the watch is awake. The watch sleeps while nothing is handled, and looks
//! now and then while something is: more often once a handler takes long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::connection::Connection;
use super::shared::Roster;
use crate::base::clock::{self, nanoseconds};

/// How long a handler takes that takes long.
pub(super) const LONG: Duration = Duration::from_millis(20);

/// How often the watch looks while a handler takes long.
const OFTEN: Duration = Duration::from_millis(20);

/// How often otherwise: at first, and after a while.
const AT_FIRST: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(500);

/// So often it looks in vain before it sleeps.
const IN_VAIN: u32 = 5;

/// Dropping it ends it.
pub(super) struct Watch {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Desk {
    /// If not, whoever begins to handle something wakes it.
    awake: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    ended: bool,
}

/// What a connection's thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    Idle,
    Busy,
    Slow,
}

impl Watch {
    pub(super) fn start(roster: Arc<Roster>) -> io::Result<Watch> {
        let desk: Arc<Desk> = Arc::default();
        let watching = Arc::clone(&desk);
        let thread = thread::Builder::new()
            .name("pipetalk-watch".to_owned())
            .spawn(move || watching.watch(&roster))?;
        Ok(Watch {
            desk,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Something is being handled: that it is has been noted, with the lock of its connection.
    #[inline]
    pub(super) fn see_to_it(&self) {
        if !self.desk.awake.load(Ordering::Relaxed) {
            self.desk.wake();
        }
    }

    /// Waits until the watch has ended.
    pub(super) fn end(&self) {
        self.desk.state.lock().ended = true;
        self.desk.changed.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Desk {
    #[cold]
    fn wake(&self) {
        let mut state = self.state.lock();
        if !state.woken {
            state.woken = true;
            self.awake.store(true, Ordering::Relaxed);
            self.changed.notify_all();
        }
    }

    fn watch(&self, roster: &Roster) {
        // It allocates nothing while it watches the same ones.
        let mut room = Vec::new();
        while self.sleep() {
            let (mut wait, mut in_vain) = (AT_FIRST, 0);
            while in_vain < IN_VAIN {
                if self.has_ended_after(wait) {
                    return;
                }
                let (pace, next) = match look(roster, &mut room, true) {
                    Pace::Slow => (Pace::Slow, OFTEN),
                    pace => (pace, wait.max(AT_FIRST / 2).saturating_mul(2).min(LATER)),
                };
                in_vain = if pace == Pace::Idle { in_vain + 1 } else { 0 };
                wait = next;
            }
            self.state.lock().woken = false;
            self.awake.store(false, Ordering::Relaxed);
            // Who notes from now on that it begins sees that; who has noted it before is seen.
            if look(roster, &mut room, false) > Pace::Idle {
                self.wake();
            }
        }
    }

    /// Sleeps until it is woken. False if the watch has ended.
    fn sleep(&self) -> bool {
        let mut state = self.state.lock();
        self.changed
            .wait_while(&mut state, |state| !state.woken && !state.ended);
        !state.ended
    }

    fn has_ended_after(&self, wait: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed
            .wait_while_for(&mut state, |state| !state.ended, wait);
        state.ended
    }
}

/// Looks at all connections, and has received what has come for those whose handlers take long.
fn look(roster: &Roster, connections: &mut Vec<Arc<Connection>>, receives: bool) -> Pace {
    let now = clock::now();
    let pace = |connection: &Connection| {
        let Some(since) = connection.handles_since() else {
            return Pace::Idle;
        };
        if now.saturating_sub(since) < nanoseconds(LONG) {
            return Pace::Busy;
        }
        if receives {
            connection.look_ahead_for_handler();
        }
        Pace::Slow
    };
    roster.add_connections(connections);
    let paces = connections.iter().map(|connection| pace(connection));
    let pace = paces.max().unwrap_or(Pace::Idle);
    connections.clear();
    pace
}
