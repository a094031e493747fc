//! One connection of a client, shared by all tasks that call through it.
//!
//! A task of its own, the driver, receives, and hands the answers to those who wait; but a call that waits alone is woken
//! to receive its answer by itself. Sending is done by whoever has something to send. The futures that send and receive
//! are kept where everybody can poll them, so that a call that is alone needs no hop to the driver: what sends is polled
//! with the driver's waker, and what receives with one that wakes whoever it is for by then. Where others are about to
//! call as well, as those are that have just got their answers, the last of them sends for all, or else the driver: what
//! is ready goes out in one write.

mod drive;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::tokio::runtime::Handle;
use parking_lot::{Mutex, MutexGuard};

use super::guarded::{Guarded, Me, Then};
use crate::Deadline;
use crate::client::common::late;
use crate::codec::outgoing::Outgoing;
use crate::proto::Party;
use crate::proto::call_error::CallError;
use crate::proto::client::{Answer, Asked, Blank, Calls, End, Next, Queued, Ticket};
use crate::proto::woken::Woken;
use crate::tokio::alarm::Alarm;
use crate::tokio::runtime;
use crate::tokio::transport::Stream;
use crate::transport::tokio::carrier::Carrier;
use drive::{Ends, drive, read, write};

/// A connection, for those who call. Dropping it ends the connection once what is queued has been sent.
pub(super) struct Link(Arc<Shared>);

/// What the callers share with the driver.
struct Shared {
    guarded: Mutex<Guarded>,
    /// Sends what is queued whenever it is polled; it ends when nothing can be sent any more.
    writer: Mutex<Option<Polled>>,
    /// Receives what has come whenever it is polled; it ends with the connection.
    reader: Mutex<Option<Polled>>,
    /// Wakes whoever is to poll the reader.
    to_read: Waker,
    /// That of the driver: what the transport asks of the runtime is asked of that, whoever calls.
    runtime: Handle,
    /// The transport is this crate's own, which asks nothing of the runtime where it receives without a deadline.
    is_local: bool,
    stream: Arc<dyn AnyStream>,
    /// Why there are no deadlines here, if there are none.
    no_timers: Option<CallError>,
}

/// A future that anybody may poll.
type Polled = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Has what has come read: by the only one who waits for something, or else by the driver.
struct ToRead(Weak<Shared>);

impl Wake for ToRead {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The transport may keep the waker for as long as it likes.
        if let Some(shared) = self.0.upgrade() {
            let reader = shared.guarded.lock().has_come();
            if let Some(reader) = reader {
                wake(reader);
            }
        }
    }
}

/// A stream as far as its type does not matter.
trait AnyStream: fmt::Debug + Send + Sync {
    fn try_send(&self, message: &[u8]) -> bool;
    fn close(&self);
    fn peer_pid(&self) -> Option<u32>;
}

