//! A client that never stops talking, to a handler that looks whether it is cancelled: each look ends.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pipetalk::{Call, Deadline, Error, Listener, Part, ServerOptions, Stream, Waiting};

use util::{A_WHILE, here, limit, soon};

/// What a client says before it floods: a hello, and a request of 10 seconds for method 0 with a `u32`.
fn opening() -> [Vec<u8>; 2] {
    let hello = b"PTLK\x01\x01\x01\x09\x00bincode-2".to_vec();
    let mut request = vec![0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    request.extend_from_slice(&10_000_u32.to_le_bytes());
    request.push(7);
    [hello, request]
}

/// What it floods with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flood {
    /// Of a request that there is not, or of one that waits.
    Cancels,
    Credits,
    Notifications,
    /// One message that never ends.
    Parts,
}

impl Flood {
    fn message(self) -> Vec<u8> {
        match self {
            Flood::Cancels => vec![0x12, 0, 0, 0, 9, 9, 9, 9],
            Flood::Credits => vec![0x14, 0, 0, 0, 9, 9, 9, 9, 1, 0, 0, 0],
            Flood::Notifications => vec![0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
            Flood::Parts => vec![0x11; 4096],
        }
    }
}

/// A connection with a client that always has one more message.
#[derive(Debug)]
struct Flooded {
    flood: Flood,
    peeks: bool,
    said: AtomicUsize,
    /// How many messages of the flood were received.
    received: Arc<AtomicUsize>,
    closed: AtomicBool,
    replied: Mutex<mpsc::Sender<Vec<u8>>>,
}

impl Flooded {
    fn next(&self) -> Vec<u8> {
        let mut opening = opening().into_iter();
        match opening.nth(self.said.load(Ordering::SeqCst)) {
            Some(message) => message,
            None => self.flood.message(),
        }
    }
}

impl Stream for Flooded {
    fn send(&self, message: &[u8], _: Deadline) -> io::Result<()> {
        let _ = self.replied.lock().unwrap().send(message.to_vec());
        Ok(())
    }

    fn recv(&self, buf: &mut [u8], _: Deadline) -> io::Result<Option<Part>> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Closed.into());
        }
        let message = self.next();
        let said = self.said.fetch_add(1, Ordering::SeqCst);
        if said >= 2 {
            self.received.fetch_add(1, Ordering::SeqCst);
        }
        buf[..message.len()].copy_from_slice(&message);
        Ok(Some(Part {
            len: message.len(),
            last: self.flood != Flood::Parts || said < 2,
        }))
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        if !self.peeks {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let bytes = self.next().len();
        Ok(Some(Waiting {
            bytes,
            message: Some(bytes),
        }))
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// Gives away one stream.
#[derive(Debug)]
struct One {
    stream: Mutex<Option<Flooded>>,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Listener for One {
    type Stream = Flooded;

    fn accept(&self, deadline: Deadline) -> io::Result<Flooded> {
        if let Some(stream) = self.stream.lock().unwrap().take() {
            return Ok(stream);
        }
        // Nobody else comes.
        let stopped = self.stopped.lock().unwrap();
        let left = deadline.remaining().unwrap_or(Duration::MAX);
        let (stopped, _) = self
            .changed
            .wait_timeout_while(stopped, left, |stopped| !*stopped)
            .unwrap();
        match *stopped {
            true => Err(Error::Stopped.into()),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn stop(&self) {
        *self.stopped.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

#[test]
fn a_look_whether_a_call_is_cancelled_ends_whatever_its_client_floods_it_with() {
    let _limit = limit(here!());
    for flood in [
        Flood::Cancels,
        Flood::Credits,
        Flood::Notifications,
        Flood::Parts,
    ] {
        for peeks in [true, false] {
            if peeks && flood == Flood::Parts {
                // One that can tell how large it is does not begin with it.
                continue;
            }
            let (replied, replies) = mpsc::channel();
            let received = Arc::new(AtomicUsize::new(0));
            let server = ServerOptions::new().on(One {
                stream: Mutex::new(Some(Flooded {
                    flood,
                    peeks,
                    said: AtomicUsize::new(0),
                    received: Arc::clone(&received),
                    closed: AtomicBool::new(false),
                    replied: Mutex::new(replied),
                })),
                stopped: Mutex::new(false),
                changed: Condvar::new(),
            });
            let handle = server.handle();
            let looked = Arc::clone(&received);
            let serving = thread::spawn(move || {
                server.serve(move |_: u32, call: &Call| {
                    let mut most = 0;
                    let mut cancelled = false;
                    for _ in 0..20 {
                        let before = looked.load(Ordering::SeqCst);
                        cancelled |= call.is_cancelled();
                        most = most.max(looked.load(Ordering::SeqCst) - before);
                    }
                    (most as u64, cancelled)
                })
            });
            let reply = loop {
                let message = replies.recv_timeout(A_WHILE * 2).unwrap();
                if message[0] == 0x20 {
                    break message;
                }
            };
            // No more than so many in one look, and the call was not cancelled.
            let (most, cancelled): (u64, bool) =
                <pipetalk::DefaultCodec as pipetalk::Codec>::decode(&reply[8..]).unwrap();
            assert!(
                most > 0 && most <= 1_000,
                "{flood:?}: {most} messages in a look"
            );
            assert!(!cancelled, "{flood:?}");
            handle.stop();
            assert!(!soon().has_passed());
            handle.drain(Duration::ZERO);
            serving.join().unwrap().unwrap();
        }
    }
}
