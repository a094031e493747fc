//! One connection of a client, shared by all threads that call through it.
//!
//! A thread sends its own request, and then waits for the answer: those that wait take turns at reading, as `turn.rs`
//! says. All else is the protocol's, in `proto`.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::common::late;
use super::sync::{Mutex, MutexGuard, soon, unless_it_panics};
use super::turn::{For, Locked, Turn};
use crate::codec::outgoing::Outgoing;
use crate::proto::Party;
use crate::proto::call_error::CallError;
use crate::proto::client::{Answer, Asked, Blank, Calls, End, Ticket, not_sent};
use crate::transport::Unfinished;
use crate::transport::carrier::Carrier;
use crate::{Deadline, Stream};

pub(crate) struct Link {
    pub(super) stream: Box<dyn Carrier>,
    pub(super) turn: Mutex<Turn>,
    /// No call can begin here any more: it has ended, or is about to.
    pub(super) unusable: AtomicBool,
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
        let link = Link {
            stream,
            turn: Mutex::new(Turn::new(Calls::new(ours))),
            unusable: AtomicBool::new(false),
        };
        // A call that gives up in the middle of its request is not to be the end of all others.
        link.stream.finish_later();
        match link.flush(deadline) {
            Ok(()) => Ok(link),
            Err(error) => Err(link.why_not_sent(&error, deadline)),
        }
    }

    /// Locks what the threads share, for one that may have others to wake.
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked::new(self.turn.lock())
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
        let (unsent, mut blank, waited) = self.begin(Asked::Reply { method }, deadline)?;
        blank.begin(match left {
            Some(left) if !waited => Some(left),
            _ => deadline.remaining(),
        });
        encode(&mut blank.out)?;
        self.send(unsent.ticket, &mut blank, deadline)?;
        self.wait_for_answer(unsent.sent(), blank, deadline)
    }

    /// Sends what is not answered.
    pub(crate) fn notify(
        &self,
        method: u32,
        encode: &mut dyn FnMut(&mut Outgoing) -> Result<(), CallError>,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        let (unsent, mut blank, _) = self.begin(Asked::Nothing { method }, deadline)?;
        blank.begin(None);
        encode(&mut blank.out)?;
        let sent = self.send(unsent.ticket, &mut blank, deadline)?;
        let ticket = unsent.sent();
        let mut turn = Locked::new(self.took(ticket, blank));
        turn.give_up(ticket);
        self.catch_up(turn, deadline);
        match sent {
            Sent::Whole => Ok(()),
            Sent::InPart => Err(CallError::TimedOut { sent: true }),
        }
    }

    /// Takes back the buffer of an answer that has been decoded.
    #[inline]
    pub(crate) fn recycle(&self, answer: Answer) {
        self.turn.lock().calls.keep(answer.message);
    }

    /// Who the server is, once it has said so.
    pub(crate) fn server(&self) -> Option<Party> {
        self.turn.lock().calls.server().cloned()
    }

    /// The process of the server, where the system tells.
    pub(crate) fn peer_pid(&self) -> Option<u32> {
        self.stream.peer().ok()?.pid
    }

    /// Begins a call, waiting for room if need be; says whether it did.
    #[inline(always)]
    pub(super) fn begin(
        &self,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<(Unsent<'_>, Blank, bool), CallError> {
        let mut turn = self.turn.lock();
        let begun = match turn.calls.begin(asked, deadline) {
            Ok((ticket, Some(blank))) => {
                let unsent = Unsent { link: self, ticket };
                return Ok((unsent, blank, false));
            }
            Ok((ticket, None)) => {
                let (mut turn, begun) = self.wait_for_room(turn, ticket, deadline);
                let (calls, woken) = turn.waking();
                calls.offer_room(woken);
                begun
            }
            Err(why) => {
                drop(turn);
                Err(why)
            }
        };
        match begun {
            Ok((ticket, blank)) => Ok((Unsent { link: self, ticket }, blank, true)),
            Err(why) => {
                self.let_go();
                Err(why)
            }
        }
    }

    fn wait_for_room<'a>(
        &'a self,
        turn: MutexGuard<'a, Turn>,
        ticket: Ticket,
        deadline: Deadline,
    ) -> (Locked<'a>, Result<(Ticket, Blank), CallError>) {
        let look = |calls: &mut Calls<_>| calls.poll_begun(ticket, &mut None);
        let (mut turn, begun) = self.wait(turn, ticket, For::Room, deadline, look);
        let begun = begun.unwrap_or_else(|| {
            turn.give_up(ticket);
            Err(CallError::TimedOut { sent: false })
        });
        (turn, begun)
    }

    /// Sends one message. What fails here has not been sent: no peer can have received a whole message of which the
    /// sending failed. One that was sent in part when its time was over goes on before the next one. A large one is sent
    /// once the server has said how much it takes.
    #[inline]
    pub(super) fn send(
        &self,
        ticket: Ticket,
        blank: &mut Blank,
        deadline: Deadline,
    ) -> Result<Sent, CallError> {
        if !blank.may_be_sent()? {
            self.wait_for_limit(ticket, blank, deadline)?;
        }
        match self.transmit(&mut blank.out, deadline) {
            Ok(()) => Ok(Sent::Whole),
            Err(error) if Unfinished::is(&error) => Ok(Sent::InPart),
            Err(error) => Err(self.why_not_sent(&error, deadline)),
        }
    }

    #[cold]
    fn wait_for_limit(
        &self,
        ticket: Ticket,
        blank: &Blank,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        let mut turn = self.turn.lock();
        turn.calls.hold(ticket, blank)?;
        let look = |calls: &mut Calls<_>| calls.poll_held(ticket);
        let (turn, held) = self.wait(turn, ticket, For::Message, deadline, look);
        drop(turn);
        held.unwrap_or(Err(CallError::TimedOut { sent: false }))
    }

    #[inline]
    fn transmit(&self, out: &mut Outgoing, deadline: Deadline) -> io::Result<()> {
        unless_it_panics(|| {
            let mut receive = || self.read_if_none_does();
            out.send(&*self.stream, deadline, Some(&mut receive))
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
                let _ = self.flush(Deadline::NOW);
                return error;
            }
        }
        self.unusable.store(true, Ordering::Release);
        // It may go on sending for ever.
        let until = deadline
            .max(soon(Deadline::NEVER))
            .min(Deadline::after(LAST_WORDS));
        while self.read_if_none_does() && !until.has_passed() {}
        self.let_go();
        match self.turn.lock().calls.ended() {
            Some(end) => end.of_unsent(),
            None => CallError::Disconnected { sent: false },
        }
    }

    /// The message of a call has been sent.
    #[inline(always)]
    pub(super) fn took(&self, ticket: Ticket, mut blank: Blank) -> MutexGuard<'_, Turn> {
        let size = blank.out.len();
        blank.out.clear();
        let mut turn = self.turn.lock();
        turn.calls.sent(ticket, size, blank.out);
        turn
    }

    /// Sends what is due, as that may have had to wait for a message.
    #[inline]
    pub(super) fn catch_up(&self, turn: Locked<'_>, deadline: Deadline) {
        let is_behind = turn.calls.is_behind();
        drop(turn);
        if is_behind {
            let _ = self.flush(soon(deadline));
        }
    }

    /// Waits for the answer to a call whose request has been sent.
    #[inline]
    fn wait_for_answer(
        &self,
        ticket: Ticket,
        blank: Blank,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        let mut turn = self.took(ticket, blank);
        if turn.calls.is_behind() {
            self.catch_up(Locked::new(turn), deadline);
            turn = self.turn.lock();
        }
        let look = |calls: &mut Calls<_>| calls.poll_over(ticket);
        let (mut turn, over) = self.wait(turn, ticket, For::Message, deadline, look);
        let error = match over {
            Some(Ok(Some(answer))) => return Ok(answer),
            // Only a stream ends in this way.
            Some(Ok(None)) => CallError::Protocol("a call that ends".to_owned()),
            Some(Err(error)) => error,
            None => {
                let sent = turn.give_up(ticket);
                self.catch_up(turn, Deadline::NEVER);
                return Err(CallError::TimedOut { sent });
            }
        };
        drop(turn);
        // The server is to notice as well, also if it was the one to break the protocol.
        self.let_go();
        Err(late(error, deadline))
    }

    /// Sends what is due: that calls were given up, and credit. What cannot be sent by the deadline is due still, and
    /// a thread that sends or reads next tries again.
    ///
    /// One thread at a time does. Another that comes meanwhile has just let go of the connection, perhaps in the moment
    /// in which the first found it taken: so that one tries once more.
    #[cold]
    pub(super) fn flush(&self, deadline: Deadline) -> io::Result<()> {
        let mut turn = self.lock();
        loop {
            if turn.calls.is_sending() {
                turn.calls.send_again();
                return Ok(());
            }
            turn.calls.takes_again();
            let mut batch = mem::take(&mut turn.batch);
            if !turn.calls.take_batch(&mut batch) {
                turn.batch = batch;
                return Ok(());
            }
            drop(turn);
            let (mut sent, mut failed) = (0, None);
            for queued in &mut batch {
                match self.transmit(&mut queued.out, deadline) {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        // The rest of this one goes before the next one.
                        sent += usize::from(Unfinished::is(&error));
                        failed = Some(error);
                        break;
                    }
                }
            }
            turn = self.lock();
            let (calls, woken) = turn.waking();
            match &failed {
                None => calls.sent_batch(&mut batch, woken),
                Some(error) => {
                    calls.not_sent(&mut batch, (sent, 1), error, woken);
                }
            }
            turn.batch = batch;
            match failed {
                Some(error) if !turn.calls.takes_again() => return Err(error),
                _ => {}
            }
        }
    }

    /// Whether something is due still, although it was tried until a deadline to send it.
    #[cold]
    pub(super) fn is_behind(&self, deadline: Deadline) -> bool {
        let _ = self.flush(deadline);
        self.turn.lock().calls.is_behind()
    }

    /// Closes the connection if it has ended, as an end that is open keeps the server's name on Windows. Not under the
    /// lock, because a thread that sends at the moment may be about to ask for that.
    #[cold]
    pub(crate) fn let_go(&self) {
        let ended = self.turn.lock().calls.ended().is_some();
        if ended {
            self.stream.close();
        }
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.unusable.store(true, Ordering::Release);
        self.stream.close();
        let mut turn = self.lock();
        let (calls, woken) = turn.waking();
        calls.end(End::broken(), woken);
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
    pub(super) ticket: Ticket,
}

impl Unsent<'_> {
    #[inline]
    pub(super) fn sent(self) -> Ticket {
        let ticket = self.ticket;
        mem::forget(self);
        ticket
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.link.lock().give_up(self.ticket);
    }
}

/// How long a peer that takes no more messages may go on with its own before the caller is told so.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
