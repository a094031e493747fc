//! What a call costs: no heap allocation once warm, and one send and one receive for each side.

use std::fmt;
use std::thread;

use pipetalk::{Blob, Call, Client, Server};
use serde::de::DeserializeOwned;

use util::{Deserialize, Place, Serialize, announce, here, limit, wait_for_release};

use crate::{ALLOCATOR, alone};

/// 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Small {
    numbers: [u64; 6],
    bytes: [u8; 16],
}

const SMALL: Small = Small {
    // Encoded at full length.
    numbers: [u64::MAX; 6],
    bytes: [0xa5; 16],
};

/// As many calls as are counted.
const CALLS: usize = 1_000;

fn call(client: &Client<Small, Small>, times: usize) {
    for _ in 0..times {
        assert_eq!(client.call(&SMALL).unwrap(), SMALL);
    }
}

#[test]
fn a_call_allocates_nothing_once_warm() {
    let _alone = alone();
    let _limit = limit(here!());
    assert_no_allocations(&SMALL);
}

/// Blobs are slices of what was received, which is received into again once they are gone.
#[test]
fn a_call_with_a_blob_allocates_nothing_once_warm() {
    let _alone = alone();
    let _limit = limit(here!());
    for size in [1 << 10, 64 << 10, 1 << 20] {
        assert_no_allocations(&Blob::from(vec![7; size]));
    }
}

/// A client and a server that echoes: both are this process.
fn assert_no_allocations<T>(request: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + fmt::Debug + Send + 'static,
{
    let place = Place::new();
    let server = Server::bind(place.name()).unwrap();
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(|request: T, _: &Call| request));
    let client: Client<T, T> = Client::connect(place.name()).unwrap();
    let call = |times| (0..times).for_each(|_| assert_eq!(client.call(request).unwrap(), *request));
    call(100);
    // Whoever else runs here now and then, a call of ours is none of it.
    let counted = (0..5).map(|_| {
        let before = ALLOCATOR.allocations();
        call(CALLS / 10);
        ALLOCATOR.allocations() - before
    });
    let fewest = counted.min().unwrap();
    assert_eq!(fewest, 0, "allocations in {} calls", CALLS / 10);
    let (live, peak) = (ALLOCATOR.live(), ALLOCATOR.peak());
    assert!(live <= peak);
    ALLOCATOR.forget_peak();
    handle.stop();
    serving.join().unwrap().unwrap();
}

/// One side of the conversation in a process of its own, for its system calls to be counted.
#[cfg(target_os = "linux")]
mod system_calls {
    use std::collections::BTreeMap;

    use super::*;
    use util::traced::{can_trace, counted, traced};

    #[track_caller]
    fn assert_one_send_and_one_receive(counts: &BTreeMap<String, usize>) {
        let mut others = counts.clone();
        let sends = others.remove("sendto").unwrap_or(0);
        let receives = others.remove("recvmsg").unwrap_or(0);
        assert_eq!((sends, receives), (CALLS, CALLS), "{counts:?}");
        assert!(others.values().sum::<usize>() <= 10, "{counts:?}");
    }

    #[test]
    fn a_client_sends_once_and_receives_once() {
        let _alone = alone();
        let _limit = limit(here!());
        if !can_trace("the system calls of a client") {
            return;
        }
        let place = Place::new();
        let server = Server::bind(place.name()).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(|request: Small, _: &Call| request));
        let trace = place.directory().join("trace");
        let mut client = traced("calls:call", &[place.name()], &trace);
        assert_eq!(client.says(), "done");
        client.release();
        client.wait();
        handle.stop();
        serving.join().unwrap().unwrap();
        assert_one_send_and_one_receive(&counted(&trace));
    }

    /// So many threads wait for the one place of a server. Four times as many cost the client four times as much, or
    /// somewhat more, but not sixteen times as much.
    #[test]
    fn threads_that_wait_for_room_cost_the_same_however_many_they_are() {
        const FEW: usize = 150;
        let _alone = alone();
        let _limit = limit(here!());
        let place = Place::new();
        let options = pipetalk::ServerOptions::new().in_flight(1);
        let server = options.bind(place.name()).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(|request: Small, _: &Call| request));
        let cost = |threads: usize| {
            let mut client =
                util::Actor::start("calls:crowd", &[place.name(), &threads.to_string()]);
            let microseconds: f64 = client.says().parse().unwrap();
            client.wait();
            microseconds
        };
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (few, many) = (cost(FEW), cost(4 * FEW));
            println!("{few} us, and {many} us for four times as many");
            seen.push(many / few);
            if many / few < 8.0 {
                break;
            }
        }
        let least = seen.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            least < 8.0,
            "four times as many cost {seen:?} times as much"
        );
        handle.stop();
        serving.join().unwrap().unwrap();
    }

    #[test]
    fn a_server_sends_once_and_receives_once() {
        let _alone = alone();
        let _limit = limit(here!());
        if !can_trace("the system calls of a server") {
            return;
        }
        let place = Place::new();
        let trace = place.directory().join("trace");
        let mut server = traced("calls:serve", &[place.name()], &trace);
        assert_eq!(server.says(), "listening");
        let client: Client<Small, Small> = Client::connect(place.name()).unwrap();
        call(&client, 100);
        // The handler makes the mark when it sees a request of another kind.
        let marked = Small {
            numbers: [0; 6],
            ..SMALL
        };
        assert_eq!(client.call(&marked).unwrap(), marked);
        call(&client, CALLS - 1);
        assert_eq!(client.call(&marked).unwrap(), marked);
        client.channel().stop().unwrap();
        server.wait();
        // From the first mark to the second, each within the handler: the reply to one, and the request of the other.
        assert_one_send_and_one_receive(&counted(&trace));
    }
}

pub(crate) mod actors {
    use super::*;

    pub(crate) fn play(part: &str, args: &[&str]) {
        match (part, args) {
            ("call", [name]) => {
                let client: Client<Small, Small> = Client::connect(*name).unwrap();
                call(&client, 100);
                mark();
                call(&client, CALLS);
                mark();
                announce("done");
                wait_for_release();
            }
            #[cfg(target_os = "linux")]
            ("crowd", [name, threads]) => {
                use nix::time::{ClockId, clock_gettime};
                let client: Client<Small, Small> = Client::connect(*name).unwrap();
                call(&client, 1);
                let all = std::sync::Barrier::new(threads.parse().unwrap());
                thread::scope(|scope| {
                    for _ in 0..threads.parse().unwrap() {
                        scope.spawn(|| {
                            all.wait();
                            call(&client, 5);
                        });
                    }
                });
                // That of all its threads.
                let worked = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
                let worked: std::time::Duration = worked.into();
                announce(&worked.as_micros().to_string());
            }
            ("serve", [name]) => {
                let server = Server::bind(*name).unwrap();
                announce("listening");
                let handler = |request: Small, _: &Call| {
                    if request.numbers == [0; 6] {
                        mark();
                    }
                    request
                };
                server.serve(handler).unwrap();
            }
            _ => panic!("no such part: {part} {args:?}"),
        }
    }

    fn mark() {
        #[cfg(target_os = "linux")]
        util::traced::mark();
    }
}
