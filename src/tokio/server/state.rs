//! What the task of a connection shares with those of its handlers: what is under way, and what is to be sent next.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::tokio::task::AbortHandle;

use super::job::Slot;
use super::kept::Kept;
use super::streaming::Streaming;
use crate::codec::outgoing::Outgoing;
use crate::proto::ServerSession;
use crate::proto::wire::{self, Failure};
use crate::server::budget::{Budget, LOOK, QUEUED};
use crate::server::connection::COURTESY;
use crate::server::job::Running;
use crate::server::kept::FREE;
use crate::server::streams::{self, Conversation, Outbound};
use crate::{Deadline, ServerOptions};

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
    /// Handlers that begin only when the client has less to read.
    held_up: VecDeque<Waker>,
    /// What goes on elsewhere than in tasks that are known here.
    pub(super) elsewhere: usize,
    /// The bytes of small requests whose handlers wait.
    pub(super) held: usize,
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
    /// A client that has much to read: since when it is being sent, and how often was looked whether that holds up
    /// others.
    pub(super) owing: Option<Instant>,
    looks: u32,
    /// Since when it is known that the client is idle, until it is not.
    pub(super) idle_since: Option<Instant>,
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
    /// How much of what is [held](State::held) is its request's.
    pub(super) held: usize,
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
    pub(super) fn new(options: &ServerOptions, budget: Arc<Budget>) -> State<F> {
        let now = Instant::now();
        State {
            talk: Conversation::new(ServerSession::new(options.max_in_flight), budget),
            streaming: Vec::new(),
            running: Running::default(),
            jobs: Vec::new(),
            next_job: 0,
            outbox: Vec::new(),
            batch: Vec::new(),
            sending: false,
            replying: false,
            stalled: None,
            held_up: VecDeque::new(),
            elsewhere: 0,
            held: 0,
            finished: false,
            closed: false,
            parted: false,
            courtesy: 0,
            task: None,
            client_takes: u32::MAX,
            hello_by: now.checked_add(options.hello_timeout),
            heard: options.idle_timeout.map(|_| now),
            read_by: None,
            owing: None,
            looks: 0,
            idle_since: None,
            finish_by: None,
            slots: Vec::new(),
            spare: Vec::new(),
            kept: 0,
        }
    }

    /// Whether a client may be asked for more: one that does not read its replies is not.
    pub(super) fn takes_more(&self, limit: usize) -> bool {
        self.outbox.len() < limit && self.talk.streams.unsent.has_room()
    }

    /// Ready while another handler may begin. If a client has much to read, those wait that are not at it yet. Whoever
    /// is told that without waiting begins, and then it is the next one's turn.
    pub(super) fn poll_room(&mut self, cx: Option<&mut Context<'_>>) -> Poll<()> {
        match (self.has_room(), cx) {
            (true, Some(cx)) => {
                // It is not to be woken in place of another one.
                self.held_up.retain(|other| !other.will_wake(cx.waker()));
                Poll::Ready(())
            }
            (true, None) => {
                self.let_next_begin();
                Poll::Ready(())
            }
            (false, Some(cx)) => {
                let waits = |other: &Waker| other.will_wake(cx.waker());
                if !self.held_up.iter().any(waits) {
                    self.held_up.push_back(cx.waker().clone());
                }
                Poll::Pending
            }
            (false, None) => Poll::Pending,
        }
    }

    fn has_room(&self) -> bool {
        self.finished || self.talk.streams.unsent.has_room()
    }

    /// One at a time: most would find that there is no room any more. At the end there is no want of it.
    fn let_next_begin(&mut self) {
        let count = match self.finished {
            true => self.held_up.len(),
            false => self.held_up.len().min(1),
        };
        self.held_up.drain(..count).for_each(Waker::wake);
    }

    /// Who may queue more items. Handlers that may begin are woken.
    #[inline]
    pub(super) fn relieved(&mut self) -> Vec<streams::Waker> {
        if !self.held_up.is_empty() && self.has_room() {
            self.let_next_begin();
        }
        self.talk.relieved()
    }

    /// Whether the client waits for nothing, and there is nothing to do for it.
    pub(super) fn is_idle(&self) -> bool {
        let greeted = self.talk.session.client().is_some();
        let nothing_to_say =
            self.outbox.is_empty() && !self.sending && !self.talk.streams.has_next();
        let nothing_to_do = self.talk.session.in_flight() == 0 && self.is_over();
        greeted && nothing_to_say && nothing_to_do && !self.parted && !self.finished
    }

    /// Ends the connection in good order: everything that was read has been answered, and the client is told so.
    pub(super) fn part(&mut self, draining: bool) {
        if self.parted {
            return;
        }
        let mut out = self.blank();
        wire::goodbye(out.bytes());
        if draining {
            self.courtesy += out.len();
        }
        self.push(out);
        self.running.close();
        (self.parted, self.finished) = (true, true);
        self.finish_by = Instant::now().checked_add(COURTESY);
    }

    /// Whether everything that was begun has ended.
    pub(super) fn is_over(&self) -> bool {
        self.jobs.is_empty() && self.streaming.is_empty() && self.elsewhere == 0
    }

    /// An empty message to send.
    pub(super) fn blank(&mut self) -> Outgoing {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a message, for the next one.
    pub(super) fn keep(&mut self, mut message: Outgoing) {
        message.clear();
        let size = message.capacity();
        if self.spare.len() < SPARE && (size <= FREE || self.keeps_large(size)) {
            push_exactly(&mut self.spare, message);
        }
    }

    /// Whether a large message is kept for the next one: as many as would be queued at once.
    #[cold]
    fn keeps_large(&self, size: usize) -> bool {
        let sizes = self.spare.iter().map(Outgoing::capacity);
        let kept: usize = sizes.filter(|size| *size > FREE).sum();
        size <= KEPT && (kept == 0 || kept + size <= QUEUED)
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
            self.talk.streams.unsent.add(message.len());
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

    /// What became of that, and who is to know. Was it not sent, it is the next one for the writer.
    pub(super) fn sent_alone(&mut self, reply: Outgoing, sent: bool) -> Vec<streams::Waker> {
        self.sending = false;
        if !sent {
            self.outbox.insert(0, reply);
            return Vec::new();
        }
        self.talk.streams.unsent.remove(reply.len());
        self.keep(reply);
        self.relieved()
    }

    /// Drops what is to be sent, except what is being sent.
    pub(super) fn drop_outbox(&mut self) {
        for message in self.outbox.drain(..) {
            self.talk.streams.unsent.remove(message.len());
        }
    }

    /// Keeps nothing: the connection is over.
    pub(super) fn let_go(&mut self) {
        (self.slots, self.spare) = (Vec::new(), Vec::new());
        (self.outbox, self.batch) = (Vec::new(), Vec::new());
        self.talk.streams.unsent.clear();
        self.talk.streams.let_go();
        mem::take(&mut self.held_up)
            .into_iter()
            .for_each(Waker::wake);
        self.task = None;
    }

    /// Begins to mind how long the client takes for what is being sent.
    pub(super) fn watch(&mut self, send_timeout: Duration) {
        if !self.sending || self.closed {
            return;
        }
        // A client may stay away from its streams for as long as it likes, but not from its replies.
        let owes = self.replying || !self.outbox.is_empty();
        if owes && self.read_by.is_none() {
            self.read_by = Instant::now().checked_add(send_timeout);
        }
        if self.owing.is_none() && self.talk.streams.unsent.is_large() {
            (self.owing, self.looks) = (Some(Instant::now()), 0);
        }
    }

    /// Whether what is being sent has been there for so long that it holds up others.
    pub(super) fn holds_up_others(&mut self, now: Instant) -> bool {
        let look = self.next_look().filter(|look| *look <= now);
        let Some((since, _)) = self.owing.zip(look) else {
            return false;
        };
        self.looks = self.looks.saturating_add(1).min(1 << 20);
        let unsent = &self.talk.streams.unsent;
        let budget = unsent.budget();
        budget.is_held_up()
            && now - since >= Budget::patience(unsent.bytes())
            && budget.may_cut_off()
    }

    /// When to look next whether what is being sent holds up others.
    fn next_look(&self) -> Option<Instant> {
        self.owing?.checked_add(LOOK * (self.looks + 1))
    }

    /// What was being sent has been sent, or not.
    pub(super) fn has_sent(&mut self) {
        (self.sending, self.read_by, self.owing) = (false, None, None);
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
        place.is_some_and(|place| {
            let job = self.jobs.swap_remove(place);
            self.held -= job.held;
            job.answered
        })
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
    pub(super) fn next_deadline(&self, aborts: bool, idle: Option<Duration>) -> Option<Instant> {
        let jobs = self.jobs.iter().filter(|job| aborts && job.is_wanted());
        let deadlines = jobs.filter_map(|job| job.deadline.instant());
        [
            self.hello_by,
            self.read_by,
            self.next_look(),
            self.finish_by,
            self.idle_by(idle),
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
    pub(super) fn settle(&mut self, kept: &Kept) {
        let queues = self.outbox.capacity() + self.batch.capacity();
        let bytes = queues * size_of::<Outgoing>()
            + self.spare.capacity() * size_of::<Outgoing>()
            + self.talk.streams.kept()
            + self.spare.iter().map(Outgoing::capacity).sum::<usize>()
            + self.slots.len() * size_of::<Option<F>>()
            + self.slots.capacity() * size_of::<Slot<F>>();
        if !kept.keep(&mut self.kept, bytes) {
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
