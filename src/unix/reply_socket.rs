//! A socket of their own for the replies.
//!
//! Who sleeps in a receive on a Unix socket is woken twice for each reply on Linux: by the reply, and before that when the
//! peer reads the request, because then there is room to send again, and whoever sleeps on the socket is woken for
//! whatever happens to it (`unix_write_space` and `unix_stream_data_wait` in `net/unix/af_unix.c`). That costs as much as
//! a fifth of a round trip. Who receives from one socket and sends on another is woken once.
//!
//! So a client that makes many calls asks for such a socket, and a server that has one to give sends it with its answer.
//! What the server sends after that comes there. Requests go on where they went.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::os;

/// Whether a socket is to come.
#[derive(Debug, Default)]
pub(super) enum Awaited {
    #[default]
    No,
    Yes,
    /// It has come, with the message that is being received, or with the last one.
    Come(OwnedFd),
}

/// Sends bytes, and a socket with the first of them.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    with: BorrowedFd<'_>,
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let descriptors = [with];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

/// Receives bytes, and a socket if one comes with them. The system ends a read behind what a descriptor came with.
///
/// Fails where one has come for which the process has no descriptor left: there is nothing more to receive here then.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    slices: &mut [IoSliceMut<'_>],
    flags: RecvFlags,
    come: &mut Option<OwnedFd>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, slices, &mut control, flags | os::NOT_INHERITED)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            *come = descriptors.last();
        }
    }
    if come.is_none() && received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE);
    }
    Ok(received.bytes)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::cell::Cell;
    use std::io::{self, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use super::super::patience::Patience;
    use super::super::stream::Stream;
    use super::*;
    use crate::{Deadline, Error};

    const LIMIT: usize = 16 << 20;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    fn stream(socket: impl Into<OwnedFd>) -> Stream {
        Stream::new(socket.into(), None, LIMIT, Patience::default()).unwrap()
    }

    /// A server and its client.
    fn pair() -> (Stream, Stream) {
        let (server, client) = UnixStream::pair().unwrap();
        (stream(server), stream(client))
    }

    #[track_caller]
    fn assert_receives(stream: &Stream, message: &[u8]) {
        let mut received = Vec::new();
        let size = stream.recv_message(&mut received, soon()).unwrap();
        assert_eq!((size, &received[..]), (Some(message.len()), message));
    }

    /// A pair whose replies go their own way.
    fn parted() -> (Stream, Stream) {
        let (server, client) = pair();
        assert!(client.expect_reply_socket());
        assert!(server.send_with_reply_socket(b"here", soon()).unwrap());
        assert_receives(&client, b"here");
        assert!(client.take_reply_socket());
        (server, client)
    }

    #[test]
    fn what_is_sent_before_comes_before_and_what_is_sent_after_comes_after() {
        let (server, client) = pair();
        assert!(client.expect_reply_socket());
        server.send(b"before", soon()).unwrap();
        assert!(server.send_with_reply_socket(b"with", soon()).unwrap());
        server.send(b"after", soon()).unwrap();
        assert_receives(&client, b"before");
        assert_receives(&client, b"with");
        assert!(client.take_reply_socket());
        assert_receives(&client, b"after");
        for size in [0, 100, 5_000, 1 << 20, 10] {
            let message = vec![7; size];
            thread::scope(|scope| {
                scope.spawn(|| server.send(&message, soon()).unwrap());
                assert_receives(&client, &message);
                scope.spawn(|| client.send(&message, soon()).unwrap());
                assert_receives(&server, &message);
            });
        }
    }

    #[test]
    fn replies_take_no_room_from_requests() {
        let (server, client) = parted();
        // More than either socket holds goes each way before anybody reads.
        let fill = |stream: &Stream| {
            let mut filled = 0;
            while stream.send(&[1; 1_000], Deadline::NOW).is_ok() {
                filled += 1;
            }
            filled
        };
        let (requests, replies) = (fill(&client), fill(&server));
        assert!(requests > 10 && replies > 10, "{requests}, {replies}");
        for _ in 0..replies {
            assert_receives(&client, &[1; 1_000]);
        }
        assert_eq!(client.peek().unwrap().unwrap().bytes, 0);
        for _ in 0..requests {
            assert_receives(&server, &[1; 1_000]);
        }
    }

    #[test]
    fn either_end_ends_both_ways() {
        let ends: [fn(&Stream); 2] = [|stream| stream.close(), |stream| stream.abort()];
        for end in ends {
            let (server, client) = parted();
            server.send(b"last", soon()).unwrap();
            end(&server);
            assert_receives(&client, b"last");
            assert_eq!(client.recv_message(&mut Vec::new(), soon()).unwrap(), None);
            let error = client.send(b"late", soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);

            let (server, client) = parted();
            client.send(b"last", soon()).unwrap();
            end(&client);
            assert_receives(&server, b"last");
            assert_eq!(server.recv_message(&mut Vec::new(), soon()).unwrap(), None);
            let error = server.send(b"late", soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
        let (server, client) = parted();
        drop(server);
        assert_eq!(client.recv_message(&mut Vec::new(), soon()).unwrap(), None);
    }

    #[test]
    fn closing_wakes_who_waits_for_a_reply() {
        let (_server, client) = parted();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.recv_message(&mut Vec::new(), soon()));
            client.close();
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(Error::of(&error), Some(&Error::Closed));
        });
    }

    #[test]
    fn a_deadline_counts_on_the_new_socket() {
        let (server, client) = parted();
        for stream in [&client, &server] {
            let short = Deadline::after(Duration::from_millis(30));
            let error = stream.recv_message(&mut Vec::new(), short).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(short.has_passed());
        }
        server.send(b"in time", soon()).unwrap();
        assert_receives(&client, b"in time");
    }

    #[test]
    fn there_is_one_at_most() {
        let (server, client) = parted();
        assert!(!client.expect_reply_socket());
        assert!(!server.send_with_reply_socket(b"again", soon()).unwrap());
        server.send(b"next", soon()).unwrap();
        assert_receives(&client, b"next");
    }

    #[test]
    fn none_comes_where_none_is_given() {
        let (server, client) = pair();
        assert!(client.expect_reply_socket());
        server.send(b"no", soon()).unwrap();
        assert_receives(&client, b"no");
        assert!(!client.take_reply_socket());
        // None is taken either, from then on: the system closes it.
        assert!(server.send_with_reply_socket(b"late", soon()).unwrap());
        assert_receives(&client, b"late");
        assert!(!client.take_reply_socket());
        let error = server.send(b"lost", soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_socket_comes_with_a_message_in_pieces() {
        let (mut server, client) = UnixStream::pair().unwrap();
        let client = stream(client);
        assert!(client.expect_reply_socket());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        let message = [&2_u32.to_le_bytes()[..], b"ok"].concat();
        let flags = SendFlags::empty();
        send(server.as_fd(), &message[..1], theirs.as_fd(), flags).unwrap();
        drop(theirs);
        for piece in message[1..].chunks(2) {
            let error = client
                .recv_message(&mut Vec::new(), Deadline::NOW)
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            server.write_all(piece).unwrap();
        }
        assert_receives(&client, b"ok");
        assert!(client.take_reply_socket());
        ours.write_all(&message).unwrap();
        assert_receives(&client, b"ok");
        client.send(b"on the first", soon()).unwrap();
        let mut request = [0; 16];
        server.read_exact(&mut request).unwrap();
        assert_eq!(&request[4..], b"on the first");
    }

    #[test]
    fn what_comes_after_all_on_the_first_socket_is_noticed() {
        let (server, client) = UnixStream::pair().unwrap();
        let client = stream(client);
        assert!(client.expect_reply_socket());
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let message = [&2_u32.to_le_bytes()[..], b"ok"].concat();
        let twice = [&message[..], &message[..]].concat();
        send(server.as_fd(), &twice, theirs.as_fd(), SendFlags::empty()).unwrap();
        assert_receives(&client, b"ok");
        assert!(!client.take_reply_socket());
        let error = client.send(b"late", soon()).unwrap_err();
        assert_eq!(Error::of(&error), Some(&Error::Closed));
    }

    #[test]
    fn whoever_waits_to_send_takes_what_comes_on_the_new_socket() {
        let (server, client) = pair();
        assert!(client.expect_reply_socket());
        let large = vec![1; 4 << 20];
        let (received, mut message) = (Cell::new(0), Vec::new());
        thread::scope(|scope| {
            // Each sends before it reads: only what the client takes meanwhile lets both finish.
            let serving = scope.spawn(|| {
                assert_receives(&server, b"begin");
                assert!(server.send_with_reply_socket(b"here", soon()).unwrap());
                server.send(&large, soon()).unwrap();
                assert_receives(&server, &large);
            });
            client.send(b"begin", soon()).unwrap();
            let mut receive = || match client.recv_message(&mut message, Deadline::NOW) {
                Ok(Some(size)) => {
                    match size {
                        4 => assert!(client.take_reply_socket()),
                        _ => assert_eq!(message.len(), large.len()),
                    }
                    received.set(received.get() + 1);
                    true
                }
                Ok(None) => panic!("the end"),
                Err(_) => false,
            };
            client
                .send_while_receiving(&[IoSlice::new(&large)], soon(), &mut receive)
                .unwrap();
            if received.get() < 2 {
                // The rest fitted into the socket.
                assert_receives(&client, &large);
            }
            serving.join().unwrap();
        });
    }
}
