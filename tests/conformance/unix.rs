//! What only Unix has, and what it has not.

mod access;
pub(crate) mod descriptors;
mod names;
mod sockets;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pipetalk::{
    ConnectOptions, ListenOptions, Listener, LocalListener, LocalStream, Name, ReadMode,
};

use crate::harness::*;
use crate::util::{here, limit};

fn assert_listens(path: &Path, listener: &LocalListener) {
    let client = ConnectOptions::new()
        .connect(Name::path(path).unwrap(), soon())
        .unwrap();
    assert_works(&client, &listener.accept(soon()).unwrap());
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

#[test]
fn m12_there_is_no_byte_mode() {
    let _limit = limit(here!());
    let place = Place::new();
    let bound = ListenOptions::new()
        .read_mode(ReadMode::Byte)
        .bind(place.name());
    assert_eq!(kind(bound), ErrorKind::Unsupported);
    let _listener = LocalListener::bind(place.name()).unwrap();
    let dialed = ConnectOptions::new()
        .read_mode(ReadMode::Byte)
        .connect(place.name(), soon());
    assert_eq!(kind(dialed), ErrorKind::Unsupported);
}

#[test]
fn i05_impersonation_is_unsupported() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let client = LocalStream::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    for stream in [client, server] {
        let mut ran = false;
        assert_eq!(
            kind(stream.impersonate(|| ran = true)),
            ErrorKind::Unsupported
        );
        assert!(!ran);
    }
}

#[test]
fn e02_a_reset_counts_as_the_end_once_drained() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    send(&stream, b"never read");
    raw.write_all(b"\x04\0\0\0last").unwrap();
    drop(raw);
    assert_eq!(recv(&stream).unwrap(), b"last");
    assert_ended(&stream);
}

#[test]
fn e01_a_peer_that_shuts_down_its_sending_can_still_receive() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    raw.write_all(b"\x04\0\0\0last").unwrap();
    raw.shutdown(Shutdown::Write).unwrap();
    assert_eq!(recv(&stream).unwrap(), b"last");
    assert_ended(&stream);
    send(&stream, b"bye");
    drop(stream);
    raw.set_read_timeout(Some(A_WHILE)).unwrap();
    let mut rest = Vec::new();
    raw.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"\x03\0\0\0bye");
}

/// The parts that only Unix has, in processes of their own: nobody else's descriptors are to run out.
pub(crate) fn platform_part(part: &str, args: &[&str]) {
    match (part, args) {
        ("out of descriptors", [name]) => descriptors::out_of_descriptors(name),
        _ => panic!("there is no part {part:?} with {args:?}"),
    }
}
