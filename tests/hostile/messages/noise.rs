//! Bytes at random, read as the format says.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use pipetalk::{Deadline, Error, Listener, MAX_MESSAGE, Stream};

use crate::messages::town::{Kind, Town, framed, patient};
use util::{Rng, rounds, soon};

/// What a receiver with a limit is to make of some bytes and the end behind them.
#[derive(Debug, PartialEq)]
enum Expected {
    Message(Vec<u8>),
    TooLarge(usize),
    Truncated,
    Malformed,
    End,
}

fn expected(mut bytes: &[u8], limit: usize) -> Vec<Expected> {
    let mut all = Vec::new();
    loop {
        if bytes.is_empty() {
            all.push(Expected::End);
            return all;
        }
        let Some((header, rest)) = bytes.split_first_chunk() else {
            all.push(Expected::Truncated);
            return all;
        };
        let size = u32::from_le_bytes(*header) as usize;
        if size > MAX_MESSAGE {
            all.push(Expected::Malformed);
            return all;
        }
        if size > limit {
            all.push(Expected::TooLarge(size));
        }
        let Some((message, rest)) = rest.split_at_checked(size) else {
            all.push(Expected::Truncated);
            return all;
        };
        if size <= limit {
            all.push(Expected::Message(message.to_vec()));
        }
        bytes = rest;
    }
}

/// Bytes that are mostly frames, with something wrong now and then.
fn noise(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.in_range(0..30) {
        let size = rng.size(9_000);
        match rng.in_range(0..40) {
            0 => bytes.extend((0..rng.in_range(0..20)).map(|_| rng.next() as u8)),
            1 => bytes.extend_from_slice(&(size as u32).to_le_bytes()),
            _ => {
                let frame: Vec<u8> = (0..size).map(|_| rng.next() as u8).collect();
                bytes.extend_from_slice(&framed(&frame));
            }
        }
    }
    bytes
}

pub(crate) fn whatever_comes_is_read_as_the_format_says<K: Kind>() {
    const LIMIT: usize = 3_000;
    let mut rng = Rng::new();
    let town = Town::<K>::with_limit(LIMIT);
    let mut seen = [0; 5];
    for _ in 0..rounds(1_500) {
        let bytes = noise(&mut rng);
        let raw = UnixStream::connect(town.place.path()).unwrap();
        let stream = town.listener.accept(soon()).unwrap();
        let mut sender_rng = rng.fork();
        thread::scope(|scope| {
            let bytes = &bytes;
            scope.spawn(move || {
                let mut raw = patient(raw);
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (some, more) = rest.split_at(1 + sender_rng.size(rest.len() - 1));
                    // Who is malformed is hung up on.
                    if raw.write_all(some).is_err() {
                        return;
                    }
                    rest = more;
                    sender_rng.shake();
                }
            });
            for expected in expected(bytes, LIMIT) {
                let got = receive(&stream, &mut rng, expected == Expected::Malformed);
                assert_eq!(got, expected);
                seen[match got {
                    Expected::Message(_) => 0,
                    Expected::TooLarge(_) => 1,
                    Expected::Truncated => 2,
                    Expected::Malformed => 3,
                    Expected::End => 4,
                }] += 1;
            }
        });
    }
    assert!(seen.iter().all(|&times| times > 0), "{seen:?}");
    town.assert_unharmed();
}

/// The next of what is expected, by calls that look, time out and try again. Looking at what is malformed
/// closes the stream.
fn receive(stream: &impl Stream, rng: &mut Rng, malformed: bool) -> Expected {
    let mut message = Vec::new();
    let give_up = soon();
    loop {
        assert!(!give_up.has_passed(), "nothing came");
        if rng.one_in(3) && !malformed {
            let _ = stream.peek();
        }
        let deadline = match rng.in_range(0..3) {
            0 => Deadline::NOW,
            1 => Deadline::after(Duration::from_micros(rng.in_range(1..200) as u64)),
            _ => soon(),
        };
        return match stream.recv_message(&mut message, deadline) {
            Ok(Some(_)) => Expected::Message(message),
            Ok(None) => Expected::End,
            Err(error) => match Error::of(&error) {
                Some(Error::TooLarge { size, .. }) => Expected::TooLarge(*size),
                Some(Error::Truncated) => Expected::Truncated,
                Some(Error::Malformed(_)) => Expected::Malformed,
                _ if error.kind() == ErrorKind::TimedOut => continue,
                _ => panic!("{error:?}"),
            },
        };
    }
}
