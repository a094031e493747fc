//! Clients in C, served by our listener and by the example `pipe_server`.

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use pipetalk::{Error, ListenOptions, Listener, LocalListener, LocalStream, Stream};

use crate::c_peers::{SIZES, pattern};
use crate::programs::{CLIENTS, soon, with_c_peers};
use util::example;

const EXAMPLE_REPLY: &[u8] = b"default answer from server\0";

#[test]
fn a_c_client_is_served_by_our_listener() {
    with_c_peers("c-client", |case, c| {
        let listener = LocalListener::bind(&case.name).unwrap();
        serving(&listener, b"the reply\0", |received| {
            let output = case.run(&c.client, &[&case.pipe, "hello from C", "and once more"]);
            assert_eq!(output, b"the reply\0the reply\0");
            assert_eq!(
                received(),
                [&b"hello from C\0"[..], &b"and once more\0"[..]]
            );
        });
    });
}

#[test]
fn a_c_client_gets_replies_of_any_size_from_our_listener() {
    with_c_peers("c-client-sizes", |case, c| {
        for size in SIZES {
            let listener = LocalListener::bind(&case.name).unwrap();
            serving(&listener, &pattern(size), |_| {
                let output = case.run(&c.client, &[&case.pipe, "how long is it?"]);
                assert!(
                    output == pattern(size),
                    "{size} bytes came as {}",
                    output.len()
                );
            });
        }
    });
}

#[test]
fn a_c_client_waits_for_a_busy_listener() {
    with_c_peers("c-client-busy", |case, c| {
        let listener = ListenOptions::new().instances(1).bind(&case.name).unwrap();
        serving(&listener, b"at last\0", |_| {
            let only = LocalStream::connect(&case.name).unwrap();
            let waiting = case.start(&c.client, &[&case.pipe, "let me in"]);
            // Time for the client to find the pipe busy; the test is true without it, but proves less.
            thread::sleep(Duration::from_millis(300));
            drop(only);
            assert_eq!(waiting.output(), b"at last\0");
        });
    });
}

#[test]
fn several_c_clients_at_once_are_served_by_our_listener() {
    with_c_peers("c-clients", |case, c| {
        let listener = LocalListener::bind(&case.name).unwrap();
        // Nobody is answered before everybody is there.
        let all_are_here = Barrier::new(CLIENTS);
        thread::scope(|scope| {
            let _stop = StopOnDrop(&listener);
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let stream = listener.accept(soon()).unwrap();
                    all_are_here.wait();
                    answer(&stream, |message| [b"you said ", message].concat());
                });
            }
            let clients: Vec<_> = (0..CLIENTS)
                .map(|i| case.start(&c.client, &[&case.pipe, &format!("I am {i}")]))
                .collect();
            for (i, client) in clients.into_iter().enumerate() {
                assert_eq!(client.output(), format!("you said I am {i}\0").as_bytes());
            }
        });
    });
}

#[test]
fn a_c_client_is_served_by_the_example() {
    with_c_peers("c-client-example", |case, c| {
        let _server = case.listen(&example("pipe_server"), &[&case.name]);
        let output = case.run(&c.client, &[&case.pipe, "hello from C"]);
        assert_eq!(output, EXAMPLE_REPLY);
    });
}

#[test]
fn several_c_clients_at_once_are_served_by_the_example() {
    with_c_peers("c-clients-example", |case, c| {
        let mut server = case.listen(&example("pipe_server"), &[&case.name]);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                case.start(
                    &c.client,
                    &[&case.pipe, &format!("this is client {i} of C")],
                )
            })
            .collect();
        for client in clients {
            assert_eq!(client.output(), EXAMPLE_REPLY);
        }
        // It prints every message, in whatever order, and perhaps lines of its own between them.
        let mut missing: Vec<_> = (0..CLIENTS)
            .map(|i| format!("this is client {i} of C"))
            .collect();
        while !missing.is_empty() {
            let line = server.line();
            missing.retain(|message| !line.contains(message));
        }
    });
}

fn answer(stream: &LocalStream, reply: impl Fn(&[u8]) -> Vec<u8>) {
    let mut message = Vec::new();
    while stream.recv_message(&mut message, soon()).unwrap().is_some() {
        stream.send(&reply(&message), soon()).unwrap();
    }
}

/// Answers one client after the other while `act` runs, which can ask for the messages that came.
fn serving(listener: &LocalListener, reply: &[u8], act: impl FnOnce(&dyn Fn() -> Vec<Vec<u8>>)) {
    let received = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let _stop = StopOnDrop(listener);
        scope.spawn(|| {
            loop {
                let stream = match listener.accept(soon()) {
                    Err(error) if Error::of(&error) == Some(&Error::Stopped) => break,
                    accepted => accepted.unwrap(),
                };
                answer(&stream, |message| {
                    received.lock().unwrap().push(message.to_owned());
                    reply.to_owned()
                });
            }
        });
        act(&|| received.lock().unwrap().clone());
    });
}

/// Lets a scope end when its body panics.
struct StopOnDrop<'a>(&'a LocalListener);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
