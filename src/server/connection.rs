//! One client of a server.
//!
//! The thread of the connection receives, and by default handles as well: one request after the other, with no
//! thread hop. While it handles, nobody receives, except that the handler's [`Call::is_cancelled`] looks ahead at what
//! has come: a cancellation counts at once, and the rest waits for its turn. With a pool the thread only receives,
//! and the requests run on the pool's threads. Streams have threads of their own: `emit.rs` says how.
//!
//! `requests.rs` says what becomes of a message, `sending.rs` how anything is sent, and `outlet.rs` what sinks hold of a
//! connection.

use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::ahead::{Ahead, Came, Next, Seen};
use super::budget::{Holder, Lease, SMALL};
use super::buffer::{Buffer, to_fill};
use super::call::{Call, Caller, KnownPeer};
use super::control;
use super::emit::wake;
use super::kept::{self, FREE};
use super::outbox::Outbox;
use super::outlet::{Outlet, State};
use super::requests::InTurn;
use super::share::Share;
use super::shared::Shared;
use super::streams::Line;
use super::watch::LONG;
use crate::base::caught::{caught, drop_caught};
use crate::base::clock::nanoseconds;
use crate::codec::outgoing::Outgoing;
use crate::proto::ServerEvent;
use crate::proto::wire::{self, Code, Failure, Malformed};
use crate::transport::carrier::Carrier;
use crate::transport::{Announced, unless_it_panics};
use crate::{Deadline, Error, Peer, Stream};

pub(crate) struct Connection {
    /// Until it is closed: whoever uses it then lets it go as well.
    stream: Mutex<Option<Arc<dyn Carrier>>>,
    pub(super) peer: KnownPeer,
    /// What the connection counts as.
    pub(super) holder: Holder,
    pub(super) shared: Arc<Shared>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) ahead: Ahead,
    /// With a pool: what a thread of the connection's own sends.
    pub(super) outbox: Option<Outbox>,
    /// How many bytes of courtesy were sent last, once goodbye was said because the server ends.
    courtesy: AtomicUsize,
    /// The client takes nothing any more. What it had sent before is still there.
    pub(super) deaf: AtomicBool,
    /// What is with the pool.
    pub(super) jobs: Arc<Share>,
    /// The handlers of streams.
    pub(super) handlers: Arc<Share>,
    /// The share of the server's memory that a large message has which was just received.
    pub(super) lease: Mutex<Option<Box<Lease>>>,
}

/// What ends a connection.
pub(crate) enum End {
    /// The client has gone, or the stream was closed.
    Gone,
    /// The client breaks the protocol.
    Malformed(Malformed),
}

impl Connection {
    pub(super) fn new(
        stream: Arc<dyn Carrier>,
        peer: Peer,
        holder: Holder,
        shared: Arc<Shared>,
    ) -> Arc<Connection> {
        let budget = Arc::clone(holder.budget());
        let (limit, handle) = (shared.options.max_in_flight, shared.handle().clone());
        let outbox = shared.pool.is_some();
        let outbox = outbox.then(|| Outbox::new(&budget));
        let kept = Arc::clone(&shared.kept);
        Arc::new_cyclic(|connection: &Weak<Connection>| Connection {
            stream: Mutex::new(Some(stream)),
            peer: KnownPeer::new(peer),
            holder,
            shared,
            outlet: Arc::new(Outlet::new(
                limit,
                handle,
                budget,
                kept,
                Weak::clone(connection),
            )),
            ahead: Ahead::default(),
            outbox,
            courtesy: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            jobs: Arc::default(),
            handlers: Arc::default(),
            lease: Mutex::default(),
        })
    }

    /// Serves the client until one of the two ends it.
    pub(super) fn serve(self: Arc<Self>) {
        if let Some(stream) = self.stream() {
            if caught(|| self.serve_with_or_without_pool(&*stream)).is_err() {
                self.close();
            }
            drop_caught(stream);
        }
        self.let_go();
        self.stop_streams();
        // Until then it counts as one of those that may be connected: who leaves and comes back has no more with the
        // pool, and no more streams, than who stays.
        self.jobs.wait_until_none();
        self.handlers.wait_until_none();
        self.outlet.wait_for_sender();
        self.outlet.let_go();
        // It may be the last that holds the service.
        drop_caught(self);
    }

