//! Lies about lengths: what cannot be, what is over the and what never comes. None of it costs memory.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use pipetalk::{DEFAULT_MAX_MESSAGE, Deadline, Error, Listener, MAX_MESSAGE, Stream, Waiting};

use crate::messages::town::{
    Kind, Town, assert_ended, assert_ours, assert_times_out, framed, patient, recv, recv_error,
};
use util::{A_MOMENT, Actor, announce, promptly, skip, soon, until};

pub(crate) fn a_claim_of_four_gigabytes_is_malformed<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_malformed_header_is_seen_in_parts_and_by_peek<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_claim_over_the_limit_is_too_large_at_once_and_costs_no_memory<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn what_is_over_the_limit_is_dropped_as_it_comes_and_the_next_is_intact<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_claim_within_the_limit_costs_little_until_it_is_kept<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn lies_about_lengths_cost_no_memory<K: Kind>() {
    let mut actor = Actor::start("messages:measure", &[K::WORD]);
    let said = actor.says();
    match said.strip_prefix("skipped ") {
        Some(why) => skip("memory", why),
        None => assert_eq!(said, "within the limit"),
    }
}

/// How many kilobytes this process has, of some kind: proc(5).
fn memory(kind: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The most memory that this process ever had, and how much of it is the program itself, which is read as it is run.
fn most_memory() -> Option<(usize, usize)> {
    Some((memory("VmHWM:")?, memory("RssFile:")?))
}

/// The part of [`lies_about_lengths_cost_no_memory`].
pub(crate) fn measure<K: Kind>() {
    let Some((before, program_before)) = most_memory() else {
        return announce("skipped this system does not tell how much memory a process has");
    };
    let town = Town::<K>::new();
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
    let (most, program) = most_memory().unwrap_or_default();
    let grown = (most - before).saturating_sub(program.saturating_sub(program_before));
    let within = 16 << 10;
    announce(&if grown < within {
        "within the limit".to_owned()
    } else {
        format!("{grown} kilobytes, where {within} would do")
    });
    drop(open);
}
