//! Transports of somebody else's that panic or fail, beneath clients and servers on threads.

use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{
    Call, CallError, CallOptions, Client, ClientOptions, Deadline, Items, Listener, Part, Peer,
    ServerOptions, Stream, UserId, memory,
};

use util::{self, Deserialize, Serialize, here, limit};

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Echo(String),
    WaitUntilCancelled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Reply {
    Echo(String),
    Cancelled,
}

fn handle(request: Request, call: &Call) -> Reply {
    match request {
        Request::Echo(text) => Reply::Echo(text),
        Request::WaitUntilCancelled => {
            while !call.is_cancelled() {
                thread::yield_now();
            }
            Reply::Cancelled
        }
    }
}

/// A transport of somebody's own, with a mistake in it.
#[derive(Debug)]
struct Faulty {
    stream: memory::Stream,
    /// How many messages it receives before it panics.
    left: AtomicUsize,
}

impl Faulty {
    fn new(stream: memory::Stream, left: usize) -> Faulty {
        let left = left.into();
        Faulty { stream, left }
    }
}

impl Stream for Faulty {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.stream.send(message, deadline)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.stream.recv(buf, deadline)
    }

    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        let received = self.stream.recv_message(message, deadline);
        let none_left = |left: usize| left.checked_sub(1);
        if received.is_ok()
            && self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, none_left)
                .is_err()
        {
            panic::resume_unwind(Box::new("a mistake"));
        }
        received
    }

    fn close(&self) {
        self.stream.close();
    }
}

#[derive(Debug)]
struct FaultyListener(memory::Listener, usize);

impl Listener for FaultyListener {
    type Stream = Faulty;

    fn accept(&self, deadline: Deadline) -> io::Result<Faulty> {
        Ok(Faulty::new(self.0.accept(deadline)?, self.1))
    }

    fn stop(&self) {
        self.0.stop();
    }
}

#[test]
fn a_client_whose_transport_panics_loses_the_connection_for_all_threads() {
    const THREADS: usize = 8;
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new().pool(THREADS).on(listener);
    let handle = server.handle();
    let (arrive, arrived) = mpsc::channel();
    let serving = thread::spawn(move || {
        server.serve(move |request: Request, call: &Call| {
            if matches!(request, Request::WaitUntilCancelled) {
                arrive.send(()).unwrap();
            }
            self::handle(request, call)
        })
    });
    // The welcome, and one reply.
    let stream = Faulty::new(connector.connect(util::soon()).unwrap(), 2);
    let client: Client<Request, Reply> = ClientOptions::new().timeout(None).over(stream).unwrap();
    client.call(&Request::Echo("good".into())).unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..THREADS - 1)
            .map(|_| scope.spawn(|| client.call(&Request::WaitUntilCancelled)))
            .collect();
        waiting.iter().for_each(|_| arrived.recv().unwrap());
        let error = client.call(&Request::Echo("bad".into())).unwrap_err();
        assert_eq!(error, CallError::Disconnected { sent: true });
        for waiting in waiting {
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(error, CallError::Disconnected { sent: true });
        }
    });
    handle.stop();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_server_whose_transport_panics_loses_that_client() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let (listener, connector) = memory::listener();
        // The hello, and one request.
        let server = ServerOptions::new()
            .pool(pool)
            .on(FaultyListener(listener, 2));
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(self::handle));
        for _ in 0..2 {
            let stream = connector.connect(util::soon()).unwrap();
            let client: Client<Request, Reply> = ClientOptions::new().over(stream).unwrap();
            client.call(&Request::Echo("good".into())).unwrap();
            let error = client.call(&Request::Echo("bad".into())).unwrap_err();
            assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
        }
        // It waits for nobody.
        handle.drain(Duration::MAX);
        serving.join().unwrap().unwrap();
    }
}

/// A transport whose other end has gone once something was received.
#[derive(Debug)]
struct Gone {
    stream: memory::Stream,
    received: AtomicBool,
    closed: Arc<AtomicBool>,
}

impl Gone {
    fn has_gone(&self) -> bool {
        self.received.load(Ordering::SeqCst)
    }
}

