#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::Poll;

use ::tokio::runtime::Builder;
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::super::socket::Socket;
use super::stream::Stream;
use crate::Deadline;
use crate::transport::tokio::Stream as _;
use crate::transport::tokio::own::Own as _;

/// A stream with the smallest buffer that there is, and its peer.
fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    set_socket_send_buffer_size(&ours, 0).unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = Socket::new(OwnedFd::from(ours));
    let stream = Stream::new(socket, None, 1 << 20).unwrap();
    (stream, theirs)
}

/// What does not go in whole at once does not go at all: the smallest buffer takes a number of whole messages.
#[test]
fn a_message_that_is_tried_goes_in_whole_or_not_at_all() {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        for size in [0, 1, 100, 1_000, 2_000, 2_044] {
            let (stream, mut theirs) = pair();
            let message = vec![7; size];
            let mut sent = 0_usize;
            // One that is refused for others to have a turn is sent as usual.
            while stream.try_send(&message) || stream.send(&message, Deadline::NOW).await.is_ok() {
                sent += 1;
            }
            assert!(sent > 0);
            // It is full, and whole.
            let full = stream.send(&message, Deadline::NOW).await.unwrap_err();
            assert_eq!(full.kind(), ErrorKind::TimedOut);
            stream.close();
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), sent * (4 + size));
        }
    });
}

#[test]
fn a_message_is_not_tried_that_might_be_split_or_cannot_go() {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let (stream, _theirs) = pair();
        assert!(!stream.try_send(&[0; 2_045]));
        assert!(stream.try_send(&[0; 2_044]));
        stream.close();
        assert!(!stream.try_send(&[]));
        let (stream, theirs) = pair();
        drop(theirs);
        assert!(!stream.try_send(&[]));
    });
}

/// A task that sends again and again lets the others have their turn.
#[test]
fn whoever_tries_and_tries_has_to_wait_now_and_then() {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let (stream, mut theirs) = pair();
        let mut tried = 0;
        while stream.try_send(&[]) {
            theirs.read_exact(&mut [0; 4]).unwrap();
            tried += 1;
            assert!(tried < 1_000);
        }
        assert!(!stream.try_send(&[]));
        let mut send = pin!(stream.send(&[], Deadline::NEVER));
        let waits = poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "although there is room");
        send.await.unwrap();
        assert!(stream.try_send(&[]));
    });
}
