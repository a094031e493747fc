//! The bytes on a Unix socket, as `docs/wire.md` says: they never change.

use std::io::{IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use pipetalk::{Listener, LocalListener, LocalStream, Part, Stream};

use util::{A_WHILE, Place, here, limit, soon};

/// Messages and their bytes.
const GOLDEN: [(&[u8], &[u8]); 4] = [
    (b"", b"\x00\x00\x00\x00"),
    (b"hello", b"\x05\x00\x00\x00\x68\x65\x6c\x6c\x6f"),
    (b"\0", b"\x01\x00\x00\x00\x00"),
    (b"\xff\xff\xff\xff", b"\x04\x00\x00\x00\xff\xff\xff\xff"),
];

/// Both ends of a connection: one of this crate's, one that only the system knows.
fn ends() -> (LocalStream, UnixStream) {
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let raw = UnixStream::connect(place.path()).unwrap();
    raw.set_read_timeout(Some(A_WHILE)).unwrap();
    (listener.accept(soon()).unwrap(), raw)
}

#[track_caller]
fn assert_reads(raw: &mut UnixStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    raw.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn what_is_sent_is_a_length_and_the_message() {
    let _limit = limit(here!());
    let (stream, mut raw) = ends();
    for (message, bytes) in GOLDEN {
        stream.send(message, soon()).unwrap();
        assert_reads(&mut raw, bytes);
        let (head, tail) = message.split_at(message.len() / 2);
        stream
            .send_vectored(&[head, tail].map(IoSlice::new), soon())
            .unwrap();
        assert_reads(&mut raw, bytes);
    }
    drop(stream);
    assert_eq!(
        raw.read(&mut [0; 1]).unwrap(),
        0,
        "nothing comes behind the last message"
    );
}

#[test]
fn a_length_is_little_endian() {
    let _limit = limit(here!());
    let (stream, mut raw) = ends();
    // Both ways in which messages are sent: small in one slice, larger ones beside their length.
    for (size, header) in [(0x03_04, [4, 3, 0, 0]), (0x01_02_03, [3, 2, 1, 0])] {
        let message = vec![0x55; size];
        thread::scope(|scope| {
            scope.spawn(|| stream.send(&message, soon()).unwrap());
            assert_reads(&mut raw, &header);
            assert_reads(&mut raw, &message);
        });
    }
}

#[test]
fn a_length_and_the_message_is_what_is_received() {
    let _limit = limit(here!());
    let (stream, mut raw) = ends();
    let mut message = Vec::new();
    for (expected, bytes) in GOLDEN {
        raw.write_all(bytes).unwrap();
        let len = stream.recv_message(&mut message, soon()).unwrap();
        assert_eq!((len, &*message), (Some(expected.len()), expected));
        raw.write_all(bytes).unwrap();
        let mut buf = [0; 16];
        let part = stream.recv(&mut buf, soon()).unwrap();
        let len = expected.len();
        assert_eq!(part, Some(Part { len, last: true }));
        assert_eq!(&buf[..len], expected);
    }
}

#[test]
fn a_transaction_is_two_messages() {
    let _limit = limit(here!());
    let (stream, mut raw) = ends();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reply = [0; 8];
            let part = stream.transact(b"hello", &mut reply, soon()).unwrap();
            assert_eq!(part, Some(Part { len: 3, last: true }));
            assert_eq!(&reply[..3], b"you");
        });
        assert_reads(&mut raw, b"\x05\0\0\0hello");
        raw.write_all(b"\x03\0\0\0you").unwrap();
    });
}
