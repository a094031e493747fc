//! What the task of a connection shares with those of its handlers: what is under way, and what is to be sent next.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use ::tokio::task::AbortHandle;

use super::Shared;
use super::budget::Budget;
use super::job::Slot;
use super::streaming::Streaming;
use crate::Deadline;
use crate::outgoing::Outgoing;
use crate::server::job::Running;
use crate::server::streams::{self, Conversation, Outbound};
use crate::wire::{self, Failure};

/// What the connection's task shares with those of its handlers.
pub(super) struct State<F> {
    pub(super) talk: Conversation,
    pub(super) running: Running,
    /// Handlers that wait, each in a task of its own.
    pub(super) jobs: Vec<Waiting>,
    pub(super) next_job: u64,
    /// Handlers of streams, each in a task of its own.
    pub(super) streaming: Vec<Streaming>,
    pub(super) outbox: Vec<Outgoing>,
    /// What is being sent.
    pub(super) batch: Vec<Outgoing>,
    pub(super) sending: bool,
    /// What is being sent, or was sent last, are replies.
    pub(super) replying: bool,
    /// There is no room for what has been read: what has to come about.
    pub(super) stalled: Option<IsThere<F>>,
    /// No more messages are taken to be sent.
    pub(super) finished: bool,
    /// Nothing is sent any more either.
    pub(super) closed: bool,
    /// Nothing more is read.
    pub(super) parted: bool,
    /// How many bytes of courtesy are sent last, once goodbye is said because the server ends.
    pub(super) courtesy: usize,
    /// The connection's task, which sends.
    pub(super) task: Option<Waker>,
    /// The largest message that the client takes.
    pub(super) client_takes: u32,
    /// By when the client has to say hello.
    pub(super) hello_by: Option<Instant>,
    /// When the client was last heard of; only where that counts.
    pub(super) heard: Option<Instant>,
    /// By when the client has to read what is being sent.
    pub(super) read_by: Option<Instant>,
    /// By when all has to be sent that is still to be sent.
    pub(super) finish_by: Option<Instant>,
    pub(super) slots: Vec<Slot<F>>,
    pub(super) spare: Vec<Outgoing>,
    /// The share of the server's budget for what is kept.
    pub(super) kept: usize,
}

/// Whether there is room for something, given how many requests may be in flight.
pub(super) type IsThere<F> = fn(&State<F>, usize) -> bool;

/// A handler that waits.
pub(super) struct Waiting {
    pub(super) number: u64,
    /// `None`: a notification.
    pub(super) id: Option<u32>,
    pub(super) deadline: Deadline,
    pub(super) cancelled: Arc<AtomicBool>,
    /// In place of the handler.
    pub(super) answered: bool,
    pub(super) task: Option<AbortHandle>,
}

/// What a handler begins with.
pub(super) struct Place<F> {
    pub(super) cancelled: Arc<AtomicBool>,
    /// For its reply.
    pub(super) out: Outgoing,
    /// For its future.
    pub(super) slot: Slot<F>,
}

/// What is to be sent in one go.
pub(super) enum Batch {
    Replies(Vec<Outgoing>),
    /// Of streams.
    Items(Vec<Outbound>),
}

