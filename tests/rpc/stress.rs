//! Typed calls under stress: one client for many threads while connections break, and servers that are killed. Every
//! call ends, with its own answer or with an error that says truthfully whether the request was sent.
//!
//! `PIPETALK_STRESS` is the number of calls, 20,000 in a thorough run unless set.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{
    Call, CallError, CallOptions, Client, ClientOptions, Deadline, Listener, LocalListener,
    LocalStream, ServerOptions, Stream,
};

use util::{
    A_WHILE, Actor, Deserialize, Place, Rng, Serialize, announce, here, is_wine, limit, many,
    rounds_or, shout,
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    nonce: u64,
    what: What,
    ballast: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum What {
    Answer,
    /// Answer after so many microseconds.
    Slowly(u16),
    UntilCancelled,
    Panic,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reply {
    nonce: u64,
    check: u64,
    ballast: Vec<u64>,
}

/// What only the answer to that very call can hold.
fn check(nonce: u64) -> u64 {
    (nonce ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

fn ballast(nonce: u64) -> Vec<u64> {
    // Mostly small, now and then more than a buffer of the system takes at once.
    let length = match nonce % 97 {
        0 => 9_000,
        1..10 => 300,
        _ => nonce % 5,
    };
    (0..length).map(|place| place ^ nonce).collect()
}

fn request(nonce: u64, what: What) -> Request {
    Request {
        nonce,
        what,
        ballast: ballast(nonce),
    }
}

fn answer(request: &Request, call: &Call) -> Reply {
    match request.what {
        What::Answer => {}
        What::Slowly(micros) => {
            thread::sleep(Duration::from_micros(micros.into()));
        }
        What::UntilCancelled => {
            while !call.is_cancelled() {
                thread::sleep(Duration::from_micros(200));
            }
        }
        // Nothing is printed: there are many.
        What::Panic => panic::resume_unwind(Box::new("as asked")),
    }
    assert_eq!(request.ballast, ballast(request.nonce));
    Reply {
        nonce: request.nonce,
        check: check(request.nonce),
        ballast: request.ballast.clone(),
    }
}

#[track_caller]
fn assert_answers(reply: &Reply, nonce: u64) {
    assert_eq!((reply.nonce, reply.check), (nonce, check(nonce)));
    assert!(reply.ballast == ballast(nonce), "another call's ballast");
}

/// A listener whose connections can be broken.
#[derive(Debug)]
struct Fragile {
    listener: LocalListener,
    streams: Arc<Mutex<Vec<Arc<LocalStream>>>>,
}

impl Listener for Fragile {
    type Stream = Arc<LocalStream>;

    fn accept(&self, deadline: Deadline) -> io::Result<Arc<LocalStream>> {
        let stream = Arc::new(self.listener.accept(deadline)?);
        self.streams.lock().unwrap().push(Arc::clone(&stream));
        Ok(stream)
    }

    fn stop(&self) {
        self.listener.stop();
    }
}

/// What a call is, and what may become of it.
struct Plan {
    what: What,
    timeout: Duration,
    idempotent: bool,
}

impl Plan {
    fn new(rng: &mut Rng) -> Plan {
        let short = Duration::from_micros(rng.in_range(0..4_000) as u64);
        let (what, timeout) = match rng.in_range(0..100) {
            0..60 => (What::Answer, A_WHILE),
            60..75 => (What::Answer, short),
            75..85 => (What::Slowly(rng.in_range(0..1_500) as u16), A_WHILE),
            85..93 => (What::Slowly(rng.in_range(0..1_500) as u16), short),
            93..96 => (What::UntilCancelled, short),
            _ => (What::Panic, A_WHILE),
        };
        Plan {
            what,
            timeout,
            idempotent: rng.one_in(3),
        }
    }

    #[track_caller]
    fn check(&self, nonce: u64, result: Result<Reply, CallError>, took: Duration) {
        let hurried = self.timeout < A_WHILE;
        // However slow the machine: a call that has a while is not near it, and one that has not is not far off.
        assert!(
            took < self.timeout + A_WHILE / 2,
            "{took:?} of {:?}",
            self.timeout
        );
        match result {
            Ok(reply) => {
                assert!(matches!(self.what, What::Answer | What::Slowly(_)));
                assert_answers(&reply, nonce);
            }
            Err(CallError::TimedOut { sent }) => {
                assert!(
                    hurried,
                    "{:?} timed out after {took:?}, sent: {sent}",
                    self.what
                );
                assert!(took >= self.timeout, "too early: {took:?}");
            }
            Err(CallError::Cancelled) => assert!(hurried, "{:?} cancelled", self.what),
            Err(CallError::Panicked) => assert_eq!(self.what, What::Panic),
            Err(CallError::Disconnected { sent: true }) => {
                assert!(
                    !self.idempotent || took >= self.timeout,
                    "it may be tried again"
                );
            }
            Err(CallError::Disconnected { sent: false }) => {
                assert!(took >= self.timeout, "it may be tried again: {took:?}");
            }
            Err(error) => panic!("{:?}: {error:?}", self.what),
        }
    }
}

#[test]
fn stress_one_client_for_many_threads_while_connections_break() {
    const THREADS: usize = 64;
    let _limit = limit(here!());
    let calls = many(if is_wine() { 4_000 } else { 20_000 });
    let mut rng = Rng::new();
    let place = Place::new();
    let streams = Arc::default();
    let listener = Fragile {
        listener: LocalListener::bind(place.name()).unwrap(),
        streams: Arc::clone(&streams),
    };
    let server = ServerOptions::new().pool(8).on(listener);
    let handle = server.handle();
    // How often each request was carried out.
    let carried_out: Arc<Vec<AtomicU8>> = Arc::new((0..calls).map(|_| AtomicU8::new(0)).collect());
    let counters = Arc::clone(&carried_out);
    let serving = thread::spawn(move || {
        server.serve(move |request: Request, call: &Call| {
            counters[request.nonce as usize].fetch_add(1, Ordering::SeqCst);
            answer(&request, call)
        })
    });
    let client: Client<Request, Reply> = ClientOptions::new()
        .reconnect(true)
        .connect(place.name())
        .unwrap();

    let next = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let [answered, unsent, breaks] = [(); 3].map(|()| AtomicU64::new(0));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS)
            .map(|_| {
                let mut rng = rng.fork();
                let (client, next, carried_out) = (&client, &next, &carried_out);
                let (answered, unsent) = (&answered, &unsent);
                scope.spawn(move || {
                    loop {
                        let nonce = next.fetch_add(1, Ordering::Relaxed);
                        if nonce >= calls {
                            return;
                        }
                        let plan = Plan::new(&mut rng);
                        let started = Instant::now();
                        let options = CallOptions::new()
                            .deadline(plan.timeout)
                            .idempotent(plan.idempotent);
                        let result = client.call_with(&request(nonce, plan.what), options);
                        let took = started.elapsed();
                        let times = || carried_out[nonce as usize].load(Ordering::SeqCst);
                        match &result {
                            Ok(_) => {
                                answered.fetch_add(1, Ordering::Relaxed);
                                assert!(times() > 0);
                            }
                            Err(error) if !error.was_sent() => {
                                unsent.fetch_add(1, Ordering::Relaxed);
                                // In time for the last check, so that what comes late is seen as well.
                                carried_out[nonce as usize].fetch_add(100, Ordering::SeqCst);
                            }
                            Err(_) => {}
                        }
                        if !plan.idempotent {
                            assert!(times() % 100 <= 1, "carried out twice");
                        }
                        plan.check(nonce, result, took);
                    }
                })
            })
            .collect();
        let mut rng = rng.fork();
        let (next, done, breaks) = (&next, &done, &breaks);
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                // By the calls and not by the clock: if every connection broke before it has answered anything, a call
                // that may be tried again would be until its time is over.
                let then = next.load(Ordering::SeqCst) + rng.in_range(20..400) as u64;
                while next.load(Ordering::SeqCst) < then && !done.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_micros(100));
                }
                for stream in streams.lock().unwrap().drain(..) {
                    if rng.one_in(3) {
                        stream.abort();
                    } else {
                        stream.close();
                    }
                    breaks.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Before anybody who has failed is waited for.
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        done.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    handle.stop();
    serving.join().unwrap().unwrap();
    for (nonce, times) in carried_out.iter().enumerate() {
        let times = times.load(Ordering::SeqCst);
        assert!(
            times <= 100,
            "call {nonce} was carried out, although it was said not to be sent"
        );
    }
    shout(&format!(
        "{calls} calls: {answered:?} answered, {unsent:?} not sent; {breaks:?} connections broken"
    ));
    assert!(answered.into_inner() > calls / 4);
}

/// Killed at any time, the server leaves no call without an end, and what is said not to be sent it has not seen.
#[test]
fn killing_the_server_ends_every_call_truthfully() {
    const CALLS: u64 = 1_000;
    const THREADS: u64 = 8;
    let _limit = limit(here!());
    let mut rng = Rng::new();
    let logs = tempfile::tempdir().unwrap();
    let (mut answered, mut sent, mut unsent) = (0, 0, 0);
    for round in 0..rounds_or(15, 12) {
        let place = Place::new();
        let log = logs.path().join(format!("{round}"));
        let pool = if round % 2 == 0 { "0" } else { "4" };
        let mut server = Actor::start("stress:serve", &[place.name(), log.to_str().unwrap(), pool]);
        assert_eq!(server.says(), "listening");
        let reconnects = round % 3 == 0;
        let client: Client<Request, Reply> = ClientOptions::new()
            .reconnect(reconnects)
            .connect(place.name())
            .unwrap();
        let killed_after = Duration::from_micros(rng.in_range(0..400_000) as u64);
        let results: Vec<(u64, Result<Reply, CallError>)> = thread::scope(|scope| {
            let callers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let client = &client;
                    let mut rng = rng.fork();
                    scope.spawn(move || {
                        let mut results = Vec::new();
                        for nonce in (thread..CALLS).step_by(THREADS as usize) {
                            let what = What::Slowly(rng.in_range(0..800) as u16);
                            // Long enough to be seen as a hang if it is waited for.
                            let patience = if reconnects { A_WHILE / 30 } else { A_WHILE };
                            let options = CallOptions::new().deadline(patience);
                            let started = Instant::now();
                            let result = client.call_with(&request(nonce, what), options);
                            let took = started.elapsed();
                            assert!(took < A_WHILE / 2, "{result:?} after {took:?}");
                            let over = result.is_err();
                            results.push((nonce, result));
                            if over && reconnects {
                                // Nobody listens any more; each call would wait for its deadline.
                                break;
                            }
                        }
                        results
                    })
                })
                .collect();
            thread::sleep(killed_after);
            server.kill();
            callers
                .into_iter()
                .flat_map(|caller| caller.join().unwrap())
                .collect()
        });
        let seen: HashSet<u64> = fs::read(&log)
            .unwrap_or_default()
            .chunks_exact(8)
            .map(|nonce| u64::from_le_bytes(nonce.try_into().unwrap()))
            .collect();
        for (nonce, result) in results {
            match result {
                Ok(reply) => {
                    assert_answers(&reply, nonce);
                    assert!(seen.contains(&nonce));
                    answered += 1;
                }
                Err(error) => {
                    let broken = matches!(
                        error,
                        CallError::Disconnected { .. }
                            | CallError::Unreachable { .. }
                            | CallError::TimedOut { .. }
                    );
                    assert!(broken, "{error:?}");
                    if error.was_sent() {
                        sent += 1;
                    } else {
                        assert!(
                            !seen.contains(&nonce),
                            "{error:?}, and the server has seen it"
                        );
                        unsent += 1;
                    }
                }
            }
        }
    }
    shout(&format!(
        "calls to servers that were killed: {answered} answered, {sent} sent, {unsent} not sent"
    ));
}

pub(crate) mod actors {
    use super::*;

    pub(crate) fn play(part: &str, args: &[&str]) {
        match (part, args) {
            ("serve", [name, log, pool]) => serve(name, log, pool.parse().unwrap()),
            _ => panic!("no such part: {part} {args:?}"),
        }
    }

    /// Answers, and writes down what it has been asked before it does, until it is killed.
    fn serve(name: &str, log: &str, pool: usize) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        // Wine does not append at once: two would write to one place.
        let log = Mutex::new(log);
        let server = ServerOptions::new().pool(pool).bind(name).unwrap();
        announce("listening");
        server
            .serve(move |request: Request, call: &Call| {
                let nonce = request.nonce.to_le_bytes();
                log.lock().unwrap().write_all(&nonce).unwrap();
                answer(&request, call)
            })
            .unwrap();
    }
}
