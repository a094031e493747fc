//! What the threads of a connection wait with, made of loom's primitives: `../sync.rs`, for the model.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

pub(super) use loom::sync::MutexGuard;
use loom::sync::{Arc, Condvar};

use crate::Deadline;

/// As the crate's own: without poisoning.
#[derive(Debug)]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A thread with its token. loom's own `park` may lose a token that comes while the thread waits for a lock.
#[derive(Debug, Clone)]
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

/// The one deadline that is neither now nor never: it passes when the clock is told so.
pub(super) fn at() -> Deadline {
    Deadline::after_time(1 << 62, Duration::ZERO)
}

#[derive(Debug, Default)]
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
    /// The deadline passes. A thread that receives by it has to be told besides.
    pub(super) fn pass(&mut self) {
        self.passed = true;
        self.sleepers.drain(..).for_each(|thread| thread.unpark());
    }
}

pub(super) fn has_passed(deadline: Deadline) -> bool {
    match deadline {
        Deadline::NOW => true,
        Deadline::NEVER => false,
        _ => CLOCK.lock().passed,
    }
}

pub(super) fn within(_: Duration, deadline: Deadline) -> Deadline {
    deadline
}

pub(super) fn soon(deadline: Deadline) -> Deadline {
    deadline
}

pub(super) fn briefly(deadline: Deadline) -> Deadline {
    match CLOCK.lock().little_whiles {
        true => deadline.min(at()),
        false => deadline,
    }
}

pub(super) const ATTEMPT: Duration = Duration::ZERO;
pub(super) const TRY_AGAIN: Duration = Duration::ZERO;

/// What panics here has found something.
pub(super) fn unless_it_panics<T>(io: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    io()
}

/// False, without waiting, if the deadline has passed.
pub(super) fn park(deadline: Deadline) -> bool {
    let thread = current();
    if deadline == Deadline::NOW {
        return false;
    }
    if deadline != Deadline::NEVER {
        let mut clock = CLOCK.lock();
        if clock.passed {
            return false;
        }
        clock.sleepers.push(thread.clone());
    }
    let (token, given) = &*thread.0;
    let mut token = token.lock();
    while !std::mem::take(&mut *token) {
        token = given
            .wait(token)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
    }
    true
}
