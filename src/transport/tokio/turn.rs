//! [`Turn`]: a lock that is held across waits.

use std::ops::{Deref, DerefMut};
use std::task::{Poll, Waker};
use std::{fmt, future::poll_fn, mem};

use ::tokio::sync;
use parking_lot::Mutex;

/// A value that one has at a time, for as long as he likes: whoever takes it takes it out, and it is put back when he is
/// done. Those who wait for it have it in their order.
///
/// It is there nearly always, and then costs much less than with a lock that looks for those who wait each time.
pub(crate) struct Turn<T> {
    place: Mutex<Place<T>>,
    /// Held by the first of those who wait. The others wait for that.
    queue: sync::Mutex<()>,
}

struct Place<T> {
    value: Option<T>,
    /// How many wait.
    waiting: usize,
    /// The first of them.
    first: Option<Waker>,
}

/// A value that has been taken.
#[derive(Debug)]
pub(crate) struct Taken<'a, T: Default> {
    turn: &'a Turn<T>,
    value: T,
}

impl<T: Default> Turn<T> {
    /// Takes the value if it is there, whoever waits for it.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<Taken<'_, T>> {
        let value = self.place.lock().value.take()?;
        Some(Taken { turn: self, value })
    }

    /// The same, if nobody waits for it.
    #[inline]
    pub(crate) fn try_take_in_turn(&self) -> Option<Taken<'_, T>> {
        let mut place = self.place.lock();
        match place.waiting {
            0 => place.value.take().map(|value| Taken { turn: self, value }),
            _ => None,
        }
    }

    /// Takes the value when it is there.
    pub(crate) async fn take(&self) -> Taken<'_, T> {
        self.place.lock().waiting += 1;
        let _waits = Waits(self);
        let _first = self.queue.lock().await;
        poll_fn(|cx| {
            if let Some(taken) = self.try_take() {
                return Poll::Ready(taken);
            }
            // Cloned and dropped without the lock: a waker may be anybody's code.
            let waker = cx.waker().clone();
            let mut place = self.place.lock();
            if let Some(value) = place.value.take() {
                return Poll::Ready(Taken { turn: self, value });
            }
            let before = place.first.replace(waker);
            drop(place);
            drop(before);
            Poll::Pending
        })
        .await
    }
}

impl<T: Default> Default for Turn<T> {
    fn default() -> Self {
        let place = Place {
            value: Some(T::default()),
            waiting: 0,
            first: None,
        };
        Turn {
            place: Mutex::new(place),
            queue: sync::Mutex::default(),
        }
    }
}

impl<T> fmt::Debug for Turn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

impl<T: Default> Deref for Taken<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default> DerefMut for Taken<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Default> Drop for Taken<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let mut place = self.turn.place.lock();
        place.value = Some(mem::take(&mut self.value));
        let first = place.first.take();
        drop(place);
        if let Some(first) = first {
            first.wake();
        }
    }
}

/// Somebody who waits.
struct Waits<'a, T>(&'a Turn<T>);

impl<T> Drop for Waits<'_, T> {
    fn drop(&mut self) {
        self.0.place.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn those_who_wait_have_it_in_their_order() {
        let turn = Turn::<u8>::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = turn.try_take_in_turn().unwrap();
        *taken = 7;
        let mut first = pin!(turn.take());
        let mut second = pin!(turn.take());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(taken);
        assert!(turn.try_take_in_turn().is_none());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let Poll::Ready(taken) = first.as_mut().poll(&mut cx) else {
            panic!("it is there")
        };
        assert_eq!(*taken, 7);
        assert!(turn.try_take().is_none());
        drop(taken);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert!(turn.try_take_in_turn().is_some());
    }

    #[test]
    fn one_who_gives_up_when_he_has_been_woken_holds_nobody_up() {
        let turn = Turn::<()>::default();
        let mut cx = Context::from_waker(Waker::noop());
        let taken = turn.try_take();
        let mut second = pin!(turn.take());
        {
            let mut first = Box::pin(turn.take());
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert!(second.as_mut().poll(&mut cx).is_pending());
            drop(taken);
        }
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert!(turn.try_take_in_turn().is_some());
    }
}
