//! Requests that wait for their turn behind a slow one, where a client has one at a time: none is carried out for which
//! nobody waits any more, and the time of those that are counts from when they came.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pipetalk::{
    Call, CallError, CallOptions, ClientOptions, ServerHandle, ServerOptions, memory,
};

use super::driver::{Client, MemoryServer, on, over};
use util::{A_MOMENT, A_WHILE, here, limit, until};

/// Waits until the test lets it.
const SLOW: u32 = 0;
/// How much time it has left.
const TIME_LEFT: u32 = 1;

struct Town {
    client: Client<u32, Duration>,
    gate: Arc<(Mutex<bool>, Condvar)>,
    handled: Arc<AtomicU32>,
    begun: mpsc::Receiver<()>,
    handle: ServerHandle,
    serving: Option<JoinHandle<()>>,
}

impl Town {
    fn new(pool: usize) -> Town {
        let (listener, connector) = memory::listener();
        let server: MemoryServer = on(ServerOptions::new().pool(pool), listener);
        let handle = server.handle();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let handled = Arc::new(AtomicU32::new(0));
        let (begin, begun) = mpsc::channel();
        let (closed, counts, begin) = (Arc::clone(&gate), Arc::clone(&handled), Mutex::new(begin));
        let serving = thread::spawn(move || {
            let handler = move |what: u32, call: &Call| {
                if what == SLOW {
                    begin.lock().unwrap().send(()).unwrap();
                    let open = closed.0.lock().unwrap();
                    drop(closed.1.wait_while(open, |open| !*open).unwrap());
                } else {
                    counts.fetch_add(1, Ordering::SeqCst);
                }
                call.deadline().remaining().unwrap_or(Duration::MAX)
            };
            server.serve(handler).unwrap();
        });
        let stream = connector.connect(util::soon()).unwrap();
        let client = over(ClientOptions::new().timeout(None), stream).unwrap();
        Town {
            client,
            gate,
            handled,
            begun,
            handle,
            serving: Some(serving),
        }
    }

    /// Whether something slow stands at the gate, from now on.
    fn shut(&self, shut: bool) {
        *self.gate.0.lock().unwrap() = !shut;
        self.gate.1.notify_all();
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.shut(false);
        self.handle.stop();
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

/// When something is seen that nobody asks for is a matter of the machine's: it is given ever more time.
fn comes_about(what: &str, holds_after: impl Fn(Duration) -> bool) {
    let waits = [1, 15, 70].map(|times| times * A_MOMENT);
    assert!(waits.into_iter().any(holds_after), "{what}");
}

/// The cancellation is behind the request, and both behind a handler that does not look.
#[test]
fn what_was_cancelled_before_its_turn_is_not_carried_out() {
    let _limit = limit(here!());
    for pool in [0, 1, 0, 1] {
        comes_about("it is not carried out", |time| {
            let town = Town::new(pool);
            town.shut(true);
            thread::scope(|scope| {
                let slow = scope.spawn(|| town.client.call(&SLOW));
                town.begun.recv_timeout(A_WHILE).unwrap();
                let calls: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            let moment = CallOptions::new().deadline(A_MOMENT);
                            town.client.call_with(&TIME_LEFT, moment)
                        })
                    })
                    .collect();
                for call in calls {
                    let late = Err(CallError::TimedOut { sent: true });
                    assert_eq!(call.join().unwrap(), late);
                }
                // A task sends it when it is its turn.
                thread::sleep(time);
                town.shut(false);
                slow.join().unwrap().unwrap();
            });
            // Behind all of them.
            town.client.call(&TIME_LEFT).unwrap();
            town.handled.load(Ordering::SeqCst) == 1
        });
    }
}

#[test]
fn the_deadline_of_a_request_that_waited_counts_from_when_it_came() {
    let _limit = limit(here!());
    for pool in [0, 1] {
        comes_about("its time begins before its turn", |waits| {
            counts_from_when_it_came(pool, waits)
        });
    }
}

fn counts_from_when_it_came(pool: usize, waits: Duration) -> bool {
    let town = Town::new(pool);
    let time = 10 * A_WHILE;
    town.shut(true);
    thread::scope(|scope| {
        let slow = scope.spawn(|| town.client.call(&SLOW));
        town.begun.recv_timeout(A_WHILE).unwrap();
        let sent = Instant::now();
        let call = scope.spawn(|| {
            let options = CallOptions::new().deadline(time);
            town.client.call_with(&TIME_LEFT, options)
        });
        while sent.elapsed() < waits {
            thread::sleep(waits / 10);
        }
        town.shut(false);
        slow.join().unwrap().unwrap();
        let left = call.join().unwrap().unwrap();
        left <= time - waits / 2
    })
}

/// A client that goes while its request is handled is noticed, though the handler does not look.
#[test]
fn what_a_client_asked_for_that_has_left_is_not_carried_out() {
    let _limit = limit(here!());
    for pool in [0, 1] {
        comes_about("it is not carried out", |time| {
            let town = Town::new(pool);
            town.shut(true);
            thread::scope(|scope| {
                let slow = scope.spawn(|| town.client.call(&SLOW));
                town.begun.recv_timeout(A_WHILE).unwrap();
                let calls: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| town.client.call(&TIME_LEFT)))
                    .collect();
                // They have asked by then, or ask in vain.
                thread::sleep(A_MOMENT);
                town.client.channel().close();
                for call in calls.into_iter().chain([slow]) {
                    assert!(call.join().unwrap().is_err());
                }
            });
            thread::sleep(time);
            town.shut(false);
            town.handle.drain(Duration::MAX);
            until("it has ended", || {
                town.serving.as_ref().unwrap().is_finished()
            });
            town.handled.load(Ordering::SeqCst) == 0
        });
    }
}
