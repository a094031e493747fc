//! Cuts off clients that do not read, while that holds up others: all clients together have too much to read, or one waits
//! for a share of the server's memory.
//!
//! A thread that sends waits in the system, and knows nothing of the others meanwhile. So there is one that looks at all
//! of them, for as long as that is so: it begins when it comes about. Each time it looks it cuts off only the one that has
//! been slow for longest: where the whole machine has been busy, all are late at once.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::budget::{BETWEEN, Budget, SMALL};
use super::connection::Connection;
use super::shared::Roster;

#[derive(Debug, Default)]
pub(super) struct Relief {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    ended: bool,
}

impl Relief {
    /// Others are held up from now on, until they are not.
    #[cold]
    pub(super) fn begin(self: &Arc<Self>, budget: &Arc<Budget>, roster: &Arc<Roster>) {
        let mut state = self.state.lock();
        if state.running || state.ended {
            return;
        }
        let (relief, budget, roster) = (Arc::clone(self), Arc::clone(budget), Arc::clone(roster));
        let thread = thread::Builder::new().name("pipetalk-relief".to_owned());
        // Without it clients have as long as usual.
        let started = thread.spawn(move || relief.run(&budget, &roster));
        state.running = started.is_ok();
    }

    fn run(&self, budget: &Budget, roster: &Roster) {
        let mut state = self.state.lock();
        // Whoever brings it about again either sees that this runs, or is seen here.
        while !state.ended && budget.is_held_up() {
            drop(state);
            let connections = roster.connections();
            let late = connections
                .iter()
                .filter_map(|connection| Some((connection.is_late_by()?, connection)));
            if let Some((_, slowest)) = late.max_by_key(|(late, _)| *late) {
                slowest.close();
            }
            drop(connections);
            state = self.state.lock();
            let ended = |state: &mut State| !state.ended;
            self.changed.wait_while_for(&mut state, ended, BETWEEN);
        }
        state.running = false;
        self.changed.notify_all();
    }

    /// Waits until nothing looks any more, and nothing will.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.running);
    }
}

/// What is being sent that is large.
#[derive(Debug)]
pub(super) struct Owing {
    since: Instant,
    bytes: usize,
    messages: u32,
}

/// Something large is being sent, until this is dropped.
pub(super) struct Owes<'a>(&'a Connection);

impl Connection {
    /// Notes that so much is being sent, if it is much.
    pub(super) fn owes(&self, bytes: usize) -> Option<Owes<'_>> {
        (bytes > SMALL).then(|| {
            let owing = &mut self.state().owing;
            match owing {
                Some(owing) => {
                    owing.bytes += bytes;
                    owing.messages += 1;
                }
                none => {
                    *none = Some(Owing {
                        since: Instant::now(),
                        bytes,
                        messages: 1,
                    });
                }
            }
            Owes(self)
        })
    }

    /// For how long what is being sent has been there beyond what it may be where it holds up others.
    fn is_late_by(&self) -> Option<Duration> {
        let state = self.state();
        let owing = state.owing.as_ref()?;
        owing
            .since
            .elapsed()
            .checked_sub(Budget::patience(owing.bytes))
    }
}

impl Drop for Owes<'_> {
    fn drop(&mut self) {
        let owing = &mut self.0.state().owing;
        *owing = owing.take().filter(|owing| owing.messages > 1);
        if let Some(owing) = owing {
            // One of several has gone: the client reads.
            owing.messages -= 1;
            owing.since = Instant::now();
        }
    }
}
