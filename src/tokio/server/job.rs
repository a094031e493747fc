//! Handlers that have begun.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::core::Core;
use super::handler::Replied;
use crate::Deadline;
use crate::base::caught::caught;
use crate::codec::outgoing::Outgoing;
use crate::server::HandleError;
use crate::server::budget::{Lease, SMALL};
use crate::server::call::Caller;
use crate::server::job::Handled;
use crate::trace::Span;

/// The place of a handler's future, kept for one after the other.
pub(super) type Slot<F> = Pin<Box<Option<F>>>;

/// What it takes to answer a request.
pub(super) struct Ending {
    /// `None`: a notification.
    pub(super) id: Option<u32>,
    /// Its number, if it has a task of its own.
    pub(super) job: Option<u64>,
    pub(super) deadline: Deadline,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) span: Span,
    /// Its share of the server's memory, or how many bytes it has without one.
    pub(super) lease: Option<Box<Lease>>,
    pub(super) held: usize,
}

impl Ending {
    /// Whether a request was over before it began.
    pub(super) fn is_too_late(&self) -> bool {
        let over = || self.deadline == Deadline::NOW || self.cancelled.load(Ordering::Acquire);
        self.id.is_some() && over()
    }
}

/// What comes of a handler.
pub(super) struct Reply {
    pub(super) out: Outgoing,
    pub(super) handled: Handled,
    pub(super) made: Made,
}

/// Where a reply was made.
pub(super) enum Made {
    /// Where it is answered.
    Here,
    /// On a thread, where it counts among what is to be sent.
    Elsewhere(Counted),
    /// The same, and it was too much.
    TooMuch,
}

/// A reply that has been made and is not queued yet.
pub(super) struct Counted {
    /// Until somebody else sees to it.
    caller: Option<Arc<dyn Caller>>,
    bytes: usize,
}

impl Counted {
    /// Says how much it is, which is not uncounted here.
    pub(super) fn leave(mut self) -> usize {
        self.caller = None;
        self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            caller.uncount_reply(self.bytes);
        }
    }
}

impl Reply {
    /// Counts a reply from when it was made.
    pub(super) fn counted(
        mut out: Outgoing,
        handled: Result<(), HandleError>,
        caller: Arc<dyn Caller>,
    ) -> Reply {
        let bytes = out.len();
        let made = if bytes <= SMALL {
            Made::Here
        } else if caller.count_reply(bytes) {
            Made::Elsewhere(Counted {
                caller: Some(caller),
                bytes,
            })
        } else {
            out.clear();
            Made::TooMuch
        };
        Reply {
            out,
            handled: Ok(handled),
            made,
        }
    }
}

impl From<Replied> for Reply {
    #[inline]
    fn from((out, handled): Replied) -> Reply {
        Reply {
            out,
            handled: Ok(handled),
            made: Made::Here,
        }
    }
}

/// Polls a handler, and does before that what belongs to it. A place whose handler is over is empty again.
pub(super) fn poll<F: Future<Output: Into<Reply>>>(
    slot: &mut Slot<F>,
    cx: &mut Context<'_>,
    begin: impl FnOnce(&mut Slot<F>) -> Result<(), Replied>,
) -> Poll<Reply> {
    let polled = caught(|| {
        if let Err(replied) = begin(slot) {
            return Poll::Ready(replied.into());
        }
        let Some(future) = slot.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let polled = future.poll(cx);
        if polled.is_ready() {
            slot.set(None);
        }
        polled.map(Into::into)
    });
    polled.unwrap_or_else(|panicked| {
        // What it drops may panic as well, and is gone all the same.
        let _ = caught(|| slot.set(None));
        Poll::Ready(Reply {
            out: Outgoing::default(),
            handled: Err(panicked),
            made: Made::Here,
        })
    })
}

/// A handler that waits, in a task of its own.
pub(super) struct Job<F: Future<Output: Into<Reply>> + Send + 'static> {
    core: Arc<Core<F>>,
    /// Until it is over.
    begun: Option<(Ending, Slot<F>)>,
}

impl<F: Future<Output: Into<Reply>> + Send + 'static> Job<F> {
    pub(super) fn spawn(core: Arc<Core<F>>, ending: Ending, slot: Slot<F>) {
        let job = ending.job;
        let task = ::tokio::spawn(Job {
            core: Arc::clone(&core),
            begun: Some((ending, slot)),
        });
        core.has_task(job, task.abort_handle());
    }
}

impl<F: Future<Output: Into<Reply>> + Send + 'static> Future for Job<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((ending, slot)) = &mut self.begun else {
            return Poll::Ready(());
        };
        let polled = ending.span.run(|| poll(slot, cx, |_| Ok(())));
        let Poll::Ready(reply) = polled else {
            return Poll::Pending;
        };
        if let Some((ending, slot)) = self.begun.take() {
            self.core.answer(slot, ending, reply);
        }
        Poll::Ready(())
    }
}

impl<F: Future<Output: Into<Reply>> + Send + 'static> Drop for Job<F> {
    fn drop(&mut self) {
        if let Some((ending, slot)) = self.begun.take() {
            // What the handler says as it is dropped is said in its span.
            let _ = caught(|| ending.span.run(|| drop(slot)));
            self.core.dropped(ending);
        }
    }
}
