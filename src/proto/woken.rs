//! [`Woken`]: the wakers that a state machine hands out.

use std::mem;

/// The wakers of those whose calls have changed. Driver code wakes them when it holds no lock.
///
/// One waker, as most messages concern one call, takes no memory besides.
#[derive(Debug)]
pub(crate) enum Woken<W> {
    None,
    One(W),
    More(Vec<W>),
}

impl<W> Default for Woken<W> {
    #[inline]
    fn default() -> Self {
        Woken::None
    }
}

impl<W> Woken<W> {
    /// Adds a waker, if there is one.
    #[inline]
    pub(crate) fn add(&mut self, waker: Option<W>) {
        if let Some(waker) = waker {
            self.push(waker);
        }
    }

    fn push(&mut self, waker: W) {
        *self = match mem::take(self) {
            Woken::None => Woken::One(waker),
            Woken::One(first) => Woken::More(vec![first, waker]),
            Woken::More(mut wakers) => {
                wakers.push(waker);
                Woken::More(wakers)
            }
        }
    }

    /// Takes all wakers out, in their order.
    #[inline]
    pub(crate) fn drain(&mut self, mut wake: impl FnMut(W)) {
        match self {
            Woken::None => {}
            woken => match mem::take(woken) {
                Woken::None => {}
                Woken::One(waker) => wake(waker),
                Woken::More(wakers) => wakers.into_iter().for_each(wake),
            },
        }
    }
}
