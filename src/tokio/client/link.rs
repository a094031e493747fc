//! One connection of a client, shared by all tasks that call through it.
//!
//! A task of its own, the driver, receives, and hands the answers to those who wait. Sending is done by whoever has
//! something to send: the future that sends is kept where everybody can poll it, with the driver's waker, so that a call
//! that is alone goes out at once, without a hop to the driver. Where others are about to call as well, as those are
//! that have just got their answers, the last of them sends for all, or else the driver: what is ready goes out in one
//! write.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::tokio::runtime::Handle;
use parking_lot::Mutex;

use super::calls::{COURTESY, Calls};
use super::slot::{Asked, Blank, Next, Queued, Then, Ticket};
use crate::call_error::CallError;
use crate::client::common::Answer;
use crate::outgoing::Outgoing;
use crate::session::Party;
use crate::tokio::alarm::Alarm;
use crate::tokio::batch::send_batch;
use crate::tokio::transport::Stream;
use crate::tokio::{fair, runtime};
use crate::{Deadline, wire};

/// A connection, for those who call. Dropping it ends the connection once what is queued has been sent.
pub(super) struct Link(Arc<Shared>);

/// What the callers share with the driver.
struct Shared {
    calls: Mutex<Calls>,
    /// Sends what is queued whenever it is polled; it ends when nothing can be sent any more.
    writer: Mutex<Option<Writing>>,
    /// That of the driver.
    runtime: Handle,
    stream: Arc<dyn AnyStream>,
    /// Why there are no deadlines here, if there are none.
    no_timers: Option<CallError>,
}

type Writing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream as far as its type does not matter.
trait AnyStream: fmt::Debug + Send + Sync {
    fn close(&self);
    fn peer_pid(&self) -> Option<u32>;
}

impl<S: Stream> AnyStream for S {
    fn close(&self) {
        Stream::close(self);
    }

    fn peer_pid(&self) -> Option<u32> {
        self.peer().ok()?.pid
    }
}

impl Link {
    /// Greets the server, with the first call or at once; its answer comes before the first reply.
    pub(super) fn open<S: Stream>(stream: S, ours: Arc<Party>) -> Result<Link, CallError> {
        runtime::check().map_err(|error| CallError::unreachable(&error))?;
        let stream = Arc::new(stream);
        let mut calls = Calls::new(ours);
        calls.greet();
        let shared = Arc::new(Shared {
            calls: Mutex::new(calls),
            writer: Mutex::new(None),
            runtime: Handle::current(),
            stream: Arc::clone(&stream) as Arc<dyn AnyStream>,
            no_timers: Alarm::check()
                .err()
                .map(|error| CallError::unreachable(&error)),
        });
        let writer = write(Arc::clone(&shared), Arc::clone(&stream));
        *shared.writer.lock() = Some(Box::pin(writer));
        let ends = Ends(Arc::clone(&shared));
        ::tokio::spawn(drive(ends, stream));
        Ok(Link(shared))
    }

    /// Whether calls can still begin here.
    pub(super) fn is_usable(&self) -> bool {
        self.0.calls.lock().is_usable()
    }

    /// Sends a request and waits for its answer. `encode` appends what the codec makes of the arguments. `left` is how
    /// far the deadline is, if the caller knows.
    pub(super) async fn call(
        &self,
        method: u32,
        encode: &mut impl FnMut(&mut Outgoing) -> Result<(), CallError>,
        deadline: Deadline,
        left: Option<Duration>,
    ) -> Result<Answer, CallError> {
        let (mut entered, waits) = self.enter(Asked::Reply { method }, deadline)?;
        let mut left = left;
        if waits {
            entered.begun().await?;
            left = None;
        }
        let timeout = left.or_else(|| deadline.remaining());
        let header = |out: &mut Vec<u8>, id, _| wire::request(out, id, method, timeout);
        match entered.send(header, encode).await? {
            Some(answer) => Ok(answer),
            None => Err(CallError::Disconnected { sent: true }),
        }
    }

    /// Sends what is not answered, and waits until it has been sent.
    pub(super) async fn notify(
        &self,
        method: u32,
        encode: &mut impl FnMut(&mut Outgoing) -> Result<(), CallError>,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        let (mut entered, _) = self.enter(Asked::Nothing, deadline)?;
        let header = |out: &mut Vec<u8>, _, _| wire::notify(out, method);
        entered.send(header, encode).await.map(drop)
    }

