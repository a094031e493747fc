//! Descriptors: those that a peer sends and nobody expects, and those that run out.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use pipetalk::{ConnectOptions, Deadline, Error, ListenOptions, Listener, Stream};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::assert_listens;
use crate::harness::*;
use util::{Actor, announce, wait_for_release};

/// Sends bytes with a copy of each descriptor.
pub(crate) fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    send_with_flags(socket, bytes, descriptors, SendFlags::empty()).unwrap();
}

pub(crate) fn send_with_flags(
    socket: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<()> {
    let message = SendAncillaryMessage::ScmRights(descriptors);
    let mut space = vec![std::mem::MaybeUninit::uninit(); message.size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(message));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    assert_eq!(sent, bytes.len());
    Ok(())
}

pub(crate) fn i07_unexpected_descriptors_are_closed<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    // One, and more than a receiver that does not expect any would have room for.
    for count in [1, 250] {
        let raw = UnixStream::connect(place.path()).unwrap();
        let stream = listener.accept(soon()).unwrap();
        let (mut kept, sent) = UnixStream::pair().unwrap();
        send_with(&raw, b"\x05\0\0\0he", &vec![sent.as_fd(); count]);
        send_with(&raw, b"llo", &vec![sent.as_fd(); count]);
        drop(sent);
        match stream.recv_message(&mut Vec::new(), soon()) {
            Ok(len) => assert_eq!(len, Some(5)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}"),
        }
        // With all copies closed, this is the end; with one left, it would hang.
        kept.set_read_timeout(Some(A_WHILE)).unwrap();
        assert_eq!(kept.read(&mut [0; 1]).unwrap(), 0, "{count} descriptors");
    }
    assert_listens(place.path(), &listener);
}

pub(crate) fn l09_running_out_of_descriptors_is_waited_out<T: Named>() {
    let place = Place::new();
    let mut actor = Actor::start("out of descriptors", &[T::WORD, place.name()]);
    assert_eq!(actor.says(), "done");
}

/// Lets this process have no more than so many descriptors.
pub(crate) fn limit_descriptors(most: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(most);
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Takes every descriptor that this process may still have.
pub(crate) fn hoard_descriptors() -> Vec<File> {
    limit_descriptors(64);
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    hoard
}

pub(crate) fn out_of_descriptors<T: Named>(name: &str) {
    let listener = T::bind(name).unwrap();
    for stop in [false, true] {
        // One client waits already, and the next cannot even begin.
        let waiting = T::connect(name).unwrap();
        let hoard = hoard_descriptors();
        promptly("failing", || T::connect(name).unwrap_err());
        // The one that waits cannot be accepted either, and that is waited out.
        assert_times_out("accepting without descriptors", |deadline| {
            listener.accept(deadline)
        });
        assert_eq!(kind(listener.accept(Deadline::NOW)), ErrorKind::TimedOut);
        thread::scope(|scope| {
            let accepting = scope.spawn(|| listener.accept(Deadline::NEVER));
            thread::sleep(A_MOMENT);
            assert!(!accepting.is_finished());
            if stop {
                promptly("stopping", || listener.stop());
                assert_eq!(ours(accepting.join().unwrap()), Error::Stopped);
            } else {
                drop(hoard);
                assert_works(&waiting, &accepting.join().unwrap().unwrap());
            }
        });
    }
    announce("done");
}

pub(crate) fn l06_at_the_limit_of_descriptors_clients_are_counted_all_the_same<T: Named>() {
    let place = Place::new();
    let mut actor = Actor::start("count without descriptors", &[T::WORD, place.name()]);
    assert_eq!(actor.says(), "listening");
    let connect = |deadline| T::connect_with(&ConnectOptions::new(), place.name(), deadline);
    let client = connect(soon()).unwrap();
    assert_eq!(actor.says(), "accepted");
    if cfg!(target_os = "linux") {
        // Elsewhere a full backlog refuses clients in another way.
        assert_eq!(ours(connect(Deadline::NOW)), Error::Busy);
    }
    thread::scope(|scope| {
        let next = scope.spawn(|| connect(soon()).unwrap());
        actor.release();
        assert_eq!(actor.says(), "served");
        // Not before there is room is it connected, and then it is the one that is served.
        assert_eq!(recv(&next.join().unwrap()).unwrap(), b"you");
    });
    drop(client);
}

/// The part of [`l06_at_the_limit_of_descriptors_clients_are_counted_all_the_same`].
pub(crate) fn count_without_descriptors<T: Named>(name: &str) {
    let listener = T::bind_with(&ListenOptions::new().instances(1), name).unwrap();
    let mut hoard = hoard_descriptors();
    // What the system keeps for the connection.
    hoard.pop();
    announce("listening");
    let first = listener.accept(soon()).unwrap();
    announce("accepted");
    wait_for_release();
    // Of the one that is free now comes first what has kept the backlog full, and it is no client.
    drop(first);
    let second = listener.accept(soon()).unwrap();
    send(&second, b"you");
    announce("served");
    assert_ended(&second);
}
