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
    Answer, End, UNASKED, UNASKED_NOTIFICATION, breaks_protocol, call_failed, cannot_begin,
    cannot_receive, check_size, late, not_sent,
};
use super::turn::{Begun, Over, Source, Turn, Turns};
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::wire;
use crate::proto::{ClientEvent, ClientSession, Due, NotNow, Party};
use crate::transport::carrier::Carrier;
use crate::transport::{Unfinished, unless_it_panics};
use crate::{Deadline, Stream};

pub(crate) struct Link {
    pub(super) stream: Box<dyn Carrier>,
    ours: Arc<Party>,
    pub(super) turns: Turns<Link>,
    /// No call can begin here any more: it has ended, or is about to.
    unusable: AtomicBool,
}

/// What the threads share, behind the lock of the turns.
pub(crate) struct Shared {
    pub(super) session: ClientSession,
    /// Somebody sends what is due.
    sends_due: bool,
    /// And is to try again: somebody who was ahead of it is done.
    again: bool,
    spare: Buffers,
    /// Messages to send, kept for the next one.
    spare_out: Vec<Outgoing>,
}

/// What a message begins as: a kept buffer, and how large it may become, if the server has said so.
#[derive(Default)]
pub(super) struct Blank {
    pub(super) out: Outgoing,
    limit: Option<u32>,
}

/// How much of a message has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// Its time was over, and the rest is sent before the next message.
    InPart,
}

impl Link {
    /// Greets the server; its answer comes before the first reply.
    pub(crate) fn open(
        stream: Box<dyn Carrier>,
        ours: Arc<Party>,
        deadline: Deadline,
    ) -> Result<Link, CallError> {
        let shared = Shared {
            session: ClientSession::default(),
            sends_due: false,
            again: false,
            spare: Buffers::default(),
            spare_out: Vec::new(),
        };
        let link = Link {
            stream,
            ours,
            turns: Turns::new(shared),
            unusable: AtomicBool::new(false),
        };
        // A call that gives up in the middle of its request is not to be the end of all others.
        link.stream.finish_later();
        let mut blank = link.turns.lock().shared.blank();
        wire::hello(blank.out.bytes(), &link.ours.identity());
        link.transmit(&mut blank, deadline)
            .map_err(|error| link.why_not_sent(&error, deadline))?;
        link.reuse(blank, deadline);
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
        self.send(&mut blank, UNASKED, deadline)?;
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
        if let Some(end) = turn.ended() {
            let why = end.of_unsent();
            drop(turn);
            self.stream.close();
            return Err(why);
        }
        let mut blank = turn.shared.blank();
        drop(turn);
        wire::notify(blank.out.bytes(), method);
        encode(&mut blank.out)?;
        let sent = self.send(&mut blank, UNASKED_NOTIFICATION, deadline)?;
        self.reuse(blank, deadline);
        match sent {
            Sent::Whole => Ok(()),
            Sent::InPart => Err(CallError::TimedOut { sent: true }),
        }
    }

    /// Takes back the buffer of an answer that has been decoded.
    #[inline]
    pub(crate) fn recycle(&self, answer: Answer) {
        self.turns.lock().shared.keep(answer.message);
    }