impl<F> State<F> {
    /// An empty message to send.
    pub(super) fn blank(&mut self) -> Outgoing {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a message, for the next one.
    pub(super) fn keep(&mut self, mut message: Outgoing) {
        message.clear();
        if self.spare.len() < SPARE && message.capacity() <= KEPT {
            push_exactly(&mut self.spare, message);
        }
    }

    /// What the handler of a request begins with, or that of a notification.
    pub(super) fn place(&mut self, id: Option<u32>) -> Place<F> {
        let cancelled = self.running.flag();
        self.running.begin(&cancelled, id);
        Place {
            cancelled,
            out: self.blank(),
            slot: self.slots.pop().unwrap_or_else(|| Box::pin(None)),
        }
    }

    /// Takes back the place of a handler's future, which has ended.
    pub(super) fn keep_slot(&mut self, slot: Slot<F>) {
        if self.slots.len() < SPARE {
            push_exactly(&mut self.slots, slot);
        }
    }

    /// Has a message sent.
    pub(super) fn push(&mut self, message: Outgoing) {
        if self.finished {
            self.keep(message);
        } else {
            push_exactly(&mut self.outbox, message);
        }
    }

    pub(super) fn fail(&mut self, id: u32, failure: &Failure<'_>) {
        let mut out = self.blank();
        wire::error(out.bytes(), id, failure);
        self.push(out);
    }

    /// Whether something is being sent, or is to be sent, or nothing will be any more.
    pub(super) fn is_to_write(&self) -> bool {
        self.sending || self.finished || !self.outbox.is_empty() || self.talk.streams.has_next()
    }

    /// Takes a reply that is all there is to send; then [`sent_alone`](Self::sent_alone) has to follow.
    pub(super) fn take_alone(&mut self) -> Option<Outgoing> {
        let alone = self.outbox.len() == 1 && !self.talk.streams.has_next();
        if !alone || self.sending || self.finished {
            return None;
        }
        (self.sending, self.replying) = (true, true);
        self.outbox.pop()
    }

    /// What became of that. Was it not sent, it is the next one for the writer.
    pub(super) fn sent_alone(&mut self, reply: Outgoing, sent: bool) {
        self.sending = false;
        match sent {
            true => self.keep(reply),
            false => self.outbox.insert(0, reply),
        }
    }

    /// Ready with what is to be sent next, or with nothing when there will be no more: replies, or items, by turns where
    /// there are both. Not both in one: a client that has read its replies may stay away from its streams.
    pub(super) fn take_batch(&mut self) -> Poll<Option<Batch>> {
        // What comes after the last words is nobody's.
        let items = !self.finished && self.talk.streams.has_next();
        let batch = match (self.outbox.is_empty(), items) {
            (true, false) if self.finished => return Poll::Ready(None),
            (true, false) => return Poll::Pending,
            (false, true) if self.replying => self.take_items(),
            (false, _) => self.take_replies(),
            (true, true) => self.take_items(),
        };
        (self.sending, self.replying) = (true, matches!(batch, Batch::Replies(_)));
        Poll::Ready(Some(batch))
    }

    pub(super) fn take_replies(&mut self) -> Batch {
        let (mut count, mut bytes) = (0, 0);
        while count < self.outbox.len() && bytes < BATCH {
            bytes += self.outbox[count].len();
            count += 1;
        }
        let mut batch = mem::take(&mut self.batch);
        if count == self.outbox.len() {
            mem::swap(&mut batch, &mut self.outbox);
        } else {
            batch.extend(self.outbox.drain(..count));
        }
        Batch::Replies(batch)
    }

    pub(super) fn take_items(&mut self) -> Batch {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH && items.len() < BATCH_ITEMS {
            let Some(item) = self.next_item() else {
                break;
            };
            bytes += item.message.len();
            items.push(item);
        }
        Batch::Items(items)
    }

    /// The next message of a stream. What comes behind it goes out behind it, so that its answer counts as given.
    pub(super) fn next_item(&mut self) -> Option<Outbound> {
        let item = self.talk.streams.next()?;
        if item.last {
            self.talk.session.answer(item.id);
            self.talk.session.answered();
        }
        Some(item)
    }

    /// Ends all streams, with words, behind what is to be sent anyhow; who is to know.
    pub(super) fn end_streams(&mut self) -> Vec<streams::Waker> {
        let wakers = self.talk.streams.cancel_all();
        while let Some(item) = self.next_item() {
            self.outbox.push(item.message);
        }
        wakers
    }

    /// Takes a job off the list; whether its request was answered in its place.
    pub(super) fn end_job(&mut self, number: Option<u64>) -> bool {
        let place = number.and_then(|it| self.jobs.iter().position(|job| job.number == it));
        place.is_some_and(|place| self.jobs.swap_remove(place).answered)
    }

    pub(super) fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// When the client has been idle for too long.
    pub(super) fn idle_by(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.heard?.checked_add(timeout?)
    }

    /// When to look at the clock next.
    pub(super) fn next_deadline<S, Q>(&self, shared: &Shared<S, Q, F>) -> Option<Instant> {
        let jobs = self
            .jobs
            .iter()
            .filter(|job| shared.aborts && job.is_wanted());
        let deadlines = jobs.filter_map(|job| job.deadline.instant());
        [
            self.hello_by,
            self.read_by,
            self.finish_by,
            self.idle_by(shared.options.idle_timeout),
        ]
        .into_iter()
        .flatten()
        .chain(deadlines)
        .min()
    }

    /// Whether another stream may be opened. One may have ended whose handler has not noticed: that does not count as a
    /// request any more, but there is an end to it as well.
    pub(super) fn has_room_for_stream(&self, limit: usize) -> bool {
        self.streaming.len() < limit.saturating_mul(2)
    }

    /// Lets go of what is kept for the next messages, if that is too much.
    pub(super) fn settle(&mut self, budget: &Budget) {
        let queues = self.outbox.capacity() + self.batch.capacity();
        let bytes = queues * size_of::<Outgoing>()
            + self.spare.capacity() * size_of::<Outgoing>()
            + self.talk.streams.kept()
            + self.spare.iter().map(Outgoing::capacity).sum::<usize>()
            + self.slots.len() * size_of::<Option<F>>()
            + self.slots.capacity() * size_of::<Slot<F>>();
        if !budget.keep(&mut self.kept, bytes) {
            self.slots = Vec::new();
            self.spare = Vec::new();
            self.batch = Vec::new();
            self.outbox.shrink_to_fit();
            self.talk.streams.let_go();
        }
    }
}

impl Waiting {
    /// Whether somebody waits for the reply.
    pub(super) fn is_wanted(&self) -> bool {
        self.id.is_some() && !self.answered
    }
}

/// Adds to a vector, which has no room to spare for one that holds a single message at most: most connections are idle.
pub(super) fn push_exactly<T>(vector: &mut Vec<T>, value: T) {
    if vector.capacity() == 0 {
        vector.reserve_exact(1);
    }
    vector.push(value);
}

/// How much goes out in one batch: a client has the time to read one after the other.
const BATCH: usize = 256 << 10;

/// How many items: what comes then can still be cancelled.
const BATCH_ITEMS: usize = 256;

/// How many messages and slots are kept, and how large a kept message may be.
pub(super) const SPARE: usize = 64;
pub(super) const KEPT: usize = 4 << 20;
