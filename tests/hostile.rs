//! Peers on a Unix socket that die, stall, lie and flood: each gets the error that the contract names, within the
//! deadline and the stated memory, and nobody else notices.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "util/mod.rs"]
mod util;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use pipetalk::{
    ConnectOptions, DEFAULT_MAX_MESSAGE, Deadline, Error, ListenOptions, Listener, LocalListener,
    LocalStream, MAX_MESSAGE, Part, Stream, Waiting,
};

use util::{
    A_MOMENT, A_WHILE, Actor, Place, Rng, allow_many_descriptors, announce, here, limit, play,
    promptly, rounds, skip, soon, until,
};

/// A listener with a connection that behaves, to see that the others do it no harm.
struct Town {
    place: Place,
    listener: LocalListener,
    good: (LocalStream, LocalStream),
    options: ListenOptions,
}

impl Town {
    fn new() -> Town {
        Town::with_limit(DEFAULT_MAX_MESSAGE)
    }

    fn with_limit(max_message: usize) -> Town {
        let place = Place::new();
        let options = ListenOptions::new().max_message(max_message);
        let listener = options.bind(place.name()).unwrap();
        let client = LocalStream::connect(place.name()).unwrap();
        let server = listener.accept(soon()).unwrap();
        Town {
            place,
            listener,
            good: (client, server),
            options,
        }
    }

    /// Runs a test against a raw client, and then against a raw server.
    fn each_end(&self, test: impl Fn(UnixStream, LocalStream)) {
        let raw = UnixStream::connect(self.place.path()).unwrap();
        test(patient(raw), self.listener.accept(soon()).unwrap());
        self.assert_unharmed();

        let place = Place::new();
        let server = UnixListener::bind(place.path()).unwrap();
        // The limit is the same at both ends.
        let limit = self.good.1.max_message();
        let options = ConnectOptions::new().max_message(limit);
        let stream = options.connect(place.name(), soon()).unwrap();
        test(patient(server.accept().unwrap().0), stream);
        self.assert_unharmed();
    }

    fn assert_unharmed(&self) {
        let (client, server) = &self.good;
        let newcomer = LocalStream::connect(self.place.name()).unwrap();
        let accepted = self.listener.accept(soon()).unwrap();
        for (a, b) in [(client, server), (&newcomer, &accepted)] {
            for (from, to) in [(a, b), (b, a)] {
                from.send(b"unharmed?", soon()).unwrap();
                assert_eq!(recv(to).unwrap(), b"unharmed?");
            }
        }
    }
}

/// A raw peer does not wait for ever either.
fn patient(raw: UnixStream) -> UnixStream {
    raw.set_read_timeout(Some(A_WHILE)).unwrap();
    raw.set_write_timeout(Some(A_WHILE)).unwrap();
    raw
}

fn recv(stream: &LocalStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let received = stream.recv_message(&mut message, soon()).unwrap();
    received.map(|_| message)
}

fn recv_error(stream: &LocalStream, deadline: Deadline) -> std::io::Error {
    stream.recv_message(&mut Vec::new(), deadline).unwrap_err()
}

#[track_caller]
fn assert_ours(error: &std::io::Error, expected: &Error) {
    assert_eq!(Error::of(error), Some(expected), "{error:?}");
    assert_eq!(error.kind(), expected.kind());
}

#[track_caller]
fn assert_times_out(stream: &LocalStream) {
    let whole = recv_error(stream, Deadline::after(A_MOMENT / 4));
    assert_eq!(whole.kind(), ErrorKind::TimedOut);
    let now = promptly("not waiting", || recv_error(stream, Deadline::NOW));
    assert_eq!(now.kind(), ErrorKind::TimedOut);
}

fn assert_ended(stream: &LocalStream) {
    for _ in 0..2 {
        assert_eq!(recv(stream), None);
        assert_eq!(stream.recv(&mut [0; 8], soon()).unwrap(), None);
        assert_eq!(stream.peek().unwrap(), None);
    }
}

/// A message as it goes over the socket.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(message);
    frame
}

