//! The streams of one connection, as the server sees them: what is to be sent of each, and who waits to send more.
//!
//! Nothing here sends, waits or knows a clock. Whoever drives the connection keeps [`Streams`] behind a lock together with
//! the session, hands in what the session says of streams, takes out what is to be sent, and wakes those whom it is told
//! to wake, without the lock. A handler has an [`Outflow`], which knows the connection as a [`Line`].
//!
//! Items go through a queue, so that nobody but the one who sends ever waits for a client that does not read. What a
//! stream has in it is bounded as well, because the credit is what the client says.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::thread;

use parking_lot::MappedMutexGuard;

use super::admission::{Admission, Asks};
use super::budget::Budget;
use super::handler::HandleError;
use super::job::Handled;
use super::unsent::{Room, Unsent};
use crate::base::caught::Panicked;
use crate::codec::outgoing::Outgoing;
use crate::proto::ServerSession;
use crate::proto::wire::{self, Code, Failure};
use crate::{Blob, Deadline};

/// How much of a stream waits to be sent at most, in credits, and one item.
const AHEAD: u32 = 64;

/// How many buffers are kept for the next items, and how large a kept one may be.
const SPARE: usize = 32;
const KEPT: usize = 16 << 10;

/// Who is to be told that a stream can be sent more, or is over.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

pub(crate) type Waker = Arc<dyn Wake>;

/// A connection, as its streams see it.
pub(crate) trait Line: Send + Sync {
    fn lock(&self) -> MappedMutexGuard<'_, Conversation>;

    /// There is something to send.
    fn is_queued(&self);

    /// The largest message that the client takes.
    fn client_takes(&self) -> u32;

    fn is_draining(&self) -> bool;
}

/// The session of a connection, and its streams: they change together.
pub(crate) struct Conversation {
    pub(crate) session: ServerSession,
    pub(crate) streams: Streams,
}

/// The streams of one connection that are open, and what is still to be sent of these and others.
pub(crate) struct Streams {
    open: Vec<Open>,
    queue: VecDeque<Outbound>,
    /// All that the connection is to be sent, replies and what is on its way included.
    pub(crate) unsent: Unsent,
    line: Admission,
    next_serial: u64,
    /// Nothing is sent any more.
    closed: bool,
    spare: Vec<Outgoing>,
}

struct Open {
    /// An id may be used again while somebody still holds the earlier stream.
    serial: u64,
    id: u32,
    /// What is in the queue, in credits.
    queued: u32,
    /// Somebody has something to send, and waits for credit or for what is queued of this stream to be sent.
    wanted: bool,
    /// The same for what is queued of all streams.
    asks: Asks,
    /// There is a sink.
    claimed: bool,
    waker: Option<Waker>,
}

/// A stream has been ended: what was to be told of it. It may be all that is left of something that is not ours.
struct Finished(#[expect(dead_code, reason = "it is kept to be dropped")] Option<Waker>);

/// A message of a stream, on its way out.
pub(crate) struct Outbound {
    pub(crate) message: Outgoing,
    pub(crate) id: u32,
    /// It is the answer: [`ServerSession::answer`] has to come before it is sent.
    pub(crate) last: bool,
    serial: u64,
    price: u32,
}

#[cfg(feature = "tokio")]
impl AsRef<Outgoing> for Outbound {
    fn as_ref(&self) -> &Outgoing {
        &self.message
    }
}

/// Why an item was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room now. The message comes back.
    Full(Outgoing),
    /// The stream is over.
    Stopped,
    /// The message is over the client's limit, and the stream is over therefore.
    TooLarge { limit: u64, size: u64 },
}

impl Conversation {
    pub(crate) fn new(session: ServerSession, budget: Arc<Budget>) -> Conversation {
        Conversation {
            session,
            streams: Streams {
                open: Vec::new(),
                queue: VecDeque::new(),
                unsent: Unsent::new(budget),
                line: Admission::default(),
                next_serial: 0,
                closed: false,
                spare: Vec::new(),
            },
        }
    }

    /// A stream has more credit.
    #[must_use]
    pub(crate) fn credit(&mut self, id: u32) -> Option<Waker> {
        // It may be no more than what a large item has cost.
        if !self.session.may_send(id) {
            return None;
        }
        let mut open = self.streams.open.iter_mut();
        open.find(|open| open.id == id)?.room(AHEAD - 1)
    }

    /// A message has been sent.
    #[must_use]
    pub(crate) fn sent(&mut self, mut outbound: Outbound) -> Option<Waker> {
        self.streams.unsent.remove(outbound.message.len());
        outbound.message.clear();
        let spare = &mut self.streams.spare;
        if spare.len() < SPARE && outbound.message.bytes().capacity() <= KEPT {
            spare.push(outbound.message);
        }
        let open = self.streams.find(outbound.serial)?;
        open.queued = open.queued.saturating_sub(outbound.price);
        if !self.session.may_send(outbound.id) {
            return None;
        }
        // Not for each single item: whoever is woken is to have something to do.
        self.streams.find(outbound.serial)?.room(AHEAD / 2)
    }