    /// Opens a stream, by a deadline, and waits until the request for it has been sent; it ends at another one.
    pub(super) async fn open_stream(
        self: &Arc<Self>,
        method: u32,
        encode: &mut impl FnMut(&mut Outgoing) -> Result<(), CallError>,
        window: u32,
        deadline: Deadline,
        ends: Deadline,
    ) -> Result<Feed, CallError> {
        if let (Some(why), Some(_)) = (&self.0.no_timers, ends.instant()) {
            return Err(why.clone());
        }
        let (mut entered, waits) = self.enter(Asked::Items { method, window }, deadline)?;
        if waits {
            entered.begun().await?;
        }
        let left = ends.remaining();
        entered.push(
            |out, id, credit| wire::open(out, id, method, left, credit),
            encode,
        )?;
        poll_fn(|cx| {
            let Some(ticket) = entered.ticket else {
                return Poll::Ready(Ok(()));
            };
            let opened = self.0.calls.lock().poll_open(ticket, ends, cx);
            if let Poll::Ready(Err(_)) = opened {
                entered.ticket = None;
            }
            opened
        })
        .await?;
        Ok(Feed {
            link: Arc::clone(self),
            ticket: entered.ticket.take(),
        })
    }

    /// Enters a call, a stream or a notification; whether it has to wait for room.
    fn enter(&self, asked: Asked, deadline: Deadline) -> Result<(Entered<'_>, bool), CallError> {
        if let (Some(why), Some(_)) = (&self.0.no_timers, deadline.instant()) {
            return Err(why.clone());
        }
        let mut calls = self.0.calls.lock();
        let (ticket, waits, then) = calls.begin(asked, deadline)?;
        let blank = (!waits).then(|| calls.blank(ticket));
        drop(calls);
        self.0.then(then);
        let entered = Entered {
            shared: &self.0,
            ticket: Some(ticket),
            blank,
        };
        Ok((entered, waits))
    }

    /// Takes back the buffer of an answer that has been decoded.
    pub(super) fn recycle(&self, answer: Answer) {
        self.0.calls.lock().keep(answer.message);
    }

    /// Who the server is, once it has said so.
    pub(super) fn server(&self) -> Option<Party> {
        self.0.calls.lock().server().cloned()
    }

    /// The process of the server, where the system tells.
    pub(super) fn peer_pid(&self) -> Option<u32> {
        self.0.stream.peer_pid()
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.0.end(CallError::Disconnected { sent: false });
        self.0.stream.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut calls = self.0.calls.lock();
        calls.closing = true;
        let driver = calls.driver().cloned();
        drop(calls);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("stream", &self.0.stream)
            .finish_non_exhaustive()
    }
}

/// A call in its place. Dropping it gives the call up.
struct Entered<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
    /// What its message begins as, once it has begun.
    blank: Option<Blank>,
}

impl Entered<'_> {
    /// Waits for room.
    async fn begun(&self) -> Result<(), CallError> {
        poll_fn(|cx| match self.ticket {
            Some(ticket) => self.shared.calls.lock().poll_begun(ticket, cx),
            None => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Has the message sent.
    fn push(
        &mut self,
        header: impl FnOnce(&mut Vec<u8>, u32, u32),
        encode: &mut impl FnMut(&mut Outgoing) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        if let Some(ticket) = self.ticket {
            let kept = self.blank.take();
            let mut blank = kept.unwrap_or_else(|| self.shared.calls.lock().blank(ticket));
            header(blank.out.bytes(), blank.id, blank.credit);
            encode(&mut blank.out)?;
            let then = self.shared.calls.lock().push(ticket, blank)?;
            self.shared.then(then);
        }
        Ok(())
    }

    /// Sends the message, and waits until that is over: for the answer, if it is a call.
    async fn send(
        &mut self,
        header: impl FnOnce(&mut Vec<u8>, u32, u32),
        encode: &mut impl FnMut(&mut Outgoing) -> Result<(), CallError>,
    ) -> Result<Option<Answer>, CallError> {
        self.push(header, encode)?;
        poll_fn(|cx| {
            let Some(ticket) = self.ticket else {
                return Poll::Ready(Ok(None));
            };
            let over = self.shared.calls.lock().poll_over(ticket, cx);
            if over.is_ready() {
                self.ticket = None;
            }
            over
        })
        .await
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared
                .waking(|calls, woken| calls.abandon(ticket, woken));
        }
    }
}

/// A stream that has been opened. Dropping it gives it up, and tells the server so.
pub(super) struct Feed {
    link: Arc<Link>,
    /// Until it is over.
    ticket: Option<Ticket>,
}

impl Feed {
    /// Ready with what the stream has next.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(ticket) = self.ticket else {
            return Poll::Ready(Next::End);
        };
        let shared = &self.link.0;
        let (next, then) = shared.calls.lock().poll_next(ticket, cx);
        if let Poll::Ready(Next::End | Next::Failed(_)) = next {
            self.ticket = None;
        }
        shared.then(then);
        next
    }

    /// Takes back the buffer of an item that has been decoded.
    pub(super) fn recycle(&self, item: Answer) {
        self.link.recycle(item);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        drop(Entered {
            shared: &self.link.0,
            ticket: self.ticket.take(),
            blank: None,
        });
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}

