//! Descriptors that a peer sends, that nobody asked for, and that take long to close.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pipetalk::{ConnectOptions, Deadline, Listener, Stream};
use rustix::net::{SendFlags, sockopt};

use super::descriptors;
use crate::harness::*;
use crate::unix::descriptors::{limit_descriptors, send_with, send_with_flags};
use util::{Actor, PortableName, Stranger, announce, wait_for_release};

/// A TCP connection with something unsent, for a peer that never reads. Whoever closes it waits, for longer than any test
/// may take.
pub(super) struct Lingering {
    socket: TcpStream,
    _peer: TcpStream,
}

impl Lingering {
    pub(super) fn new() -> Lingering {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[7; 65_536]).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        sockopt::set_socket_linger(&socket, Some(Duration::from_secs(3_600))).unwrap();
        Lingering {
            socket,
            _peer: peer,
        }
    }

    /// Sends it along with some bytes, and lets go of it, which whoever receives it is not to have done before. What comes
    /// back keeps it from being sent.
    pub(super) fn send(self, to: &UnixStream, bytes: &[u8], flags: SendFlags) -> TcpStream {
        send_with_flags(to, bytes, &[self.socket.as_fd()], flags).unwrap();
        self._peer
    }
}

pub(crate) fn i07_a_descriptor_that_lingers_holds_up_no_receive<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut keep = Vec::new();
    for large in [false, true] {
        let mut raw = UnixStream::connect(place.path()).unwrap();
        let stream = listener.accept(soon()).unwrap();
        let body = content(7, if large { 20_000 } else { 20 });
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        let (begin, rest) = bytes.split_at(7);
        let (middle, end) = rest.split_at(rest.len() / 2);
        keep.push(Lingering::new().send(&raw, begin, SendFlags::empty()));
        promptly("looking", || stream.peek()).unwrap();
        keep.push(Lingering::new().send(&raw, middle, SendFlags::empty()));
        raw.write_all(end).unwrap();
        let received = promptly("receiving", || recv(&stream));
        assert_eq!(received, Some(body));
        // In parts as well.
        keep.push(Lingering::new().send(&raw, b"\x02\0\0\0o", SendFlags::empty()));
        keep.push(Lingering::new().send(&raw, b"k", SendFlags::empty()));
        let mut buf = [0; 8];
        assert!(promptly("receiving", || part(&stream, &mut buf)).last);
        assert_eq!(&buf[..2], b"ok");
        promptly("dropping", || drop(stream));
    }
}

/// The system does not hand those over that come with a byte which it skips.
pub(crate) fn i07_a_descriptor_that_is_sent_out_of_band_holds_up_nobody<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    raw.write_all(b"\x05\0\0\0he").unwrap();
    let _keep = Lingering::new().send(&raw, b"l", SendFlags::OOB);
    raw.write_all(b"lo").unwrap();
    let received = promptly("receiving", || recv(&stream));
    assert_eq!(received.as_deref(), Some(b"hello".as_slice()));
    let _keep = Lingering::new().send(&raw, b"\x01", SendFlags::OOB);
    promptly("dropping", || drop(stream));
}

pub(crate) fn e04_unread_descriptors_hold_up_no_close<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut keep = Vec::new();
    for (ahead, close) in [(0, false), (0, true), (50_000, false), (50_000, true)] {
        let mut raw = UnixStream::connect(place.path()).unwrap();
        let stream = listener.accept(soon()).unwrap();
        raw.write_all(&vec![1; ahead]).unwrap();
        keep.push(Lingering::new().send(&raw, b"x", SendFlags::empty()));
        if close {
            promptly("closing", || stream.close());
        }
        promptly("dropping", || drop(stream));
        // Whoever closes it does so for the peer as well.
        raw.set_read_timeout(Some(A_WHILE)).unwrap();
        let _ = raw.read(&mut [0; 1]);
    }
}

pub(crate) fn l08_descriptors_in_the_backlog_hold_up_no_stop<T: Named>() {
    let mut keep = Vec::new();
    for stop in [false, true] {
        let place = Place::new();
        let listener = T::bind(place.name()).unwrap();
        let clients = [(); 3].map(|()| UnixStream::connect(place.path()).unwrap());
        for client in &clients {
            keep.push(Lingering::new().send(client, b"x", SendFlags::empty()));
        }
        if stop {
            promptly("stopping", || listener.stop());
        }
        promptly("dropping", || drop(listener));
        for mut client in clients {
            client.set_read_timeout(Some(A_WHILE)).unwrap();
            // Whether or not it is told that nobody has read what it sent.
            assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
        }
        T::bind(place.name()).unwrap();
    }
}

pub(crate) fn i06_the_descriptors_of_a_stranger_hold_up_no_accept<T: Named>() {
    let Some(stranger) = Stranger::new("I6") else {
        return;
    };
    let name = format!("@{}", &*PortableName::new());
    let listener = T::bind(&name).unwrap();
    let mut client = Actor::start_with(stranger.command(), "send what lingers", &[&name]);
    assert_eq!(client.says(), "sent");
    assert_times_out("accepting nobody but a stranger", |deadline| {
        listener.accept(deadline)
    });
    // It has been let go of.
    client.release();
    assert_eq!(client.says(), "ended");
}

/// The part of [`i06_the_descriptors_of_a_stranger_hold_up_no_accept`].
pub(super) fn send_what_lingers(name: &str) {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let mut raw = UnixStream::connect_addr(&address).unwrap();
    let _keep = Lingering::new().send(&raw, b"x", SendFlags::empty());
    announce("sent");
    wait_for_release();
    raw.set_read_timeout(Some(A_WHILE)).unwrap();
    assert_eq!(raw.read(&mut [0; 1]).unwrap_or(0), 0);
    announce("ended");
}