#[test]
fn a_peer_that_sends_half_a_header_and_dies_is_truncated() {
    let _limit = limit(here!());
    let town = Town::new();
    for half in [&b"\x05"[..], b"\x05\0", b"\x05\0\0", b"\0\0\0"] {
        town.each_end(|mut raw, stream| {
            raw.write_all(&framed(b"whole")).unwrap();
            raw.write_all(half).unwrap();
            drop(raw);
            assert_eq!(recv(&stream).unwrap(), b"whole");
            // Looking takes nothing, bad news neither.
            let _ = stream.peek();
            assert_ours(&recv_error(&stream, soon()), &Error::Truncated);
            assert_ended(&stream);
        });
    }
}

#[test]
fn a_peer_that_dies_within_a_message_is_truncated() {
    let _limit = limit(here!());
    let town = Town::new();
    for (size, sent) in [(5, 0), (5, 4), (5_000, 4_999), (1_000_000, 60_000)] {
        town.each_end(|mut raw, stream| {
            let frame = framed(&vec![7; size]);
            raw.write_all(&frame[..4 + sent]).unwrap();
            drop(raw);
            assert_ours(&recv_error(&stream, soon()), &Error::Truncated);
            assert_ended(&stream);
        });
        // The same in parts: what came may be received, and no part says that it is the last.
        town.each_end(|mut raw, stream| {
            raw.write_all(&framed(&vec![7; size])[..4 + sent]).unwrap();
            drop(raw);
            let mut buf = [0; 1_000];
            let error = loop {
                match stream.recv(&mut buf, soon()) {
                    Ok(part) => assert!(!part.expect("not a clean end").last),
                    Err(error) => break error,
                }
            };
            assert_ours(&error, &Error::Truncated);
            assert_ended(&stream);
        });
    }
}

#[test]
fn a_peer_that_stalls_costs_its_deadline_and_loses_nothing() {
    let _limit = limit(here!());
    let town = Town::new();
    let message: Vec<u8> = (0..3_000_u32).map(|n| n as u8).collect();
    let frame = framed(&message);
    for stall in [1, 3, 4, 5, 100, frame.len() - 1] {
        town.each_end(|mut raw, stream| {
            assert_times_out(&stream);
            raw.write_all(&frame[..stall]).unwrap();
            for _ in 0..3 {
                assert_times_out(&stream);
                let waiting = stream.peek().unwrap().expect("not the end");
                let whole = (stall >= 4).then_some(message.len());
                assert!(
                    waiting.message == whole || waiting.message.is_none(),
                    "{waiting:?}"
                );
            }
            raw.write_all(&frame[stall..]).unwrap();
            assert_eq!(recv(&stream).unwrap(), message);
        });
        // In parts, what has come is not lost to the next call of either kind.
        town.each_end(|mut raw, stream| {
            raw.write_all(&frame[..stall]).unwrap();
            let mut buf = vec![0; 4_000];
            for _ in 0..3 {
                let part = stream.recv(&mut buf, Deadline::after(A_MOMENT / 4));
                assert_eq!(part.unwrap_err().kind(), ErrorKind::TimedOut);
                assert_times_out(&stream);
            }
            raw.write_all(&frame[stall..]).unwrap();
            let part = stream.recv(&mut buf, soon()).unwrap();
            assert_eq!(
                part,
                Some(Part {
                    len: message.len(),
                    last: true
                })
            );
            assert_eq!(buf[..message.len()], message);
        });
    }
}

#[test]
fn a_message_that_comes_byte_by_byte_is_a_message() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|mut raw, stream| {
        let messages = [&b"hello"[..], b"", b"", b"more"];
        thread::scope(|scope| {
            scope.spawn(move || {
                for message in messages {
                    for byte in framed(message) {
                        raw.write_all(&[byte]).unwrap();
                        thread::yield_now();
                    }
                }
            });
            for message in messages {
                assert_eq!(recv(&stream).unwrap(), message);
            }
            assert_ended(&stream);
        });
    });
}

#[test]
fn messages_that_come_in_one_piece_are_taken_apart() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|mut raw, stream| {
        let sizes = [0, 1, 5, 0, 0, 4_000, 3, 9_000, 0];
        let all: Vec<u8> = sizes
            .iter()
            .flat_map(|&size| framed(&vec![size as u8; size]))
            .collect();
        raw.write_all(&all).unwrap();
        drop(raw);
        for size in sizes {
            assert_eq!(recv(&stream).unwrap(), vec![size as u8; size]);
        }
        assert_ended(&stream);
    });
}

