//! Servers that end in good order while clients come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pipetalk::{Call, CallError, ClientOptions, ServerOptions, memory};

use super::driver::{Client, bind, connect, on, over};
use util::{A_WHILE, Place, here, limit, rounds, until};

fn double(number: u32, _: &Call) -> u32 {
    2 * number
}

/// Calls from new connections and old ones until there is nobody to call any more. None of the requests may be in doubt.
fn call_until_the_end(
    calls: &AtomicUsize,
    connect: &(impl Fn() -> Result<Client<u32, u32>, CallError> + Sync),
    ends: impl FnOnce(),
) {
    thread::scope(|scope| {
        for new in [true, true, false, false] {
            scope.spawn(move || {
                let mut client = None;
                loop {
                    let called = match client.take().map_or_else(connect, Ok) {
                        Ok(connected) => {
                            let called = connected.call(&21);
                            client = (!new).then_some(connected);
                            called
                        }
                        Err(error) => Err(error),
                    };
                    match called {
                        Ok(reply) => assert_eq!(reply, 42),
                        Err(error) => {
                            assert!(!error.was_sent(), "{error:?}");
                            return;
                        }
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("some have called", || calls.load(Ordering::SeqCst) > 20);
        ends();
    });
}

#[test]
fn a_server_that_ends_in_good_order_leaves_no_request_in_doubt() {
    let _limit = limit(here!());
    if cfg!(windows) {
        util::skip(
            here!(),
            "a client may connect to the instance of a pipe just before that goes",
        );
        return;
    }
    for pool in [0, 2] {
        for _ in 0..rounds(40) {
            let place = Place::new();
            let server = bind(ServerOptions::new().pool(pool), place.name()).unwrap();
            let handle = server.handle();
            let serving = thread::spawn(move || server.serve(double));
            let calls = AtomicUsize::new(0);
            let connect = || connect(ClientOptions::new(), place.name());
            call_until_the_end(&calls, &connect, || handle.drain(A_WHILE));
            serving.join().unwrap().unwrap();
        }
    }
}

#[test]
fn so_it_is_in_memory() {
    let _limit = limit(here!());
    for _ in 0..rounds(40) {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new(), listener);
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(double));
        let calls = AtomicUsize::new(0);
        let connect = || {
            let stream = connector.connect(util::soon());
            let stream = stream.map_err(|_| CallError::Unavailable)?;
            over(ClientOptions::new(), stream)
        };
        call_until_the_end(&calls, &connect, || handle.drain(A_WHILE));
        serving.join().unwrap().unwrap();
    }
}