impl<S: Stream> AnyStream for S {
    fn try_send(&self, message: &[u8]) -> bool {
        Carrier::try_send(self, message)
    }

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
        let no_timers = Alarm::check()
            .err()
            .map(|error| CallError::unreachable(&error));
        let guarded = Guarded::new(Calls::new(ours), stream.tries_to_send());
        let shared = Arc::new_cyclic(|shared| Shared {
            guarded: Mutex::new(guarded),
            writer: Mutex::new(None),
            reader: Mutex::new(None),
            to_read: Waker::from(Arc::new(ToRead(Weak::clone(shared)))),
            runtime: Handle::current(),
            is_local: stream.is_own(),
            stream: Arc::clone(&stream) as Arc<dyn AnyStream>,
            no_timers,
        });
        let writer = write(Arc::clone(&shared), Arc::clone(&stream));
        *shared.writer.lock() = Some(Box::pin(writer));
        let reader = read(Arc::clone(&shared), Arc::clone(&stream), Deadline::NEVER);
        *shared.reader.lock() = Some(Box::pin(reader));
        let ends = Ends(Arc::clone(&shared));
        ::tokio::spawn(drive(ends, stream));
        Ok(Link(shared))
    }

    /// Whether calls can still begin here.
    pub(super) fn is_usable(&self) -> bool {
        self.0.guarded.lock().calls.is_usable()
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
        let (mut entered, blank) = self.enter(Asked::Reply { method }, deadline)?;
        let (blank, left) = match blank {
            Some(blank) => (blank, left),
            None => (entered.begun().await?, None),
        };
        entered.push(blank, left.or_else(|| deadline.remaining()), encode)?;
        match entered.over().await? {
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
        let (mut entered, blank) = self.enter(Asked::Nothing { method }, deadline)?;
        let blank = match blank {
            Some(blank) => blank,
            None => entered.begun().await?,
        };
        entered.push(blank, None, encode)?;
        entered.over().await.map(drop)
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
        if let (Some(why), true) = (&self.0.no_timers, ends.is_timed()) {
            return Err(why.clone());
        }
        let (mut entered, blank) = self.enter(Asked::Items { method, window }, deadline)?;
        let blank = match blank {
            Some(blank) => blank,
            None => entered.begun().await?,
        };
        entered.push(blank, ends.remaining(), encode)?;
        entered.open(ends).await?;
        Ok(Feed {
            link: Arc::clone(self),
            ticket: entered.ticket.take(),
            ends,
        })
    }

    /// Enters a call, a stream or a notification. It has [to wait](Entered::begun) for room if there is no message to
    /// begin with.
    fn enter(
        &self,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<(Entered<'_>, Option<Blank>), CallError> {
        if let (Some(why), true) = (&self.0.no_timers, deadline.is_timed()) {
            return Err(why.clone());
        }
        let begun = self.0.guarded.lock().begin(asked, deadline);
        let (ticket, blank, then) = begun?;
        self.0.then(then);
        let entered = Entered {
            shared: &self.0,
            ticket: Some(ticket),
            deadline,
        };
        Ok((entered, blank))
    }

    /// Takes back the buffer of an answer that has been decoded.
    pub(super) fn recycle(&self, answer: Answer) {
        self.0.guarded.lock().calls.keep(answer.message);
    }

    /// Who the server is, once it has said so.
    pub(super) fn server(&self) -> Option<Party> {
        self.0.guarded.lock().calls.server().cloned()
    }

    /// The same, when what has come is read: it may have said so to a call that has been woken for it, and is not polled.
    pub(super) fn read_server(&self) -> Option<Party> {
        self.0.up_to_date().calls.server().cloned()
    }

    /// The process of the server, where the system tells.
    pub(super) fn peer_pid(&self) -> Option<u32> {
        self.0.stream.peer_pid()
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.0.end(End::broken());
        self.0.stream.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut guarded = self.0.guarded.lock();
        guarded.closing = true;
        let driver = guarded.driver();
        drop(guarded);
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
    /// Until it is over.
    ticket: Option<Ticket>,
    deadline: Deadline,
}

impl Entered<'_> {
    /// Waits for room, and gives what the message begins as.
    async fn begun(&mut self) -> Result<Blank, CallError> {
        let (ticket, blank) = self
            .look_until(false, |guarded, ticket, me| {
                guarded.calls.poll_begun(ticket, &mut me.left)
            })
            .await?;
        self.ticket = Some(ticket);
        Ok(blank)
    }

    /// Has the message sent. `left` is how long the server may take.
    fn push(
        &mut self,
        mut blank: Blank,
        left: Option<Duration>,
        encode: &mut impl FnMut(&mut Outgoing) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let Some(ticket) = self.ticket else {
            return Ok(());
        };
        blank.begin(left);
        encode(&mut blank.out)?;
        let then = self.shared.guarded.lock().push(ticket, blank)?;
        self.shared.then(then);
        Ok(())
    }

    /// Waits until a stream is open, which ends at another deadline.
    async fn open(&mut self, ends: Deadline) -> Result<(), CallError> {
        let ticket = self.ticket;
        let look =
            |guarded: &mut Guarded, ticket, _: &mut Me<'_>| guarded.calls.poll_open(ticket, ends);
        self.look_until(false, look).await?;
        self.ticket = ticket;
        Ok(())
    }

    /// Waits until that is over: for the answer, if it is a call.
    async fn over(&mut self) -> Result<Option<Answer>, CallError> {
        let deadline = self.deadline;
        // It has just been sent: of course it has to wait.
        let over = self.look_until(true, |guarded, ticket, _| guarded.calls.poll_over(ticket));
        over.await.map_err(|error| late(error, deadline))
    }

    /// Waits until `look` finds what it looks for, at first probably in vain. The ticket is no longer good then.
    async fn look_until<T>(
        &mut self,
        mut waits: bool,
        mut look: impl FnMut(&mut Guarded, Ticket, &mut Me<'_>) -> Poll<Result<T, CallError>>,
    ) -> Result<T, CallError> {
        poll_fn(|cx| {
            let Some(ticket) = self.ticket else {
                return Poll::Ready(Err(CallError::Disconnected { sent: true }));
            };
            let waits = mem::take(&mut waits);
            let late = |sent| Err(CallError::TimedOut { sent });
            let looked = self
                .shared
                .looking(cx, waits, (ticket, self.deadline), &mut look, late);
            if looked.is_ready() {
                self.ticket = None;
            }
            looked
        })
        .await
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let given_up = self
                .shared
                .waking(|guarded, woken| guarded.give_up(ticket, woken));
            // Its waker may be the last of a task, and end it.
            drop(given_up);
        }
    }
}

/// A stream that has been opened. Dropping it gives it up, and tells the server so.
pub(super) struct Feed {
    link: Arc<Link>,
    /// Until it is over.
    ticket: Option<Ticket>,
    ends: Deadline,
}

impl Feed {
    /// Ready with what the stream has next.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(ticket) = self.ticket else {
            return Poll::Ready(Next::End);
        };
        let shared = &self.link.0;
        let mut then = Then::Nothing;
        let look = |guarded: &mut Guarded, ticket, _: &mut Me<'_>| {
            let next = guarded.calls.poll_next(ticket);
            if matches!(next, Poll::Ready(Next::Item(_))) {
                then = guarded.took_item();
            }
            next
        };
        let late_one = |sent| Next::Failed(CallError::TimedOut { sent });
        let mut next = shared.looking(cx, false, (ticket, self.ends), look, late_one);
        if let Poll::Ready(Next::End | Next::Failed(_)) = next {
            self.ticket = None;
        }
        if let Poll::Ready(Next::Failed(error)) = next {
            next = Poll::Ready(Next::Failed(late(error, self.ends)));
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
            deadline: self.ends,
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
            Then::Send(queued) => self.send_alone(queued),
            // Until the driver runs for the first time there is nobody to go on; then it does it all.
            Then::Flush(driver) => {
                if let Some(driver) = driver {
                    self.flush(&driver);
                }
            }
        }
    }

    /// Does something with the calls, and wakes those that it concerns.
    fn waking<R>(&self, change: impl FnOnce(&mut Guarded, &mut Woken<Waker>) -> R) -> R {
        let mut woken = Woken::default();
        let result = change(&mut self.guarded.lock(), &mut woken);
        woken.drain(wake);
        result
    }

    /// Looks at a call with a deadline, for a task that may have to wait: it probably has to, or it may. What has no time
    /// to wait is given up.
    fn looking<R>(
        &self,
        cx: &Context<'_>,
        waits: bool,
        (ticket, deadline): (Ticket, Deadline),
        mut look: impl FnMut(&mut Guarded, Ticket, &mut Me<'_>) -> Poll<R>,
        late: impl FnOnce(bool) -> R,
    ) -> Poll<R> {
        let mut me = Me::new(cx.waker(), waits);
        loop {
            let mut guarded = self.up_to_date();
            let looked = look(&mut guarded, ticket, &mut me);
            if looked.is_ready() {
                guarded.looked(&mut me);
            } else if deadline == Deadline::NOW {
                drop(guarded);
                let (sent, waker) = self.waking(|guarded, woken| guarded.give_up(ticket, woken));
                drop(waker);
                return Poll::Ready(late(sent));
            } else {
                guarded.wait(ticket, &mut me);
            }
            drop(guarded);
            if !me.looks_again() {
                return looked;
            }
        }
    }

    fn end(&self, end: End) {
        self.waking(|guarded, woken| {
            guarded.calls.end(end, woken);
            woken.add(guarded.driver());
        });
    }

    /// Hands on what was received. Gives a buffer for the next message, unless it was the last.
    fn received(
        &self,
        received: io::Result<bool>,
        message: Arc<Vec<u8>>,
        woken: &mut Woken<Waker>,
    ) -> Option<Arc<Vec<u8>>> {
        let mut guarded = self.guarded.lock();
        let calls = &mut guarded.calls;
        let mut wakes_driver = false;
        match received {
            Ok(true) => wakes_driver = calls.received(message, 0, woken),
            Ok(false) => calls.broke(None, woken),
            Err(error) => calls.broke(Some(&error), woken),
        }
        let has_ended = calls.ended().is_some();
        if wakes_driver || has_ended || guarded.is_earlier() {
            woken.add(guarded.driver());
        }
        (!has_ended).then(|| guarded.calls.buffer())
    }

    /// The calls, when what has come is read. If another task is at it, that does it: once more, because it may have
    /// looked just before it came.
    fn up_to_date(&self) -> MutexGuard<'_, Guarded> {
        let mut guarded = self.guarded.lock();
        let mut unread = guarded.unread;
        while unread {
            let Some(mut reader) = self.reader.try_lock() else {
                guarded.missed = true;
                break;
            };
            (guarded.unread, guarded.missed) = (false, false);
            drop(guarded);
            let mut cx = Context::from_waker(&self.to_read);
            let within = (!self.is_local).then(|| self.runtime.enter());
            let ended = self.poll(&mut reader, &mut cx);
            drop(reader);
            // It has what is the transport's.
            drop(ended);
            drop(within);
            guarded = self.guarded.lock();
            // For what has come otherwise a task has been woken that has not looked yet.
            unread = guarded.missed;
        }
        guarded
    }

    /// Polls the reader or the writer, of which it gives what is left when it has ended. `Err`: there is none any more.
    fn poll(
        &self,
        polled: &mut Option<Polled>,
        cx: &mut Context<'_>,
    ) -> Result<(), Option<Polled>> {
        let Some(future) = polled.as_mut() else {
            return Err(None);
        };
        // A transport that panics has failed, which is not the fault of whoever calls just now.
        match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Ok(()),
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                // Whatever it is, its destructor is not to be trusted either.
                mem::forget(payload);
                self.end(End::broken());
            }
        }
        Err(polled.take())
    }

    /// Sends a message without the writer, which has more to do; and what was pushed meanwhile with it.
    fn send_alone(&self, queued: Queued) {
        let message = queued.out.plain();
        let sent = message.is_some_and(|message| self.stream.try_send(message));
        let mut woken = Woken::default();
        let mut guarded = self.guarded.lock();
        guarded.calls.sent_alone(queued, sent, &mut woken);
        let driver = match guarded.sends_again() {
            true => guarded.driver(),
            false => None,
        };
        drop(guarded);
        woken.drain(wake);
        if let Some(driver) = driver {
            self.flush(&driver);
        }
    }

    /// Sends what is queued, as far as there is room. If somebody else is at it, they do: once more, because they may have
    /// stopped just now to wait for what this is to be called for.
    fn flush(&self, driver: &Waker) {
        let mut cx = Context::from_waker(driver);
        let _within = self.runtime.enter();
        loop {
            let free = self.writer.try_lock().or_else(|| {
                self.guarded.lock().calls.send_again();
                // They look when they have let go; if that was before, it is free now.
                self.writer.try_lock()
            });
            let Some(mut writer) = free else { return };
            let polled = self.poll(&mut writer, &mut cx);
            drop(writer);
            if polled.is_err() {
                return;
            }
            // What was pushed after the writer had looked, and before it was let go.
            if !self.guarded.lock().sends_again() {
                return;
            }
        }
    }
}

/// Wakes somebody. A waker that panics is no matter of whoever wakes it, nor of those that are woken after it.
fn wake(waker: Waker) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        mem::forget(payload);
    }
}
