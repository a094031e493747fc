//! The parts that other processes play, see [`util::Actor`].

use std::io;

use pipetalk::{
    ConnectOptions, Deadline, Error, Listener, LocalListener, LocalStream, Stream, Trust,
};

use crate::harness::{HUGE, recv, send, soon};
use util::{announce, limit, wait_for_release};

#[test]
fn actor() {
    util::play(&[("", play)]);
}

fn play(part: &str, args: &[&str]) {
    let _limit = limit(part);
    match (part, args) {
        ("idle", []) => idle(),
        ("listen", [name]) => listen(name),
        ("send without end", [name]) => send_without_end(name),
        ("greet", [name]) => greet(name, Trust::default()),
        ("greet anyone", [name]) => greet(name, Trust::Anyone),
        _ => crate::platform_part(part, args),
    }
}

fn idle() {
    announce("idle");
    wait_for_release();
}

/// Says `welcome` to each client, and waits for it to go.
fn listen(name: &str) {
    let listener = LocalListener::bind(name).unwrap();
    announce("listening");
    loop {
        let stream = listener.accept(Deadline::NEVER).unwrap();
        send(&stream, b"welcome");
        while recv(&stream).is_some() {}
    }
}

/// Begins to send a message that never gets through, to be killed in the middle of it.
fn send_without_end(name: &str) {
    let stream = LocalStream::connect(name).unwrap();
    send(&stream, b"a whole one");
    announce("connected");
    stream.send(&vec![7; HUGE], Deadline::NEVER).unwrap();
}

/// Connects, says `hello`, and tells what came of it.
fn greet(name: &str, trust: Trust) {
    announce(
        &greeted(name, trust).unwrap_or_else(|error| match Error::of(&error) {
            Some(ours) => format!("{ours:?}"),
            None => format!("{:?}", error.kind()),
        }),
    );
    wait_for_release();
}

fn greeted(name: &str, trust: Trust) -> io::Result<String> {
    let stream = ConnectOptions::new().trust(trust).connect(name, soon())?;
    stream.send(b"hello", soon())?;
    let mut reply = Vec::new();
    Ok(match stream.recv_message(&mut reply, soon())? {
        Some(_) => format!("reply {}", String::from_utf8_lossy(&reply)),
        None => "end".to_owned(),
    })
}
