//! Handlers that have begun.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::connection::Connection;
use super::handler::Replied;
use crate::Deadline;
use crate::caught::caught;
use crate::outgoing::Outgoing;
use crate::server::job::Handled;
use crate::tokio::transport::Stream;
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
}

impl Ending {
    /// Whether a request was over before it began.
    pub(super) fn is_too_late(&self) -> bool {
        let over = || self.deadline == Deadline::NOW || self.cancelled.load(Ordering::Acquire);
        self.id.is_some() && over()
    }
}

/// Polls a handler, and does before that what belongs to it. A place whose handler is over is empty again.
pub(super) fn poll<F: Future<Output = Replied>>(
    slot: &mut Slot<F>,
    cx: &mut Context<'_>,
    begin: impl FnOnce(&mut Slot<F>) -> Result<(), Replied>,
) -> Poll<(Outgoing, Handled)> {
    let polled = caught(|| {
        if let Err(replied) = begin(slot) {
            return Poll::Ready(replied);
        }
        let Some(future) = slot.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let polled = future.poll(cx);
        if polled.is_ready() {
            slot.set(None);
        }
        polled
    });
    match polled {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready((out, handled))) => Poll::Ready((out, Ok(handled))),
        Err(panic) => {
            // What it drops may panic as well, and is gone all the same.
            let _ = caught(|| slot.set(None));
            Poll::Ready((Outgoing::default(), Err(panic)))
        }
    }
}

/// A handler that waits, in a task of its own.
pub(super) struct Job<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> {
    connection: Arc<Connection<S, Q, F>>,
    /// Until it is over.
    begun: Option<(Ending, Slot<F>)>,
}

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Job<S, Q, F> {
    pub(super) fn spawn(connection: Arc<Connection<S, Q, F>>, ending: Ending, slot: Slot<F>) {
        let job = ending.job;
        let task = ::tokio::spawn(Job {
            connection: Arc::clone(&connection),
            begun: Some((ending, slot)),
        });
        connection.has_task(job, task.abort_handle());
    }
}

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Future for Job<S, Q, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((ending, slot)) = &mut self.begun else {
            return Poll::Ready(());
        };
        let polled = ending.span.run(|| poll(slot, cx, |_| Ok(())));
        let Poll::Ready((out, handled)) = polled else {
            return Poll::Pending;
        };
        if let Some((ending, slot)) = self.begun.take() {
            self.connection.answer(slot, ending, handled, out);
        }
        Poll::Ready(())
    }
}

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Drop for Job<S, Q, F> {
    fn drop(&mut self) {
        if let Some((ending, slot)) = self.begun.take() {
            // What the handler says as it is dropped is said in its span.
            let _ = caught(|| ending.span.run(|| drop(slot)));
            self.connection.dropped(ending);
        }
    }
}
