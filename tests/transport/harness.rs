//! What the tests are generic over, and what they have in common.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pipetalk::{
    ConnectOptions, DEFAULT_TIMEOUT, Deadline, Error, ListenOptions, Listener, LocalListener,
    LocalStream, Part, Spin, Stream, memory,
};

pub(crate) use util::{A_MOMENT, A_WHILE, Place, Rng, promptly, rounds, rounds_or, soon, until};

/// A way to make connected streams: what each test of the suite is run on.
pub(crate) trait Transport: 'static {
    type Stream: Stream;
    type Listener: Listener<Stream = Self::Stream>;
    type Dialer: Dialer<Stream = Self::Stream>;

    /// Whether the accepted end can take back what its peer has not received yet (E5).
    const ABORT_DROPS: bool;

    /// Whether `peek` can tell an empty message from none (M13).
    const PEEK_SEES_EMPTY: bool;

    /// Whether the next client beyond the limit finds the listener busy, and does not just wait (L6).
    const LIMIT_IS_BUSY: bool;

    /// Whether the streams that a listener has accepted keep its name after it was stopped, so that a client
    /// finds it busy, not gone (L8). Pipes are like that: an instance is an instance.
    const STREAMS_KEEP_THE_NAME: bool;

    /// A listener at a place of its own, and the way to it.
    fn listen(setup: &Setup) -> (Self::Listener, Self::Dialer);
}

/// A transport whose listeners have names.
pub(crate) trait Named: Transport {
    /// How other processes are told which it is.
    #[cfg_attr(
        windows,
        allow(dead_code, reason = "no process of a test has to be told on Windows")
    )]
    const WORD: &str;

    fn bind_with(options: &ListenOptions, name: &str) -> io::Result<Self::Listener>;

    fn connect_with(
        options: &ConnectOptions,
        name: &str,
        deadline: Deadline,
    ) -> io::Result<Self::Stream>;

    fn call_with(
        options: &ConnectOptions,
        name: &str,
        request: &[u8],
        reply: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<usize>;

    fn access(listener: &Self::Listener) -> io::Result<String>;

    fn impersonate<R>(stream: &Self::Stream, act: impl FnOnce() -> R) -> io::Result<R>;

    fn bind(name: &str) -> io::Result<Self::Listener> {
        Self::bind_with(&ListenOptions::new(), name)
    }

    fn connect(name: &str) -> io::Result<Self::Stream> {
        let deadline = Deadline::after(DEFAULT_TIMEOUT);
        Self::connect_with(&ConnectOptions::new(), name, deadline)
    }
}

/// A client of one listener.
pub(crate) trait Dialer: Clone + Debug + Send + Sync + 'static {
    type Stream: Stream;

    fn dial(&self, deadline: Deadline) -> io::Result<Self::Stream>;
}

/// What a test may ask of both ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    pub(crate) instances: Option<usize>,
    pub(crate) max_message: Option<usize>,
    pub(crate) buffer_size: Option<usize>,
}

impl Setup {
    pub(crate) fn local(&self) -> (ListenOptions, ConnectOptions) {
        let mut listen = ListenOptions::new();
        let mut connect = ConnectOptions::new();
        if let Some(instances) = self.instances {
            listen = listen.instances(instances);
        }
        if let Some(bytes) = self.max_message {
            listen = listen.max_message(bytes);
            connect = connect.max_message(bytes);
        }
        if let Some(bytes) = self.buffer_size {
            listen = listen.buffer_size(bytes);
            connect = connect.buffer_size(bytes);
        }
        (listen, connect)
    }

    pub(crate) fn memory(&self) -> memory::Options {
        let mut options = memory::Options::new();
        if let Some(instances) = self.instances {
            options = options.instances(instances);
        }
        if let Some(bytes) = self.max_message {
            options = options.max_message(bytes);
        }
        if let Some(bytes) = self.buffer_size {
            options = options.buffer_size(bytes);
        }
        options
    }
}

/// The platform's own transport.
#[derive(Debug)]
pub(crate) struct Local;

#[derive(Debug, Clone)]
pub(crate) struct LocalDialer {
    place: Arc<Place>,
    options: ConnectOptions,
}

impl Transport for Local {
    type Stream = LocalStream;
    type Listener = LocalListener;
    type Dialer = LocalDialer;

    const ABORT_DROPS: bool = cfg!(windows);
    const PEEK_SEES_EMPTY: bool = cfg!(unix);
    const LIMIT_IS_BUSY: bool = cfg!(any(windows, target_os = "linux", target_os = "android"));
    const STREAMS_KEEP_THE_NAME: bool = cfg!(windows);

