//! One connection of a client, shared by all threads that call through it.
//!
//! There is no reader thread: those who wait for answers take turns at reading, as `turn.rs` says.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::common::{
    Answer, breaks_protocol, call_failed, cannot_begin, cannot_receive, check_size, late, not_sent,
};
use super::turn::{Begun, Over, Source, Turn, Turns};
use crate::call_error::CallError;
use crate::outgoing::Outgoing;
use crate::session::{ClientEvent, ClientSession, NotNow, Party};
use crate::transport::unless_it_panics;
use crate::wire;
use crate::{Deadline, Stream};

pub(crate) struct Link {
    pub(super) stream: Box<dyn Stream>,
    ours: Arc<Party>,
    pub(super) turns: Turns<Link>,
    /// No call can begin here any more: it has ended, or is about to.
    unusable: AtomicBool,
}

/// What the threads share, behind the lock of the turns.
pub(crate) struct Shared {
    pub(super) session: ClientSession,
    spare: Buffers,
    /// Messages to send, kept for the next one.
    spare_out: Vec<Outgoing>,
}

/// What a message begins as: a kept buffer, and how large it may become.
pub(super) struct Blank {
    pub(super) out: Outgoing,
    limit: u32,
}

impl Link {
    /// Greets the server; its answer comes before the first reply.
    pub(crate) fn open(
        stream: Box<dyn Stream>,
        ours: Arc<Party>,
        deadline: Deadline,
    ) -> Result<Link, CallError> {
        let shared = Shared {
            session: ClientSession::default(),
            spare: Buffers::default(),
            spare_out: Vec::new(),
        };
        let link = Link {
            stream,
            ours,
            turns: Turns::new(shared),
            unusable: AtomicBool::new(false),
        };
        let mut blank = link.turns.lock().shared.blank();
        wire::hello(blank.out.bytes(), &link.ours.identity());
        link.send(&mut blank, deadline)?;
        link.reuse(blank);
        Ok(link)
    }

    /// Whether calls can still begin here.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        !self.unusable.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its answer. `encode` appends what the codec makes of the arguments. `left` is how
    /// far the deadline is, if the caller knows: asking the clock once more costs more than a lock does.
    pub(crate) fn call(
        &self,
        method: u32,
        encode: &mut dyn FnMut(&mut Outgoing) -> Result<(), CallError>,
        deadline: Deadline,
        left: Option<Duration>,
    ) -> Result<Answer, CallError> {
        let (begun, mut blank) = self.begin(deadline, |session| session.start(method))?;
        let unsent = self.unsent(begun);
        let timeout = match left {
            Some(left) if !begun.waited => Some(left),
            _ => deadline.remaining(),
        };
        wire::request(blank.out.bytes(), begun.id, method, timeout);
        encode(&mut blank.out)?;
        self.send(&mut blank, deadline)?;
        unsent.sent();
        self.wait(begun, blank, deadline)
    }

    /// Sends what is not answered.
    pub(crate) fn notify(
        &self,
        method: u32,
        encode: &mut dyn FnMut(&mut Outgoing) -> Result<(), CallError>,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        let mut turn = self.turns.lock();
        if let Some(why) = turn.ended().cloned() {
            drop(turn);
            self.stream.close();
            return Err(why.with_sent(false));
        }
        let mut blank = turn.shared.blank();
        drop(turn);
        wire::notify(blank.out.bytes(), method);
        encode(&mut blank.out)?;
        self.send(&mut blank, deadline)?;
        self.reuse(blank);
        Ok(())
    }

    /// Takes back the buffer of an answer that has been decoded.
    #[inline]
    pub(crate) fn recycle(&self, answer: Answer) {
        self.turns.lock().shared.keep(answer.message);
    }

    pub(super) fn reuse(&self, mut blank: Blank) {
        blank.out.clear();
        self.turns.lock().shared.keep_out(blank.out);
    }

    /// Who the server is, once it has said so.
    pub(crate) fn server(&self) -> Option<Party> {
        self.turns.lock().shared.session.server().cloned()
    }

    /// The process of the server, where the system tells.
    pub(crate) fn peer_pid(&self) -> Option<u32> {
        self.stream.peer().ok()?.pid
    }

    /// Gets an id for a call, waiting for room if need be.
    #[inline]
    pub(super) fn begin(
        &self,
        deadline: Deadline,
        mut start: impl FnMut(&mut ClientSession) -> Result<u32, NotNow>,
    ) -> Result<(Begun, Blank), CallError> {
        let mut blank = None;
        let begun = self.turns.begin(self, deadline, |shared| {
            Some(match start(&mut shared.session) {
                Ok(id) => {
                    blank = Some(shared.blank());
                    Ok(id)
                }
                Err(NotNow::Full) => return None,
                Err(why) => Err(cannot_begin(why, &self.ours, shared.session.server())),
            })
        });
        match begun {
            Ok(begun) => Ok((begun, blank.unwrap_or_default())),
            Err(Over::TimedOut) => Err(CallError::TimedOut { sent: false }),
            Err(Over::Ended(why)) => {
                self.let_go();
                Err(why.with_sent(false))
            }
        }
    }

