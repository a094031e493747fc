//! Messages that come in pieces: cut off by a death, held up by a peer that stalls, byte by byte, or many at once.

use std::io::{ErrorKind, Write};
use std::thread;

use pipetalk::{Deadline, Error, Part, Stream};

use crate::messages::town::{
    Kind, Town, assert_ended, assert_ours, assert_times_out, framed, recv, recv_error,
};
use util::{A_MOMENT, soon};

pub(crate) fn a_peer_that_sends_half_a_header_and_dies_is_truncated<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_peer_that_dies_within_a_message_is_truncated<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_peer_that_stalls_costs_its_deadline_and_loses_nothing<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_message_that_comes_byte_by_byte_is_a_message<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn messages_that_come_in_one_piece_are_taken_apart<K: Kind>() {
    let town = Town::<K>::new();
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
