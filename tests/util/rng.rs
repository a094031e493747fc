//! Random numbers that can be had again: a failing test prints the seed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint;
use std::ops::Range;
use std::thread;
use std::time::Duration;

/// A xorshift generator, seeded anew for each run, or by `PIPETALK_SEED`.
pub struct Rng {
    state: u64,
    seed: u64,
}

impl Rng {
    pub fn new() -> Rng {
        let seed =
            super::variable("PIPETALK_SEED").unwrap_or_else(|| RandomState::new().hash_one(1_u8));
        Rng {
            state: seed | 1,
            seed,
        }
    }

    /// A generator for another thread, with the same seed to be printed.
    pub fn fork(&mut self) -> Rng {
        Rng {
            state: self.next() | 1,
            seed: self.seed,
        }
    }

    pub fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn in_range(&mut self, range: Range<usize>) -> usize {
        let width = (range.end - range.start) as u64;
        range.start + (self.next() >> 11).checked_rem(width).unwrap_or(0) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.in_range(0..n) == 0
    }

    /// The size of a message: mostly small, now and then up to `largest`.
    pub fn size(&mut self, largest: usize) -> usize {
        let most = match self.in_range(0..20) {
            0..=9 => 64,
            10..=15 => 4 << 10,
            16..=18 => 64 << 10,
            _ => largest,
        };
        self.in_range(0..most.min(largest) + 1)
    }

    /// Takes a random little while, so that what races meets in another way each time.
    pub fn shake(&mut self) {
        match self.in_range(0..8) {
            0 => {}
            1 | 2 => thread::yield_now(),
            7 => self.spin(30_000),
            _ => self.spin(1_500),
        }
    }

    /// The same with now and then a while that is longer than a tick of any clock that deadlines go by.
    pub fn dawdle(&mut self) {
        if self.one_in(25) {
            thread::sleep(Duration::from_micros(self.in_range(0..3_000) as u64));
        } else {
            self.shake();
        }
    }

    fn spin(&mut self, most: usize) {
        for _ in 0..self.in_range(0..most) {
            hint::spin_loop();
        }
    }
}

impl Drop for Rng {
    fn drop(&mut self) {
        if thread::panicking() {
            super::shout(&format!("to repeat it: PIPETALK_SEED={}", self.seed));
        }
    }
}
