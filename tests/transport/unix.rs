//! What only Unix has, and what it has not.

mod access;
pub(crate) mod descriptors;
mod locks;
mod names;
pub(crate) mod places;
mod sockets;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use pipetalk::{ConnectOptions, ListenOptions, Listener, LocalStream, Name, ReadMode, Stream};

use crate::harness::*;

pub(crate) fn assert_listens<L: Listener>(path: &Path, listener: &L) {
    let client = LocalStream::connect(Name::path(path).unwrap()).unwrap();
    let server = listener.accept(soon()).unwrap();
    send(&client, b"listening?");
    assert_eq!(recv(&server).as_deref(), Some(b"listening?".as_slice()));
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

pub(crate) fn m12_there_is_no_byte_mode<T: Named>() {
    let place = Place::new();
    let bound = T::bind_with(
        &ListenOptions::new().read_mode(ReadMode::Byte),
        place.name(),
    );
    assert_eq!(kind(bound), ErrorKind::Unsupported);
    let _listener = T::bind(place.name()).unwrap();
    let dialed = T::connect_with(
        &ConnectOptions::new().read_mode(ReadMode::Byte),
        place.name(),
        soon(),
    );
    assert_eq!(kind(dialed), ErrorKind::Unsupported);
}

pub(crate) fn i05_impersonation_is_unsupported<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    for stream in [client, server] {
        let mut ran = false;
        assert_eq!(
            kind(T::impersonate(&stream, || ran = true)),
            ErrorKind::Unsupported
        );
        assert!(!ran);
    }
}

pub(crate) fn e02_a_reset_counts_as_the_end_once_drained<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    send(&stream, b"never read");
    raw.write_all(b"\x04\0\0\0last").unwrap();
    drop(raw);
    assert_eq!(recv(&stream).unwrap(), b"last");
    assert_ended(&stream);
}

pub(crate) fn e01_a_peer_that_shuts_down_its_sending_can_still_receive<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
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

/// `SO_SNDTIMEO` is how long each part of a message waits for room.
pub(crate) fn d02_room_that_comes_bit_by_bit_gives_no_send_more_time<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut some = vec![0; 32 << 10];
            while matches!(raw.read(&mut some), Ok(1..)) {
                thread::sleep(Duration::from_millis(4));
            }
        });
        // It would take half a minute, with room every few milliseconds. Pages that nobody has written to cost nothing.
        let message = vec![0; 250 << 20];
        let (head, tail) = message.split_at(1_000);
        assert_times_out("a send", |deadline| {
            let pieces = [head, tail].map(IoSlice::new);
            stream.send_vectored(&pieces, deadline)
        });
        stream.close();
    });
}

/// The parts that only Unix has, in processes of their own: nobody else's descriptors are to run out.
pub(crate) fn platform_part(part: &str, args: &[&str]) {
    match (part, args) {
        ("out of descriptors", ["blocking", name]) => {
            descriptors::out_of_descriptors::<Local>(name);
        }
        ("count without descriptors", ["blocking", name]) => {
            descriptors::count_without_descriptors::<Local>(name);
        }
        #[cfg(feature = "tokio")]
        ("out of descriptors", ["async", name]) => {
            descriptors::out_of_descriptors::<crate::on_tokio::AsyncLocal>(name);
        }
        ("try to bind", ["blocking", name]) => places::try_to_bind::<Local>(name),
        ("bind under umask", ["blocking", umask, name]) => {
            places::bind_under_umask::<Local>(umask, name);
        }
        ("try to connect", ["blocking", name]) => places::try_to_connect::<Local>(false, name),
        ("wait and connect", ["blocking", name]) => places::try_to_connect::<Local>(true, name),
        ("move away", ["blocking", from, to]) => places::move_away::<Local>(from, to),
        #[cfg(feature = "tokio")]
        (part, ["async", args @ ..]) => async_part::<crate::on_tokio::AsyncLocal>(part, args),
        _ => panic!("there is no part {part:?} with {args:?}"),
    }
}

#[cfg(feature = "tokio")]
fn async_part<T: Named>(part: &str, args: &[&str]) {
    match (part, args) {
        ("count without descriptors", [name]) => descriptors::count_without_descriptors::<T>(name),
        ("try to bind", [name]) => places::try_to_bind::<T>(name),
        ("try to connect", [name]) => places::try_to_connect::<T>(false, name),
        ("wait and connect", [name]) => places::try_to_connect::<T>(true, name),
        ("move away", [from, to]) => places::move_away::<T>(from, to),
        _ => panic!("there is no part {part:?} with {args:?}"),
    }
}
