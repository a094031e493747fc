//! [`Spin`]: whether a receive sleeps at once.

use std::thread;
use std::time::{Duration, Instant};

use crate::Deadline;

/// How long a blocking receive looks for a message again and again before it sleeps until one comes.
///
/// To wake a program that sleeps costs the system much more than to carry a small message: on two processors that are
/// otherwise idle, several times as much. Two programs that answer each other at once are therefore several times
/// faster if neither sleeps in between. In exchange, a receive that looks keeps a processor busy, though it lets others
/// have it between two looks; and on a processor that others want as well, its turn may come later than if it had
/// slept. So the default is not to, [`Spin::OFF`]; [`Spin::adaptive`] is for programs that are busy at times, and
/// [`Spin::always`] for those that have processors to themselves.
///
/// Set it where the connection is made, with [`ConnectOptions::spin`](crate::ConnectOptions::spin) and
/// [`ListenOptions::spin`](crate::ListenOptions::spin), best at both ends. It changes nothing but the speed: messages,
/// deadlines and errors are the same. Async programs have no use for it.
///
/// ```no_run
/// use std::time::Duration;
/// use pipetalk::{ClientOptions, ConnectOptions, Spin};
///
/// let connect = ConnectOptions::new().spin(Spin::adaptive(Duration::from_micros(50)));
/// let client = ClientOptions::new()
///     .connect_options(connect)
///     .connect::<String, usize>("acme.length")?;
/// # Ok::<(), pipetalk::CallError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Spin {
    limit: Duration,
    adaptive: bool,
}

impl Spin {
    /// A receive sleeps at once if nothing has come.
    pub const OFF: Spin = Spin::always(Duration::ZERO);

    /// Each receive looks for so long before it sleeps, 10 milliseconds at the most. A few tens of microseconds are
    /// enough for a peer that answers at once.
    #[must_use]
    pub const fn always(limit: Duration) -> Spin {
        Spin {
            limit,
            adaptive: false,
        }
    }

    /// As [`always`](Spin::always), as long as that is of use: where looking has found nothing, the next receives sleep at
    /// once, and after each further time twice as many of them, up to 1,023. A connection on which little happens
    /// costs next to nothing.
    #[must_use]
    pub const fn adaptive(limit: Duration) -> Spin {
        Spin {
            limit,
            adaptive: true,
        }
    }
}

/// Who looks sees last that its own end has been closed.
const LONGEST: Duration = Duration::from_millis(10);

/// How often looking may be in vain and still count: then one receive in 1,024 looks.
const MOST_MISSES: u32 = 10;

/// Where a first look finds nothing, so many receives yield before theirs: whoever is to answer may be waiting for this
/// very processor, and a look that comes too early costs as much as one that finds something.
const YIELDS: u32 = 15;

/// The spinning of one end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Spinner {
    spin: Spin,
    /// How often in a row looking was in vain.
    misses: u32,
    /// How many receives are to sleep at once.
    skip: u32,
    /// How many receives are to let others have the processor before they look.
    yields: u32,
}

impl Spinner {
    pub(crate) fn new(spin: Spin) -> Spinner {
        let limit = spin.limit.min(LONGEST);
        Spinner {
            spin: Spin { limit, ..spin },
            ..Spinner::default()
        }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.spin.limit.is_zero()
    }

    /// Looks until there is something, the time is over, or the deadline has passed. `look` asks the system.
    pub(crate) fn spin<T>(
        &mut self,
        deadline: Deadline,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if deadline == Deadline::NOW {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let until = Deadline::after(self.spin.limit).min(deadline);
        if self.yields > 0 {
            self.yields -= 1;
            thread::yield_now();
        }
        loop {
            if let Some(found) = look() {
                self.misses = 0;
                return Some(found);
            }
            if self.yields == 0 {
                self.yields = YIELDS;
            }
            let over = match until.instant() {
                Some(at) => Instant::now() >= at,
                None => false,
            };
            if over {
                self.miss();
                return None;
            }
            thread::yield_now();
        }
    }

    fn miss(&mut self) {
        if self.spin.adaptive {
            self.misses = (self.misses + 1).min(MOST_MISSES);
            self.skip = (1 << self.misses) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(10);

    /// How many times it looks when there is never anything.
    fn looks_in_vain(spinner: &mut Spinner, deadline: Deadline) -> usize {
        let mut looks = 0;
        let found = spinner.spin(deadline, || {
            looks += 1;
            None::<()>
        });
        assert_eq!(found, None);
        looks
    }

    #[test]
    fn off_is_the_default_and_never_looks() {
        assert_eq!(Spin::default(), Spin::OFF);
        assert!(!Spinner::default().is_on());
        assert!(!Spinner::new(Spin::adaptive(Duration::ZERO)).is_on());
        assert!(Spinner::new(Spin::always(SHORT)).is_on());
    }

    /// One that looks until it finds something.
    fn patient() -> Spinner {
        Spinner {
            spin: Spin::always(Duration::MAX),
            ..Spinner::default()
        }
    }

    #[test]
    fn what_is_there_is_found_at_once() {
        let mut spinner = patient();
        assert_eq!(spinner.spin(Deadline::NEVER, || Some(7)), Some(7));
        let mut looks = 0;
        let found = spinner.spin(Deadline::NEVER, || {
            looks += 1;
            (looks == 1000).then_some(looks)
        });
        assert_eq!(found, Some(1000));
    }

    #[test]
    fn one_that_looks_too_early_yields_before_the_next_looks() {
        let mut spinner = patient();
        let mut looks = 0;
        spinner.spin(Deadline::NEVER, || {
            looks += 1;
            (looks == 2).then_some(())
        });
        for left in (0..YIELDS).rev() {
            assert_eq!(spinner.spin(Deadline::NEVER, || Some(7)), Some(7));
            assert_eq!(spinner.yields, left);
        }
        // Then it finds out anew.
        assert_eq!(spinner.spin(Deadline::NEVER, || Some(7)), Some(7));
        assert_eq!(spinner.yields, 0);
    }

    #[test]
    fn it_ends_with_the_limit_and_with_the_deadline() {
        let mut spinner = Spinner::new(Spin::always(SHORT));
        assert!(looks_in_vain(&mut spinner, Deadline::NEVER) > 0);
        assert_eq!(
            Spinner::new(Spin::always(Duration::MAX)).spin.limit,
            LONGEST
        );
        let mut spinner = patient();
        let soon = Deadline::after(Duration::from_millis(1));
        assert!(looks_in_vain(&mut spinner, soon) > 0);
        assert!(soon.has_passed());
        assert_eq!(looks_in_vain(&mut spinner, Deadline::NOW), 0);
    }

    #[test]
    fn one_that_adapts_looks_the_less_often_the_less_it_finds() {
        let mut spinner = Spinner::new(Spin::adaptive(SHORT));
        let skipped = |spinner: &mut Spinner| {
            (0..)
                .take_while(|_| looks_in_vain(spinner, Deadline::NEVER) == 0)
                .count()
        };
        let gaps: Vec<usize> = (0..13).map(|_| skipped(&mut spinner)).collect();
        let wanted = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023];
        assert_eq!(gaps, wanted);
        // Once there is something, it looks each time again.
        while spinner.spin(Deadline::NEVER, || Some(())).is_none() {}
        assert_eq!(spinner.spin(Deadline::NEVER, || Some(1)), Some(1));
        assert!(looks_in_vain(&mut spinner, Deadline::NEVER) > 0);
    }
}