#[test]
fn a_claim_of_four_gigabytes_is_malformed() {
    let _limit = limit(here!());
    let town = Town::new();
    let claims = (28..32)
        .map(|bit| 1_u32 << bit)
        .chain([u32::MAX, (1 << 28) + 5]);
    for claim in claims {
        town.each_end(|mut raw, stream| {
            raw.write_all(&framed(b"before")).unwrap();
            raw.write_all(&claim.to_le_bytes()).unwrap();
            let _ = raw.write_all(b"and a few bytes");
            assert_eq!(recv(&stream).unwrap(), b"before");
            let error = promptly("refusing", || recv_error(&stream, soon()));
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{claim:x}");
            assert!(
                matches!(Error::of(&error), Some(Error::Malformed(_))),
                "{error:?}"
            );
            // Who cannot be understood is not listened to any more.
            let after = recv_error(&stream, soon());
            assert!(Error::of(&after).is_some(), "{after:?}");
            let sent = stream.send(b"?", soon()).unwrap_err();
            assert!(matches!(
                sent.kind(),
                ErrorKind::NotConnected | ErrorKind::BrokenPipe
            ));
            let seen = raw.read(&mut [0; 8]);
            assert!(matches!(seen, Ok(0) | Err(_)), "{seen:?}");
            if let Err(error) = seen {
                assert_ne!(
                    error.kind(),
                    ErrorKind::WouldBlock,
                    "it was never hung up on"
                );
            }
        });
    }
}

#[test]
fn a_malformed_header_is_seen_in_parts_and_by_peek() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|mut raw, stream| {
        raw.write_all(&u32::MAX.to_le_bytes()).unwrap();
        let part = stream.recv(&mut [0; 100], soon()).unwrap_err();
        assert_eq!(part.kind(), ErrorKind::InvalidData);
    });
    town.each_end(|mut raw, stream| {
        raw.write_all(&u32::MAX.to_le_bytes()).unwrap();
        let nothing = Waiting {
            bytes: 0,
            message: None,
        };
        let mut seen = Ok(Some(nothing));
        until("it arrives", || {
            seen = stream.peek();
            !matches!(seen, Ok(Some(waiting)) if waiting == nothing)
        });
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn a_claim_over_the_limit_is_too_large_at_once_and_costs_no_memory() {
    let _limit = limit(here!());
    let town = Town::new();
    for size in [MAX_MESSAGE, DEFAULT_MAX_MESSAGE + 1] {
        town.each_end(|mut raw, stream| {
            raw.write_all(&(size as u32).to_le_bytes()).unwrap();
            raw.write_all(b"the first few of very many").unwrap();
            let mut message = Vec::new();
            let error = promptly("refusing", || stream.recv_message(&mut message, soon()));
            let expected = Error::TooLarge {
                limit: DEFAULT_MAX_MESSAGE,
                size,
            };
            assert_ours(&error.unwrap_err(), &expected);
            assert!(message.capacity() <= 1 << 16, "{}", message.capacity());
            // The rest of it is awaited, as it might come.
            assert_times_out(&stream);
            // The other direction is open all the time.
            stream.send(b"too large", soon()).unwrap();
            let mut answer = [0; 13];
            raw.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"\x09\0\0\0too large");
        });
    }
}

#[test]
fn what_is_over_the_limit_is_dropped_as_it_comes_and_the_next_is_intact() {
    let _limit = limit(here!());
    let town = Town::new();
    let size = DEFAULT_MAX_MESSAGE + 12_345;
    town.each_end(|mut raw, stream| {
        thread::scope(|scope| {
            scope.spawn(move || {
                raw.write_all(&(size as u32).to_le_bytes()).unwrap();
                for chunk in vec![7; size].chunks(99_991) {
                    raw.write_all(chunk).unwrap();
                }
                raw.write_all(&framed(b"next")).unwrap();
            });
            let expected = Error::TooLarge {
                limit: DEFAULT_MAX_MESSAGE,
                size,
            };
            assert_ours(&recv_error(&stream, soon()), &expected);
            let mut message = Vec::new();
            assert_eq!(stream.recv_message(&mut message, soon()).unwrap(), Some(4));
            assert_eq!(message, b"next");
            assert!(message.capacity() <= 1 << 16, "{}", message.capacity());
            assert_ended(&stream);
        });
    });
    // Nor does the end of the peer make a message of what was dropped.
    town.each_end(|mut raw, stream| {
        raw.write_all(&(size as u32).to_le_bytes()).unwrap();
        raw.write_all(&[7; 1_000]).unwrap();
        drop(raw);
        let expected = Error::TooLarge {
            limit: DEFAULT_MAX_MESSAGE,
            size,
        };
        assert_ours(&recv_error(&stream, soon()), &expected);
        assert_ours(&recv_error(&stream, soon()), &Error::Truncated);
        assert_ended(&stream);
    });
}

#[test]
fn a_claim_within_the_limit_costs_little_until_it_is_kept() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|mut raw, stream| {
        raw.write_all(&(DEFAULT_MAX_MESSAGE as u32).to_le_bytes())
            .unwrap();
        raw.write_all(&[7; 100]).unwrap();
        let mut message = Vec::new();
        let late = stream.recv_message(&mut message, Deadline::after(A_MOMENT));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(message.capacity() <= 2 << 20, "{}", message.capacity());
        drop(raw);
        assert_ours(&recv_error(&stream, soon()), &Error::Truncated);
    });
}