impl Stream for Gone {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        if self.has_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.stream.send(message, deadline)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        if self.has_gone() {
            return Ok(None);
        }
        let part = self.stream.recv(buf, deadline)?;
        // A welcome, and a reply.
        if part.is_some_and(|part| part.last && !buf.starts_with(b"PTLK")) {
            self.received.store(true, Ordering::SeqCst);
        }
        Ok(part)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.stream.close();
    }
}

/// On Windows an end that is open keeps the name from the next server.
#[test]
fn a_client_that_cannot_send_any_more_lets_go_of_the_connection() {
    let _limit = limit(here!());
    type Calls<'a> = (
        &'a str,
        fn(&Client<Request, Reply>) -> Result<(), CallError>,
    );
    let calls: [Calls<'_>; 2] = [
        ("call", |client| {
            client.call(&Request::Echo("bad".into())).map(drop)
        }),
        ("notify", |client| {
            client.notify(&Request::Echo("bad".into()))
        }),
    ];
    for (what, call) in calls {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on(listener);
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(self::handle));
        let closed = Arc::new(AtomicBool::new(false));
        let stream = Gone {
            stream: connector.connect(util::soon()).unwrap(),
            received: AtomicBool::new(false),
            closed: Arc::clone(&closed),
        };
        let client: Client<Request, Reply> = ClientOptions::new().over(stream).unwrap();
        client.call(&Request::Echo("good".into())).unwrap();
        assert!(!closed.load(Ordering::SeqCst));
        for _ in 0..2 {
            let error = call(&client).unwrap_err();
            assert_eq!(error, CallError::Disconnected { sent: false }, "{what}");
            assert!(closed.load(Ordering::SeqCst), "{what}");
        }
        handle.stop();
        serving.join().unwrap().unwrap();
    }
}

/// A transport that knows the user of a peer only once something was received, as pipes do.
#[derive(Debug)]
struct Shy(memory::Stream, AtomicBool);

impl Stream for Shy {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.0.send(message, deadline)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let part = self.0.recv(buf, deadline)?;
        self.1.store(true, Ordering::SeqCst);
        Ok(part)
    }

    fn close(&self) {
        self.0.close();
    }

    fn peer(&self) -> io::Result<Peer> {
        let mut peer = Peer::default();
        peer.user = self.1.load(Ordering::SeqCst).then_some(UserId::Uid(7));
        Ok(peer)
    }
}

#[derive(Debug)]
struct ShyListener(memory::Listener);

impl Listener for ShyListener {
    type Stream = Shy;

    fn accept(&self, deadline: Deadline) -> io::Result<Shy> {
        Ok(Shy(self.0.accept(deadline)?, AtomicBool::new(false)))
    }

    fn stop(&self) {
        self.0.stop();
    }
}

#[test]
fn a_user_who_is_known_only_once_something_was_received_is_known_to_the_handler() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let (listener, connector) = memory::listener();
        let (tell, told) = mpsc::channel();
        let server = ServerOptions::new()
            .pool(pool)
            .admit(move |peer| tell.send(peer.user.clone()).is_ok())
            .on(ShyListener(listener));
        let handle = server.handle();
        let serving = thread::spawn(move || {
            server.serve(|_: (), call: &Call| call.peer().user == Some(UserId::Uid(7)))
        });
        let stream = connector.connect(util::soon()).unwrap();
        let client: Client<(), bool> = ClientOptions::new().over(stream).unwrap();
        assert!(client.call(&()).unwrap());
        assert_eq!(told.recv().unwrap(), None);
        handle.stop();
        serving.join().unwrap().unwrap();
    }
}

/// What a peer says that says more and takes less than it should.
#[derive(Debug)]
struct Strange {
    /// How many messages it takes before it takes no more.
    takes: AtomicUsize,
    /// Whether it takes none for ever, or not now.
    broken: bool,
    /// What it has said.
    said: AtomicUsize,
    /// How many items it has to say.
    items: usize,
    took: AtomicUsize,
}

impl Strange {
    fn new(takes: usize, broken: bool, items: usize) -> Arc<Strange> {
        Arc::new(Strange {
            takes: takes.into(),
            broken,
            said: 0.into(),
            items,
            took: 0.into(),
        })
    }
}

