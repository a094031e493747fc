//! A listener that the others are to do no harm, and what there is to say to it and to a raw peer.

use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};

use pipetalk::{
    ConnectOptions, DEFAULT_MAX_MESSAGE, Deadline, Error, ListenOptions, Listener, LocalListener,
    LocalStream, Stream,
};

use util::{A_MOMENT, A_WHILE, Place, promptly, soon};

/// Who is to come to no harm: each test runs on every kind.
pub(crate) trait Kind: 'static {
    type Stream: Stream;
    type Listener: Listener<Stream = Self::Stream>;

    /// How other processes are told which it is.
    const WORD: &str;

    fn bind(options: &ListenOptions, name: &str) -> io::Result<Self::Listener>;

    fn connect(
        options: &ConnectOptions,
        name: &str,
        deadline: Deadline,
    ) -> io::Result<Self::Stream>;
}

#[derive(Debug)]
pub(crate) struct Blocking;

impl Kind for Blocking {
    type Stream = LocalStream;
    type Listener = LocalListener;

    const WORD: &str = "blocking";

    fn bind(options: &ListenOptions, name: &str) -> io::Result<LocalListener> {
        options.bind(name)
    }

    fn connect(
        options: &ConnectOptions,
        name: &str,
        deadline: Deadline,
    ) -> io::Result<LocalStream> {
        options.connect(name, deadline)
    }
}

/// A listener with a connection that behaves, to see that the others do it no harm.
pub(crate) struct Town<K: Kind> {
    pub(crate) place: Place,
    pub(crate) listener: K::Listener,
    good: (K::Stream, K::Stream),
}

impl<K: Kind> Town<K> {
    pub(crate) fn new() -> Self {
        Town::with_limit(DEFAULT_MAX_MESSAGE)
    }

    pub(crate) fn with_limit(max_message: usize) -> Self {
        let place = Place::new();
        let options = ListenOptions::new().max_message(max_message);
        let listener = K::bind(&options, place.name()).unwrap();
        let client = K::connect(&ConnectOptions::new(), place.name(), soon()).unwrap();
        let server = listener.accept(soon()).unwrap();
        Town {
            place,
            listener,
            good: (client, server),
        }
    }

    /// Runs a test against a raw client, and then against a raw server.
    pub(crate) fn each_end(&self, test: impl Fn(UnixStream, K::Stream)) {
        let raw = UnixStream::connect(self.place.path()).unwrap();
        test(patient(raw), self.listener.accept(soon()).unwrap());
        self.assert_unharmed();

        let place = Place::new();
        let server = UnixListener::bind(place.path()).unwrap();
        // The limit is the same at both ends.
        let limit = self.good.1.max_message();
        let options = ConnectOptions::new().max_message(limit);
        let stream = K::connect(&options, place.name(), soon()).unwrap();
        test(patient(server.accept().unwrap().0), stream);
        self.assert_unharmed();
    }

    pub(crate) fn assert_unharmed(&self) {
        let (client, server) = &self.good;
        let newcomer = K::connect(&ConnectOptions::new(), self.place.name(), soon()).unwrap();
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

pub(crate) fn recv(stream: &impl Stream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let received = stream.recv_message(&mut message, soon()).unwrap();
    received.map(|_| message)
}

pub(crate) fn recv_error(stream: &impl Stream, deadline: Deadline) -> std::io::Error {
    stream.recv_message(&mut Vec::new(), deadline).unwrap_err()
}

#[track_caller]
pub(crate) fn assert_ours(error: &std::io::Error, expected: &Error) {
    assert_eq!(Error::of(error), Some(expected), "{error:?}");
    assert_eq!(error.kind(), expected.kind());
}

#[track_caller]
pub(crate) fn assert_times_out(stream: &impl Stream) {
    let whole = recv_error(stream, Deadline::after(A_MOMENT / 4));
    assert_eq!(whole.kind(), ErrorKind::TimedOut);
    let now = promptly("not waiting", || recv_error(stream, Deadline::NOW));
    assert_eq!(now.kind(), ErrorKind::TimedOut);
}

pub(crate) fn assert_ended(stream: &impl Stream) {
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
