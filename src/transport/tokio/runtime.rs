//! What is asked of the runtime, and said in words where it has not got it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::tokio::runtime::Handle;
use ::tokio::time::Sleep;

use super::turn::{Taken, Turn};
use crate::Deadline;
use crate::base::caught::caught;

/// Whether there is a runtime at all.
pub(crate) fn check() -> io::Result<()> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::other(
            "there is no tokio runtime here: call this from within one",
        )),
    }
}

/// Makes something that one of the runtime's drivers has to serve.
///
/// A runtime that was built without the driver panics, and has no way to be asked before: so the panic is caught.
pub(crate) fn with_driver<T>(driver: &str, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    check()?;
    caught(make).unwrap_or_else(|_| {
        Err(io::Error::other(format!(
            "the tokio runtime was built without what this takes: say {driver} or enable_all to its builder"
        )))
    })
}

/// Ready when the deadline has passed. The runtime's timer is made when a wait begins, and not before.
pub(crate) fn poll_passed(
    deadline: Deadline,
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if deadline.is_never() {
        return Poll::Pending;
    }
    if timer.is_none() {
        let Some(at) = deadline.instant().filter(|_| !deadline.has_passed()) else {
            return Poll::Ready(Ok(()));
        };
        let sleep = with_driver("enable_time", || Ok(::tokio::time::sleep_until(at.into())))?;
        timer.set(Some(sleep));
    }
    match timer.as_pin_mut() {
        Some(sleep) => sleep.poll(cx).map(Ok),
        None => Poll::Ready(Ok(())),
    }
}

/// Waits for a future, but not longer than until the deadline. One that is ready at once is never late.
pub(crate) async fn by<F: Future>(deadline: Deadline, future: F) -> io::Result<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(None);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        ready!(poll_passed(deadline, timer.as_mut(), cx))?;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

/// Goes to the end of the queue of those that can run.
///
/// Not by tokio's own: that wakes the task once the thread that polls it has nothing else to do, which need not be a
/// thread of the task's runtime.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Lets the other tasks of the thread have a turn now and then, where call after call has no need to wait.
///
/// The runtime does so by itself only where it is asked whether something is ready.
pub(crate) async fn take_turns(calls: &AtomicU8, deadline: Deadline) {
    // Two that call at the same time may count as one, which does not matter.
    let count = calls.load(Ordering::Relaxed).wrapping_add(1);
    calls.store(count, Ordering::Relaxed);
    if count % IN_TURN == 0 && deadline != Deadline::NOW {
        yield_now().await;
    }
}

/// Counts a call that cannot wait, unless it is [somebody else's turn](take_turns) by now: false, and not counted.
#[cfg(unix)]
pub(crate) fn has_turn(calls: &AtomicU8) -> bool {
    let count = calls.load(Ordering::Relaxed).wrapping_add(1);
    let has = count % IN_TURN != 0;
    if has {
        calls.store(count, Ordering::Relaxed);
    }
    has
}

/// So many calls one after the other that need not wait.
const IN_TURN: u8 = 128;

/// Takes what is somebody's turn by the deadline.
pub(crate) async fn take<T: Default>(
    deadline: Deadline,
    turn: &Turn<T>,
) -> io::Result<Taken<'_, T>> {
    match turn.try_take_in_turn() {
        Some(taken) => Ok(taken),
        None if deadline.has_passed() => {
            let taken = turn.try_take();
            taken.ok_or_else(|| io::ErrorKind::TimedOut.into())
        }
        // It is there nearly always: whoever takes it so needs no place for a wait.
        None => Box::pin(by(deadline, turn.take())).await,
    }
}

/// Waits for a while.
pub(crate) async fn sleep(pause: Duration) -> io::Result<()> {
    with_driver("enable_time", || Ok(::tokio::time::sleep(pause)))?.await;
    Ok(())
}