    fn listen(setup: &Setup) -> (LocalListener, LocalDialer) {
        listen_locally(setup, Spin::OFF)
    }
}

/// The same with receives that spin before they sleep.
#[derive(Debug)]
pub(crate) struct Spinning;

impl Transport for Spinning {
    type Stream = LocalStream;
    type Listener = LocalListener;
    type Dialer = LocalDialer;

    const ABORT_DROPS: bool = Local::ABORT_DROPS;
    const PEEK_SEES_EMPTY: bool = Local::PEEK_SEES_EMPTY;
    const LIMIT_IS_BUSY: bool = Local::LIMIT_IS_BUSY;
    const STREAMS_KEEP_THE_NAME: bool = Local::STREAMS_KEEP_THE_NAME;

    fn listen(setup: &Setup) -> (LocalListener, LocalDialer) {
        listen_locally(setup, Spin::adaptive(Duration::from_micros(100)))
    }
}

fn listen_locally(setup: &Setup, spin: Spin) -> (LocalListener, LocalDialer) {
    let place = Arc::new(Place::new());
    let (listen, options) = setup.local();
    let listener = listen.spin(spin).bind(place.name()).unwrap();
    let options = options.spin(spin);
    (listener, LocalDialer { place, options })
}

impl Named for Local {
    const WORD: &str = "blocking";

    fn bind_with(options: &ListenOptions, name: &str) -> io::Result<LocalListener> {
        options.bind(name)
    }

    fn connect_with(
        options: &ConnectOptions,
        name: &str,
        deadline: Deadline,
    ) -> io::Result<LocalStream> {
        options.connect(name, deadline)
    }

    fn call_with(
        options: &ConnectOptions,
        name: &str,
        request: &[u8],
        reply: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<usize> {
        options.call(name, request, reply, deadline)
    }

    fn access(listener: &LocalListener) -> io::Result<String> {
        listener.access()
    }

    fn impersonate<R>(stream: &LocalStream, act: impl FnOnce() -> R) -> io::Result<R> {
        stream.impersonate(act)
    }
}

impl Dialer for LocalDialer {
    type Stream = LocalStream;

    fn dial(&self, deadline: Deadline) -> io::Result<LocalStream> {
        self.options.connect(self.place.name(), deadline)
    }
}

/// Both ends in this process, without a system call.
#[derive(Debug)]
pub(crate) struct Memory;

impl Transport for Memory {
    type Stream = memory::Stream;
    type Listener = memory::Listener;
    type Dialer = memory::Connector;

    const ABORT_DROPS: bool = true;
    const PEEK_SEES_EMPTY: bool = true;
    const LIMIT_IS_BUSY: bool = true;
    const STREAMS_KEEP_THE_NAME: bool = false;

    fn listen(setup: &Setup) -> (memory::Listener, memory::Connector) {
        setup.memory().listener()
    }
}

impl Dialer for memory::Connector {
    type Stream = memory::Stream;

    fn dial(&self, deadline: Deadline) -> io::Result<memory::Stream> {
        self.connect(deadline)
    }
}

/// A connection, and what it came from.
pub(crate) struct Pair<T: Transport> {
    pub(crate) client: T::Stream,
    pub(crate) server: T::Stream,
    pub(crate) listener: T::Listener,
    pub(crate) dialer: T::Dialer,
}

pub(crate) fn pair<T: Transport>() -> Pair<T> {
    pair_with(&Setup::default())
}

pub(crate) fn pair_with<T: Transport>(setup: &Setup) -> Pair<T> {
    let (listener, dialer) = T::listen(setup);
    let (client, server) = connect::<T>(&listener, &dialer);
    Pair {
        client,
        server,
        listener,
        dialer,
    }
}

/// One connection more: the client's end, then the server's.
pub(crate) fn connect<T: Transport>(
    listener: &T::Listener,
    dialer: &T::Dialer,
) -> (T::Stream, T::Stream) {
    let client = dialer.dial(soon()).unwrap();
    let server = listener.accept(soon()).unwrap();
    (client, server)
}

/// Runs a test on a connection of its own in each direction, the client's end first, then the server's.
pub(crate) fn both_ways<T: Transport>(test: impl FnMut(T::Stream, T::Stream)) {
    both_ways_with::<T>(&Setup::default(), test);
}

pub(crate) fn both_ways_with<T: Transport>(
    setup: &Setup,
    mut test: impl FnMut(T::Stream, T::Stream),
) {
    let (listener, dialer) = T::listen(setup);
    let (client, server) = connect::<T>(&listener, &dialer);
    test(client, server);
    let (client, server) = connect::<T>(&listener, &dialer);
    test(server, client);
}

/// The bytes of the `n`th message, of a length: the same each time, and no two alike.
pub(crate) fn content(n: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let mut at = n.wrapping_mul(7919);
    while bytes.len() < len {
        let noise = noise();
        let from = &noise[at % noise.len()..];
        bytes.extend_from_slice(&from[..from.len().min(len - bytes.len())]);
        at = 0;
    }
    bytes
}

/// The same without making them: whether these are the bytes.
pub(crate) fn is_content(n: usize, bytes: &[u8]) -> bool {
    let noise = noise();
    let mut at = n.wrapping_mul(7919) % noise.len();
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = rest.len().min(noise.len() - at);
        if rest[..len] != noise[at..at + len] {
            return false;
        }
        rest = &rest[len..];
        at = 0;
    }
    true
}

