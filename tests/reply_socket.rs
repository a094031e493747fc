//! A socket of their own for the replies, by the bytes: what a blocking client asks for, and what a blocking server gives.
//! Nothing here of the other end is the crate's own code.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[path = "util/mod.rs"]
mod util;

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pipetalk::{Call, CallError, Client, ServerOptions};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use util::{A_WHILE, Place, here, limit};

/// `ff ff ff 03`, as it is on the wire.
const REPLY_SOCKET: [u8; 4] = [3, 0xff, 0xff, 0xff];

/// From which call on a client asks.
const CALLS: usize = 64;

const CODEC: &str = <pipetalk::DefaultCodec as pipetalk::Codec>::NAME;

/// A hello or a welcome: the codec, no service, and room for many requests.
fn opening(kind: u8) -> Vec<u8> {
    let mut message = [b"PTLK", &[kind, 1][..]].concat();
    for (tag, value) in [
        (1, CODEC.as_bytes()),
        (2, b""),
        (5, &(1_u32 << 24).to_le_bytes()),
        (6, &64_u32.to_le_bytes()),
    ] {
        message.push(tag);
        message.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        message.extend_from_slice(value);
    }
    message
}

fn request(id: u32, method: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = [0x10, 0, 0, 0];
    [&header, &id.to_le_bytes(), &method, &[0xff; 4], payload].concat()
}

fn reply(id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0x20, 0, 0, 0], &id.to_le_bytes(), payload].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&length.to_le_bytes(), message].concat()
}

/// Receives one message, with which no descriptor comes.
#[track_caller]
fn receive(socket: &UnixStream) -> Vec<u8> {
    receive_or_end(socket).expect("a message, not the end")
}

fn receive_or_end(socket: &UnixStream) -> Option<Vec<u8>> {
    let (message, descriptors) = receive_with(socket)?;
    assert_eq!(descriptors.len(), 0);
    Some(message)
}

/// Receives one message, and the descriptors that come with its first bytes.
fn receive_with(socket: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut length)];
    let flags = RecvFlags::WAITALL | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut slices, &mut control, flags).unwrap();
    if received.bytes == 0 {
        return None;
    }
    assert_eq!(received.bytes, 4);
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    let mut socket = socket;
    socket.read_exact(&mut message).unwrap();
    Some((message, descriptors))
}

fn send(mut socket: &UnixStream, message: &[u8]) {
    socket.write_all(&framed(message)).unwrap();
}

/// Sends a message, and descriptors with its first byte.
fn send_with(socket: &UnixStream, message: &[u8], descriptors: &[&UnixStream]) {
    let descriptors: Vec<_> = descriptors.iter().map(|socket| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let message = framed(message);
    let slices = [IoSlice::new(&message)];
    let sent = rustix::net::sendmsg(socket, &slices, &mut control, SendFlags::empty());
    assert_eq!(sent, Ok(message.len()));
}

fn patient(socket: UnixStream) -> UnixStream {
    socket.set_read_timeout(Some(A_WHILE)).unwrap();
    socket
}

/// Greets a server that echoes a byte.
fn greet(place: &Place) -> UnixStream {
    let socket = patient(UnixStream::connect(place.path()).unwrap());
    send(&socket, &opening(1));
    let welcome = receive(&socket);
    assert!(welcome.starts_with(b"PTLK\x02"), "{welcome:?}");
    socket
}

fn with_server(options: ServerOptions, client: impl FnOnce(&Place)) {
    let place = Place::new();
    let server = options.bind(place.name()).unwrap();
    let handle = server.handle();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(|byte: u8, _: &Call| byte));
        client(&place);
        handle.stop();
        serving.join().unwrap().unwrap();
    });
}

