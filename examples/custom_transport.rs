//! The traits `Stream` and `Listener`, implemented from outside the crate: once around another transport, and
//! once from nothing. One generic echo runs over all of them.
//!
//! ```text
//! cargo run --example custom_transport
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pipetalk::{ConnectOptions, Deadline, Error, Listener, LocalListener, Part, Stream};

/// Any transport will do.
fn echo<L: Listener>(
    listener: &L,
    connect: impl FnOnce(Deadline) -> io::Result<L::Stream>,
) -> io::Result<()> {
    let soon = Deadline::after(Duration::from_secs(10));
    thread::scope(|scope| {
        scope.spawn(|| -> io::Result<()> {
            let stream = listener.accept(soon)?;
            let mut message = Vec::new();
            while stream.recv_message(&mut message, soon)?.is_some() {
                stream.send(&message, soon)?;
            }
            Ok(())
        });
        let stream = connect(soon)?;
        let mut reply = Vec::new();
        for message in ["hello", "", "goodbye"] {
            stream.send(message.as_bytes(), soon)?;
            let received = stream.recv_message(&mut reply, soon)?;
            received.ok_or(io::ErrorKind::UnexpectedEof)?;
            println!(
                "  {message:?} came back as {:?}",
                String::from_utf8_lossy(&reply)
            );
        }
        Ok(())
    })
}

fn main() -> io::Result<()> {
    let name = format!("pipetalk-custom-{}", std::process::id());

    println!("The platform's own transport:");
    let listener = LocalListener::bind(&name)?;
    let connect = |deadline| ConnectOptions::new().connect(&name, deadline);
    echo(&listener, connect)?;

    println!("The same, traced:");
    let traced = Traced("server", listener);
    echo(&traced, |deadline| Ok(Traced("client", connect(deadline)?)))?;

    println!("Queues between the threads of a process:");
    let exchange = Exchange::default();
    echo(&exchange, |deadline| exchange.connect(deadline))
}

/// A transport around a transport: prints what passes.
#[derive(Debug)]
struct Traced<T>(&'static str, T);

impl<S: Stream> Stream for Traced<S> {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        println!("    {}: send {} bytes", self.0, message.len());
        self.1.send(message, deadline)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.1.recv(buf, deadline)
    }

    fn close(&self) {
        self.1.close();
    }

    // What is provided would do, but the transport below knows better.
    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        let received = self.1.recv_message(message, deadline);
        println!("    {}: received {received:?}", self.0);
        received
    }

    fn max_message(&self) -> usize {
        self.1.max_message()
    }
}

impl<L: Listener> Listener for Traced<L> {
    type Stream = Traced<L::Stream>;

    fn accept(&self, deadline: Deadline) -> io::Result<Self::Stream> {
        Ok(Traced(self.0, self.1.accept(deadline)?))
    }

    fn stop(&self) {
        self.1.stop();
    }
}

/// A transport from nothing: connections wait in one queue, and each connection is two queues of messages.
#[derive(Debug, Default)]
struct Exchange(Queue<QueueStream>);

impl Exchange {
    fn connect(&self, deadline: Deadline) -> io::Result<QueueStream> {
        let (up, down) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        self.0.push(
            QueueStream {
                to: Arc::clone(&down),
                from: Arc::clone(&up),
            },
            deadline,
        )?;
        Ok(QueueStream { to: up, from: down })
    }
}

impl Listener for Exchange {
    type Stream = QueueStream;

    fn accept(&self, deadline: Deadline) -> io::Result<QueueStream> {
        let accepted = self.0.take(deadline, VecDeque::pop_front)?;
        accepted.flatten().ok_or_else(|| Error::Stopped.into())
    }

    fn stop(&self) {
        self.0.close();
    }
}

#[derive(Debug)]
struct QueueStream {
    to: Arc<Queue<Vec<u8>>>,
    from: Arc<Queue<Vec<u8>>>,
}

impl Stream for QueueStream {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.to.push(message.to_vec(), deadline)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        self.from.take(deadline, |messages| {
            let message = &mut messages[0];
            let len = message.len().min(buf.len());
            buf[..len].copy_from_slice(&message[..len]);
            message.drain(..len);
            let last = message.is_empty();
            if last {
                messages.pop_front();
            }
            Part { len, last }
        })
    }

    fn close(&self) {
        self.to.close();
        self.from.close();
    }

    // What is provided receives in parts, between which another receiver could come.
    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        *message = match self.from.take(deadline, VecDeque::pop_front)?.flatten() {
            Some(received) => received,
            None => return Ok(None),
        };
        let (limit, size) = (self.max_message(), message.len());
        if size > limit {
            return Err(Error::TooLarge { limit, size }.into());
        }
        Ok(Some(size))
    }
}

/// Dropping a stream closes it.
impl Drop for QueueStream {
    fn drop(&mut self) {
        self.close();
    }
}

/// A queue that waits for room, or for an item, until the deadline.
#[derive(Debug)]
struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State {
            items: VecDeque::new(),
            closed: false,
        };
        Queue {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    const ROOM: usize = 16;

    fn push(&self, item: T, deadline: Deadline) -> io::Result<()> {
        let mut state = self.wait(deadline, |items| items.len() < Self::ROOM)?;
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.items.push_back(item);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes from the items, of which there is at least one; `None` if there will be none any more.
    fn take<R>(
        &self,
        deadline: Deadline,
        take: impl FnOnce(&mut VecDeque<T>) -> R,
    ) -> io::Result<Option<R>> {
        let mut state = self.wait(deadline, |items| !items.is_empty())?;
        self.changed.notify_all();
        Ok((!state.items.is_empty()).then(|| take(&mut state.items)))
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn wait(
        &self,
        deadline: Deadline,
        ready: fn(&VecDeque<T>) -> bool,
    ) -> io::Result<MutexGuard<'_, State<T>>> {
        let mut state = self.lock();
        while !ready(&state.items) && !state.closed {
            state = match deadline.remaining() {
                Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
                Some(left) => {
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