    /// Takes back what a message was sent with, and sends what is due, as that may have had to wait for this message.
    pub(super) fn reuse(&self, mut blank: Blank, deadline: Deadline) {
        blank.out.clear();
        let mut turn = self.turns.lock();
        turn.shared.keep_out(blank.out);
        let owes = turn.shared.owes();
        drop(turn);
        if owes {
            self.send_due(soon(deadline));
        }
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
                Err(why) => {
                    let server = shared.session.server();
                    Err(End::new(cannot_begin(why, &self.ours, server)))
                }
            })
        });
        match begun {
            Ok(begun) => Ok((begun, blank.unwrap_or_default())),
            Err(Over::TimedOut) => Err(CallError::TimedOut { sent: false }),
            Err(Over::Ended(end)) => {
                self.let_go();
                Err(end.of_unsent())
            }
        }
    }

    /// What takes a call back unless its request is sent.
    #[inline]
    pub(super) fn unsent(&self, begun: Begun) -> Unsent<'_> {
        Unsent { link: self, begun }
    }

    /// Sends one message. What fails here has not been sent: no peer can have received a whole message of which the
    /// sending failed. One that was sent in part when its time was over goes on before the next one. One of more bytes than `unasked` is sent once the server has said how much it takes.
    #[inline]
    pub(super) fn send(
        &self,
        blank: &mut Blank,
        unasked: usize,
        deadline: Deadline,
    ) -> Result<Sent, CallError> {
        let size = blank.out.len();
        match blank.limit {
            Some(limit) => check_size(size, limit)?,
            None => self.ask_for_limit(size, unasked, deadline)?,
        }
        match self.transmit(blank, deadline) {
            Ok(()) => Ok(Sent::Whole),
            Err(error) if Unfinished::is(&error) => Ok(Sent::InPart),
            Err(error) => Err(self.why_not_sent(&error, deadline)),
        }
    }

    /// Checks a message that was begun before the welcome, and waits for that if the message is larger than `unasked`: a
    /// server that was sent too much would end the connection.
    #[cold]
    fn ask_for_limit(
        &self,
        size: usize,
        unasked: usize,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        let heard = self.turns.hear(self, deadline, |shared| {
            let limit = shared.session.server().map(Party::takes);
            limit.or((size <= unasked).then_some(u32::MAX))
        });
        match heard {
            Ok(limit) => check_size(size, limit),
            Err(Over::TimedOut) => Err(CallError::TimedOut { sent: false }),
            Err(Over::Ended(end)) => Err(end.of_unsent()),
        }
    }

    #[inline]
    fn transmit(&self, blank: &mut Blank, deadline: Deadline) -> io::Result<()> {
        unless_it_panics(|| {
            let mut receive = || self.turns.read_if_nobody_does(self);
            blank.out.send(&*self.stream, deadline, Some(&mut receive))
        })
    }

    /// What it means that a message could not be sent. If the peer takes no more of them, what it had sent before is
    /// still there: the answers to other calls, and perhaps the reason.
    #[cold]
    fn why_not_sent(&self, error: &io::Error, deadline: Deadline) -> CallError {
        match not_sent(error) {
            CallError::Disconnected { .. } => {}
            error => {
                // What is due may have had to wait for it all the same.
                self.send_due(Deadline::NOW);
                return error;
            }
        }
        self.unusable.store(true, Ordering::Release);
        // It may go on sending for ever.
        let until = deadline
            .max(soon(Deadline::NEVER))
            .min(Deadline::after(LAST_WORDS));
        while self.turns.read_if_nobody_does(self) && !until.has_passed() {}
        self.let_go();
        match self.turns.lock().ended() {
            Some(end) => end.of_unsent(),
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
        let size = blank.out.len();
        blank.out.clear();
        let sent = |shared: &mut Shared| {
            shared.keep_out(blank.out);
            shared.owes()
        };
        let before = || self.send_due(soon(deadline));
        let mut given_up = false;
        let give_up = |shared: &mut Shared| given_up = shared.session.give_up(begun.id);
        let waited = self
            .turns
            .wait(self, begun, deadline, sent, before, give_up);
        if given_up {
            self.send_due(soon(Deadline::NEVER));
        }
        match waited {
            Ok(Ok(Some(answer))) => Ok(answer),
            // The session lets only a stream end in this way.
            Ok(Ok(None)) => Err(CallError::Protocol("a call that ends".to_owned())),
            Ok(Err(error)) => Err(late(error, deadline)),
            Err(Over::TimedOut) => Err(CallError::TimedOut { sent: true }),
            Err(Over::Ended(end)) => {
                // The server is to notice as well, also if it was the one to break the protocol.
                self.stream.close();
                Err(end.of_sent(size))
            }
        }
    }

    /// Sends what is due: that calls were given up, and credit. What cannot be sent by the deadline is due still, and
    /// whoever sends or reads next tries again.
    ///
    /// One thread at a time does. Another that comes meanwhile has just let go of the connection, perhaps in the moment
    /// in which the first found it taken: so that one tries once more.
    #[cold]
    pub(super) fn send_due(&self, deadline: Deadline) {
        let mut turn = self.turns.lock();
        while let Some((due, mut blank)) = turn.shared.take_due() {
            drop(turn);
            due.write(blank.out.bytes());
            let sent = self.transmit(&mut blank, deadline);
            blank.out.clear();
            turn = self.turns.lock();
            turn.shared.keep_out(blank.out);
            if !turn.shared.took_due(due, &sent) {
                return;
            }
        }
    }

    /// Whether something is due still, although it was tried until a deadline to send it.
    #[cold]
    pub(super) fn is_behind(&self, deadline: Deadline) -> bool {
        self.send_due(deadline);
        self.turns.lock().shared.owes()
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
        self.turns.lock().end(End::broken());
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
    type End = End;
    /// And whether something is due.
    type Buffer = (Arc<Vec<u8>>, bool);
    /// Where in the buffer the message begins; `None`: the end.
    type Received = (io::Result<Option<usize>>, Arc<Vec<u8>>);

    #[inline]
    fn buffer(&self, shared: &mut Shared) -> Self::Buffer {
        (shared.spare.take(), shared.owes())
    }

    #[inline]
    fn receive(&self, (mut message, due): Self::Buffer, deadline: Deadline) -> Self::Received {
        // It is nobody else's: those that a blob still holds are not kept.
        let buffer = Arc::make_mut(&mut message);
        // The others wait for what this thread reads, whatever becomes of it.
        let received = match due {
            false => unless_it_panics(|| self.stream.recv_in_place(buffer, deadline)),
            true => self.receive_and_send_due(buffer, deadline),
        };
        (received, message)
    }

    #[inline]
    fn has_room(shared: &Shared) -> bool {
        shared.session.has_room()
    }

    #[inline]
    fn dispatch(&self, turn: &mut Turn<Link>, received: Self::Received) -> bool {
        match received {
            (Ok(Some(begins)), message) => self.dispatch_message(turn, message, begins),
            (Ok(None), _) => self.end(turn, End::broken()),
            (Err(error), message) if error.kind() == io::ErrorKind::TimedOut => {
                turn.shared.keep(message);
                return false;
            }
            (Err(error), _) => {
                self.end(turn, End::new(cannot_receive(&error)));
            }
        }
        true
    }
}

impl Link {
    /// Receives, and tries now and then to send what is due.
    #[cold]
    fn receive_and_send_due(
        &self,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        loop {
            // Not at once: there are transports in which a message is sent when it is received.
            let attempt = deadline.min(Deadline::after(ATTEMPT));
            let by = match deadline != Deadline::NOW && self.is_behind(attempt) {
                true => deadline.min(Deadline::after(TRY_AGAIN)),
                false => deadline,
            };
            let received = unless_it_panics(|| self.stream.recv_in_place(buffer, by));
            let nothing = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
            if by == deadline || !received.as_ref().is_err_and(nothing) {
                return received;
            }
        }
    }

    /// There will be no more answers.
    fn end(&self, turn: &mut Turn<Link>, why: End) {
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
            Ok(ClientEvent::Welcome) => {
                shared.keep(message);
                turn.wake_all_for_word();
            }
            Ok(ClientEvent::Nothing | ClientEvent::GoingAway) => {
                if shared.session.is_going_away() {
                    self.unusable.store(true, Ordering::Release);
                }
                shared.keep(message);
            }
            Ok(ClientEvent::Goodbye) => self.end(turn, End::goodbye()),
            Ok(ClientEvent::Refused { failure, unmet }) => {
                let theirs = shared.session.server();
                let end = End::refused(&failure, unmet, &self.ours, theirs);
                self.end(turn, end);
            }
            Err(malformed) => self.end(turn, End::new(breaks_protocol(malformed))),
        }
        turn.wake_for_room();
    }
}

