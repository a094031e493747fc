//! Threads that handle the requests of all connections, in turns.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::job::Job;
use crate::caught::caught;

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
            if let Some(job) = state.turns.pop() {
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
    /// Of each for whom something waits, in the order in which it came.
    waiting: HashMap<u64, VecDeque<T>>,
    order: VecDeque<u64>,
    /// Empty, for those that come next.
    spare: Vec<VecDeque<T>>,
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
        let waiting = waiting.entry(whose).or_insert_with(|| {
            order.push_back(whose);
            spare.pop().unwrap_or_default()
        });
        waiting.push_back(what);
    }

    fn pop(&mut self) -> Option<T> {
        let whose = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&whose)?;
        let next = waiting.pop_front();
        if !waiting.is_empty() {
            self.order.push_back(whose);
        } else if let Some(empty) = self.waiting.remove(&whose) {
            if self.spare.len() < SPARE && empty.capacity() <= SPARE_LENGTH {
                self.spare.push(empty);
            }
        }
        next
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
        assert_eq!(turns.pop(), Some((1, 0)));
        // It comes behind those that waited before.
        turns.push(4, (4, 0));
        turns.push(2, (2, 1));
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
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
        assert_eq!((turns.pop(), turns.pop()), (Some((1, 9)), None));
    }
}
