//! Credit: how much of a stream its server may send before its client has taken what came before.
//!
//! Both ends count in the same way, so that each can hold the other to it. One credit pays for each started KiB of
//! an item's message, header included: a small message costs the system about as much. The server may send an item
//! while it has any credit left, and a large one may bring it below nought, so that an item of any size gets
//! through a window of any size; until as much has come back, nothing follows it.

/// What an item costs whose message is so long, in credits.
#[inline]
pub(crate) fn price(size: usize) -> u32 {
    u32::try_from(size.div_ceil(1024))
        .unwrap_or(MAX_CREDIT)
        .max(1)
}

/// The most credit that there can be at a time.
pub(crate) const MAX_CREDIT: u32 = i32::MAX as u32;

/// The credit that a server has, by the count of one of the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Credit(i64);

impl Credit {
    #[inline]
    pub(crate) fn is_left(self) -> bool {
        self.0 > 0
    }

    /// Grants more; false, and nothing is granted, if that is more than there can be.
    #[must_use]
    pub(crate) fn grant(&mut self, more: u32) -> bool {
        let sum = self.0 + i64::from(more);
        let fits = sum <= i64::from(MAX_CREDIT);
        if fits {
            self.0 = sum;
        }
        fits
    }

    /// Pays for an item whose message is so long; false, and nothing is paid, if there is no credit left.
    #[inline]
    #[must_use]
    pub(crate) fn pay(&mut self, size: usize) -> bool {
        let may = self.is_left();
        if may {
            self.0 -= i64::from(price(size));
        }
        may
    }
}

/// A stream's credit as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Window {
    size: u32,
    credit: Credit,
    /// What the items have cost that were taken since credit was given last.
    taken: u32,
}

impl Window {
    /// Any size from one credit on.
    pub(crate) fn new(size: u32) -> Window {
        let size = size.clamp(1, MAX_CREDIT);
        Window {
            size,
            credit: Credit(size.into()),
            taken: 0,
        }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// An item has come; false if the server had no credit for it.
    #[inline]
    #[must_use]
    pub(crate) fn receive(&mut self, size: usize) -> bool {
        self.credit.pay(size)
    }

    /// The consumer has taken an item.
    #[inline]
    pub(crate) fn take(&mut self, size: usize) {
        self.taken = self.taken.saturating_add(price(size));
    }

    /// Whether there is something to give back now.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.taken >= (self.size / 2).max(1)
    }

    /// What to give back now, if anything: half a window at a time, so that the server never waits for a consumer that
    /// keeps up, and is told no more often than that.
    #[inline]
    pub(crate) fn due(&mut self) -> Option<u32> {
        if !self.is_due() {
            return None;
        }
        let back = std::mem::take(&mut self.taken);
        // What was taken was paid for before, so that this never exceeds the window.
        self.credit.grant(back).then_some(back)
    }

    /// Takes back credit that could not be sent: it is still due.
    pub(crate) fn keep(&mut self, back: u32) {
        self.credit.0 -= i64::from(back);
        self.taken = self.taken.saturating_add(back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_credit_pays_for_each_started_kib_and_at_least_one() {
        for (size, credits) in [
            (0, 1),
            (1, 1),
            (1024, 1),
            (1025, 2),
            (64 << 10, 64),
            ((64 << 10) + 1, 65),
            (usize::MAX, MAX_CREDIT),
        ] {
            assert_eq!(price(size), credits, "{size}");
        }
    }

    #[test]
    fn a_large_item_brings_it_below_nought_once() {
        let mut credit = Credit::default();
        assert!(!credit.pay(0));
        assert!(credit.grant(1) && credit.pay(10 << 10));
        assert!(!credit.pay(0) && credit.grant(9) && !credit.pay(0));
        assert!(credit.grant(1) && credit.pay(0) && !credit.is_left());
    }

    #[test]
    fn there_is_no_more_than_there_can_be() {
        let mut credit = Credit::default();
        assert!(!credit.grant(MAX_CREDIT + 1) && !credit.is_left());
        assert!(credit.grant(MAX_CREDIT) && !credit.grant(1));
        assert!(credit.pay(1) && credit.grant(1) && !credit.grant(u32::MAX));
    }

    #[test]
    fn a_window_of_any_size_lets_items_of_any_size_through() {
        for size in [0, 1, 2, 3, 7, 64, 1000, u32::MAX] {
            for item in [0, 1, 1024, 1025, 5000, 300_000] {
                let mut window = Window::new(size);
                let mut server = Credit(window.size().into());
                for _ in 0..50 {
                    let mut outstanding = 0;
                    while server.pay(item) {
                        assert!(window.receive(item));
                        outstanding += 1;
                        if outstanding * u64::from(price(item)) >= 5000 {
                            break;
                        }
                    }
                    assert!(outstanding > 0, "a window of {size} is stuck at {item}");
                    assert_eq!(server, window.credit);
                    for _ in 0..outstanding {
                        window.take(item);
                        if let Some(back) = window.due() {
                            assert!(server.grant(back));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn credit_comes_back_in_steps_of_half_a_window() {
        let mut window = Window::new(64);
        let steps = (0..64).map(|_| {
            assert!(window.receive(10));
            window.take(10);
            window.due()
        });
        let steps: Vec<Option<u32>> = steps.collect();
        let given = |n: usize| if n % 32 == 31 { Some(32) } else { None };
        assert_eq!(steps, (0..64).map(given).collect::<Vec<_>>());
        // A window as small as can be, and an item that is larger than the window.
        let mut window = Window::new(0);
        assert!(window.receive(5000));
        window.take(5000);
        assert_eq!((window.due(), window.due()), (Some(5), None));
    }

    #[test]
    fn credit_that_could_not_be_sent_is_still_due() {
        let mut window = Window::new(4);
        assert!(window.receive(2000));
        let before = window;
        window.take(2000);
        assert_eq!(window.due(), Some(2));
        window.keep(2);
        assert_eq!(window.credit, before.credit);
        assert!(window.receive(1));
        window.take(1);
        assert_eq!((window.due(), window.due()), (Some(3), None));
        assert_eq!(window.credit, Credit(4));
    }
}