    /// What takes a call back unless its request is sent.
    #[inline]
    pub(super) fn unsent(&self, begun: Begun) -> Unsent<'_> {
        Unsent { link: self, begun }
    }

    /// Sends one message. What fails here has not been sent: no peer can have received a whole message of which the
    /// sending failed.
    #[inline]
    pub(super) fn send(
        &self,
        Blank { out, limit }: &mut Blank,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        check_size(out.len(), *limit)?;
        let sent = unless_it_panics(|| {
            let mut receive = || self.turns.read_if_nobody_does(self);
            out.send(&*self.stream, deadline, Some(&mut receive))
        });
        sent.map_err(|error| match not_sent(&error) {
            CallError::Disconnected { .. } => self.why_not_sent(),
            error => error,
        })
    }

    /// The peer takes no more messages. What it had sent before is still there: the answers to other calls, and
    /// perhaps the reason.
    fn why_not_sent(&self) -> CallError {
        self.unusable.store(true, Ordering::Release);
        while self.turns.read_if_nobody_does(self) {}
        self.let_go();
        match self.turns.lock().ended().cloned() {
            Some(why) => why.with_sent(false),
            None => CallError::Disconnected { sent: false },
        }
    }

    /// Waits for the answer to a call.
    #[inline]
    fn wait(
        &self,
        begun: Begun,
        mut blank: Blank,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        blank.out.clear();
        let sent = |shared: &mut Shared| shared.keep_out(blank.out);
        let mut given_up = false;
        let waited = self.turns.wait(self, begun, deadline, sent, |shared| {
            given_up = shared.session.give_up(begun.id);
        });
        if given_up {
            self.cancel(begun.id);
        }
        match waited {
            Ok(Ok(Some(answer))) => Ok(answer),
            // The session lets only a stream end in this way.
            Ok(Ok(None)) => Err(CallError::Protocol("a call that ends".to_owned())),
            Ok(Err(error)) => Err(late(error, deadline)),
            Err(Over::TimedOut) => Err(CallError::TimedOut { sent: true }),
            Err(Over::Ended(why)) => {
                // The server is to notice as well, also if it was the one to break the protocol.
                self.stream.close();
                Err(why.with_sent(true))
            }
        }
    }

    /// Tells the server that nobody waits for an answer. That is a courtesy: if it cannot be sent at once, the
    /// server finds out by its own clock.
    pub(super) fn cancel(&self, id: u32) {
        let soon = Deadline::after(SOON);
        let mut blank = self.turns.lock().shared.blank();
        wire::cancel(blank.out.bytes(), id);
        let _ = self.send(&mut blank, soon);
        self.reuse(blank);
    }

    /// Closes the connection if it has ended, as an end that is open keeps the server's name on Windows. Not under the
    /// lock, because whoever sends at the moment may be about to ask for that.
    pub(crate) fn let_go(&self) {
        let ended = self.turns.lock().ended().is_some();
        if ended {
            self.stream.close();
        }
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.unusable.store(true, Ordering::Release);
        self.stream.close();
        self.turns
            .lock()
            .end(CallError::Disconnected { sent: false });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stream.close();
    }
}

/// A call whose request was not sent, be it that encoding it panics: dropping this makes room for another.
pub(super) struct Unsent<'a> {
    link: &'a Link,
    begun: Begun,
}

impl Unsent<'_> {
    #[inline]
    pub(super) fn sent(self) {
        mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        let mut turn = self.link.turns.lock();
        turn.shared.session.unsend(self.begun.id);
        turn.abandon(self.begun);
    }
}

impl Source for Link {
    type Shared = Shared;
    /// `None`: the end of a stream.
    type Answer = Result<Option<Answer>, CallError>;
    type End = CallError;
    type Buffer = Arc<Vec<u8>>;
    /// Where in the buffer the message begins; `None`: the end.
    type Received = (io::Result<Option<usize>>, Arc<Vec<u8>>);

    #[inline]
    fn buffer(&self, shared: &mut Shared) -> Arc<Vec<u8>> {
        shared.spare.take()
    }

    #[inline]
    fn receive(&self, mut message: Arc<Vec<u8>>, deadline: Deadline) -> Self::Received {
        // It is nobody else's: those that a blob still holds are not kept.
        let buffer = Arc::make_mut(&mut message);
        // The others wait for what this thread reads, whatever becomes of it.
        let received = unless_it_panics(|| self.stream.recv_in_place(buffer, deadline));
        (received, message)
    }