    /// Those who may send more now that less is to be sent of all streams together, in their order.
    #[must_use]
    #[inline]
    pub(crate) fn relieved(&mut self) -> Vec<Waker> {
        if self.streams.line.is_empty() || !self.streams.unsent.is_relieved() {
            return Vec::new();
        }
        self.let_first_in()
    }

    #[cold]
    fn let_first_in(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let Streams {
            open, unsent, line, ..
        } = &mut self.streams;
        while let Some((serial, bytes)) = line.first() {
            if unsent.room_for(line.promised(), bytes) == Room::Later {
                break;
            }
            line.promise(bytes);
            if let Some(open) = open.iter_mut().find(|open| open.serial == serial) {
                open.asks = Asks::Promised(bytes);
                wakers.extend(open.waker.clone());
            }
        }
        wakers
    }

    /// Queues an item, if there is credit and room. If not, and somebody waits for it, that has to be told later; after
    /// any refusal [`relieved`](Self::relieved) has to follow.
    fn offer(&mut self, serial: u64, message: Outgoing, waits: bool) -> Result<(), Refused> {
        let streams = &mut self.streams;
        let Some(open) = streams.find(serial) else {
            return Err(Refused::Stopped);
        };
        let (id, size) = (open.id, message.len());
        if open.queued >= AHEAD || !self.session.may_send(id) {
            open.wanted = true;
            // Those behind it do not wait for its credit.
            streams.leave_line(serial);
            return Err(Refused::Full(message));
        }
        let has_room = match streams.room_for(serial, size) {
            Room::Here => true,
            Room::Later => {
                if waits {
                    streams.join_line(serial, size);
                }
                false
            }
            Room::Elsewhere => !streams.is_held_up(serial),
        };
        let paid = match has_room {
            true => self.session.pay(id, size),
            false => None,
        };
        let Some(price) = paid else {
            return Err(Refused::Full(message));
        };
        let streams = &mut self.streams;
        streams.leave_line(serial);
        if let Some(open) = streams.find(serial) {
            open.queued = open.queued.saturating_add(price);
        }
        streams.unsent.add(size);
        streams.queue.push_back(Outbound {
            message,
            id,
            last: false,
            serial,
            price,
        });
        Ok(())
    }

    /// Whoever waited for room does not want it any more; who may have it now, and others who wait for the same stream.
    #[cfg(feature = "tokio")]
    #[must_use]
    fn give_up(&mut self, serial: u64) -> Vec<Waker> {
        let own = match self.streams.leave_line(serial) {
            true => self
                .streams
                .find(serial)
                .and_then(|open| open.waker.clone()),
            false => None,
        };
        own.into_iter().chain(self.relieved()).collect()
    }
}

