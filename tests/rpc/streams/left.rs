//! What keeps a connection after its client has left: not its stream, whoever still holds a sink of it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pipetalk::{
    Blob, Call, CallOptions, Channel, ClientOptions, Deadline, ItemSink, Items, Listener, Part,
    ServerOptions, Stream, memory,
};

use util::{A_WHILE, here, limit, soon, until};

/// A stream that counts how many there are.
#[derive(Debug)]
struct Counted {
    stream: memory::Stream,
    alive: Arc<AtomicUsize>,
}

impl Stream for Counted {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.stream.send(message, deadline)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.stream.recv(buf, deadline)
    }

    fn close(&self) {
        self.stream.close();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Counts {
    listener: memory::Listener,
    alive: Arc<AtomicUsize>,
}

impl Listener for Counts {
    type Stream = Counted;

    fn accept(&self, deadline: Deadline) -> io::Result<Counted> {
        let stream = self.listener.accept(deadline)?;
        self.alive.fetch_add(1, Ordering::SeqCst);
        Ok(Counted {
            stream,
            alive: Arc::clone(&self.alive),
        })
    }

    fn stop(&self) {
        self.listener.stop();
    }
}

/// Keeps its sink.
const KEEP: u32 = 0;
/// Does not return before the test lets it, whatever becomes of its stream.
const STUCK: u32 = 1;

#[test]
fn a_connection_that_is_closed_lets_its_stream_go_at_once() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let alive = Arc::new(AtomicUsize::new(0));
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().pool(pool).on(Counts {
            listener,
            alive: Arc::clone(&alive),
        });
        let handle = server.handle();
        let (keep, kept) = mpsc::channel();
        let keep = Mutex::new(keep);
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let closed = Arc::clone(&gate);
        let serving = thread::spawn(move || {
            server.serve(move |what: u32, _: &Call, items: ItemSink<Blob>| {
                keep.lock().unwrap().send(items).unwrap();
                if what == STUCK {
                    let open = closed.0.lock().unwrap();
                    drop(closed.1.wait_while(open, |open| !*open).unwrap());
                }
            })
        });
        let connect = || {
            let stream = connector.connect(soon()).unwrap();
            ClientOptions::new().channel_over(stream).unwrap()
        };
        let open = |channel: &Channel, what: u32| -> Items<Blob> {
            channel.open(0, &what, CallOptions::new()).unwrap()
        };
        let mut sinks = Vec::new();
        for number in 0..50 {
            let channel = connect();
            let kind = if number % 10 == 0 { STUCK } else { KEEP };
            let items = open(&channel, kind);
            let sink: ItemSink<Blob> = kept.recv_timeout(A_WHILE).unwrap();
            // With something to read, and without.
            if number % 2 == 0 {
                sink.send(&Blob::from(vec![1; 70_000])).unwrap();
            }
            sinks.push(sink);
            drop((items, channel));
        }
        until("no stream is left", || alive.load(Ordering::SeqCst) == 0);
        assert!(sinks.iter().all(|sink| sink.wait_until_stopped(soon())));

        // So it is with those that the server itself ends, while their handlers go on.
        let channel = connect();
        let _items = open(&channel, STUCK);
        sinks.push(kept.recv_timeout(A_WHILE).unwrap());
        handle.drain(Duration::from_millis(1));
        until("no stream is left", || alive.load(Ordering::SeqCst) == 0);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        serving.join().unwrap().unwrap();
        assert!(sinks.iter().all(ItemSink::is_stopped));
        drop(sinks);
    }
}
