//! [`Pool`]: vectors that a thread lends to whatever is at work on it, so that what waits keeps none.

use std::cell::Cell;
use std::thread::LocalKey;

/// Up to `N` vectors without anything in particular in them. It is a variable of the thread.
pub(crate) struct Pool<T, const N: usize> {
    /// A vector for more elements is not kept.
    most: usize,
    vectors: [Cell<Vec<T>>; N],
}

impl<T, const N: usize> Pool<T, N> {
    pub(crate) const fn new(most: usize) -> Pool<T, N> {
        Pool {
            most,
            vectors: [const { Cell::new(Vec::new()) }; N],
        }
    }
}

/// A vector that was given back, or a new one. A thread that is ending has none any more.
pub(crate) fn borrow<T, const N: usize>(pool: &'static LocalKey<Pool<T, N>>) -> Vec<T> {
    let lent = pool.try_with(|pool| {
        let vectors = pool.vectors.iter().map(Cell::take);
        vectors.into_iter().find(|vector| vector.capacity() > 0)
    });
    lent.ok().flatten().unwrap_or_default()
}

/// Gives a vector back, perhaps to another thread than the one that has lent it. The larger ones are worth more.
pub(crate) fn give_back<T, const N: usize>(
    pool: &'static LocalKey<Pool<T, N>>,
    mut vector: Vec<T>,
) {
    let _ = pool.try_with(|pool| {
        if vector.capacity() > pool.most {
            return;
        }
        for place in &pool.vectors {
            let other = place.take();
            if other.capacity() == 0 {
                place.set(vector);
                return;
            }
            let (larger, smaller) = match other.capacity() > vector.capacity() {
                true => (other, vector),
                false => (vector, other),
            };
            place.set(larger);
            vector = smaller;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 16;

    thread_local! {
        static ONE: Pool<u8, 1> = const { Pool::new(MOST) };
        static TWO: Pool<u8, 2> = const { Pool::new(MOST) };
    }

    #[test]
    fn a_vector_is_lent_again_and_a_large_one_is_not_kept() {
        give_back(&ONE, Vec::with_capacity(1_000));
        give_back(&ONE, Vec::with_capacity(10));
        give_back(&ONE, Vec::with_capacity(MOST + 1));
        let vector = borrow(&ONE);
        assert_eq!(vector.capacity(), 1_000);
        assert_eq!(borrow(&ONE).capacity(), 0);
        give_back(&ONE, vector);
        assert_eq!(borrow(&ONE).capacity(), 1_000);
    }

    #[test]
    fn as_many_are_kept_as_there_are_places() {
        for capacity in [10, 1_000, 100] {
            give_back(&TWO, Vec::with_capacity(capacity));
        }
        let mut lent = [0; 3].map(|_| borrow(&TWO).capacity());
        lent.sort_unstable();
        assert_eq!(lent, [0, 100, 1_000]);
    }
}
