//! Typed calls between a client and a server of any kind.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pipetalk::{
    Blob, Call, CallError, CallOptions, ClientOptions, Peer, ServerHandle, ServerOptions,
    memory,
};
use serde::de::DeserializeOwned;
use serde::{Serializer};

use super::driver::{
    Channel, Client, LocalServer, MemoryServer, bind, channel_over, connect, on, over,
};
use util::{Deserialize, Place, Serialize, here, limit, self};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Echo(String),
    Panic,
    WaitUntilCancelled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    Echo(String),
    Cancelled,
}

fn handle(request: Request, call: &Call) -> Reply {
    match request {
        Request::Echo(text) => Reply::Echo(text),
        Request::Panic => util::panic_as_asked(),
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
        let server = bind(ServerOptions::new().pool(pool), place.name()).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(handle_request()));
        let client: Client<Request, Reply> = connect(ClientOptions::new(), place.name()).unwrap();
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

pub(super) fn handle_request() -> impl Fn(Request, &Call) -> Reply {
    handle
}

#[test]
fn in_memory_too() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server = on(ServerOptions::new(), listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(handle_request()));
    let stream = connector.connect(util::soon()).unwrap();
    let client: Client<Request, Reply> = over(ClientOptions::new(), stream).unwrap();
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
    let options = ServerOptions::new().service("kv", "1").fingerprint(1);
    let server = bind(options, place.name()).unwrap();
    let serving = thread::spawn(move || server.serve(handle_request()));
    let options = ClientOptions::new().service("kv", "2").fingerprint(2);
    let client: Client<Request, Reply> = connect(options, place.name()).unwrap();
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

/// A server on any listener.
trait Serves: Send + 'static {
    fn handle(&self) -> ServerHandle;
    fn serve_with<Q, R>(self, handler: impl Fn(Q, &Call) -> R + Send + Sync + 'static)
    where
        Q: DeserializeOwned + 'static,
        R: Serialize + 'static;
}

macro_rules! serves {
    ($($server:ty)*) => {$(
        impl Serves for $server {
            fn handle(&self) -> ServerHandle {
                self.handle()
            }

            fn serve_with<Q, R>(self, handler: impl Fn(Q, &Call) -> R + Send + Sync + 'static)
            where
                Q: DeserializeOwned + 'static,
                R: Serialize + 'static,
            {
                self.serve(handler).unwrap();
            }
        }
    )*};
}

serves!(LocalServer MemoryServer);

/// Who only notifies waits for nothing, not even for the server to take the connection.
#[test]
fn who_notifies_and_leaves_is_heard() {
    let _limit = limit(here!());
    for pool in [0, 3] {
        let place = Place::new();
        let server = bind(ServerOptions::new().pool(pool), place.name()).unwrap();
        let client: Client<String, ()> = connect(ClientOptions::new(), place.name()).unwrap();
        assert_heard(server, client);

        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool), listener);
        let stream = connector.connect(util::soon()).unwrap();
        assert_heard(server, over(ClientOptions::new(), stream).unwrap());
    }
}

fn assert_heard(server: impl Serves, client: Client<String, ()>) {
    let said = ["one", "two", "three"].map(str::to_owned);
    for word in &said {
        client.notify(word).unwrap();
    }
    drop(client);
    let handle = server.handle();
    let (hear, heard) = mpsc::channel();
    let serving =
        thread::spawn(move || server.serve_with(move |word: String, _: &Call| hear.send(word).unwrap()));
    let mut heard: Vec<String> = heard.iter().take(said.len()).collect();
    // Those of a pool run at the same time.
    heard.sort_by_key(|word| said.iter().position(|one| one == word));
    assert_eq!(heard, said);
    handle.stop();
    serving.join().unwrap();
}

/// A value that cannot be encoded.
#[derive(Debug)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic::resume_unwind(Box::new("as asked"))
    }
}