/// What the tests of this file open and close, one of them counts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_server_gives_one_to_who_asks() {
    let _limit = limit(here!());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    with_server(ServerOptions::new(), |place| {
        let requests = greet(place);
        send(&requests, &request(7, [0; 4], &[1]));
        send(&requests, &request(8, REPLY_SOCKET, &[]));
        send(&requests, &request(9, [0; 4], &[2]));
        assert_eq!(receive(&requests), reply(7, &[1]));
        let (answer, mut descriptors) = receive_with(&requests).unwrap();
        assert_eq!((answer, descriptors.len()), (reply(8, &[]), 1));
        let replies = patient(descriptors.remove(0).into());
        assert_eq!(receive(&replies), reply(9, &[2]));

        // There is one at most.
        send(&requests, &request(10, REPLY_SOCKET, &[]));
        let answer = receive(&replies);
        assert_eq!((answer[0], answer[4]), (0x21, 10));
        for number in 0..200 {
            send(&requests, &request(11, [0; 4], &[number]));
            assert_eq!(receive(&replies), reply(11, &[number]));
        }

        // Nothing goes the other way, or the first.
        let error = (&replies).write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        requests.set_nonblocking(true).unwrap();
        let error = (&requests).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);

        // Both end together.
        requests.set_nonblocking(false).unwrap();
        requests.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((&replies).read(&mut [0]).unwrap(), 0);
        assert_eq!((&requests).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn who_asks_and_does_not_take_it_hurts_nobody_else() {
    let _limit = limit(here!());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    with_server(ServerOptions::new(), |place| {
        let requests = greet(place);
        for number in 0..3 {
            send(&requests, &request(number, REPLY_SOCKET, &[]));
        }
        // Without room for descriptors the system closes them.
        let mut answer = vec![0; framed(&reply(0, &[])).len()];
        (&requests).read_exact(&mut answer).unwrap();
        assert_eq!(answer, framed(&reply(0, &[])));
        let client: Client<u8, u8> = Client::connect(place.name()).unwrap();
        for number in 0..200 {
            assert_eq!(client.call(&number), Ok(number));
        }
        // It counts as one that has left, and is let go when it does.
        drop(requests);
    });
}

/// Plays a server to a client that makes calls, until one fails or all have been made: with which the client has asked for a
/// socket for the replies, and what came of the last. Of the socket on which it asks, and
/// the id with which, `give` makes the one that the replies go on.
fn play(
    give: impl FnOnce(&UnixStream, u32) -> UnixStream + Send,
    calls: usize,
) -> (Option<usize>, Result<u8, CallError>) {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let requests = patient(listener.accept().unwrap().0);
            assert!(receive(&requests).starts_with(b"PTLK\x01"));
            send(&requests, &opening(2));
            let (mut replies, mut asked) = (requests.try_clone().unwrap(), None);
            let mut give = Some(give);
            for number in 0..calls {
                let Some(mut message) = receive_or_end(&requests) else {
                    break;
                };
                if message[8..12] == REPLY_SOCKET {
                    asked = Some(number);
                    let id = u32::from_le_bytes(message[4..8].try_into().unwrap());
                    replies = give.take().expect("asked twice")(&requests, id);
                    let Some(next) = receive_or_end(&requests) else {
                        break;
                    };
                    message = next;
                }
                let id = u32::from_le_bytes(message[4..8].try_into().unwrap());
                let answer = framed(&reply(id, &message[16..]));
                if (&replies).write_all(&answer).is_err() {
                    break;
                }
            }
            asked
        });
        let client: Client<u8, u8> = Client::connect(place.name()).unwrap();
        let mut last = Ok(0);
        for number in 0..calls {
            let number = u8::try_from(number % 200).unwrap();
            last = client.call(&number);
            if last != Ok(number) {
                break;
            }
        }
        drop(client);
        (serving.join().unwrap(), last)
    })
}

#[test]
fn a_client_asks_once_it_has_made_many_calls_and_takes_what_it_is_given() {
    let _limit = limit(here!());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked, last) = play(
        |requests, id| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            send_with(requests, &reply(id, &[]), &[&theirs]);
            ours
        },
        200,
    );
    assert_eq!((asked, last), (Some(CALLS), Ok(199)));
}

#[test]
fn a_client_that_has_made_few_calls_does_not_ask() {
    let _limit = limit(here!());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked, last) = play(|_, _| panic!("it asks"), CALLS);
    assert_eq!((asked, last), (None, Ok(63)));
}

#[test]
fn what_is_no_socket_ends_the_conversation() {
    let _limit = limit(here!());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked, last) = play(
        |requests, id| {
            let file = OwnedFd::from(fs::File::open("/proc/self/status").unwrap());
            send_with(requests, &reply(id, &[]), &[&UnixStream::from(file)]);
            requests.try_clone().unwrap()
        },
        CALLS + 1,
    );
    assert_eq!(asked, Some(CALLS));
    assert_eq!(last, Err(CallError::Disconnected { sent: true }));
}

/// How many sockets this process has.
fn sockets() -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    let links = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn the_two_ends_of_this_crate_do_so_and_leave_nothing_open() {
    let _limit = limit(here!());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = sockets();
    for with_pool in [false, true] {
        with_server(
            match with_pool {
                true => ServerOptions::new().pool(2),
                false => ServerOptions::new(),
            },
            |place| {
                let client: Client<u8, u8> = Client::connect(place.name()).unwrap();
                assert_eq!(client.call(&1), Ok(1));
                let one_way = sockets();
                for _ in 0..3 * CALLS {
                    assert_eq!(client.call(&1), Ok(1));
                }
                assert_eq!(sockets(), one_way + 2);
                // Calls from several threads go that way as well.
                thread::scope(|scope| {
                    for number in 0..8 {
                        let client = &client;
                        scope.spawn(move || {
                            for _ in 0..200 {
                                assert_eq!(client.call(&number), Ok(number));
                            }
                        });
                    }
                });
                assert_eq!(sockets(), one_way + 2);
            },
        );
        // The thread of a connection ends by itself.
        let patience = std::time::Instant::now();
        while sockets() > before {
            assert!(patience.elapsed() < A_WHILE);
            thread::sleep(Duration::from_millis(1));
        }
    }
}
