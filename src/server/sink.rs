//! [`ItemSink`]: what a handler sends the items of a stream through.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use super::streams::{Outflow, Refused, Wake};
use crate::Deadline;
use crate::codec::outgoing::Outgoing;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::wire::{Code, Failure};

/// A stream that a client asks for, before it is known what its items are: see [`Handler::open`].
///
/// [`Handler::open`]: crate::server::Handler::open
#[derive(Debug)]
pub struct Opening(pub(crate) Outflow);

impl Opening {
    pub(crate) fn new(outflow: Outflow) -> Opening {
        Opening(outflow)
    }

    /// The sink for its items.
    #[must_use]
    pub fn into_sink<T, C>(self) -> ItemSink<T, C> {
        ItemSink(Emitter::new(self))
    }
}

/// The server's end of a stream: items go in here, and come out of the client's [`Items`](crate::Items).
///
/// Dropping it ends the stream. It may outlive the handler that was given it, be sent to another thread, and be shared
/// by several. If it is dropped by a panic, the client gets [`CallError::Panicked`](crate::CallError::Panicked).
///
/// ```
/// use pipetalk::{Call, ItemSink};
///
/// /// Counts, until it is done or nobody listens any more.
/// fn count(_: &Call, to: u32, items: ItemSink<u32>) {
///     for number in 0..to {
///         if items.send(&number).is_err() {
///             return;
///         }
///     }
/// }
/// ```
///
/// # Flow control
///
/// The client says how much may be sent ahead of its consumer. Then [`send`](ItemSink::send) waits, and no one else:
/// other streams and replies go on. A client may stay away from a stream for as long as it likes; only a reply that it
/// does not read for [`ServerOptions::send_timeout`] has it cut off.
///
/// [`ServerOptions::send_timeout`]: crate::ServerOptions::send_timeout
pub struct ItemSink<T, C = DefaultCodec>(Emitter<T, C, Change>);

/// Why an item was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkError {
    /// The stream is over: the client has cancelled it or gone, its deadline has passed, or the server has ended.
    Stopped,
    /// There is no room now: [`ItemSink::try_send`] alone says so.
    Full,
    /// The item is over the client's limit, in bytes. The stream is over, and the client has been told.
    TooLarge {
        /// The limit.
        limit: u64,
        /// The size.
        size: u64,
    },
    /// The item cannot be encoded; the text is the codec's. The stream is over, and the client has been told.
    Encode(String),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Stopped => f.write_str("nobody takes more items of this stream"),
            SinkError::Full => f.write_str("there is no room for an item now"),
            SinkError::TooLarge { limit, size } => {
                write!(f, "an item of {size} bytes is over the limit of {limit}")
            }
            SinkError::Encode(text) => write!(f, "the item cannot be encoded: {text}"),
        }
    }
}

impl std::error::Error for SinkError {}

impl<T: Serialize, C: Codec> ItemSink<T, C> {
    /// Sends an item, as soon as the client's window has room for it. It need not have come when this returns.
    ///
    /// # Errors
    ///
    /// [`SinkError`]; the stream is over then, and later items fail with [`SinkError::Stopped`].
    pub fn send(&self, item: &T) -> Result<(), SinkError> {
        let ItemSink(emitter) = self;
        let mut message = emitter.encoded(item)?;
        loop {
            let seen = emitter.change.seen();
            match emitter.offer(message, true)? {
                None => return Ok(()),
                Some(back) => message = back,
            }
            if !emitter.change.wait(seen, self.deadline()) {
                return Err(emitter.is_late());
            }
        }
    }

    /// Sends an item if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`SinkError::Full`] if there is none, and otherwise as [`send`](Self::send).
    pub fn try_send(&self, item: &T) -> Result<(), SinkError> {
        self.0.try_send(item)
    }
}

impl<T, C> ItemSink<T, C> {
    /// Ends the stream with an error, which the client gets as [`CallError::Failed`](crate::CallError::Failed) after
    /// the items before it. At most 1024 bytes of the text are sent.
    pub fn fail(self, text: &str) {
        self.0.end(&Failure::new(Code::Failed, text));
    }

    /// Whether nobody takes more items: the client has cancelled the stream or gone, its deadline has passed, the
    /// server has waited long enough for it while ending, or it has failed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }

