//! [`Items`]: what a stream brings.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::common::late;
use super::feed::Feed;
use crate::Deadline;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::call_error::CallError;
use crate::proto::client::Next;

/// The items of a stream, in the order in which the server sends them: an iterator that waits for each.
///
/// ```no_run
/// use pipetalk::{Client, Items};
///
/// let client: Client<u32, u32> = Client::connect("acme.numbers")?;
/// let items: Items<u32> = client.open(&5)?;
/// for number in items {
///     println!("{}", number?);
/// }
/// # Ok::<(), pipetalk::CallError>(())
/// ```
///
/// After the end, and after an error, there is nothing more. Dropping it before tells the server that nobody wants the
/// rest, and does not wait for that to be heard.
///
/// # Flow control
///
/// The server sends ahead, as far as the [window](crate::CallOptions::window) goes: by default about 64 KiB and one
/// item. Who takes items slowly, or not at all for a while, costs the server no more than that, and nobody else
/// anything: other calls and streams go on over the same connection.
///
/// There is no thread behind it: items come while somebody waits for one, or for anything else on this connection.
pub struct Items<T, C = DefaultCodec> {
    /// `None`: it is over.
    feed: Option<Feed>,
    /// Of the stream as a whole.
    deadline: Deadline,
    item_timeout: Option<Duration>,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T: DeserializeOwned, C: Codec> Items<T, C> {
    pub(super) fn new(feed: Feed, deadline: Deadline, item_timeout: Option<Duration>) -> Self {
        Items {
            feed: Some(feed),
            deadline,
            item_timeout,
            types: PhantomData,
        }
    }

    /// Waits for the next item until a deadline: a point in time, or how long from now. `None`: there are no more.
    ///
    /// If nothing comes in time that is [`CallError::TimedOut`], and **not** the end, unless the deadline of the
    /// stream as a whole has passed: the next call goes on where this one stopped. The
    /// [time-out of an item](crate::CallOptions::item_timeout) does not matter here.
    pub fn next_by(&mut self, deadline: impl Into<Deadline>) -> Option<Result<T, CallError>> {
        let deadline = deadline.into();
        let feed = self.feed.as_ref()?;
        let error = match feed.next(deadline.min(self.deadline)) {
            Some(Next::Item(item)) => {
                let decoded = item.decode::<C, T>();
                feed.recycle(item);
                match decoded {
                    Ok(item) => return Some(Ok(item)),
                    Err(error) => error,
                }
            }
            Some(Next::End) => {
                self.feed = None;
                return None;
            }
            Some(Next::Failed(error)) => late(error, self.deadline),
            None if self.deadline.has_passed() => CallError::TimedOut { sent: true },
            None => return Some(Err(CallError::TimedOut { sent: true })),
        };
        self.feed = None;
        Some(Err(error))
    }

    /// The next item, if it has come already: `Ok(None)` if not, and also after the end, of which
    /// [`is_over`](Self::is_over) tells. At most one message is read, be it another's: what comes behind that takes
    /// another try. It does not wait, except for a millisecond where the connection is so full that credit for earlier
    /// items could not be sent.
    ///
    /// # Errors
    ///
    /// What ended the stream.
    pub fn try_next(&mut self) -> Result<Option<T>, CallError> {
        match self.next_by(Deadline::NOW) {
            Some(Err(CallError::TimedOut { .. })) if !self.is_over() => Ok(None),
            next => next.transpose(),
        }
    }

    /// Whether there will be no more items: the end has been seen, or an error.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.feed.is_none()
    }

    /// Tells the server that nobody wants more items, as dropping this does. There are no more then.
    pub fn cancel(&mut self) {
        self.feed = None;
    }
}

/// Waits for each item as long as the [time-out of an item](crate::CallOptions::item_timeout) says, by default for as
/// long as the stream lasts. If it passes, that is [`CallError::TimedOut`], and the end: the server is told.
impl<T: DeserializeOwned, C: Codec> Iterator for Items<T, C> {
    type Item = Result<T, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let deadline = self.item_timeout.map_or(Deadline::NEVER, Deadline::after);
        let next = self.next_by(deadline);
        if matches!(next, Some(Err(_))) {
            self.feed = None;
        }
        next
    }
}

impl<T: DeserializeOwned, C: Codec> FusedIterator for Items<T, C> {}

impl<T, C> fmt::Debug for Items<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("over", &self.feed.is_none())
            .finish_non_exhaustive()
    }
}
