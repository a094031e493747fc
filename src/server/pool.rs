//! Threads that handle the requests of all connections, in turns.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::job::Job;
use crate::base::caught::caught;

/// A fixed number of threads. Dropping it lets them finish what is queued, and end.
///
/// The queue needs no limit of its own: each connection has one, its [`Share`](super::share::Share), and stays on the
/// server's list until all that it has given to the pool is done.
#[derive(Debug)]
pub(super) struct Pool(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    turns: Turns<Job>,
    ended: bool,
}

impl Pool {
    pub(super) fn new(threads: usize) -> io::Result<Pool> {
        let pool = Pool(Arc::default());
        for _ in 0..threads {
            let queue = Arc::clone(&pool.0);
            thread::Builder::new()
                .name("pipetalk-pool".to_owned())
                .spawn(move || queue.work())?;
        }
        Ok(pool)
    }

    /// Has a job done in a turn of its connection's, which has that number.
    pub(super) fn give(&self, connection: u64, job: Job) {
        self.0.state.lock().turns.push(connection, job);
        self.0.changed.notify_one();
    }

    /// Has the connection take turns again, whose client had too much to read.
    pub(super) fn resume(&self, connection: u64) {
        if self.0.state.lock().turns.resume(connection) {
            self.0.changed.notify_one();
        }
    }

    pub(super) fn end(&self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.end();
    }
}

impl Queue {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.turns.pop(Job::may_begin) {
                drop(state);
                // What it counts it counts by guards.
                let _ = caught(|| job.run());
                state = self.state.lock();
            } else if state.ended {
                return;
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}

/// What waits, by whose it is: each has a turn before anybody has another one, however much is somebody's.
struct Turns<T> {
    /// Of each for whom something waits.
    waiting: HashMap<u64, Lane<T>>,
    /// Those that have a turn.
    order: VecDeque<u64>,
    /// Empty, for those that come next.
    spare: Vec<VecDeque<T>>,
}

struct Lane<T> {
    /// In the order in which it came.
    waiting: VecDeque<T>,
    /// It has no turn for now.
    held_up: bool,
}

/// How many of them are kept, and for how much each.
const SPARE: usize = 16;
const SPARE_LENGTH: usize = 64;

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            spare: Vec::new(),
        }
    }
}

impl<T> Turns<T> {
    fn push(&mut self, whose: u64, what: T) {
        let Turns {
            waiting,
            order,
            spare,
        } = self;
        let lane = waiting.entry(whose).or_insert_with(|| {
            order.push_back(whose);
            Lane {
                waiting: spare.pop().unwrap_or_default(),
                held_up: false,
            }
        });
        lane.waiting.push_back(what);
    }

    /// The next whose turn it is. For whom it may not be, there is none before [`resume`](Self::resume).
    fn pop(&mut self, may: impl Fn(&T) -> bool) -> Option<T> {
        loop {
            let whose = self.order.pop_front()?;
            let lane = self.waiting.get_mut(&whose)?;
            if !lane.waiting.front().is_some_and(&may) {
                lane.held_up = true;
                continue;
            }
            let next = lane.waiting.pop_front();
            if !lane.waiting.is_empty() {
                self.order.push_back(whose);
            } else if let Some(Lane { waiting: empty, .. }) = self.waiting.remove(&whose) {
                if self.spare.len() < SPARE && empty.capacity() <= SPARE_LENGTH {
                    self.spare.push(empty);
                }
            }
            return next;
        }
    }

    /// Whether it was held up, and has a turn again.
    fn resume(&mut self, whose: u64) -> bool {
        let Some(lane) = self.waiting.get_mut(&whose).filter(|lane| lane.held_up) else {
            return false;
        };
        lane.held_up = false;
        self.order.push_back(whose);
        true
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_another() {
        let mut turns = Turns::default();
        for number in 0..5 {
            turns.push(1, (1, number));
        }
        turns.push(2, (2, 0));
        turns.push(3, (3, 0));
        turns.push(3, (3, 1));
        let all = |_: &(i32, i32)| true;
        assert_eq!(turns.pop(all), Some((1, 0)));
        // It comes behind those that waited before.
        turns.push(4, (4, 0));
        turns.push(2, (2, 1));
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop(all)).collect();
        let expected = [
            (2, 0),
            (3, 0),
            (1, 1),
            (4, 0),
            (2, 1),
            (3, 1),
            (1, 2),
            (1, 3),
            (1, 4),
        ];
        assert_eq!(rest, expected);
        turns.push(1, (1, 9));
        assert_eq!((turns.pop(all), turns.pop(all)), (Some((1, 9)), None));
    }

    #[test]
    fn who_is_held_up_has_no_turn_until_it_goes_on() {
        let mut turns = Turns::default();
        for whose in [1, 1, 2, 2] {
            turns.push(whose, whose);
        }
        let others = |whose: &u64| *whose != 1;
        let all = |_: &u64| true;
        assert!(!turns.resume(1));
        assert_eq!(turns.pop(others), Some(2));
        turns.push(1, 1);
        assert_eq!((turns.pop(all), turns.pop(all)), (Some(2), None));
        assert!(turns.resume(1) && !turns.resume(1) && !turns.resume(7));
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop(all)).collect();
        assert_eq!(rest, [1, 1, 1]);
    }
}