impl Shared {
    #[inline]
    fn blank(&mut self) -> Blank {
        Blank {
            out: self.spare_out.pop().unwrap_or_default(),
            limit: self.session.server().map(Party::takes),
        }
    }

    /// Whether something is due, or somebody is just trying to send it.
    #[inline]
    pub(super) fn owes(&self) -> bool {
        self.sends_due || self.session.has_due()
    }

    /// What is due next, if anything, and what to send it with; then [`took_due`](Self::took_due) has to follow.
    fn take_due(&mut self) -> Option<(Due, Blank)> {
        if self.sends_due {
            self.again = true;
            return None;
        }
        let due = self.session.next_due()?;
        (self.sends_due, self.again) = (true, false);
        Some((due, self.blank()))
    }

    /// What became of that; whether to go on.
    fn took_due(&mut self, due: Due, sent: &io::Result<()>) -> bool {
        self.sends_due = false;
        match sent {
            Ok(()) => true,
            Err(error) if Unfinished::is(error) => self.again,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.session.keep(due);
                self.again
            }
            // Nothing can be sent any more, as whoever reads finds out.
            Err(_) => {
                self.session.forget_due();
                false
            }
        }
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

/// How long sending may take of what is no caller's, by a thread that has something else to do until a deadline.
pub(super) fn soon(deadline: Deadline) -> Deadline {
    const SOON: Duration = Duration::from_millis(20);
    deadline.min(Deadline::after(SOON))
}

/// How long a thread that waits for something else tries to send what is due, and how long it waits before it tries again.
pub(super) const ATTEMPT: Duration = Duration::from_millis(1);
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(20);

/// How long a peer that takes no more messages may go on with its own before the caller is told so.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
