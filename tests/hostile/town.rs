//! A listener that the others are to do no harm, and what there is to say to it and to a raw peer.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};

use pipetalk::{
    ConnectOptions, DEFAULT_MAX_MESSAGE, Deadline, Error, ListenOptions, Listener, LocalListener,
    LocalStream, Stream,
};

use crate::util::{A_MOMENT, A_WHILE, Place, promptly, soon};

/// A listener with a connection that behaves, to see that the others do it no harm.
pub(crate) struct Town {
    pub(crate) place: Place,
    pub(crate) listener: LocalListener,
    good: (LocalStream, LocalStream),
}

impl Town {
    pub(crate) fn new() -> Town {
        Town::with_limit(DEFAULT_MAX_MESSAGE)
    }

    pub(crate) fn with_limit(max_message: usize) -> Town {
        let place = Place::new();
        let options = ListenOptions::new().max_message(max_message);
        let listener = options.bind(place.name()).unwrap();
        let client = LocalStream::connect(place.name()).unwrap();
        let server = listener.accept(soon()).unwrap();
        Town {
            place,
            listener,
            good: (client, server),
        }
    }

    /// Runs a test against a raw client, and then against a raw server.
    pub(crate) fn each_end(&self, test: impl Fn(UnixStream, LocalStream)) {
        let raw = UnixStream::connect(self.place.path()).unwrap();
        test(patient(raw), self.listener.accept(soon()).unwrap());
        self.assert_unharmed();

        let place = Place::new();
        let server = UnixListener::bind(place.path()).unwrap();
        // The limit is the same at both ends.
        let limit = self.good.1.max_message();
        let options = ConnectOptions::new().max_message(limit);
        let stream = options.connect(place.name(), soon()).unwrap();
        test(patient(server.accept().unwrap().0), stream);
        self.assert_unharmed();
    }

    pub(crate) fn assert_unharmed(&self) {
        let (client, server) = &self.good;
        let newcomer = LocalStream::connect(self.place.name()).unwrap();
        let accepted = self.listener.accept(soon()).unwrap();
        for (a, b) in [(client, server), (&newcomer, &accepted)] {
            for (from, to) in [(a, b), (b, a)] {
                from.send(b"unharmed?", soon()).unwrap();
                assert_eq!(recv(to).unwrap(), b"unharmed?");
            }
        }
    }
}

/// A raw peer does not wait for ever either.
pub(crate) fn patient(raw: UnixStream) -> UnixStream {
    raw.set_read_timeout(Some(A_WHILE)).unwrap();
    raw.set_write_timeout(Some(A_WHILE)).unwrap();
    raw
}

pub(crate) fn recv(stream: &LocalStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let received = stream.recv_message(&mut message, soon()).unwrap();
    received.map(|_| message)
}

pub(crate) fn recv_error(stream: &LocalStream, deadline: Deadline) -> std::io::Error {
    stream.recv_message(&mut Vec::new(), deadline).unwrap_err()
}

#[track_caller]
pub(crate) fn assert_ours(error: &std::io::Error, expected: &Error) {
    assert_eq!(Error::of(error), Some(expected), "{error:?}");
    assert_eq!(error.kind(), expected.kind());
}

#[track_caller]
pub(crate) fn assert_times_out(stream: &LocalStream) {
    let whole = recv_error(stream, Deadline::after(A_MOMENT / 4));
    assert_eq!(whole.kind(), ErrorKind::TimedOut);
    let now = promptly("not waiting", || recv_error(stream, Deadline::NOW));
    assert_eq!(now.kind(), ErrorKind::TimedOut);
}

pub(crate) fn assert_ended(stream: &LocalStream) {
    for _ in 0..2 {
        assert_eq!(recv(stream), None);
        assert_eq!(stream.recv(&mut [0; 8], soon()).unwrap(), None);
        assert_eq!(stream.peek().unwrap(), None);
    }
}

/// A message as it goes over the socket.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(message);
    frame
}