#[test]
fn a_request_that_panics_while_it_is_encoded_takes_up_no_room() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server = on(ServerOptions::new().in_flight(2), listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(|n: u32, _: &Call| n + 1));
    let stream = connector.connect(util::soon()).unwrap();
    let client: Channel = channel_over(ClientOptions::new(), stream).unwrap();
    for n in 0..10 {
        let options = CallOptions::new;
        let call = || client.call::<_, u32>(0, &Unencodable, options());
        let panicked = panic::catch_unwind(AssertUnwindSafe(call));
        assert!(panicked.is_err());
        assert_eq!(client.call::<_, u32>(0, &n, options()).unwrap(), n + 1);
    }
    handle.stop();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_rule_that_panics_refuses() {
    let _limit = limit(here!());
    let rule = |_: &Peer| panic::resume_unwind(Box::new("as asked"));
    let (listener, connector) = memory::listener();
    let server = on(ServerOptions::new().admit(rule), listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(handle_request()));
    for _ in 0..2 {
        let stream = connector.connect(util::soon()).unwrap();
        // It may be told while it says hello.
        let error = over(ClientOptions::new(), stream)
            .and_then(|client: Client<Request, Reply>| client.call(&Request::Echo("hello".into())))
            .unwrap_err();
        assert!(matches!(error, CallError::Refused(_)), "{error:?}");
    }
    handle.stop();
    serving.join().unwrap().unwrap();

    let (listener, connector) = memory::listener();
    let server = on(ServerOptions::new().control(rule), listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(handle_request()));
    let stream = connector.connect(util::soon()).unwrap();
    let client: Client<Request, Reply> = over(ClientOptions::new(), stream).unwrap();
    let error = client.channel().stop().unwrap_err();
    assert!(matches!(error, CallError::Refused(_)), "{error:?}");
    client.call(&Request::Echo("hello".into())).unwrap();
    handle.stop();
    serving.join().unwrap().unwrap();
}

/// Those that are sent from where they are, those that are copied, and both in one message.
#[test]
fn blobs_of_all_sizes_come_and_go() {
    let _limit = limit(here!());
    let blob = |size: usize| Blob::from_iter((0..size).map(|place| (place % 251) as u8));
    let requests: Vec<Vec<Blob>> = [
        vec![],
        vec![0, 1],
        vec![(16 << 10) - 1, 16 << 10, (16 << 10) + 1],
        vec![1 << 20, 3, 64 << 10],
        vec![20 << 10; 30],
        vec![5 << 20, 5 << 20],
    ]
    .into_iter()
    .map(|sizes| sizes.into_iter().map(blob).collect())
    .collect();
    for pool in [0, 2] {
        let place = Place::new();
        let server = bind(ServerOptions::new().pool(pool), place.name()).unwrap();
        assert_echoed(server, &requests, || connect(ClientOptions::new(), place.name()).unwrap());

        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool), listener);
        assert_echoed(server, &requests, || {
            let stream = connector.connect(util::soon()).unwrap();
            over(ClientOptions::new(), stream).unwrap()
        });
    }
}

fn assert_echoed(
    server: impl Serves,
    requests: &[Vec<Blob>],
    connect: impl FnOnce() -> Client<Vec<Blob>, Vec<Blob>>,
) {
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve_with(|blobs: Vec<Blob>, _: &Call| blobs));
    let client = connect();
    // Twice, and with the replies still there, which are parts of what was received.
    let replies: Vec<_> = requests
        .iter()
        .chain(requests)
        .map(|request| client.call(request).unwrap())
        .collect();
    for (reply, request) in replies.iter().zip(requests.iter().chain(requests)) {
        assert!(reply == request);
    }
    handle.stop();
    serving.join().unwrap();
}

#[test]
fn a_notification_is_cancelled_by_the_end_of_the_server_alone() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool), listener);
        let handle = server.handle();
        let (say, said) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let serving = thread::spawn(move || {
            server.serve(move |wait: bool, call: &Call| {
                say.send("begun").unwrap();
                if wait {
                    while !call.is_cancelled() {
                        thread::yield_now();
                    }
                    say.send("cancelled").unwrap();
                } else {
                    may_go_on.lock().unwrap().recv().unwrap();
                    let end = if call.is_cancelled() {
                        "cancelled"
                    } else {
                        "done"
                    };
                    say.send(end).unwrap();
                }
            })
        });
        let connect = || -> Client<bool, ()> {
            let stream = connector.connect(util::soon()).unwrap();
            over(ClientOptions::new(), stream).unwrap()
        };

        let client = connect();
        client.notify(&false).unwrap();
        assert_eq!(said.recv().unwrap(), "begun");
        drop(client);
        let other = connect();
        other.channel().info().unwrap();
        go_on.send(()).unwrap();
        assert_eq!(said.recv().unwrap(), "done");

        other.notify(&true).unwrap();
        assert_eq!(said.recv().unwrap(), "begun");
        handle.stop();
        assert_eq!(said.recv().unwrap(), "cancelled");
        serving.join().unwrap().unwrap();
    }
}