    fn serve_with_or_without_pool(self: &Arc<Self>, stream: &dyn Carrier) {
        let Some(outbox) = &self.outbox else {
            return self.serve_requests(stream);
        };
        thread::scope(|scope| {
            let writer = thread::Builder::new().name("pipetalk-writer".to_owned());
            match writer.spawn_scoped(scope, || self.write_out(outbox)) {
                Ok(_) => self.serve_requests(stream),
                Err(_) => self.close(),
            }
            self.finish(outbox);
        });
        self.hang_up();
    }

    /// Whether the client has too much to read to be asked for more.
    pub(super) fn holds_up(&self) -> bool {
        self.outbox.as_ref().is_some_and(Outbox::holds_up)
    }

    /// Has what the client has asked for take its turns again.
    pub(super) fn resume(&self) {
        if let Some(pool) = &self.shared.pool {
            pool.resume(self.holder.connection());
        }
    }

    fn finish(&self, outbox: &Outbox) {
        outbox.finish();
        if outbox.lets_go_on() {
            self.resume();
        }
    }

    pub(super) fn end(&self, outbox: &Outbox) {
        outbox.end();
        if outbox.lets_go_on() {
            self.resume();
        }
    }

    fn serve_requests(self: &Arc<Self>, stream: &dyn Carrier) {
        let mut deadline = Deadline::after(self.shared.options.hello_timeout);
        let mut buffer = Buffer::default();
        let mut turn = InTurn {
            call: Call {
                caller: Arc::clone(self) as Arc<dyn Caller>,
                deadline: Deadline::NEVER,
                cancelled: self.state().running.flag(),
                inline: true,
            },
            out: Outgoing::default(),
        };
        loop {
            if self.shared.is_draining() && self.in_flight() == 0 {
                return self.part(Deadline::after(COURTESY));
            }
            if let Some(outbox) = &self.outbox {
                outbox.wait_for_room(self.shared.options.max_in_flight);
            }
            let end = match self.next_message(stream, &mut buffer, deadline) {
                Ok(Some(start)) => {
                    let large = buffer.len() > SMALL;
                    match self.receive(stream, buffer, start, &mut turn) {
                        Ok(next) => {
                            buffer = next;
                            if turn.out.capacity() > FREE {
                                self.state().keep_out(mem::take(&mut turn.out));
                            }
                            if large {
                                self.drop_lease();
                            }
                            // Nothing else than a hello comes first.
                            deadline = self.until_idle();
                            continue;
                        }
                        Err(end) => end,
                    }
                }
                Ok(None) => {
                    self.outlast(stream);
                    End::Gone
                }
                Err(error) => match Error::of(&error) {
                    Some(Error::TooLarge { limit, size }) => {
                        let failure = control::too_large(*limit, *size);
                        self.refuse(&failure);
                        End::Gone
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut && self.in_flight() > 0 => {
                        deadline = self.until_idle();
                        continue;
                    }
                    _ if error.kind() == io::ErrorKind::TimedOut => {
                        if self.state().talk.session.client().is_some() {
                            return self.part(Deadline::after(COURTESY));
                        }
                        self.refuse(&Failure::new(Code::OverLimit, "time for a hello"));
                        End::Gone
                    }
                    _ => End::Gone,
                },
            };
            if let End::Malformed(malformed) = end {
                self.refuse(&Failure::new(Code::Malformed, malformed.0));
            }
            return match &self.outbox {
                // The refusal may be in it.
                Some(outbox) => self.finish(outbox),
                None => self.close(),
            };
        }
    }

    /// Since when the connection's own thread handles a request, if it does.
    pub(super) fn handles_since(&self) -> Option<u64> {
        self.state().handling.since
    }

    /// Receives what has come for a thread that handles a request, without waiting.
    pub(super) fn look_ahead_for_handler(&self) {
        self.look_ahead_if(|| {
            let handling = &mut self.state().handling;
            handling.watched = handling.since.is_some();
            handling.watched
        });
        self.state().handling.watched = false;
    }

    /// The connection's own thread has handled a request; `recently` was the last tick.
    #[inline]
    pub(super) fn has_handled(&self, mut state: MutexGuard<'_, State>, recently: u64) {
        let handling = &mut state.handling;
        let since = handling.since.take().unwrap_or(recently);
        let watched = handling.watched;
        drop(state);
        if watched || recently.saturating_sub(since) >= nanoseconds(LONG) {
            self.ahead.is_behind();
        }
    }

    /// How long the client may go without a request from now on.
    #[inline]
    fn until_idle(&self) -> Deadline {
        self.shared
            .options
            .idle_timeout
            .map_or(Deadline::NEVER, Deadline::about)
    }

    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.outlet.state()
    }

