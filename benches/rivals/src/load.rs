//! The client's side: a closed loop. Whoever asks waits for the reply and asks again, until the turn is over.

#[cfg(any(unix, feature = "async"))]
mod tasks;
mod threads;

use std::io;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

#[cfg(any(unix, feature = "async"))]
pub(crate) use tasks::{Calls, runtime, tasks};
pub(crate) use threads::{Lane, OneByOne, Threads, Window};

/// How long each request of a turn took, in nanoseconds.
pub(crate) type Latencies = Vec<u64>;

/// What a turn has come to.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) latencies: Latencies,
    pub(crate) elapsed: Duration,
    /// The processor time of this process.
    pub(crate) cpu: Duration,
}

/// All that a client does at once.
pub(crate) trait Load {
    /// Asks for that long.
    fn turn(&mut self, time: Duration) -> io::Result<Tally>;
}

/// The beginning of a turn.
#[derive(Debug, Clone, Copy)]
struct Start {
    at: Instant,
    cpu: ProcessTime,
}

impl Start {
    fn now() -> io::Result<Start> {
        Ok(Start {
            at: Instant::now(),
            cpu: ProcessTime::try_now()?,
        })
    }

    fn tally(&self, latencies: Latencies) -> io::Result<Tally> {
        Ok(Tally {
            latencies,
            elapsed: self.at.elapsed(),
            cpu: self.cpu.try_elapsed()?,
        })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
