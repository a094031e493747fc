//! [`Items`]: what a stream brings.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::link::Feed;
use crate::Deadline;
use crate::codec::{Codec, DefaultCodec};
use crate::proto::call_error::CallError;
use crate::proto::client::Next;
use crate::tokio::alarm::Alarm;
use crate::tokio::runtime;

/// The items of a stream, in the order in which the server sends them, for async programs: the mirror of
/// [`pipetalk::Items`](crate::Items), and a `futures::Stream`.
///
/// ```no_run
/// use pipetalk::tokio::{Client, Items};
///
/// # async fn example() -> Result<(), pipetalk::CallError> {
/// let client: Client<u32, ()> = Client::connect("acme.numbers").await?;
/// let mut items: Items<u32> = client.channel().open(0, &5, Default::default()).await?;
/// while let Some(number) = items.next().await {
///     println!("{}", number?);
/// }
/// # Ok(())
/// # }
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
pub struct Items<T, C = DefaultCodec> {
    /// `None`: it is over.
    feed: Option<Feed>,
    item_timeout: Option<Duration>,
    /// For the time-out of an item, while one is waited for as by a `futures::Stream`.
    alarm: Alarm,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T: DeserializeOwned, C: Codec> Items<T, C> {
    pub(super) fn new(feed: Feed, item_timeout: Option<Duration>) -> Self {
        Items {
            feed: Some(feed),
            item_timeout,
            alarm: Alarm::default(),
            types: PhantomData,
        }
    }

    /// Waits for the next item, as long as the [time-out of an item](crate::CallOptions::item_timeout) says, by
    /// default for as long as the stream lasts. If it passes, that is [`CallError::TimedOut`], and the end: the server
    /// is told. `None`: there are no more.
    ///
    /// # Cancel safety
    ///
    /// Dropping this loses no item.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        let deadline = self.item_timeout.map_or(Deadline::NEVER, Deadline::after);
        let next = self.next_by(deadline).await;
        if matches!(next, Some(Err(_))) {
            self.feed = None;
        }
        next
    }

    /// Waits for the next item until a deadline: a point in time, or how long from now. `None`: there are no more.
    ///
    /// If nothing comes in time that is [`CallError::TimedOut`], and **not** the end, unless the deadline of the
    /// stream as a whole has passed: the next call goes on where this one stopped. The
    /// [time-out of an item](crate::CallOptions::item_timeout) does not matter here.
    ///
    /// # Cancel safety
    ///
    /// Dropping this loses no item.
    pub async fn next_by(&mut self, deadline: impl Into<Deadline>) -> Option<Result<T, CallError>> {
        let deadline = deadline.into();
        let next = poll_fn(|cx| self.poll_item(cx));
        match runtime::by(deadline, next).await {
            Ok(next) => next,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Some(Err(CallError::TimedOut { sent: true }))
            }
            Err(error) => Some(Err(CallError::unreachable(&error))),
        }
    }

    /// The next item, if it has come already: `Ok(None)` if not, and also after the end, of which
    /// [`is_over`](Self::is_over) tells.
    ///
    /// # Errors
    ///
    /// What ended the stream.
    pub fn try_next(&mut self) -> Result<Option<T>, CallError> {
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        match self.poll_item(&mut nobody) {
            Poll::Ready(next) => next.transpose(),
            Poll::Pending => Ok(None),
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

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        let Some(feed) = &mut self.feed else {
            return Poll::Ready(None);
        };
        let Poll::Ready(next) = feed.poll_next(cx) else {
            return Poll::Pending;
        };
        // The time of the item after this one begins anew, in whichever way this one was waited for.
        self.alarm.set(None);
        let error = match next {
            Next::Item(item) => {
                let decoded = item.decode::<C, T>();
                feed.recycle(item);
                match decoded {
                    Ok(item) => return Poll::Ready(Some(Ok(item))),
                    Err(error) => error,
                }
            }
            Next::End => {
                self.feed = None;
                return Poll::Ready(None);
            }
            Next::Failed(error) => error,
        };
        self.feed = None;
        Poll::Ready(Some(Err(error)))
    }
}

/// As [`next`](Items::next).
impl<T: DeserializeOwned, C: Codec> futures_core::Stream for Items<T, C> {
    type Item = Result<T, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let items = self.get_mut();
        let next = items.poll_item(cx);
        if next.is_ready() {
            return next;
        }
        let Some(timeout) = items.item_timeout else {
            return Poll::Pending;
        };
        if !items.alarm.is_set() {
            if let Err(error) = Alarm::check() {
                items.feed = None;
                return Poll::Ready(Some(Err(CallError::unreachable(&error))));
            }
            items.alarm.set(Instant::now().checked_add(timeout));
        }
        if items.alarm.poll(cx).is_pending() {
            return Poll::Pending;
        }
        items.feed = None;
        Poll::Ready(Some(Err(CallError::TimedOut { sent: true })))
    }
}

impl<T: DeserializeOwned, C: Codec> futures_core::FusedStream for Items<T, C> {
    fn is_terminated(&self) -> bool {
        self.is_over()
    }
}

impl<T, C> fmt::Debug for Items<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("over", &self.feed.is_none())
            .finish_non_exhaustive()
    }
}
