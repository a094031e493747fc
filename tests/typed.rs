//! Typed calls between a client and a server.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "util/mod.rs"]
mod util;

use std::thread;
use std::time::Duration;

use pipetalk::{
    Call, CallError, CallOptions, Client, ClientOptions, Server, ServerOptions, memory,
};
use serde::{Deserialize, Serialize};

use util::{Place, here, limit};

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Echo(String),
    Panic,
    WaitUntilCancelled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Reply {
    Echo(String),
    Cancelled,
}

fn handle(request: Request, call: &Call) -> Reply {
    match request {
        Request::Echo(text) => Reply::Echo(text),
        Request::Panic => panic!("as asked"),
        Request::WaitUntilCancelled => {
            while !call.is_cancelled() {
                thread::yield_now();
            }
            Reply::Cancelled
        }
    }
}

#[test]
fn requests_are_answered() {
    let _limit = limit(here!());
    for pool in [0, 3] {
        let place = Place::new();
        let server = ServerOptions::new().pool(pool).bind(place.name()).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(handle_request()));
        let client: Client<Request, Reply> = Client::connect(place.name()).unwrap();
        for i in 0..100 {
            let reply = client.call(&Request::Echo(i.to_string())).unwrap();
            assert_eq!(reply, Reply::Echo(i.to_string()));
        }
        assert_eq!(
            client.call(&Request::Panic).unwrap_err(),
            CallError::Panicked
        );
        let moment = CallOptions::new().deadline(Duration::from_millis(50));
        let error = client
            .call_with(&Request::WaitUntilCancelled, moment)
            .unwrap_err();
        assert_eq!(error, CallError::TimedOut { sent: true });
        assert_eq!(
            client.call(&Request::Echo("on".into())).unwrap(),
            Reply::Echo("on".into())
        );
        let info = client.channel().info().unwrap();
        assert_eq!(
            (info.pid, info.connections, info.draining),
            (std::process::id(), 1, false)
        );
        handle.drain(Duration::from_secs(5));
        serving.join().unwrap().unwrap();
        let error = client.call(&Request::Echo("late".into())).unwrap_err();
        assert!(
            matches!(
                error,
                CallError::Unavailable | CallError::Disconnected { sent: false }
            ),
            "{error:?}"
        );
    }
}

fn handle_request() -> impl Fn(Request, &Call) -> Reply {
    handle
}

#[test]
fn in_memory_too() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server: Server<_> = ServerOptions::new().on(listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(handle_request()));
    let stream = connector.connect(util::soon()).unwrap();
    let client: Client<Request, Reply> = ClientOptions::new().over(stream).unwrap();
    thread::scope(|scope| {
        for t in 0..8 {
            let client = &client;
            scope.spawn(move || {
                for i in 0..1000 {
                    let text = format!("{t} {i}");
                    assert_eq!(
                        client.call(&Request::Echo(text.clone())).unwrap(),
                        Reply::Echo(text)
                    );
                }
            });
        }
    });
    handle.stop();
    serving.join().unwrap().unwrap();
}

#[test]
fn another_version_is_told_so_and_may_still_ask() {
    let _limit = limit(here!());
    let place = Place::new();
    let server = ServerOptions::new()
        .service("kv", "1")
        .fingerprint(1)
        .bind(place.name())
        .unwrap();
    let serving = thread::spawn(move || server.serve(handle_request()));
    let client: Client<Request, Reply> = ClientOptions::new()
        .service("kv", "2")
        .fingerprint(2)
        .connect(place.name())
        .unwrap();
    let error = client.call(&Request::Echo("hello".into())).unwrap_err();
    let CallError::Incompatible(parties) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (&*parties.ours.version, &*parties.theirs.version),
        ("2", "1")
    );
    assert_eq!(client.channel().info().unwrap().version.version, "1");
    client.channel().stop().unwrap();
    serving.join().unwrap().unwrap();
}
