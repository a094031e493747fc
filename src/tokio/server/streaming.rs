//! How a connection of a server for async programs drives its streams: the handler of each is a task of its own, and
//! the connection's task sends what all have to say.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use ::tokio::task::AbortHandle;

use super::connection::{Connection, Request, What, elsewhere};
use super::core::Core;
use super::job::Reply;
use super::state::State;
use crate::Deadline;
use crate::base::caught::caught;
use crate::proto::wire::{Code, Failure};
use crate::server::budget::{Lease, SMALL, StreamPlace};
use crate::server::call::Caller;
use crate::server::job::Handled;
use crate::server::sink::Opening;
use crate::server::streams::{Line, Outflow, settle};
use crate::server::{Call, HandleError};
use crate::trace::Span;

/// The handler of a stream. Few streams are opened, and each lasts: its future need not be in a place that is kept.
pub(super) type Opened = Pin<Box<dyn Future<Output = Result<(), HandleError>> + Send>>;

/// The handler of a stream that has not returned.
pub(super) struct Streaming {
    serial: u64,
    pub(super) id: u32,
    task: Option<AbortHandle>,
    /// Among all streams of the server.
    _place: StreamPlace,
}

impl<Q, F> Connection<Q, F>
where
    Q: Send + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    /// Opens a stream.
    pub(super) fn open_stream(&self, request: Request<Q>) {
        let Request {
            id: Some(id),
            method,
            asked: What::Encoded(payload),
            timeout,
            lease,
        } = request
        else {
            return;
        };
        let core = &self.core;
        let options = &self.shared.options;
        let mut state = core.state.lock();
        let is_first = state.streaming.is_empty();
        let place = core.holder.begin_stream(options.stream_handlers, is_first);
        let place = if core.is_draining() {
            Err(Failure::new(Code::Unavailable, "ending"))
        } else if !state.has_room_for_stream(options.max_in_flight) {
            Err(Failure::new(Code::OverLimit, "handlers of streams"))
        } else {
            place.ok_or(Failure::new(
                Code::OverLimit,
                "handlers of streams of all clients",
            ))
        };
        let place = match place {
            Ok(place) => place,
            Err(failure) => {
                state.talk.session.answer(id);
                state.fail(id, &failure);
                state.talk.session.answered();
                return;
            }
        };
        let cancelled = state.running.flag();
        state.running.begin(&cancelled, Some(id));
        let serial = state.talk.streams.open(id);
        state.streaming.push(Streaming {
            serial,
            id,
            task: None,
            _place: place,
        });
        drop(state);
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let call = Call {
            caller: Arc::clone(core) as Arc<dyn Caller>,
            deadline,
            cancelled: Arc::clone(&cancelled),
            inline: false,
        };
        let line = Arc::clone(core) as Arc<dyn Line>;
        let outflow = Outflow::new(Arc::clone(&line), serial, deadline);
        let opening = Opening::new(outflow);
        let begun = Begun {
            serial,
            cancelled,
            span: self.span(method),
        };
        // What is large is decoded where it holds up nobody, and the handler does that itself.
        let large = core.aborts && payload.bytes().len() > SMALL;
        let shared = Arc::clone(&self.shared);
        let open = move || (shared.open)(method, payload, call, opening);
        let opened = caught(|| {
            begun.span.run(|| match large {
                true => Ok(Box::pin(begun_elsewhere(Arc::clone(core), open, lease)) as Opened),
                false => open(),
            })
        });
        match opened {
            Ok(Ok(handler)) => {
                let task = ::tokio::spawn(Handling {
                    core: Arc::clone(core),
                    begun: Some((begun, handler)),
                });
                core.has_stream_task(serial, task.abort_handle());
            }
            Ok(Err(_)) => {
                let failure = Failure::new(Code::OverLimit, "threads");
                Outflow::new(line, serial, deadline).fail(&failure);
                core.handled(begun, Some(Ok(Ok(()))), None);
            }
            Err(panic) => core.handled(begun, Some(Err(panic)), None),
        }
    }
}

/// Opens a stream on a thread that may block, where its handler runs until it waits for the first time; from then on it
/// runs here.
async fn begun_elsewhere<F: Send + 'static>(
    core: Arc<Core<F>>,
    open: impl FnOnce() -> io::Result<Opened> + Send + 'static,
    lease: Option<Box<Lease>>,
) -> Result<(), HandleError> {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let begun = elsewhere(&core, move || {
        // What it keeps of the request from then on is the handler's own affair.
        let _lease = lease;
        let mut handler = open()?;
        let polled = handler.as_mut().poll(&mut Context::from_waker(&waker));
        io::Result::Ok((handler, polled))
    });
    match begun.await {
        Ok((handler, Poll::Pending)) => handler.await,
        Ok((_, Poll::Ready(handled))) => handled,
        // Only a thread of its own could be missing, and there is one already.
        Err(_) => Ok(()),
    }
}

impl<F> Core<F> {
    /// Notes the task of a stream's handler, to end it when nobody takes the items any more.
    fn has_stream_task(&self, serial: u64, task: AbortHandle) {
        let mut state = self.state.lock();
        let over = !state.talk.streams.is_open(serial) && self.aborts;
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
        if !self.aborts {
            // A thread cannot be ended: it notices when it sends the next item.
            return;
        }
        let streams = state.streaming.iter().filter(|stream| which(stream));
        streams
            .filter_map(|stream| stream.task.as_ref())
            .for_each(AbortHandle::abort);
    }
}

impl<F: Send + 'static> Core<F> {
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
struct Handling<F: Send + 'static> {
    core: Arc<Core<F>>,
    /// Until it is over.
    begun: Option<(Begun, Opened)>,
}

impl<F: Send + 'static> Future for Handling<F> {
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
            self.core.handled(begun, Some(handled), Some(handler));
        }
        Poll::Ready(())
    }
}

impl<F: Send + 'static> Drop for Handling<F> {
    fn drop(&mut self) {
        if let Some((begun, handler)) = self.begun.take() {
            let _ = caught(|| begun.span.run(|| drop(handler)));
            self.core.handled(begun, None, None);
        }
    }
}