#[test]
fn a_peer_that_never_reads_gets_a_timeout_and_then_nothing_more() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|mut raw, stream| {
        stream.send(b"first", soon()).unwrap();
        let message = vec![7; 4 << 20];
        let error = stream
            .send(&message, Deadline::after(A_MOMENT))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        for _ in 0..3 {
            let error = promptly("refusing", || stream.send(b"more", soon())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert_ours(&error, &Error::Poisoned);
        }
        // Should it read after all: what was whole, the part that went, and no more.
        let mut all = Vec::new();
        raw.read_to_end(&mut all).unwrap();
        let whole = [framed(b"first"), framed(&message)].concat();
        assert!(all.len() > 9 && all.len() < whole.len() && whole.starts_with(&all));
    });
}

#[test]
fn a_peer_that_never_reads_and_dies_is_a_broken_pipe() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|raw, stream| {
        thread::scope(|scope| {
            let sending = scope.spawn(|| stream.send(&vec![7; 4 << 20], soon()));
            // Some of it has come, so that the sender is in the middle of it.
            let mut byte = [0; 1];
            (&raw).read_exact(&mut byte).unwrap();
            drop(raw);
            let error = sending.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error:?}");
        });
        assert_ended(&stream);
    });
}

#[test]
fn a_peer_that_resets_with_data_unread_loses_nothing_of_its_own() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|mut raw, stream| {
        for n in 0..20 {
            stream.send(&vec![n; 1_000], soon()).unwrap();
            raw.write_all(&framed(&vec![n; 500])).unwrap();
        }
        drop(raw);
        for n in 0..20 {
            assert_eq!(recv(&stream).unwrap(), vec![n; 500]);
        }
        assert_ended(&stream);
        let error = stream.send(b"more", soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_peer_that_floods_is_read_as_fast_as_is_asked_for() {
    let _limit = limit(here!());
    let town = Town::new();
    town.each_end(|raw, stream| {
        // A million empty messages, and nobody reads: the sender has to wait, and memory stays what it is.
        raw.set_write_timeout(Some(A_MOMENT)).unwrap();
        let block = [0; 64 << 10];
        let mut sent = 0;
        while let Ok(n) = (&raw).write(&block) {
            sent += n;
            assert!(sent < 64 << 20, "nobody holds the sender up");
        }
        raw.shutdown(Shutdown::Write).unwrap();
        for _ in 0..sent / 4 {
            assert_eq!(recv(&stream).unwrap(), b"");
        }
        if sent % 4 != 0 {
            assert_ours(&recv_error(&stream, soon()), &Error::Truncated);
        }
        assert_ended(&stream);
    });
}

#[test]
fn many_that_connect_and_say_nothing_hold_nobody_up() {
    let _limit = limit(here!());
    allow_many_descriptors();
    let town = Town::new();
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut raw = UnixStream::connect(town.place.path()).unwrap();
        match n % 4 {
            0 => {}
            1 => raw.write_all(b"\x05\0").unwrap(),
            2 => raw.write_all(&u32::MAX.to_le_bytes()).unwrap(),
            _ => drop(raw.shutdown(Shutdown::Both)),
        }
        silent.push((raw, town.listener.accept(soon()).unwrap()));
        if n % 50 == 0 {
            town.assert_unharmed();
        }
    }
    promptly("closing them all", || drop(silent));
    town.assert_unharmed();
}

#[test]
fn a_listener_is_not_its_clients_hostage() {
    let _limit = limit(here!());
    // Clients that fill the backlog and never come: whoever comes then is told, and can come later.
    let place = Place::new();
    let listener = ListenOptions::new().backlog(4).bind(place.name()).unwrap();
    let mut waiting = Vec::new();
    while waiting.len() < 1_000 {
        match ConnectOptions::new().connect(place.name(), Deadline::NOW) {
            Ok(client) => waiting.push(client),
            Err(error) => {
                assert!(matches!(
                    error.kind(),
                    ErrorKind::ResourceBusy | ErrorKind::NotFound
                ));
                break;
            }
        }
    }
    let count = waiting.len();
    assert!(count < 1_000, "the backlog has no end");
    drop(waiting);
    for _ in 0..count {
        let stream = listener.accept(soon()).unwrap();
        assert_ended(&stream);
    }
    let client = LocalStream::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    client.send(b"at last", soon()).unwrap();
    assert_eq!(recv(&server).unwrap(), b"at last");
}

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

#[test]
fn whatever_comes_is_read_as_the_format_says() {
    let _limit = limit(here!());
    const LIMIT: usize = 3_000;
    let mut rng = Rng::new();
    let town = Town::with_limit(LIMIT);
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
fn receive(stream: &LocalStream, rng: &mut Rng, malformed: bool) -> Expected {
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

mod actors {
    use super::*;

    /// A process of its own, where nobody else's memory is counted.
    #[test]
    fn actor() {
        play(|part, args| match (part, args) {
            ("measure", []) => measure(),
            _ => panic!("there is no part {part:?} with {args:?}"),
        });
    }
}

#[test]
fn lies_about_lengths_cost_no_memory() {
    let _limit = limit(here!());
    let mut actor = Actor::start("measure", &[]);
    let said = actor.says();
    match said.strip_prefix("skipped ") {
        Some(why) => skip("memory", why),
        None => assert_eq!(said, "within the limit"),
    }
}

/// The most memory that this process ever had, in kilobytes: proc(5).
fn most_memory() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The part of [`lies_about_lengths_cost_no_memory`].
fn measure() {
    let Some(before) = most_memory() else {
        return announce("skipped this system does not tell how much memory a process has");
    };
    let town = Town::new();
    let mut open = Vec::new();
    // A hundred that claim as much as is allowed, and send nothing of it.
    for _ in 0..100 {
        let mut raw = UnixStream::connect(town.place.path()).unwrap();
        raw.write_all(&(DEFAULT_MAX_MESSAGE as u32).to_le_bytes())
            .unwrap();
        let stream = town.listener.accept(soon()).unwrap();
        let mut message = Vec::new();
        stream
            .recv_message(&mut message, Deadline::after(A_MOMENT / 10))
            .unwrap_err();
        open.push((raw, stream, message));
    }
    // One that claims the most there is, and sends a good part of it.
    let raw = UnixStream::connect(town.place.path()).unwrap();
    let stream = town.listener.accept(soon()).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut raw = patient(raw);
            raw.write_all(&(MAX_MESSAGE as u32).to_le_bytes()).unwrap();
            let block = [7; 64 << 10];
            for _ in 0..1_024 {
                raw.write_all(&block).unwrap();
            }
        });
        let size = MAX_MESSAGE;
        let expected = Error::TooLarge {
            limit: DEFAULT_MAX_MESSAGE,
            size,
        };
        assert_ours(&recv_error(&stream, soon()), &expected);
        assert_ours(&recv_error(&stream, soon()), &Error::Truncated);
    });
    let grown = most_memory().unwrap_or_default() - before;
    let within = 16 << 10;
    announce(&if grown < within {
        "within the limit".to_owned()
    } else {
        format!("{grown} kilobytes, where {within} would do")
    });
    drop(open);
    let _ = &town.options;
}
