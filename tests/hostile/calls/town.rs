//! A server with a client that behaves, to see that the others do them no harm.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pipetalk::server::{HandleError, Handler, Opening, Outgoing, Payload, encode_reply};
use pipetalk::{
    Call, CallError, ClientOptions, Codec, DefaultCodec, ItemSink, LocalStream, ServerHandle,
    ServerOptions, Stream,
};
use serde::{Deserialize, Serialize};

use crate::ALLOCATOR;
use crate::bytes::{self, Said};
use crate::driver::{self, Client};
use crate::util::{A_WHILE, Place, shout, soon, until};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    Echo(u64),
    Text(String),
    Units(Vec<()>),
    Tree(Tree),
    /// Is answered when the town's gate is open.
    Gate,
    /// Is answered when it is cancelled.
    UntilCancelled,
    /// A reply of that many bytes.
    Large(usize),
    /// A stream whose sink is kept.
    Keep,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Tree {
    Leaf,
    Branch(Box<Tree>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Echo(u64),
    Text(String),
    Done,
}

/// What the codec makes of it.
pub(crate) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    DefaultCodec::encode(value, &mut out).unwrap();
    out
}

pub(crate) fn echo(id: u32, number: u64) -> Vec<u8> {
    bytes::request(id, bytes::FOR_EVER, &encoded(&Request::Echo(number)))
}

pub(crate) fn echoed(id: u32, number: u64) -> Said {
    Said::Reply {
        id,
        payload: encoded(&Reply::Echo(number)),
    }
}

/// What holds requests back until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU64,
    handled: AtomicU64,
    /// Sinks that handlers have handed on.
    kept: Mutex<Vec<ItemSink<Reply>>>,
    /// For those that wait in tasks: it is closed when the gate is opened.
    #[cfg(feature = "tokio")]
    closed: Closed,
}

#[cfg(feature = "tokio")]
#[derive(Debug)]
struct Closed(tokio::sync::Semaphore);

#[cfg(feature = "tokio")]
impl Default for Closed {
    fn default() -> Self {
        Closed(tokio::sync::Semaphore::new(0))
    }
}

#[allow(dead_code, reason = "some drivers handle in tasks")]
impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
        self.kept.lock().unwrap().clear();
        #[cfg(feature = "tokio")]
        self.closed.0.close();
    }

    /// How many sinks are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// Sends an item through each of the sinks that are kept.
    pub(crate) fn send_to_kept(&self) {
        let kept = self.kept.lock().unwrap();
        kept.iter()
            .for_each(|items| items.send(&Reply::Done).unwrap());
    }

    /// How many requests have come to it so far.
    pub(crate) fn seen(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How many requests of any kind were handled.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }

    pub(crate) fn handle(&self, request: Request, call: &Call) -> Reply {
        self.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(number) => Reply::Echo(number),
            Request::Text(text) => Reply::Text(text),
            Request::Large(size) => Reply::Text("x".repeat(size)),
            Request::Units(_) | Request::Tree(_) | Request::Keep => Reply::Done,
            Request::Gate => {
                self.wait();
                Reply::Done
            }
            Request::UntilCancelled => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                while !call.is_cancelled() {
                    thread::yield_now();
                }
                Reply::Done
            }
        }
    }
}

/// Answers requests, and streams: as many echoes as are asked for; large texts without end; nothing until it is
/// stopped, or until the gate is open.
#[allow(dead_code, reason = "not all of the drivers take it")]
pub(crate) struct AtGate(pub(crate) Arc<Gate>);

impl Handler<DefaultCodec, AtGate> for AtGate {
    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        let request = payload.decode::<DefaultCodec, Request>()?;
        encode_reply::<DefaultCodec, Reply>(&self.0.handle(request, call), reply)
    }

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        _: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        let request = payload.decode::<DefaultCodec, Request>()?;
        let items: ItemSink<Reply> = opening.into_sink();
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(count) => {
                let _ = (0..count).try_for_each(|number| items.send(&Reply::Echo(number)));
            }
            Request::Large(size) => {
                let text = Reply::Text("x".repeat(size));
                while items.send(&text).is_ok() {}
            }
            Request::Gate => self.0.wait(),
            Request::Keep => self.0.kept.lock().unwrap().push(items),
            _ => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                assert!(items.wait_until_stopped(soon()));
            }
        }
        Ok(())
    }
}

/// The same in tasks.
#[cfg(feature = "tokio")]
#[allow(dead_code, reason = "only one of the drivers takes it")]
pub(crate) struct AtGateAsync(pub(crate) Arc<Gate>);

#[cfg(feature = "tokio")]
impl pipetalk::tokio::Handler<DefaultCodec, AtGateAsync> for AtGateAsync {
    type Request = Request;

    fn decode(&self, method: u32, payload: &Payload) -> Result<Request, HandleError> {
        match method {
            0 => payload.decode::<DefaultCodec, _>(),
            _ => Err(HandleError::UnknownMethod),
        }
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        _: Call,
        mut reply: Outgoing,
    ) -> impl pipetalk::tokio::Replies {
        async move {
            let value = Arc::clone(&self.0).handle_async(request).await;
            let encoded = encode_reply::<DefaultCodec, Reply>(&value, &mut reply);
            (reply, encoded)
        }
    }

    async fn open(
        self: Arc<Self>,
        method: u32,
        payload: Payload,
        _: Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        if method != 0 {
            return Err(HandleError::UnknownMethod);
        }
        let request = payload.decode::<DefaultCodec, Request>()?;
        let items: pipetalk::tokio::ItemSink<Reply> = opening.into_sink_tokio();
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(count) => {
                for number in 0..count {
                    if items.send(&Reply::Echo(number)).await.is_err() {
                        break;
                    }
                }
            }
            Request::Large(size) => {
                let text = Reply::Text("x".repeat(size));
                while items.send(&text).await.is_ok() {}
            }
            Request::Gate => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                let _closed = self.0.closed.0.acquire().await;
            }
            _ => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                items.stopped().await;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "tokio")]
impl Gate {
    /// The same in a task, which is dropped when it is cancelled.
    #[allow(dead_code, reason = "only one of the drivers takes it")]
    pub(crate) async fn handle_async(self: Arc<Self>, request: Request) -> Reply {
        self.handled.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Echo(number) => Reply::Echo(number),
            Request::Text(text) => Reply::Text(text),
            Request::Large(size) => Reply::Text("x".repeat(size)),
            Request::Units(_) | Request::Tree(_) | Request::Keep => Reply::Done,
            Request::Gate => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _closed = self.closed.0.acquire().await;
                Reply::Done
            }
            Request::UntilCancelled => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
        }
    }
}

/// The largest message of a town's server, unless the test sets another.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// What a test may cost in memory, unless it says another number: a few messages of the largest kind.
const MEMORY: usize = 6 * MAX_MESSAGE;

/// What may stay in use: what the neighbour's connection keeps, and what the test itself has.
const LEFT: usize = 256 << 10;

/// Memory and threads are the whole process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Keeps all other tests waiting.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    _alone: MutexGuard<'static, ()>,
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
