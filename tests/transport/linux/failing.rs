//! What the system fails to do now and then, in processes in which strace has it fail.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use pipetalk::{Error, Listener, Stream};
use rustix::io::Errno;

use crate::harness::*;
use util::traced::{can_trace, with_failures};
use util::{announce, wait_for_release};

/// Larger than what is on its way can be.
const LARGE: usize = 16 << 20;

pub(crate) fn m10_a_send_that_failed_half_way_closes_for_good<T: Named>() {
    if !can_trace("M10: failures of the system") {
        return;
    }
    // At the second try, and after having waited for room.
    for when in ["2+", "4+"] {
        let place = Place::new();
        let listener = UnixListener::bind(place.path()).unwrap();
        let failure = format!("sendmsg:error=ENOBUFS:when={when}");
        let mut client = with_failures("send past a failure", &[T::WORD, place.name()], &failure);
        let (mut raw, _) = listener.accept().unwrap();
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            let mut some = vec![0; 64 << 10];
            loop {
                // So slowly that the client has to wait.
                thread::sleep(Duration::from_millis(1));
                match raw.read(&mut some).unwrap() {
                    0 => return received,
                    n => received.extend_from_slice(&some[..n]),
                }
            }
        });
        let (failed, poisoned) = (Err::<(), _>(Errno::NOBUFS), Error::Poisoned);
        assert_eq!(
            client.says(),
            format!("{failed:?} {poisoned:?} {poisoned:?}")
        );
        client.release();
        let received = reading.join().unwrap();
        let (length, content) = received.split_at(4);
        assert_eq!(length, (LARGE as u32).to_le_bytes());
        assert!(content.len() < LARGE && is_content(1, content));
    }
}

/// The part of [`m10_a_send_that_failed_half_way_closes_for_good`].
pub(super) fn send_past_a_failure<T: Named>(name: &str) {
    let stream = T::connect(name).unwrap();
    let first = stream.send(&content(1, LARGE), soon()).map_err(errno);
    let second = ours(stream.send(b"next", soon()));
    let third = ours(stream.recv(&mut [0; 8], soon()));
    announce(&format!("{first:?} {second:?} {third:?}"));
    wait_for_release();
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}

pub(crate) fn m14_a_transaction_that_failed_closes_for_good<T: Named>() {
    if !can_trace("M14: failures of the system") {
        return;
    }
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).unwrap();
    // The first looks whether anything has come before.
    let failure = "recvmsg:error=ENOMEM:when=2+";
    let mut client = with_failures("ask past a failure", &[T::WORD, place.name()], failure);
    let (mut raw, _) = listener.accept().unwrap();
    let mut request = [0; 9];
    raw.read_exact(&mut request).unwrap();
    raw.write_all(b"\x04\0\0\0late").unwrap();
    let (failed, poisoned) = (Err::<(), _>(Errno::NOMEM), Error::Poisoned);
    assert_eq!(client.says(), format!("{failed:?} {poisoned:?}"));
    assert_eq!(raw.read(&mut [0; 1]).unwrap(), 0);
}

/// The part of [`m14_a_transaction_that_failed_closes_for_good`].
pub(super) fn ask_past_a_failure<T: Named>(name: &str) {
    let stream = T::connect(name).unwrap();
    let ask = || stream.transact(b"first", &mut [0; 8], soon());
    let first = ask().map(drop).map_err(errno);
    let second = ours(ask());
    announce(&format!("{first:?} {second:?}"));
    wait_for_release();
}

/// For async listeners alone: a blocking one has the system watch nothing.
#[cfg(feature = "tokio")]
#[test]
fn l09_a_client_that_cannot_be_watched_is_let_go_of_alone() {
    let _limit = util::limit(util::here!());
    if !can_trace("L9: failures of the system") {
        return;
    }
    let place = Place::new();
    // Before the clients the runtime has its own waker watched, and the listener.
    let failure = "epoll_ctl:error=ENOSPC:when=3";
    let mut server = with_failures("echo", &["async", place.name()], failure);
    assert_eq!(server.says(), "listening");
    let served = (0..4).filter(|_| {
        let mut raw = UnixStream::connect(place.path()).unwrap();
        raw.set_read_timeout(Some(A_WHILE)).unwrap();
        raw.write_all(b"\x01\0\0\0x").unwrap();
        raw.read_exact(&mut [0; 5]).is_ok()
    });
    assert_eq!(served.count(), 3, "all but the one");
}

/// The part of [`l09_a_client_that_cannot_be_watched_is_let_go_of_alone`].
pub(super) fn echo<T: Named>(name: &str) {
    let listener = T::bind(name).unwrap();
    announce("listening");
    // It outlives the strace that is ended with the test, but not for long.
    while let Ok(stream) = listener.accept(soon()) {
        while let Some(message) = recv(&stream) {
            send(&stream, &message);
        }
    }
}