/// Random bytes, of a length that nothing divides.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..300_007)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    })
}

pub(crate) fn send<S: Stream>(stream: &S, message: &[u8]) {
    stream.send(message, soon()).unwrap();
}

/// The next whole message; `None` at the end.
pub(crate) fn recv<S: Stream>(stream: &S) -> Option<Vec<u8>> {
    let mut message = vec![0xee; 3];
    let received = stream.recv_message(&mut message, soon()).unwrap();
    received.map(|len| {
        assert_eq!(len, message.len(), "the length and the vector disagree");
        message
    })
}

/// The next part of a message, as much of it as fits.
pub(crate) fn part<S: Stream>(stream: &S, buf: &mut [u8]) -> Part {
    stream
        .recv(buf, soon())
        .unwrap()
        .expect("a part, not the end")
}

/// Asserts that the peer has closed and nothing is left, however often one asks.
pub(crate) fn assert_ended<S: Stream>(stream: &S) {
    for _ in 0..2 {
        assert_eq!(recv(stream), None);
        let part = stream.recv(&mut [0; 8], soon()).unwrap();
        assert_eq!(part, None);
    }
}

/// Asserts that both directions carry a message.
pub(crate) fn assert_works<S: Stream>(a: &S, b: &S) {
    for (from, to) in [(a, b), (b, a)] {
        send(from, b"still there?");
        assert_eq!(recv(to).as_deref(), Some(b"still there?".as_slice()));
    }
}

/// The kind of the error that there must be.
#[track_caller]
pub(crate) fn kind<R: Debug>(result: io::Result<R>) -> io::ErrorKind {
    let error = result.unwrap_err();
    let kind = error.kind();
    // What has no kind shows as the code that it is.
    assert!(format!("{kind:?}") != "Uncategorized", "{error:?}");
    kind
}

/// The crate's own error that there must be.
#[track_caller]
pub(crate) fn ours<R: Debug>(result: io::Result<R>) -> Error {
    let error = result.unwrap_err();
    match Error::of(&error) {
        Some(ours) => ours.clone(),
        None => panic!("not one of this crate's errors: {error:?}"),
    }
}

/// Asserts that a call waits until its deadline, says so, and does not wait much longer.
#[track_caller]
pub(crate) fn assert_times_out<R: Debug>(what: &str, call: impl FnOnce(Deadline) -> io::Result<R>) {
    let start = Instant::now();
    let result = call(Deadline::at(start + A_MOMENT));
    let took = start.elapsed();
    match result {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
        other => panic!("{what}: {other:?} after {took:?}"),
    }
    assert!(took >= A_MOMENT, "{what} gave up after {took:?}");
    assert!(took < A_WHILE / 3, "{what} came back only after {took:?}");
}

/// Around every size at which something changes: a header, a page, a buffer.
pub(crate) const SIZES: [usize; 21] = [
    0, 1, 2, 3, 4, 5, 60, 64, 511, 512, 513, 1_023, 1_024, 1_025, 4_092, 4_096, 4_100, 65_532,
    65_536, 65_540, 300_000,
];

/// A message that fits into no buffer: sending it waits for the peer.
pub(crate) const HUGE: usize = 16 << 20;

/// Sends until the peer has to make room, and returns how many messages of this size went. What becomes of
/// the stream then is the platform's business.
pub(crate) fn fill<S: Stream>(stream: &S, size: usize) -> usize {
    let message = content(0, size);
    for sent in 0.. {
        match stream.send(&message, Deadline::after(Duration::from_millis(100))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return sent,
            Err(error) => panic!("{error:?} after {sent} messages"),
        }
    }
    unreachable!("a peer that does not read makes no room for ever")
}
