//! Cuts off clients that do not read, while all clients together have too much to read.
//!
//! A thread that sends waits in the system, and knows nothing of the others meanwhile. So there is one that looks at all
//! of them, for as long as there is too much: it begins when that comes about.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::budget::{Budget, SMALL};
use super::connection::Connection;
use super::shared::Roster;

/// How often it looks.
const OFTEN: Duration = Duration::from_millis(250);

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
    /// There is too much to send from now on, until there is not.
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
        while !state.ended && budget.is_short() {
            drop(state);
            for connection in roster.connections() {
                connection.cut_off_if_slow();
            }
            state = self.state.lock();
            let ended = |state: &mut State| !state.ended;
            self.changed.wait_while_for(&mut state, ended, OFTEN);
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

    /// Ends the connection if what is being sent has been there for so long that it holds up others.
    fn cut_off_if_slow(&self) {
        let slow = self.state().owing.as_ref().is_some_and(|owing| {
            let patience = Budget::patience(owing.bytes);
            owing.since.elapsed() >= patience
        });
        if slow {
            self.close();
        }
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
