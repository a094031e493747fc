//! A server with a client that behaves, to see that the others do them no harm.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pipetalk::{CallError, ClientOptions, LocalStream, ServerHandle, ServerOptions, Stream};
use util::{A_WHILE, Place, shout, soon, until};

use super::driver::{self, Client};
use crate::ALLOCATOR;
pub(crate) use crate::alone::{Alone, alone};
use crate::calls::bytes::{self, Said};
pub(crate) use crate::calls::gate::{Gate, Reply, Request, Tree, echo, echoed, encoded};

/// The largest message of a town's server, unless the test sets another.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// What a test may cost in memory, unless it says another number: a few messages of the largest kind.
const MEMORY: usize = 6 * MAX_MESSAGE;

/// What may stay in use: what the neighbour's connection keeps, and what the test itself has.
const LEFT: usize = 256 << 10;

pub(crate) struct Town {
    pub(crate) place: Place,
    pub(crate) gate: Arc<Gate>,
    pub(crate) handle: ServerHandle,
    serving: Option<JoinHandle<io::Result<()>>>,
    neighbour: Option<Neighbour>,
    threads: usize,
    memory: usize,
    /// How much may be in use for good.
    left: usize,
    live: usize,
    /// Last, so that the next test begins when all of this has gone.
    _alone: Alone,
}

impl Town {
    pub(crate) fn new() -> Town {
        Town::with(|options| options)
    }

    pub(crate) fn with(set: impl FnOnce(ServerOptions) -> ServerOptions) -> Town {
        Town::with_pool(0, set)
    }

    /// A town whose server handles requests on so many threads.
    pub(crate) fn with_pool(pool: usize, set: impl FnOnce(ServerOptions) -> ServerOptions) -> Town {
        let alone = alone();
        until("the threads of the last test have gone", || {
            threads().is_none_or(|threads| threads == 0)
        });
        let place = Place::new();
        let options = ServerOptions::new().max_message(MAX_MESSAGE).pool(pool);
        let server = driver::bind(set(options), place.name()).unwrap();
        let handle = server.handle();
        let gate = Arc::new(Gate::default());
        let at_gate = Arc::clone(&gate);
        let serving = thread::spawn(move || driver::serve(server, at_gate, pool));
        let neighbour = Neighbour::move_in(&place);
        neighbour.assert_well();
        // One for the neighbour's connection, and with a pool another one, which sends.
        let expected = driver::threads(pool);
        if threads().is_none() {
            shout("skipped: counting threads: only Linux tells them by name");
        }
        until("the threads are there", || {
            threads().is_none_or(|threads| threads == expected)
        });
        let live = ALLOCATOR.live();
        ALLOCATOR.forget_peak();
        Town {
            place,
            gate,
            handle,
            serving: Some(serving),
            neighbour: Some(neighbour),
            threads: expected,
            memory: MEMORY,
            left: LEFT,
            live,
            _alone: alone,
        }
    }

    /// Allows the test more memory than usual, or less.
    pub(crate) fn memory(mut self, bytes: usize) -> Town {
        self.memory = bytes;
        self
    }

    /// Expects so many threads at once. Of each that has waited for a lock, `parking_lot` keeps three places of 64
    /// bytes in a table whose size is a power of two, and that it does not give back, nor the smaller ones before.
    pub(crate) fn threads(mut self, most: usize) -> Town {
        self.left = LEFT + most * 3 * 64 * 2 * 2;
        self
    }

    /// Somebody who has not said anything yet.
    pub(crate) fn stranger(&self) -> Raw {
        Raw(LocalStream::connect(self.place.name()).unwrap())
    }