/// The kinds of messages, and the first id of a client.
const WELCOME: &[u8] = b"PTLK\x02\x01\x06\x04\x00\x40\x00\x00\x00";
const ITEM: &[u8] = b"\x22\0\0\0\0\0\x01\0\x07";

impl Stream for Strange {
    fn send(&self, _: &[u8], deadline: Deadline) -> io::Result<()> {
        let less = |left: usize| left.checked_sub(1);
        let took = self
            .takes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if took.is_ok() {
            self.took.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match deadline.remaining() {
            Some(left) => thread::sleep(left),
            None => panic!("nobody waits for this for ever"),
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let message = match self.said.fetch_add(1, Ordering::SeqCst) {
            0 => WELCOME,
            said if said <= self.items => ITEM,
            _ => {
                let left = deadline.remaining().unwrap_or(util::A_WHILE);
                thread::sleep(left);
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        buf[..message.len()].copy_from_slice(message);
        Ok(Some(Part {
            len: message.len(),
            last: true,
        }))
    }

    fn close(&self) {}
}

/// A client over it, which has opened a stream of so many credits.
fn opened(strange: &Arc<Strange>, window: u32) -> (Client<u8, u8>, Items<u8>) {
    let options = ClientOptions::new().timeout(util::A_WHILE * 4);
    let client: Client<u8, u8> = options.over(Arc::clone(strange)).unwrap();
    let options = CallOptions::new().window(window);
    let items = client.open_with(&1, options).unwrap();
    (client, items)
}

/// It takes nothing any more, but says more than anybody can read: why it takes nothing is looked for by the deadline.
#[test]
fn a_peer_that_takes_nothing_and_never_stops_talking_costs_a_call_its_deadline() {
    let _limit = limit(here!());
    // The hello, and the request for the stream.
    let strange = Strange::new(2, true, usize::MAX);
    let (client, _items) = opened(&strange, u32::MAX);
    for notifies in [false, true] {
        let moment = CallOptions::new().deadline(util::A_MOMENT);
        let started = Instant::now();
        let error = match notifies {
            true => client.channel().notify(0, &1, moment).unwrap_err(),
            false => client.call_with(&1, moment).unwrap_err(),
        };
        let took = started.elapsed();
        assert_eq!(error, CallError::Disconnected { sent: false });
        assert!(took < util::A_WHILE / 3, "{took:?}");
    }
}

/// Credit cannot be sent: an item that is there does not wait for that, and neither does who asks whether one is.
#[test]
fn a_consumer_does_not_wait_for_its_credit_to_be_sent() {
    let _limit = limit(here!());
    const ITEMS: usize = 50;
    let strange = Strange::new(2, false, ITEMS);
    // Nearly each of them is to be given back by itself.
    let (client, mut items) = opened(&strange, 2 * ITEMS as u32);
    let started = Instant::now();
    for _ in 0..ITEMS {
        // One message is read at a time, and the first is the welcome.
        let item = loop {
            if let Some(item) = items.try_next().unwrap() {
                break item;
            }
        };
        assert_eq!(item, 7);
    }
    let small = CallOptions::new().window(1);
    drop((items, client));
    for _ in 0..2 {
        let strange = Strange::new(2, false, 1);
        let client: Client<u8, u8> = ClientOptions::new().over(Arc::clone(&strange)).unwrap();
        let mut items: Items<u8> = client.open_with(&1, small).unwrap();
        assert_eq!(items.next_by(util::A_MOMENT), Some(Ok(7)));
        let late = CallError::TimedOut { sent: true };
        for _ in 0..10 {
            assert_eq!(items.next_by(Deadline::NOW), Some(Err(late.clone())));
            assert_eq!(items.try_next(), Ok(None));
        }
        // It is due still, and goes as soon as it can.
        assert_eq!(strange.took.load(Ordering::SeqCst), 2);
        strange.takes.store(usize::MAX, Ordering::SeqCst);
        assert_eq!(items.try_next(), Ok(None));
        assert_eq!(strange.took.load(Ordering::SeqCst), 3);
    }
    let took = started.elapsed();
    assert!(took < util::A_WHILE / 3, "{took:?}");
}