impl Streams {
    /// Begins a stream, and says under which number.
    pub(crate) fn open(&mut self, id: u32) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        if !self.closed {
            self.open.push(Open {
                serial,
                id,
                queued: 0,
                wanted: false,
                asks: Asks::Nothing,
                claimed: false,
                waker: None,
            });
        }
        serial
    }

    /// Whether a stream is not over.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_open(&self, serial: u64) -> bool {
        self.open.iter().any(|open| open.serial == serial)
    }

    fn find(&mut self, serial: u64) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.serial == serial)
    }

    /// Whether there is room for another item of a stream. What counts for nothing has it whatever others wait for.
    fn room_for(&mut self, serial: u64, bytes: usize) -> Room {
        let asks = self.find(serial).map_or(Asks::Nothing, |open| open.asks);
        let own = match asks {
            Asks::Promised(bytes) => bytes,
            Asks::Nothing | Asks::InLine => 0,
        };
        let room = self.unsent.room_for(self.line.promised() - own, bytes);
        match asks {
            Asks::Nothing | Asks::InLine
                if !self.line.is_empty() && !self.unsent.is_small_with(bytes) =>
            {
                Room::Later
            }
            _ => room,
        }
    }

    /// Whether a stream has to wait until the server has less to send, and will be told.
    fn is_held_up(&mut self, serial: u64) -> bool {
        let waker = self.find(serial).and_then(|open| open.waker.clone());
        waker.is_some_and(|waker| self.unsent.budget().hold_up(waker))
    }

    /// Has a stream wait for room behind those that do already.
    fn join_line(&mut self, serial: u64, bytes: usize) {
        let Some(open) = self.find(serial) else {
            return;
        };
        match mem::replace(&mut open.asks, Asks::InLine) {
            Asks::InLine => {}
            Asks::Nothing => self.line.join(serial, bytes),
            // It wants more than it had asked for.
            Asks::Promised(promised) => {
                self.line.take_back(promised);
                self.line.join_first(serial, bytes);
            }
        }
    }

    /// Has a stream wait for room no more; whether it did.
    fn leave_line(&mut self, serial: u64) -> bool {
        let asks = self.find(serial).map(|open| mem::take(&mut open.asks));
        match asks.unwrap_or_default() {
            Asks::Nothing => return false,
            Asks::InLine => self.line.leave(serial),
            Asks::Promised(bytes) => self.line.take_back(bytes),
        }
        true
    }

    /// Ends a stream, behind what is queued of it, if it was open. What was to be told of it goes, without a lock.
    fn finish(&mut self, serial: u64, write: impl FnOnce(&mut Vec<u8>, u32)) -> Option<Finished> {
        self.leave_line(serial);
        let place = self.open.iter().position(|open| open.serial == serial)?;
        let Open { id, waker, .. } = self.open.swap_remove(place);
        let mut message = self.blank();
        write(message.bytes(), id);
        self.unsent.add(message.len());
        self.queue.push_back(Outbound {
            message,
            id,
            last: true,
            serial,
            price: 0,
        });
        Some(Finished(waker))
    }

    /// The client wants no more items: those that wait are dropped.
    #[must_use]
    pub(crate) fn cancel(&mut self, id: u32) -> Option<Waker> {
        let open = self.open.iter_mut().find(|open| open.id == id)?;
        let (serial, waker) = (open.serial, open.waker.take());
        let unsent = &mut self.unsent;
        self.queue.retain(|outbound| {
            let stays = outbound.serial != serial;
            if !stays {
                unsent.remove(outbound.message.len());
            }
            stays
        });
        // It has no waker any more.
        let _ = self.finish(serial, |out, id| {
            wire::error(out, id, &Failure::new(Code::Cancelled, ""));
        });
        waker
    }

    /// The same for all streams.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub(crate) fn cancel_all(&mut self) -> Vec<Waker> {
        let ids: Vec<u32> = self.open.iter().map(|open| open.id).collect();
        ids.into_iter().filter_map(|id| self.cancel(id)).collect()
    }

    /// Whether there is a message to send.
    pub(crate) fn has_next(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next message to send.
    pub(crate) fn next(&mut self) -> Option<Outbound> {
        self.queue.pop_front()
    }

    /// Nothing is sent any more, and every stream is over.
    #[must_use]
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        for outbound in mem::take(&mut self.queue) {
            self.unsent.remove(outbound.message.len());
        }
        self.line = Admission::default();
        let open = self.open.drain(..);
        open.filter_map(|open| open.waker).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Those who may want to know that the server is ending.
    #[must_use]
    pub(crate) fn wakers(&self) -> Vec<Waker> {
        self.open
            .iter()
            .filter_map(|open| open.waker.clone())
            .collect()
    }

    fn blank(&mut self) -> Outgoing {
        self.spare.pop().unwrap_or_default()
    }

    /// How many bytes are kept for what is to come.
    #[cfg(feature = "tokio")]
    pub(crate) fn kept(&self) -> usize {
        let buffers: usize = self.spare.iter().map(Outgoing::capacity).sum();
        buffers
            + self.spare.capacity() * size_of::<Outgoing>()
            + self.queue.capacity() * size_of::<Outbound>()
            + self.open.capacity() * size_of::<Open>()
    }

    /// Keeps no more than is in use.
    pub(crate) fn let_go(&mut self) {
        self.spare = Vec::new();
        self.queue.shrink_to_fit();
        self.open.shrink_to_fit();
    }
}

impl Open {
    /// Who waits for room, if there is any: no more than this is queued.
    fn room(&mut self, queued: u32) -> Option<Waker> {
        if !self.wanted || self.queued > queued {
            return None;
        }
        self.wanted = false;
        self.waker.clone()
    }
}

/// What a handler sends one stream through. Dropping it ends the stream.
pub(crate) struct Outflow {
    line: Arc<dyn Line>,
    serial: u64,
    deadline: Deadline,
    /// Only then does dropping it mean anything.
    claimed: bool,
}

impl Outflow {
    pub(crate) fn new(line: Arc<dyn Line>, serial: u64, deadline: Deadline) -> Outflow {
        Outflow {
            line,
            serial,
            deadline,
            claimed: false,
        }
    }