impl Shared {
    fn then(&self, then: Then) {
        match then {
            Then::Nothing | Then::Wake(None) => {}
            Then::Wake(Some(driver)) => driver.wake(),
            // Until the driver runs for the first time there is nobody to go on; then it does it all.
            Then::Flush(driver) => {
                if let Some(driver) = driver {
                    self.flush(&driver);
                }
            }
        }
    }

    /// Does something with the calls, and wakes those whom that concerns.
    fn waking<R>(&self, change: impl FnOnce(&mut Calls, &mut Vec<Waker>) -> R) -> R {
        let mut woken = Vec::new();
        let result = change(&mut self.calls.lock(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    fn end(&self, why: CallError) {
        self.waking(|calls, woken| calls.end(why, woken));
    }

    /// Hands on what was received. Gives a buffer for the next message, unless it was the last.
    fn received(
        &self,
        received: io::Result<bool>,
        message: Arc<Vec<u8>>,
        woken: &mut Vec<Waker>,
    ) -> Option<Arc<Vec<u8>>> {
        let mut calls = self.calls.lock();
        let received = calls.received(received, message, woken);
        match received {
            Ok(()) => Some(calls.buffer()),
            Err(why) => {
                calls.end(why, woken);
                None
            }
        }
    }

    /// Sends what is queued, as far as there is room. If somebody else is at it, they do: once more, because they may have
    /// stopped just now to wait for what this is to be called for.
    fn flush(&self, driver: &Waker) {
        let mut cx = Context::from_waker(driver);
        // What the transport asks of the runtime is asked of that of the connection, whoever calls.
        let _within = self.runtime.enter();
        loop {
            let free = self.writer.try_lock().or_else(|| {
                self.calls.lock().polls_again();
                // They look when they have let go; if that was before, it is free now.
                self.writer.try_lock()
            });
            let Some(mut writer) = free else { return };
            let Some(writing) = writer.as_mut() else {
                return;
            };
            // A transport that panics has failed, which is not the fault of whoever calls just now.
            let polled = panic::catch_unwind(AssertUnwindSafe(|| writing.as_mut().poll(&mut cx)));
            match polled {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => *writer = None,
                Err(_) => {
                    *writer = None;
                    self.end(CallError::Disconnected { sent: true });
                    return;
                }
            }
            drop(writer);
            // What was pushed after the writer had looked, and before it was let go.
            if !self.calls.lock().is_to_be_polled_again() {
                return;
            }
        }
    }
}

/// Sends what is queued. It is polled by whoever has queued something, and waits for nothing but room.
async fn write<S: Stream>(shared: Arc<Shared>, stream: Arc<S>) {
    let mut batch: Vec<Queued> = Vec::new();
    let mut woken = Vec::new();
    // There was nothing to send the last time, and whoever has something since then polls this.
    let mut looked = false;
    loop {
        if batch.is_empty() {
            poll_fn(|_| {
                if mem::take(&mut looked) || !shared.calls.lock().take_batch(&mut batch) {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
        }
        let sent = send_batch(&*stream, &batch, Deadline::NEVER).await;
        let mut calls = shared.calls.lock();
        let go_on = match sent {
            Ok(()) => {
                calls.sent(&mut batch, &mut woken);
                looked = !calls.take_batch(&mut batch);
                true
            }
            Err(failed) => calls.not_sent(&mut batch, failed, &mut woken),
        };
        if !go_on {
            // It reads what is still to be read, and then it says what became of the rest.
            woken.extend(calls.driver().cloned());
        }
        drop(calls);
        woken.drain(..).for_each(Waker::wake);
        if !go_on {
            return;
        }
    }
}

/// Ends the connection when the driver does, however that comes about.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end(CallError::Disconnected { sent: true });
        self.0.stream.close();
        // It holds the connection, which holds it.
        let writer = self.0.writer.lock().take();
        drop(writer);
    }
}

/// Receives, sends where nobody else does, and minds the deadlines, until the connection ends.
async fn drive<S: Stream>(ends: Ends, stream: Arc<S>) {
    let shared = &*ends.0;
    let mut reader = pin!(read(shared, &*stream, Deadline::NEVER));
    let (mut reading, mut deaf) = (true, false);
    let mut alarm = Alarm::default();
    let mut waited = false;
    let mut linger = None;
    poll_fn(|cx| {
        let is_deaf = shared.waking(|calls, woken| {
            calls.driven_by(cx, woken);
            calls.is_deaf()
        });
        if is_deaf && !deaf {
            // What it has said last may be there already, although the runtime does not know it yet.
            deaf = true;
            reader.set(read(shared, &*stream, Deadline::NOW));
        }
        if reading && reader.as_mut().poll(cx).is_ready() {
            reading = false;
        }
        let mut calls = shared.calls.lock();
        if !reading || calls.has_ended() {
            return Poll::Ready(());
        }
        if calls.is_sending() || calls.has_unsent() {
            // Once: whoever has not called by then need not be waited for.
            waited = !waited && calls.expects_more() && !calls.is_sending();
            drop(calls);
            if waited {
                cx.waker().wake_by_ref();
            } else {
                shared.flush(cx.waker());
            }
            calls = shared.calls.lock();
        }
        if calls.is_deaf() && !deaf {
            cx.waker().wake_by_ref();
        }
        if calls.closing {
            let over = !calls.has_unsent() && !calls.is_sending();
            let until = *linger.get_or_insert_with(|| Instant::now() + COURTESY);
            if over || shared.no_timers.is_some() {
                return Poll::Ready(());
            }
            calls.alarm = Some(until);
        }
        loop {
            alarm.set(calls.alarm);
            drop(calls);
            if alarm.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if linger.is_some_and(|until| until <= now) {
                return Poll::Ready(());
            }
            shared.waking(|calls, woken| calls.expire(now, woken));
            calls = shared.calls.lock();
            calls.alarm = calls.alarm.into_iter().chain(linger).min();
            if calls.has_unsent() {
                // The cancellations.
                drop(calls);
                shared.flush(cx.waker());
                calls = shared.calls.lock();
            }
        }
    })
    .await;
}

/// Receives all that there is, and hands it to whom it concerns, until the end. If it is not to wait, that is because
/// nothing can be sent: when what has come is read, what is unsent fails, and then it waits for the rest.
async fn read<S: Stream>(shared: &Shared, stream: &S, mut deadline: Deadline) {
    let mut woken = Vec::new();
    let mut received = 0;
    let mut message = shared.calls.lock().buffer();
    loop {
        // It is nobody else's: those that a blob still holds are not kept.
        let buffer = Arc::make_mut(&mut message);
        let result = stream.recv_message(buffer, deadline).await;
        let result = result.map(|message| message.is_some());
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if deadline == Deadline::NOW && result.as_ref().is_err_and(nothing) {
            deadline = Deadline::NEVER;
            shared.waking(|calls, woken| calls.fail_unsent(woken));
            continue;
        }
        let next = shared.received(result, message, &mut woken);
        woken.drain(..).for_each(Waker::wake);
        let Some(next) = next else { return };
        message = next;
        received = (received + 1) % fair::AT_ONCE;
        if received == 0 {
            fair::yield_now().await;
        }
    }
}