    /// Somebody who has said hello, and was welcomed.
    pub(crate) fn guest(&self) -> Raw {
        loop {
            let guest = self.stranger();
            let _ = guest.0.send(&bytes::hello(), soon());
            match guest.hears() {
                Said::Welcome => return guest,
                // Not every machine is quick enough for a time that is short.
                Said::Refusal(failure) if failure.text.contains("time for a hello") => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// How many are connected, the neighbour included.
    pub(crate) fn connections(&self) -> u32 {
        let neighbour = self.neighbour.as_ref().unwrap();
        neighbour.client.channel().info().unwrap().connections
    }

    /// The neighbour has noticed nothing, no more memory was used than is allowed, and everything that the
    /// others have caused goes away with them.
    pub(crate) fn assert_unharmed(&self) {
        self.neighbour.as_ref().unwrap().assert_well();
        until("only the neighbour is connected", || {
            self.connections() == 1
        });
        until("no thread is left over", || {
            threads().is_none_or(|threads| threads == self.threads)
        });
        let used = ALLOCATOR.peak().saturating_sub(self.live);
        // What stays in use is there beside the large messages for which a test allows so much.
        let most = self.memory + self.left;
        assert!(used <= most, "{used} bytes were in use, {most} are allowed");
        until("the memory is given back", || {
            ALLOCATOR.live().saturating_sub(self.live) <= self.left
        });
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.gate.open();
        drop(self.neighbour.take());
        self.handle.stop();
        let served = self.serving.take().unwrap().join();
        if !thread::panicking() {
            served.unwrap().unwrap();
        }
    }
}

/// A client that behaves, calling all the while, from a thread of its own.
struct Neighbour {
    client: Client<Request, Reply>,
    calls: Arc<AtomicU64>,
    moving_out: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long each of its calls may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Neighbour {
    fn move_in(place: &Place) -> Neighbour {
        let options = ClientOptions::new().timeout(PATIENCE);
        let client = loop {
            let client: Client<Request, Reply> =
                driver::connect(options.clone(), place.name()).unwrap();
            match client.call(&Request::Echo(0)) {
                // As with a guest.
                Err(CallError::Refused(why)) if why.contains("time for a hello") => {}
                called => {
                    assert_eq!(called, Ok(Reply::Echo(0)));
                    break client;
                }
            }
        };
        let calls = Arc::new(AtomicU64::new(0));
        let moving_out = Arc::new(AtomicBool::new(false));
        let (caller, counter, leaving) =
            (client.clone(), Arc::clone(&calls), Arc::clone(&moving_out));
        let thread = thread::spawn(move || {
            for number in 0.. {
                if leaving.load(Ordering::SeqCst) {
                    return;
                }
                let started = Instant::now();
                let reply = caller.call(&Request::Echo(number));
                let took = started.elapsed();
                assert_eq!(reply, Ok(Reply::Echo(number)), "after {took:?}");
                assert!(took < PATIENCE + Duration::from_secs(1), "{took:?}");
                counter.fetch_add(1, Ordering::SeqCst);
                // A call now and then, not as many as there can be: others are to get their turn.
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        Neighbour {
            client,
            calls,
            moving_out,
            thread: Some(thread),
        }
    }

    /// All its calls were answered in time, and still are.
    fn assert_well(&self) {
        let before = self.calls.load(Ordering::SeqCst);
        until("the neighbour has called twice more", || {
            let thread = self.thread.as_ref().unwrap();
            assert!(!thread.is_finished(), "the neighbour was harmed");
            self.calls.load(Ordering::SeqCst) >= before + 2
        });
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.moving_out.store(true, Ordering::SeqCst);
        let thread = self.thread.take().unwrap();
        thread.thread().unpark();
        let ended = thread.join();
        if !thread::panicking() {
            ended.expect("the neighbour was harmed");
        }
    }
}

/// How many threads the server has; `None` where nobody tells.
pub(crate) fn threads() -> Option<usize> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.filter(|name| name.starts_with("pipetalk")).count())
}

/// Somebody who says what he likes, in whole messages.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) LocalStream);

impl Raw {
    #[track_caller]
    pub(crate) fn says(&self, message: &[u8]) {
        self.0.send(message, soon()).unwrap();
    }

    /// The next thing that the other end says; `None` when it has closed.
    #[track_caller]
    pub(crate) fn hears_or_end(&self) -> Option<Said> {
        let mut message = Vec::new();
        let heard = self.0.recv_message(&mut message, soon()).unwrap();
        heard.map(|_| bytes::read(&message))
    }

    #[track_caller]
    pub(crate) fn hears(&self) -> Said {
        self.hears_or_end().expect("an answer, not the end")
    }

    /// It is refused for that reason, in these words, and the connection ends.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: u16, words: &str) -> bytes::Failure {
        let failure = match self.hears() {
            Said::Refusal(failure) => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.text.contains(words), "{failure:?}");
        assert_eq!(self.hears_or_end(), None);
        failure
    }

    /// The request fails for that reason, in these words.
    #[track_caller]
    pub(crate) fn assert_fails(&self, id: u32, code: u16, words: &str) {
        match self.hears() {
            Said::Error { id: of, failure } => {
                assert_eq!((of, failure.code), (id, code), "{failure:?}");
                assert!(failure.text.contains(words), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// The conversation goes on as if nothing had been.
    #[track_caller]
    pub(crate) fn assert_goes_on(&self) {
        self.says(&echo(4_000_000_000, 17));
        assert_eq!(self.hears(), echoed(4_000_000_000, 17));
    }
}

/// A time within which something has to happen that takes no time of its own.
pub(crate) const PROMPT: Duration = Duration::from_secs(A_WHILE.as_secs() / 3);