    /// From now on the stream lasts until this is dropped, whatever becomes of the handler's call; and `waker` is told
    /// when more can be sent, and when it is over.
    pub(crate) fn claim(&mut self, waker: Waker) {
        self.claimed = true;
        if let Some(open) = self.line.lock().streams.find(self.serial) {
            open.claimed = true;
            open.waker = Some(waker);
        }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    pub(crate) fn is_open(&self) -> bool {
        self.line.lock().streams.find(self.serial).is_some()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.line.is_draining()
    }

    /// The beginning of an item's message.
    pub(crate) fn blank(&self) -> Outgoing {
        let streams = &mut self.line.lock().streams;
        let id = streams.find(self.serial).map_or(0, |open| open.id);
        let mut message = streams.blank();
        wire::item(message.bytes(), id);
        message
    }

    /// Has an item sent, if there is credit and room. If there is none and somebody [waits](Waits) for it, the waker is
    /// told when there is.
    pub(crate) fn offer(&self, message: Outgoing, waits: bool) -> Result<(), Refused> {
        let (limit, size) = (self.line.client_takes(), message.len());
        if size > limit as usize {
            let failure = Failure {
                limit: limit.into(),
                size: size as u64,
                ..Failure::new(Code::TooLarge, "an item is over the client's limit")
            };
            return Err(match self.fail(&failure) {
                true => Refused::TooLarge {
                    limit: failure.limit,
                    size: failure.size,
                },
                false => Refused::Stopped,
            });
        }
        let mut conversation = self.line.lock();
        let offered = conversation.offer(self.serial, message, waits);
        if offered.is_err() {
            // What was promised to this one, perhaps.
            let wakers = conversation.relieved();
            drop(conversation);
            wakers.into_iter().for_each(|waker| waker.wake());
            return offered;
        }
        drop(conversation);
        self.line.is_queued();
        Ok(())
    }

    /// For one that waits and may give up while the stream goes on.
    #[cfg(feature = "tokio")]
    pub(crate) fn waits(&self) -> Waits<'_> {
        Waits(self)
    }

    /// The same with an item that many streams share. False if there is no room now.
    pub(crate) fn offer_shared(&self, item: &Blob) -> Result<bool, Refused> {
        let mut message = self.blank();
        message.append(item);
        match self.offer(message, true) {
            Ok(()) => Ok(true),
            Err(Refused::Full(_)) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Ends the stream with an error. Whether it was open. Nobody is woken, this end knows.
    pub(crate) fn fail(&self, failure: &Failure<'_>) -> bool {
        self.finish(|out, id| wire::error(out, id, failure))
    }

    /// Ends the stream.
    pub(crate) fn end(&self) {
        self.finish(wire::end);
    }

    fn finish(&self, write: impl FnOnce(&mut Vec<u8>, u32)) -> bool {
        finish(&*self.line, self.serial, write)
    }
}

/// Waiting for room. Dropping it gives that up.
#[cfg(feature = "tokio")]
pub(crate) struct Waits<'a>(&'a Outflow);

#[cfg(feature = "tokio")]
impl Waits<'_> {
    /// The item has been taken.
    pub(crate) fn have_ended(self) {
        mem::forget(self);
    }
}

#[cfg(feature = "tokio")]
impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Waits(Outflow { line, serial, .. }) = self;
        let wakers = line.lock().give_up(*serial);
        wakers.into_iter().for_each(|waker| waker.wake());
    }
}

fn finish(line: &dyn Line, serial: u64, write: impl FnOnce(&mut Vec<u8>, u32)) -> bool {
    let finished = line.lock().streams.finish(serial, write);
    if finished.is_some() {
        line.is_queued();
    }
    finished.is_some()
}

/// What is left to do when the handler of a stream has returned, or panicked: nothing, if all is well and there is a
/// sink. With which failure the stream has ended, if it has, and who is to know.
pub(crate) fn settle(line: &dyn Line, serial: u64, handled: Handled) -> Option<Code> {
    let (code, text) = match handled {
        Ok(Ok(())) => {
            let mut guard = line.lock();
            if guard.streams.find(serial).is_some_and(|open| !open.claimed) {
                drop(guard);
                finish(line, serial, wire::end);
            }
            return None;
        }
        Ok(Err(HandleError::UnknownMethod)) => (Code::UnknownMethod, String::new()),
        Ok(Err(error)) => (Code::Malformed, error.to_string()),
        // Its text is on the server's standard error, where it belongs.
        Err(Panicked) => (Code::Panicked, String::new()),
    };
    let waker = line
        .lock()
        .streams
        .find(serial)
        .and_then(|open| open.waker.take());
    let failure = Failure::new(code, &text);
    finish(line, serial, |out, id| wire::error(out, id, &failure));
    // Somebody else may have the sink of a handler that panicked.
    if let Some(waker) = waker {
        waker.wake();
    }
    Some(code)
}

impl Drop for Outflow {
    fn drop(&mut self) {
        if !self.claimed {
            return;
        }
        if thread::panicking() {
            self.fail(&Failure::new(Code::Panicked, ""));
        } else {
            self.finish(wire::end);
        }
    }
}

impl fmt::Debug for Outflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outflow")
            .field("open", &self.is_open())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
