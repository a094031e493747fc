//! The in-memory transport: streams and a listener that exist only in this process.
//!
//! It keeps the promises of [`Stream`](crate::Stream) and [`Listener`](crate::Listener) with no operating-system
//! object: no name, no file, no handle, nothing left behind. The conformance suite runs against it, and it stands
//! in for a [`LocalStream`](crate::LocalStream) in tests. Write a handler against the trait, and hand it one end
//! of a [`pair`]:
//!
//! ```
//! use std::io;
//! use std::time::Duration;
//! use pipetalk::{Deadline, Stream, memory};
//!
//! /// Answers every message with its length.
//! fn serve(stream: &impl Stream) -> io::Result<()> {
//!     let mut message = Vec::new();
//!     while let Some(len) = stream.recv_message(&mut message, Deadline::NEVER)? {
//!         stream.send(len.to_string().as_bytes(), Deadline::after(Duration::from_secs(5)))?;
//!     }
//!     Ok(())
//! }
//!
//! let (client, server) = memory::pair();
//! let server = std::thread::spawn(move || serve(&server));
//! client.send(b"hello", Deadline::NOW)?;
//! let mut reply = Vec::new();
//! client.recv_message(&mut reply, Deadline::after(Duration::from_secs(5)))?;
//! assert_eq!(reply, b"5");
//! drop(client);
//! server.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! Code that accepts connections takes a [`listener`]. [`Options`] make room scarce, limits small and endpoints
//! busy, so that the paths that are hard to reach on a real system can be tested.
//!
//! # How it works
//!
//! Each direction is a queue of whole messages, after the model of a Windows message pipe. A send puts its message
//! into the queue, and is done when it fits into the [buffer](Options::buffer_size) together with the unread
//! messages before it, or when the receiver has taken all of it. If neither has come true by the deadline, the
//! message is taken back and the connection goes on; only if the receiver has a part of it already is the
//! connection closed for good.

mod ends;
mod instance;
mod options;
mod port;
pub(crate) mod queue;
mod stream;

pub use options::Options;
pub use port::{Connector, Listener};
pub use stream::Stream;

/// Two connected streams with the [defaults](Options).
#[must_use]
pub fn pair() -> (Stream, Stream) {
    Options::new().pair()
}

/// A listener with the [defaults](Options), and what connects to it.
///
/// ```
/// use pipetalk::{Deadline, Listener, Stream, memory};
///
/// let (listener, connector) = memory::listener();
/// let client = connector.connect(Deadline::NOW)?;
/// let server = listener.accept(Deadline::NOW)?;
/// client.send(b"hello", Deadline::NOW)?;
/// let mut message = Vec::new();
/// assert_eq!(server.recv_message(&mut message, Deadline::NOW)?, Some(5));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn listener() -> (Listener, Connector) {
    Options::new().listener()
}

impl Options {
    /// Two connected streams.
    #[must_use]
    pub fn pair(&self) -> (Stream, Stream) {
        Stream::pair(self.buffer_size, self.max_message)
    }

    /// A listener, and what connects to it.
    #[must_use]
    pub fn listener(&self) -> (Listener, Connector) {
        port::open(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::io::{self, ErrorKind};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::{Deadline, Error, Listener as _, Part, Stream as _, Waiting};

    const NOW: Deadline = Deadline::NOW;
    const NEVER: Deadline = Deadline::NEVER;

    fn kind<T: fmt::Debug>(result: io::Result<T>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn a_send_that_timed_out_half_way_poisons() {
        let (left, right) = Options::new().buffer_size(4).pair();
        thread::scope(|scope| {
            let sender =
                scope.spawn(|| left.send(&[7; 100], Deadline::after(Duration::from_millis(200))));
            assert_eq!(
                right
                    .recv(&mut [0; 10], Deadline::after(Duration::from_secs(5)))
                    .unwrap(),
                Some(Part {
                    len: 10,
                    last: false
                })
            );
            assert_eq!(kind(sender.join().unwrap()), ErrorKind::TimedOut);
        });
        let error = right.recv(&mut [0; 10], NOW).unwrap_err();
        assert_eq!(Error::of(&error), Some(&Error::Truncated));
        assert_eq!(right.recv(&mut [0; 10], NOW).unwrap(), None);
        assert_eq!(kind(right.send(b"x", NOW)), ErrorKind::BrokenPipe);
        left.close();
        for result in [left.send(b"x", NOW), left.recv(&mut [], NOW).map(drop)] {
            assert_eq!(Error::of(&result.unwrap_err()), Some(&Error::Poisoned));
        }
    }

    #[test]
    fn no_number_of_empty_messages_fits() {
        let (left, right) = Options::new().buffer_size(3).pair();
        for _ in 0..3 {
            left.send(b"", NOW).unwrap();
        }
        assert_eq!(kind(left.send(b"", NOW)), ErrorKind::TimedOut);
        assert_eq!(
            right.peek().unwrap(),
            Some(Waiting {
                bytes: 0,
                message: Some(0)
            })
        );
        assert_eq!(
            right.recv(&mut [], NOW).unwrap(),
            Some(Part { len: 0, last: true })
        );
        left.send(b"", NOW).unwrap();
    }

    #[test]
    fn an_instance_is_free_when_the_accepted_stream_closes() {
        let (listener, connector) = Options::new().instances(1).listener();
        let client = connector.connect(NOW).unwrap();
        drop(client);
        assert_eq!(
            Error::of(&connector.connect(NOW).unwrap_err()),
            Some(&Error::Busy)
        );
        assert_eq!(
            kind(connector.connect(Deadline::after(Duration::from_millis(20)))),
            ErrorKind::TimedOut
        );
        let server = listener.accept(NOW).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| connector.connect(NEVER));
            server.close();
            waiting.join().unwrap().unwrap();
        });
        drop(listener);
        assert_eq!(kind(connector.connect(NEVER)), ErrorKind::NotFound);
    }
}
