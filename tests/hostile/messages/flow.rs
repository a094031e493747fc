//! Peers that never read, and peers that never stop writing.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;

use pipetalk::{Deadline, Error, Stream};

use crate::messages::town::{Kind, Town, assert_ended, assert_ours, framed, recv, recv_error};
use util::{A_MOMENT, promptly, soon};

pub(crate) fn a_peer_that_never_reads_gets_a_timeout_and_then_nothing_more<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_peer_that_never_reads_and_dies_is_a_broken_pipe<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_peer_that_resets_with_data_unread_loses_nothing_of_its_own<K: Kind>() {
    let town = Town::<K>::new();
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

pub(crate) fn a_peer_that_floods_is_read_as_fast_as_is_asked_for<K: Kind>() {
    let town = Town::<K>::new();
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
