//! How a connection of a server for async programs drives its streams: the handler of each is a task of its own, and
//! the connection's task sends what all have to say.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use ::tokio::task::AbortHandle;
use parking_lot::{MappedMutexGuard, MutexGuard};

use super::connection::{Connection, Request};
use super::handler::Replied;
use super::state::State;
use crate::Deadline;
use crate::caught::caught;
use crate::server::call::Caller;
use crate::server::job::Handled;
use crate::server::sink::Opening;
use crate::server::streams::{Conversation, Line, Outflow, settle};
use crate::server::{Call, HandleError};
use crate::tokio::transport::Stream;
use crate::trace::Span;
use crate::wire::{Code, Failure};

/// The handler of a stream. Few streams are opened, and each lasts: its future need not be in a place that is kept.
pub(super) type Opened = Pin<Box<dyn Future<Output = Result<(), HandleError>> + Send>>;

/// The handler of a stream that has not returned.
pub(super) struct Streaming {
    serial: u64,
    pub(super) id: u32,
    task: Option<AbortHandle>,
}

impl<S: Stream, Q: 'static, F: Send + 'static> Line for Connection<S, Q, F> {
    fn lock(&self) -> MappedMutexGuard<'_, Conversation> {
        MutexGuard::map(self.state.lock(), |state| &mut state.talk)
    }

    fn is_queued(&self) {
        self.state.lock().wake();
    }

    fn client_takes(&self) -> u32 {
        self.state.lock().client_takes
    }

    fn is_draining(&self) -> bool {
        self.shared.handle.is_draining()
    }
}

impl<S, Q, F> Connection<S, Q, F>
where
    S: Stream,
    Q: 'static,
    F: Future<Output = Replied> + Send + 'static,
{
    /// Opens a stream.
    pub(super) fn open_stream(self: &Arc<Self>, request: Request) {
        let Request {
            id: Some(id),
            method,
            payload,
            timeout,
        } = request
        else {
            return;
        };
        let mut state = self.state.lock();
        let limit = self.shared.options.max_in_flight;
        let why_not = if self.shared.handle.is_draining() {
            Some(Failure::new(Code::Unavailable, "ending"))
        } else if !state.has_room_for_stream(limit) {
            Some(Failure::new(Code::OverLimit, "handlers of streams"))
        } else {
            None
        };
        if let Some(failure) = why_not {
            state.talk.session.answer(id);
            state.fail(id, &failure);
            state.talk.session.answered();
            return;
        }
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, Some(id));
        let serial = state.talk.streams.open(id);
        state.streaming.push(Streaming {
            serial,
            id,
            task: None,
        });
        drop(state);
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let call = Call {
            caller: Arc::clone(self) as Arc<dyn Caller>,
            deadline,
            cancelled: Arc::clone(&cancelled),
            inline: false,
        };
        let line = Arc::clone(self) as Arc<dyn Line>;
        let opening = Opening::new(Outflow::new(line, serial, deadline));
        let begun = Begun {
            serial,
            cancelled,
            span: self.span(method),
        };
        let open = || (self.shared.open)(method, payload, call, opening);
        match caught(|| begun.span.run(open)) {
            Ok(handler) => {
                let task = ::tokio::spawn(Handling {
                    connection: Arc::clone(self),
                    begun: Some((begun, handler)),
                });
                self.has_stream_task(serial, task.abort_handle());
            }
            Err(panic) => self.handled(begun, Some(Err(panic)), None),
        }
    }

    /// Notes the task of a stream's handler, to end it when nobody takes the items any more.
    fn has_stream_task(&self, serial: u64, task: AbortHandle) {
        let mut state = self.state.lock();
        let over = !state.talk.streams.is_open(serial) && self.shared.aborts;
        let mut streaming = state.streaming.iter_mut();
        if let Some(stream) = streaming.find(|stream| stream.serial == serial) {
            // It may have happened already.
            if over {
                task.abort();
            }
            stream.task = Some(task);
        }
    }

    /// Ends the tasks of streams of which nobody takes the items any more.
    pub(super) fn abort_streams(&self, state: &mut State<F>, which: impl Fn(&Streaming) -> bool) {
        if !self.shared.aborts {
            // A thread cannot be ended: it notices when it sends the next item.
            return;
        }
        let streams = state.streaming.iter().filter(|stream| which(stream));
        streams
            .filter_map(|stream| stream.task.as_ref())
            .for_each(AbortHandle::abort);
    }

    /// The handler of a stream has returned or panicked, and its future is still to be dropped; or `None`: it was
    /// dropped before.
    fn handled(&self, begun: Begun, handled: Option<Handled>, handler: Option<Opened>) {
        let Begun {
            serial,
            cancelled,
            span,
        } = begun;
        let dropped = handled.is_none().then_some(Code::Cancelled);
        let failed = settle(self, serial, handled.unwrap_or(Ok(Ok(()))));
        let mut state = self.state.lock();
        state.running.finish(&cancelled);
        state.streaming.retain(|stream| stream.serial != serial);
        state.wake();
        drop(state);
        // What it drops may panic as well, and what it says as it is dropped is said in its span.
        let _ = caught(|| span.run(|| drop(handler)));
        span.end_request(Some(failed.or(dropped)));
    }
}

/// What it takes to end a stream.
struct Begun {
    serial: u64,
    cancelled: Arc<AtomicBool>,
    span: Span,
}

/// The handler of a stream, in its task.
struct Handling<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> {
    connection: Arc<Connection<S, Q, F>>,
    /// Until it is over.
    begun: Option<(Begun, Opened)>,
}

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Future
    for Handling<S, Q, F>
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((begun, handler)) = &mut self.begun else {
            return Poll::Ready(());
        };
        let polled = caught(|| begun.span.run(|| handler.as_mut().poll(cx)));
        let handled = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(handled)) => Ok(handled),
            Err(panic) => Err(panic),
        };
        if let Some((begun, handler)) = self.begun.take() {
            self.connection.handled(begun, Some(handled), Some(handler));
        }
        Poll::Ready(())
    }
}

impl<S: Stream, Q: 'static, F: Future<Output = Replied> + Send + 'static> Drop
    for Handling<S, Q, F>
{
    fn drop(&mut self) {
        if let Some((begun, handler)) = self.begun.take() {
            let _ = caught(|| begun.span.run(|| drop(handler)));
            self.connection.handled(begun, None, None);
        }
    }
}
