//! Clients have turns with a pool: who asks for much keeps nobody waiting for all of it.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use pipetalk::{Call, ClientOptions, ServerOptions, memory};

use super::driver::{Client, MemoryServer, on, over};
use util::{here, limit, until};

#[test]
fn who_asks_for_much_keeps_nobody_waiting_for_all_of_it() {
    const MUCH: u32 = 40;
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server: MemoryServer = on(ServerOptions::new().pool(1), listener);
    let handle = server.handle();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let handled = Arc::new(Mutex::new(Vec::new()));
    let (closed, order) = (Arc::clone(&gate), Arc::clone(&handled));
    let serving = thread::spawn(move || {
        let handler = move |who: u32, _: &Call| {
            let open = closed.0.lock().unwrap();
            drop(closed.1.wait_while(open, |open| !*open).unwrap());
            order.lock().unwrap().push(who);
        };
        server.serve(handler).unwrap();
    });
    let connect = || -> Client<u32, ()> {
        let stream = connector.connect(util::soon()).unwrap();
        over(ClientOptions::new().timeout(None), stream).unwrap()
    };
    let (much, little, other) = (connect(), connect(), connect());
    // It has to know first how much may be in flight.
    for client in [&much, &little] {
        client.channel().info().unwrap();
    }
    let in_flight = |count: u32| {
        until("so much is in flight", || {
            // And this request.
            other.channel().info().unwrap().in_flight == count + 1
        });
    };
    thread::scope(|scope| {
        for _ in 0..MUCH {
            scope.spawn(|| much.call(&1).unwrap());
        }
        in_flight(MUCH);
        for count in 1..=2 {
            scope.spawn(|| little.call(&2).unwrap());
            in_flight(MUCH + count);
        }
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    });
    // One of the one was under way; and then they take turns.
    let handled = handled.lock().unwrap();
    assert_eq!(handled.len() as u32, MUCH + 2);
    let places: Vec<usize> = (0..handled.len()).filter(|&place| handled[place] == 2).collect();
    assert!(places[0] <= 2 && places[1] <= 4, "{handled:?}");
    handle.stop();
    serving.join().unwrap();
}
