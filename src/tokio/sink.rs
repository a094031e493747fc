//! [`ItemSink`]: what a handler sends the items of a stream through.

use std::fmt;
use std::io;
use std::pin::pin;

use ::tokio::sync::Notify;
use ::tokio::sync::futures::Notified;
use serde::Serialize;

use super::runtime;
use crate::Deadline;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::wire::{Code, Failure};
use crate::server::sink::{Emitter, Sealed, Sink};
use crate::server::streams::{Waits, Wake};
use crate::server::{Opening, SinkError};

/// For async programs, with feature `tokio`.
impl Opening {
    /// The sink for its items.
    #[must_use]
    pub fn into_sink_tokio<T, C>(self) -> ItemSink<T, C> {
        ItemSink(Emitter::new(self))
    }
}

/// The server's end of a stream, for async programs: the mirror of [`pipetalk::ItemSink`](crate::ItemSink).
///
/// Dropping it ends the stream. It may outlive the handler that was given it, be sent to another task, and be shared by
/// several. If it is dropped by a panic, the client gets [`CallError::Panicked`](crate::CallError::Panicked).
///
/// ```
/// use pipetalk::Call;
/// use pipetalk::tokio::ItemSink;
///
/// /// Counts, until it is done or nobody listens any more.
/// async fn count(_: &Call, to: u32, items: ItemSink<u32>) {
///     for number in 0..to {
///         if items.send(&number).await.is_err() {
///             return;
///         }
///     }
/// }
/// ```
pub struct ItemSink<T, C = DefaultCodec>(Emitter<T, C, Change>);

impl<T: Serialize, C: Codec> ItemSink<T, C> {
    /// Sends an item, as soon as the client's window has room for it. It need not have come when this returns.
    ///
    /// # Errors
    ///
    /// [`SinkError`]; the stream is over then, and later items fail with [`SinkError::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// An item whose sending is dropped is not sent, and the stream goes on.
    pub async fn send(&self, item: &T) -> Result<(), SinkError> {
        let ItemSink(emitter) = self;
        let mut message = emitter.encoded(item)?;
        let mut waits: Option<Waits<'_>> = None;
        loop {
            // From here on nothing is missed.
            let changed = emitter.change.0.notified();
            match emitter.offer(message, true)? {
                None => {
                    if let Some(waits) = waits {
                        waits.have_ended();
                    }
                    return Ok(());
                }
                Some(back) => message = back,
            }
            waits.get_or_insert_with(|| emitter.outflow.waits());
            if !self.happens(changed).await {
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

    /// Waits until nobody takes more items.
    ///
    /// # Cancel safety
    ///
    /// Dropping this changes nothing.
    pub async fn stopped(&self) {
        loop {
            let changed = self.0.change.0.notified();
            if self.is_stopped() {
                return;
            }
            // That its time is over is one way to be stopped.
            self.happens(changed).await;
        }
    }

    /// Waits for a change. False if the deadline has passed; in a runtime without timers it is the client that minds it.
    async fn happens(&self, change: Notified<'_>) -> bool {
        let mut change = pin!(change);
        match runtime::by(self.deadline(), change.as_mut()).await {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return false,
            Err(_) => change.await,
        }
        true
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

impl<T, C> Sink<T, C> for ItemSink<T, C> {}

impl<T, C> Sealed for ItemSink<T, C> {
    fn into_opening(self) -> Opening {
        Opening(self.0.outflow)
    }
}

impl<T, C> fmt::Debug for ItemSink<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ItemSink").field(&self.0.outflow).finish()
    }
}

/// What the tasks wait for that send through one sink.
#[derive(Debug, Default)]
struct Change(Notify);

impl Wake for Change {
    fn wake(&self) {
        self.0.notify_waiters();
    }
}
