//! Threads for streams: their handlers, and what sends their items.
//!
//! A thread is started when none is idle, and ends after it has been idle for a while. A stream whose handler has
//! returned, having handed its sink on, has none.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::base::caught::caught;

/// How many handlers of streams run at once, for all connections of a server together, unless it is told another number. The
/// system has an end of threads, and not one that says no: where memory cannot be mapped any more, which takes four maps
/// for each thread of the 65,530 that Linux allows a process, the standard library ends the process.
pub(crate) const HANDLERS: usize = 1024;

/// How long a thread waits for the next task.
const IDLE: Duration = Duration::from_secs(1);

/// Dropping it lets idle threads go.
#[derive(Default)]
pub(crate) struct Crew {
    queue: Arc<Queue>,
}

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// For each there is an idle thread.
    tasks: VecDeque<Task>,
    idle: usize,
    ended: bool,
}

impl Crew {
    /// Sees to it that a thread is idle.
    ///
    /// # Errors
    ///
    /// What the system says if there can be no more threads.
    pub(crate) fn make_ready(&self) -> io::Result<()> {
        let mut state = self.queue.state.lock();
        if state.idle > state.tasks.len() {
            return Ok(());
        }
        // It counts from now on.
        state.idle += 1;
        drop(state);
        self.start(None).inspect_err(|_| {
            self.queue.state.lock().idle -= 1;
        })
    }

    /// Runs a task on a thread.
    ///
    /// # Errors
    ///
    /// What the system says if there can be no more threads.
    pub(crate) fn run(&self, task: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let task: Task = Box::new(task);
        let mut state = self.queue.state.lock();
        if state.idle > state.tasks.len() {
            state.tasks.push_back(task);
            self.queue.changed.notify_one();
            return Ok(());
        }
        drop(state);
        self.start(Some(task))
    }

    fn start(&self, task: Option<Task>) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        thread::Builder::new()
            .name("pipetalk-stream".to_owned())
            .spawn(move || queue.work(task))
            .map(drop)
    }

    /// Has idle threads end.
    pub(crate) fn end(&self) {
        self.queue.state.lock().ended = true;
        self.queue.changed.notify_all();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.end();
    }
}

impl Queue {
    /// Runs the task, if there is one, and those that come after. A thread without a task counts as idle already.
    fn work(&self, first: Option<Task>) {
        let mut next = first;
        let mut counts = next.is_none();
        loop {
            if let Some(task) = next {
                // What it counts it counts by guards.
                let _ = caught(task);
            }
            let mut state = self.state.lock();
            if !counts {
                state.idle += 1;
            }
            next = self.next(&mut state);
            state.idle -= 1;
            counts = false;
            if next.is_none() {
                return;
            }
        }
    }

    /// The next task, unless none comes for a while.
    fn next(&self, state: &mut MutexGuard<'_, State>) -> Option<Task> {
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.ended || self.changed.wait_for(state, IDLE).timed_out() {
                return state.tasks.pop_front();
            }
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_are_used_again_and_a_panic_ends_none() {
        let crew = Crew::default();
        let (say, said) = mpsc::channel();
        for number in 0..100 {
            let say = say.clone();
            if number % 2 == 0 {
                crew.make_ready().unwrap();
            }
            let run = move || {
                say.send((number, thread::current().id())).unwrap();
                std::panic::resume_unwind(Box::new(number));
            };
            crew.run(run).unwrap();
        }
        let mut numbers: Vec<i32> = Vec::new();
        let mut threads = std::collections::HashSet::new();
        for (number, thread) in said.iter().take(100) {
            numbers.push(number);
            threads.insert(thread);
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..100));
        // One is idle by the time that the next task comes, sooner or later.
        while crew.queue.state.lock().idle == 0 {
            thread::yield_now();
        }
        let one = thread::current().id();
        assert!(!threads.contains(&one));
        drop(crew);
    }
}