    #[inline]
    fn dispatch(&self, turn: &mut Turn<Link>, received: Self::Received) -> bool {
        match received {
            (Ok(Some(begins)), message) => self.dispatch_message(turn, message, begins),
            (Ok(None), _) => self.end(turn, CallError::Disconnected { sent: true }),
            (Err(error), message) if error.kind() == io::ErrorKind::TimedOut => {
                turn.shared.keep(message);
                return false;
            }
            (Err(error), _) => {
                let why = cannot_receive(&error);
                self.end(turn, why);
            }
        }
        true
    }
}

impl Link {
    /// There will be no more answers.
    fn end(&self, turn: &mut Turn<Link>, why: CallError) {
        self.unusable.store(true, Ordering::Release);
        turn.end(why);
    }

    /// Hands a message to whom it concerns.
    #[inline]
    fn dispatch_message(&self, turn: &mut Turn<Link>, message: Arc<Vec<u8>>, begins: usize) {
        let shared = &mut turn.shared;
        match shared.session.receive(&message[begins..]) {
            Ok(ClientEvent::Reply { id, payload }) => {
                let payload = payload.len();
                turn.give(id, Ok(Some(Answer::new(message, begins, payload))));
            }
            Ok(ClientEvent::Item { id, payload }) => {
                let payload = payload.len();
                turn.give(id, Ok(Some(Answer::new(message, begins, payload))));
            }
            Ok(ClientEvent::Ended { id }) => {
                shared.keep(message);
                turn.give(id, Ok(None));
            }
            Ok(ClientEvent::Failed { id, failure }) => {
                let failure = call_failed(&failure, &self.ours, shared.session.server());
                shared.keep(message);
                turn.give(id, Err(failure));
            }
            Ok(ClientEvent::Nothing | ClientEvent::Welcome | ClientEvent::GoingAway) => {
                if shared.session.is_going_away() {
                    self.unusable.store(true, Ordering::Release);
                }
                shared.keep(message);
            }
            Ok(ClientEvent::Goodbye) => self.end(turn, CallError::Unavailable),
            Ok(ClientEvent::Refused(failure)) => {
                let theirs = shared.session.server();
                let why = CallError::from_server(&failure, &self.ours, theirs);
                self.end(turn, why);
            }
            Err(malformed) => self.end(turn, breaks_protocol(malformed)),
        }
        turn.wake_for_room();
    }
}

impl Default for Blank {
    fn default() -> Self {
        Blank {
            out: Outgoing::default(),
            limit: u32::MAX,
        }
    }
}

impl Shared {
    #[inline]
    fn blank(&mut self) -> Blank {
        Blank {
            out: self.spare_out.pop().unwrap_or_default(),
            limit: self.session.server().map_or(u32::MAX, Party::takes),
        }
    }

    /// The credit that is to be sent for a stream now, and what to send it with.
    #[inline]
    pub(super) fn credit(&mut self, id: u32) -> Option<(u32, Blank)> {
        let credit = self.session.credit_due(id)?;
        Some((credit, self.blank()))
    }

    /// Takes back an empty message, for the next one.
    #[inline]
    fn keep_out(&mut self, out: Outgoing) {
        if self.spare_out.len() < SPARE_BUFFERS {
            self.spare_out.push(out);
        }
    }

    #[inline]
    fn keep(&mut self, message: Arc<Vec<u8>>) {
        self.spare.keep(message);
    }
}

/// Buffers to receive into, kept for the next message: also those that a [`Blob`](crate::Blob) still has, which most
/// callers let go of before they call again.
#[derive(Default)]
struct Buffers(Vec<Arc<Vec<u8>>>);

impl Buffers {
    /// One that is nobody else's.
    #[inline]
    fn take(&mut self) -> Arc<Vec<u8>> {
        let Buffers(kept) = self;
        let free = kept
            .iter()
            .rposition(|buffer| Arc::strong_count(buffer) == 1);
        free.map(|place| kept.swap_remove(place))
            .unwrap_or_default()
    }

    #[inline]
    fn keep(&mut self, buffer: Arc<Vec<u8>>) {
        let Buffers(kept) = self;
        if buffer.capacity() > KEPT {
            return;
        }
        if kept.len() == SPARE_BUFFERS {
            kept.remove(0);
        }
        kept.push(buffer);
    }
}

/// How long sending may take of what is no caller's.
const SOON: Duration = Duration::from_millis(20);

/// How many buffers wait to be received into, and how large a kept one may be.
const SPARE_BUFFERS: usize = 4;
const KEPT: usize = 4 << 20;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