/// How many descriptors the process of the server may have, in all.
const FEW: u64 = 256;

/// A socket whose own queue has one that lingers: nothing that is done to the outer one has the inner one close at once.
fn nested(keep: &mut Vec<TcpStream>) -> UnixStream {
    let (inner, outer) = UnixStream::pair().unwrap();
    keep.push(Lingering::new().send(&inner, b"x", SendFlags::empty()));
    outer
}

pub(crate) fn i07_a_flood_of_descriptors_ends_the_flooding_connection_alone<T: Named>() {
    let place = Place::new();
    let mut server = Actor::start("serve with few descriptors", &[T::WORD, place.name()]);
    assert_eq!(server.says(), "listening");
    let mut keep = Vec::new();
    let (any, _other) = UnixStream::pair().unwrap();
    let connect = || {
        let raw = UnixStream::connect(place.path()).unwrap();
        raw.set_read_timeout(Some(A_WHILE)).unwrap();
        raw
    };
    // Asks for an echo, with descriptors along; whether it comes.
    let ask = |raw: &mut UnixStream, descriptors: &[BorrowedFd<'_>]| {
        send_with_flags(raw, b"\x01\0\0\0x", descriptors, SendFlags::NOSIGNAL).is_ok()
            && raw.read_exact(&mut [0; 5]).is_ok()
    };
    // All that close are kept from it. It has the only copies when it comes to them, as it is busy until then: the last one
    // that is closed is the one that waits.
    let busy = {
        let mut raw = connect();
        assert!(ask(&mut raw, &[]));
        raw
    };
    let waiting = [(); 8].map(|()| {
        let raw = connect();
        let outer = nested(&mut keep);
        send_with(&raw, b"\x01\0\0\0x", &[outer.as_fd()]);
        raw
    });
    drop(busy);
    for mut raw in waiting {
        promptly("an echo", || raw.read_exact(&mut [0; 5])).unwrap();
    }
    let mut raw = connect();
    let many = vec![any.as_fd(); 30];
    let asked = (0..50).take_while(|_| promptly("an echo", || ask(&mut raw, &many)));
    let asked = asked.count();
    assert!((1..10).contains(&asked), "{asked} with 30 descriptors each");
    drop(raw);
    // Each further connection is ended by its first.
    for _ in 0..20 {
        let mut raw = connect();
        assert!(!promptly("an end", || ask(&mut raw, &many)));
    }
    // Those that send none are served as ever.
    let connect = ConnectOptions::new();
    let client = promptly("connecting", || {
        T::connect_with(&connect, place.name(), soon())
    });
    let client = client.unwrap();
    for size in [0, 5, 100_000] {
        send(&client, &content(1, size));
        let echo = promptly("an echo", || recv(&client)).unwrap();
        assert!(is_content(1, &echo) && echo.len() == size);
    }
    send(&client, b"count");
    let open = recv(&client).unwrap();
    let open: u64 = String::from_utf8(open).unwrap().parse().unwrap();
    assert!(open < FEW * 3 / 4, "{open} of {FEW} descriptors");
}

/// The part of [`i07_a_flood_of_descriptors_ends_the_flooding_connection_alone`].
pub(super) fn serve_with_few_descriptors<T: Named>(name: &str) {
    let listener = T::bind(name).unwrap();
    limit_descriptors(FEW);
    announce("listening");
    loop {
        let stream = listener.accept(Deadline::NEVER).unwrap();
        let mut message = Vec::new();
        while let Ok(Some(_)) = stream.recv_message(&mut message, Deadline::NEVER) {
            if message == b"count" {
                message = descriptors().to_string().into_bytes();
            }
            if stream.send(&message, Deadline::NEVER).is_err() {
                break;
            }
        }
    }
}

/// A byte out of band stands in the stream where it was sent; what is behind it has come as well.
pub(crate) fn m01_what_is_behind_a_byte_out_of_band_is_received_at_once<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    // Where a byte goes out of band: within lengths, between messages, within them.
    for at in 0..14 {
        let mut raw = UnixStream::connect(place.path()).unwrap();
        let bytes = b"\x05\0\0\0hello\x01\0\0\0!\x02\0\0\0no";
        raw.write_all(&bytes[..at]).unwrap();
        rustix::net::send(&raw, &bytes[at..=at], SendFlags::OOB).unwrap();
        raw.write_all(&bytes[at + 1..]).unwrap();
        // All of it is there, and no more comes: nobody is going to be told once more.
        let stream = listener.accept(soon()).unwrap();
        for expected in [&b"hello"[..], b"!", b"no"] {
            let received = promptly("receiving", || recv(&stream));
            assert_eq!(received.as_deref(), Some(expected), "{at}");
        }
    }
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    for _ in 0..100 {
        for byte in b"\x02\0\0\0ok" {
            rustix::net::send(&raw, &[*byte], SendFlags::OOB).unwrap();
        }
        let received = promptly("receiving", || recv(&stream));
        assert_eq!(received.as_deref(), Some(b"ok".as_slice()));
    }
    send_with(&raw, b"\x02\0\0\0ok", &[]);
    assert_eq!(recv(&stream).as_deref(), Some(b"ok".as_slice()));
    assert_works_both(&stream, &mut raw);
}

fn assert_works_both<S: Stream>(stream: &S, raw: &mut UnixStream) {
    send(stream, b"yes");
    let mut reply = [0; 7];
    raw.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"\x03\0\0\0yes");
}
