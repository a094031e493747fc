//! [`Backoff`]: how often to try again.

use std::io;
use std::time::Duration;

use super::deadline::Deadline;

/// Retries of an open that cannot be waited for by an event: short at first, so that a server that is just
/// coming up is found at once, and never so often that waiting costs anything.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff(Duration::from_millis(1))
    }

    /// How long to wait before the next try, or `TimedOut` if the deadline has passed.
    pub(crate) fn next(&mut self, deadline: Deadline) -> io::Result<Duration> {
        let pause = match deadline.remaining() {
            Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
            Some(left) => self.0.min(left),
            None => self.0,
        };
        self.0 = (self.0 * 2).min(Duration::from_millis(50));
        Ok(pause)
    }
}