    /// The stream, unless it is closed. To be held for no longer than it is used.
    pub(super) fn stream(&self) -> Option<Arc<dyn Carrier>> {
        self.stream.lock().clone()
    }

    #[inline]
    pub(super) fn client_takes(&self) -> u32 {
        self.outlet.takes()
    }

    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        self.state().idle_since(now)
    }

    /// To be [parted](Self::part) then.
    pub(super) fn evict_if_idle(&self) -> bool {
        self.state().evict_if_idle()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state().talk.session.in_flight()
    }

    /// Tells the client that the server ends.
    pub(super) fn go_away(&self, grace: Deadline, courtesy: Deadline) {
        let mut out = Outgoing::default();
        wire::going_away(out.bytes(), grace.remaining());
        let length = out.len();
        match (&self.outbox, self.stream()) {
            (Some(outbox), _) => outbox.push(out, None),
            (None, Some(stream)) => {
                // A client that is still reading a reply does without.
                let _ = unless_it_panics(|| out.send(&*stream, courtesy, None));
            }
            (None, None) => {}
        }
        let wakers = self.state().talk.streams.wakers();
        wake(wakers);
        if self.in_flight() == 0 {
            // Nothing was owed between the two.
            self.courtesy.store(length, Ordering::Release);
            self.part(courtesy);
        }
    }

    /// Ends the connection in good order: everything that was read has been answered, and the client is told so.
    pub(super) fn part(&self, deadline: Deadline) {
        let _ = self.send(deadline, |out| {
            wire::goodbye(out);
            if self.shared.is_draining() {
                self.courtesy.fetch_add(out.len(), Ordering::AcqRel);
            }
        });
        match &self.outbox {
            Some(outbox) => {
                self.cancel_all();
                self.finish(outbox);
            }
            None => self.close(),
        }
    }

    pub(super) fn close(&self) {
        self.cancel_all();
        if let Some(outbox) = &self.outbox {
            self.end(outbox);
        }
        self.let_go();
        self.holder.budget().wake_all();
    }

    /// Nobody waits for any answer any more.
    pub(super) fn client_has_gone(&self) {
        self.state().running.client_has_gone();
        self.stop_streams();
    }

    /// Ends the connection after its last message: what a client that leaves has notified is still carried out.
    pub(super) fn hang_up(&self) {
        self.client_has_gone();
        self.let_go();
    }

    /// Cancels what is being handled, and what waits for it.
    fn cancel_all(&self) {
        self.state().running.close();
        self.stop_streams();
    }

    /// Ends all streams, and what sends them.
    fn stop_streams(&self) {
        wake(self.outlet.stop_streams());
    }

    /// Closes the stream, and lets it go: somebody may hold the connection for long.
    fn let_go(&self) {
        let stream = self.stream.lock().take();
        if let Some(stream) = stream {
            // In good order, if goodbye has been said.
            let _ = caught(|| match self.courtesy.load(Ordering::Acquire) {
                0 => stream.close(),
                courtesy => stream.part(courtesy),
            });
            drop_caught(stream);
        }
    }

    /// Closes the stream and nothing else, which ends the connection where it is received.
    pub(super) fn shut(&self) {
        if let Some(stream) = self.stream() {
            let _ = caught(|| stream.close());
        }
    }

    /// The next message, what was received ahead first: where in the buffer it begins, or `None` at the end.
    #[inline]
    fn next_message(
        &self,
        stream: &dyn Carrier,
        buffer: &mut Buffer,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        if !self.ahead.is_any() {
            self.ahead.has_just_come();
            // Nearly always the last one is there to be used again.
            let last = Arc::get_mut(buffer).filter(|buffer| buffer.capacity() <= FREE);
            if let Some(buffer) = last {
                return self.recv(stream, buffer, deadline);
            }
            return self.receive_into(stream, buffer, deadline);
        }
        self.next_that_waited(stream, buffer, deadline)
    }

    /// The same where it has waited, or may have.
    #[cold]
    fn next_that_waited(
        &self,
        stream: &dyn Carrier,
        buffer: &mut Buffer,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let came = |by| Came {
            by,
            cancelled: false,
        };
        let (start, came) = match self.ahead.take(buffer) {
            Next::Here(came) => (Some(0), came),
            Next::Rest => {
                let by = self.ahead.receive_rest(stream, to_fill(buffer), deadline)?;
                (by.map(|_| 0), came(by))
            }
            Next::Stream(by) => (self.receive_into(stream, buffer, deadline)?, came(by)),
            Next::End => (None, came(None)),
        };
        self.ahead.has_come(came);
        Ok(start)
    }

    /// Receives a message, and says where in the buffer it begins.
    #[cold]
    fn receive_into(
        &self,
        stream: &dyn Carrier,
        buffer: &mut Buffer,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        let kept = match buffer.capacity() {
            0..=FREE => None,
            _ => self.keep(buffer),
        };
        let buffer = to_fill(buffer);
        let received = self.recv(stream, buffer, deadline);
        drop(kept);
        received
    }

    /// A large buffer waits for a message only where that is not one too many.
    fn keep(&self, buffer: &mut Buffer) -> Option<kept::Share> {
        let share = self.shared.kept.keep(buffer.capacity());
        if share.is_none() {
            *buffer = Buffer::default();
        }
        share
    }

    #[inline]
    fn recv(
        &self,
        stream: &dyn Carrier,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        match unless_it_panics(|| stream.recv_in_place(message, deadline)) {
            Err(error) => match Announced::size(&error) {
                Some(size) => self.receive_large(stream, message, size),
                None => Err(error),
            },
            received => received,
        }
    }
}

