//! What `turn.rs` waits with, made of loom's primitives.

use std::cell::RefCell;

pub(super) use loom::sync::MutexGuard;
use loom::sync::{Arc, Condvar};

/// As the crate's own: without poisoning.
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// A thread with its token. loom's own `park` may lose a token that comes while the thread waits for a lock.
#[derive(Clone)]
pub(super) struct Thread(Arc<(Mutex<bool>, Condvar)>);

loom::thread_local! {
    static CURRENT: RefCell<Option<Thread>> = RefCell::new(None);
}

pub(super) fn current() -> Thread {
    let new = || Thread(Arc::new((Mutex::new(false), Condvar::new())));
    CURRENT.with(|current| current.borrow_mut().get_or_insert_with(new).clone())
}

impl Thread {
    pub(super) fn unpark(&self) {
        let (token, given) = &*self.0;
        *token.lock() = true;
        given.notify_one();
    }
}

/// There is one deadline that is neither now nor never, and it passes when the clock is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    Now,
    At,
    Never,
}

#[derive(Default)]
pub(super) struct Clock {
    passed: bool,
    sleepers: Vec<Thread>,
    /// A little while ends when the deadline passes. Without it, no little while is short enough to matter.
    pub(super) little_whiles: bool,
}

loom::lazy_static! {
    pub(super) static ref CLOCK: Mutex<Clock> = Mutex::new(Clock::default());
}

impl Clock {
    /// The deadline passes. Who receives by it has to be told besides.
    pub(super) fn pass(&mut self) {
        self.passed = true;
        self.sleepers.drain(..).for_each(|thread| thread.unpark());
    }
}

impl Deadline {
    pub(super) const NOW: Deadline = Deadline::Now;

    pub(super) fn has_passed(self) -> bool {
        match self {
            Deadline::Now => true,
            Deadline::At => CLOCK.lock().passed,
            Deadline::Never => false,
        }
    }
}

pub(super) fn briefly(deadline: Deadline) -> Deadline {
    if CLOCK.lock().little_whiles {
        Deadline::At
    } else {
        deadline
    }
}

/// False, without waiting, if the deadline has passed.
pub(super) fn park(deadline: Deadline) -> bool {
    let thread = current();
    if deadline == Deadline::At {
        let mut clock = CLOCK.lock();
        if clock.passed {
            return false;
        }
        clock.sleepers.push(thread.clone());
    }
    let (token, given) = &*thread.0;
    let mut token = token.lock();
    while !std::mem::take(&mut *token) {
        token = given.wait(token).unwrap();
    }
    true
}
