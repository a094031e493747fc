//! Panics of which more panics come.

use std::panic;
use std::thread;

/// Panics when it is dropped, and so does what it panics with, so many times.
pub struct Bomb(pub u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 && !thread::panicking() {
            panic::resume_unwind(Box::new(Bomb(self.0 - 1)));
        }
    }
}

/// Nothing is printed: there are many.
pub fn raise() -> ! {
    panic::resume_unwind(Box::new(Bomb(3)))
}