impl Caller for Connection {
    fn peer(&self) -> &Peer {
        self.peer.get()
    }

    fn client_version(&self) -> String {
        let state = self.state();
        let client = state.talk.session.client();
        client
            .map(|client| client.version.clone())
            .unwrap_or_default()
    }

    fn look_ahead(&self) {
        self.look_ahead_if(|| true);
    }
}

impl Connection {
    /// Receives what has come, without waiting. It is asked first, with nobody else looking, whether that may be.
    pub(super) fn look_ahead_if(&self, may: impl FnOnce() -> bool) {
        let Some(stream) = self.stream() else {
            return;
        };
        let limit = self.shared.options.max_in_flight;
        let (mut wakers, mut has_gone, mut cancelled) = (Vec::new(), false, false);
        self.ahead.look(&*stream, limit, may, |seen| match seen {
            Seen::Cancel(id) => {
                wakers.extend(self.state().cancel(id));
                cancelled = true;
                true
            }
            Seen::Credit(message) => {
                let ours = self.shared.ours.identity();
                let mut state = self.state();
                match state.talk.session.receive(&ours, message) {
                    Ok(ServerEvent::Credit { id }) => {
                        wakers.extend(state.talk.credit(id));
                        true
                    }
                    Ok(_) => true,
                    // In its turn it ends the connection, with words.
                    Err(_) => false,
                }
            }
            Seen::End => {
                has_gone = true;
                true
            }
        });
        // One that sends no more may still wait for what it has asked for.
        let has_gone = (has_gone || self.ahead.has_ended()) && !stream.peer_listens();
        drop_caught(stream);
        if has_gone {
            self.client_has_gone();
        }
        wake(wakers);
        if cancelled {
            // The end of a stream, perhaps.
            self.outlet.is_queued();
        }
    }
}

/// How long a client may take to read what it is told out of courtesy.
pub(crate) const COURTESY: Duration = Duration::from_millis(100);

/// Whether there is nobody any more who could receive; not that this end sends no more.
pub(crate) fn has_left(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe && Error::of(error).is_none()
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", self.peer.get())
            .finish_non_exhaustive()
    }
}