    /// Waits until nobody takes more items, or until a deadline; whether that came about.
    pub fn wait_until_stopped(&self, deadline: impl Into<Deadline>) -> bool {
        let deadline = deadline.into().min(self.deadline());
        loop {
            let seen = self.0.change.seen();
            if self.is_stopped() {
                return true;
            }
            if !self.0.change.wait(seen, deadline) {
                return self.is_stopped();
            }
        }
    }

    /// Whether the server is ending. The stream may go on until the server has waited long enough.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.outflow.is_draining()
    }

    /// Until when the stream lasts at most.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.0.outflow.deadline()
    }
}

/// What can be [subscribed](crate::Broadcast::subscribe): a sink for items of type `T`, in whichever way it is waited
/// for.
pub trait Sink<T, C>: Sealed {}

impl<T, C> Sink<T, C> for ItemSink<T, C> {}

impl<T, C> Sealed for ItemSink<T, C> {
    fn into_opening(self) -> Opening {
        Opening(self.0.outflow)
    }
}

/// A sink without its types, for somebody else who sends.
pub trait Sealed {
    #[doc(hidden)]
    fn into_opening(self) -> Opening;
}

/// What sinks of all kinds have in common; they differ in what it is that is told of a change.
pub(crate) struct Emitter<T, C, Change> {
    pub(crate) outflow: Outflow,
    pub(crate) change: Arc<Change>,
    types: PhantomData<fn(T) -> C>,
}

impl<T, C, Change: Wake + Default + 'static> Emitter<T, C, Change> {
    pub(crate) fn new(Opening(mut outflow): Opening) -> Self {
        let change = Arc::new(Change::default());
        outflow.claim(Arc::clone(&change) as _);
        Emitter {
            outflow,
            change,
            types: PhantomData,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.outflow.deadline().has_passed() || !self.outflow.is_open()
    }

    /// Ends the stream because its time is over.
    pub(crate) fn is_late(&self) -> SinkError {
        self.end(&Failure::new(Code::Cancelled, ""));
        SinkError::Stopped
    }

    pub(crate) fn end(&self, failure: &Failure<'_>) {
        self.outflow.fail(failure);
        self.change.wake();
    }
}

impl<T: Serialize, C: Codec, Change: Wake + Default + 'static> Emitter<T, C, Change> {
    pub(crate) fn try_send(&self, item: &T) -> Result<(), SinkError> {
        let message = self.encoded(item)?;
        match self.offer(message, false)? {
            None => Ok(()),
            Some(_) => Err(SinkError::Full),
        }
    }

    pub(crate) fn encoded(&self, item: &T) -> Result<Outgoing, SinkError> {
        if self.outflow.deadline().has_passed() {
            return Err(self.is_late());
        }
        let mut message = self.outflow.blank();
        match message.encode::<C, T>(item) {
            Ok(()) => Ok(message),
            Err(error) => {
                let text = error.to_string();
                self.end(&Failure::new(Code::Malformed, &text));
                Err(SinkError::Encode(text))
            }
        }
    }

    /// Gives the message back if there is no room for it, for which somebody may wait.
    pub(crate) fn offer(
        &self,
        message: Outgoing,
        waits: bool,
    ) -> Result<Option<Outgoing>, SinkError> {
        match self.outflow.offer(message, waits) {
            Ok(()) => Ok(None),
            Err(Refused::Full(message)) => Ok(Some(message)),
            Err(Refused::Stopped) => Err(SinkError::Stopped),
            Err(Refused::TooLarge { limit, size }) => {
                self.change.wake();
                Err(SinkError::TooLarge { limit, size })
            }
        }
    }
}

impl<T, C> fmt::Debug for ItemSink<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ItemSink").field(&self.0.outflow).finish()
    }
}

/// What the threads wait for that send through one sink: it counts what has happened to the stream.
#[derive(Default)]
struct Change {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Change {
    fn seen(&self) -> u64 {
        *self.count.lock()
    }

    /// Waits until more has happened than was seen before. False if the deadline has passed.
    fn wait(&self, seen: u64, deadline: Deadline) -> bool {
        let mut count = self.count.lock();
        while *count == seen {
            if deadline.has_passed() {
                return false;
            }
            match deadline.instant() {
                Some(at) => {
                    self.changed.wait_until(&mut count, at);
                }
                None => self.changed.wait(&mut count),
            }
        }
        true
    }
}

impl Wake for Change {
    fn wake(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }
}
