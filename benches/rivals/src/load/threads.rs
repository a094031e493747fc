//! Peers that block: a thread for each request that is outstanding, or one that sends ahead.

use std::collections::VecDeque;
use std::io;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{Latencies, Load, Start, Tally, nanoseconds};

/// What one thread does.
pub(crate) trait Lane: Send {
    fn run(&mut self, until: Instant) -> io::Result<Latencies>;
}

/// One request at a time.
#[derive(Debug)]
pub(crate) struct OneByOne<F>(pub(crate) F);

impl<F: FnMut() -> io::Result<()> + Send> Lane for OneByOne<F> {
    fn run(&mut self, until: Instant) -> io::Result<Latencies> {
        let mut latencies = Latencies::new();
        let mut asked = Instant::now();
        while asked < until || latencies.is_empty() {
            (self.0)()?;
            let now = Instant::now();
            latencies.push(nanoseconds(now - asked));
            asked = now;
        }
        Ok(latencies)
    }
}

/// One half of a connection on which replies come in the order of their requests.
pub(crate) trait Half: Send {
    /// Sends the next request, or receives the next reply and checks it.
    fn step(&mut self) -> io::Result<()>;
}

impl<F: FnMut() -> io::Result<()> + Send> Half for F {
    fn step(&mut self) -> io::Result<()> {
        self()
    }
}

/// So many requests at once on one connection on which replies come in order: one thread sends a request for each
/// reply that it receives, or two do, where what is under way could fill the buffers both ways.
#[derive(Debug)]
pub(crate) struct Window<S, R> {
    pub(crate) send: S,
    pub(crate) receive: R,
    pub(crate) outstanding: usize,
    /// [Whether one thread will do](crate::scenario::Scenario::fits_buffers).
    pub(crate) one_thread: bool,
}

impl<S: Half, R: Half> Window<S, R> {
    fn run_in_one_thread(&mut self, until: Instant) -> io::Result<Latencies> {
        let mut latencies = Latencies::new();
        let mut sent = VecDeque::with_capacity(self.outstanding);
        let mut now = Instant::now();
        for _ in 0..self.outstanding {
            sent.push_back(now);
            self.send.step()?;
        }
        while let Some(asked) = sent.pop_front() {
            self.receive.step()?;
            now = Instant::now();
            latencies.push(nanoseconds(now - asked));
            if now < until {
                sent.push_back(now);
                self.send.step()?;
            }
        }
        Ok(latencies)
    }

    fn run_in_two_threads(&mut self, until: Instant) -> io::Result<Latencies> {
        // One more is under way than is in the channel: the one whose reply is being received.
        let (sent, asked) = mpsc::sync_channel(self.outstanding - 1);
        let Window { send, receive, .. } = self;
        thread::scope(|scope| {
            let sender = scope.spawn(move || {
                // At least one, however late it has become.
                for number in 0_u64.. {
                    let now = Instant::now();
                    // A receiver that is gone has failed, and says why.
                    if (number > 0 && now >= until) || sent.send(now).is_err() {
                        break;
                    }
                    send.step()?;
                }
                Ok(())
            });
            let mut latencies = Latencies::new();
            while let Ok(asked) = asked.recv() {
                receive.step()?;
                latencies.push(nanoseconds(asked.elapsed()));
            }
            joined(sender.join())?;
            Ok(latencies)
        })
    }
}

impl<S: Half, R: Half> Lane for Window<S, R> {
    fn run(&mut self, until: Instant) -> io::Result<Latencies> {
        if self.one_thread || self.outstanding == 1 {
            self.run_in_one_thread(until)
        } else {
            self.run_in_two_threads(until)
        }
    }
}

fn joined<T>(result: thread::Result<io::Result<T>>) -> io::Result<T> {
    result.unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
}

/// A thread for each lane, or this one, if there is but one lane.
pub(crate) struct Threads(pub(crate) Vec<Box<dyn Lane>>);

impl Load for Threads {
    fn turn(&mut self, time: Duration) -> io::Result<Tally> {
        if let [lane] = &mut self.0[..] {
            let start = Start::now()?;
            let latencies = lane.run(start.at + time)?;
            return start.tally(latencies);
        }
        // That threads begin is not counted, only what they do.
        let start = OnceLock::new();
        thread::scope(|scope| {
            let lanes: Vec<_> = self
                .0
                .iter_mut()
                .map(|lane| {
                    let start = &start;
                    thread::Builder::new().spawn_scoped(scope, move || match start.wait() {
                        Some(Start { at, .. }) => lane.run(*at + time),
                        None => Ok(Latencies::new()),
                    })
                })
                .collect();
            // Where one could not begin, the others end at once.
            let all = lanes.iter().all(Result::is_ok);
            let start = start.get_or_init(|| if all { Start::now().ok() } else { None });
            let mut latencies = Latencies::new();
            for lane in lanes {
                latencies.append(&mut joined(lane?.join())?);
            }
            match start {
                Some(start) => start.tally(latencies),
                None => Err(io::Error::other("no processor time to be had")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    /// The most that were ever unanswered in a window, and how many requests there were.
    fn most_unanswered(one_thread: bool) -> (usize, usize) {
        // A request can be received as soon as it was sent.
        let (send, receive) = mpsc::channel::<()>();
        let unanswered = AtomicUsize::new(0);
        let answered = &unanswered;
        let most = AtomicUsize::new(0);
        let mut window = Window {
            send: || {
                let now = unanswered.fetch_add(1, SeqCst) + 1;
                most.fetch_max(now, SeqCst);
                send.send(()).map_err(io::Error::other)
            },
            receive: move || {
                let soon = Duration::from_secs(30);
                receive.recv_timeout(soon).map_err(io::Error::other)?;
                answered.fetch_sub(1, SeqCst);
                Ok(())
            },
            outstanding: 8,
            one_thread,
        };
        let until = Instant::now() + Duration::from_millis(20);
        let requests = window.run(until).unwrap().len();
        drop(window);
        assert_eq!(unanswered.into_inner(), 0);
        (most.into_inner(), requests)
    }

    #[test]
    fn no_more_requests_are_unanswered_than_the_window_has() {
        let (most, requests) = most_unanswered(true);
        assert_eq!(most, 8);
        assert!(requests >= 8);
        let (most, _) = most_unanswered(false);
        assert!(most <= 8, "{most}");
    }
}
