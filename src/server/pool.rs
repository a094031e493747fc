//! Threads that handle the requests of all connections.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::job::Job;

/// A fixed number of threads. Dropping it lets them finish what is queued, and end.
///
/// The queue needs no limit of its own: each connection has one, its [`Share`](super::share::Share), and stays on the server's list until
/// all that it has given to the pool is done.
#[derive(Debug)]
pub(super) struct Pool(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
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

    pub(super) fn give(&self, job: Job) {
        self.0.state.lock().jobs.push_back(job);
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
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.run();
                state = self.state.lock();
            } else if state.ended {
                return;
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
