//! [`Guarded`]: what is behind the lock of a connection, besides its calls which of its tasks is to read, to send and to
//! look at the clock.

use std::mem;
use std::task::{Context, Waker};

use crate::Deadline;
use crate::proto::call_error::CallError;
use crate::proto::client::{Asked, Blank, Calls, Pushed, Queued, Ticket};
use crate::proto::woken::Woken;

/// What is behind the lock of a connection.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) calls: Calls<Waker>,
    /// Callers try to send by themselves.
    tries: bool,
    /// The task of the driver.
    driver: Option<Waker>,
    /// When the driver looks at the clock next.
    pub(super) alarm: Deadline,
    /// There can be no more calls: the driver ends when all is sent.
    pub(super) closing: bool,
    /// Something has come, or the reader has not looked yet: a task has been woken to poll it, and every task that looks
    /// at its call does so before.
    pub(super) unread: bool,
    /// The reader was to be polled while it was, and has to be again.
    pub(super) missed: bool,
    /// The call that has waited last: if it is alone, its task reads.
    lone: Option<Ticket>,
}

/// What has to be done once the lock is free.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    /// Send a message that no other is ahead of or about to join.
    Send(Queued),
    /// Send what is in the outbox, for the driver to go on with: no other call is about to add to it.
    Flush(Option<Waker>),
    /// Wake the driver.
    Wake(Option<Waker>),
}

impl Guarded {
    pub(super) fn new(calls: Calls<Waker>, tries: bool) -> Guarded {
        Guarded {
            calls,
            tries,
            driver: None,
            alarm: Deadline::NEVER,
            closing: false,
            unread: true,
            missed: false,
            lone: None,
        }
    }

    pub(super) fn driver(&self) -> Option<Waker> {
        self.driver.clone()
    }

    /// Notes the task of the driver.
    pub(super) fn driven_by(&mut self, cx: &Context<'_>) {
        match &mut self.driver {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
    }

    /// Whether the driver has to look at the clock earlier than it is going to: it is to be woken.
    #[inline]
    pub(super) fn is_earlier(&mut self) -> bool {
        let at = self.calls.poll_timeout();
        let earlier = at < self.alarm;
        if earlier {
            self.alarm = at;
        }
        earlier
    }

    /// Enters a call, a stream or a notification, which waits for room if it has no message to fill.
    #[inline]
    pub(super) fn begin(
        &mut self,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<(Ticket, Option<Blank>, Then), CallError> {
        let (ticket, blank) = self.calls.begin(asked, deadline)?;
        if blank.is_none() {
            self.calls.mind(ticket);
        }
        let then = match blank.is_none() && self.is_earlier() {
            true => Then::Wake(self.driver()),
            false => Then::Nothing,
        };
        Ok((ticket, blank, then))
    }

    /// Has the message of a call sent.
    #[inline]
    pub(super) fn push(&mut self, ticket: Ticket, blank: Blank) -> Result<Then, CallError> {
        self.calls.mind(ticket);
        let earlier = self.is_earlier();
        // Until the driver runs for the first time there is no task to go on.
        let alone = self.tries && !earlier && self.driver.is_some();
        Ok(match self.calls.push(ticket, blank, alone)? {
            Pushed::Send(queued) => Then::Send(queued),
            _ if earlier => Then::Wake(self.driver()),
            Pushed::Held => Then::Nothing,
            // What sends will find it.
            Pushed::Queued if self.calls.is_sending() => Then::Nothing,
            Pushed::Queued if !self.calls.expects_more() => Then::Flush(self.driver()),
            // The others may push as well, or they may not.
            Pushed::Queued if self.calls.queued() == 1 => Then::Wake(self.driver()),
            Pushed::Queued => Then::Nothing,
        })
    }

    /// A consumer has taken an item, for which credit may be due.
    #[inline]
    pub(super) fn took_item(&self) -> Then {
        // Where something else waits to be sent, a task is about to.
        match self.calls.has_only_due() {
            true => Then::Flush(self.driver()),
            false => Then::Nothing,
        }
    }

    /// Gives up a call. Says whether it was sent, and what it was to be woken by.
    pub(super) fn give_up(
        &mut self,
        ticket: Ticket,
        woken: &mut Woken<Waker>,
    ) -> (bool, Option<Waker>) {
        let given_up = self.calls.give_up(ticket, woken);
        // It may have been woken to read what has come since it has read.
        if self.is_earlier() || self.calls.has_unsent() || self.unread {
            woken.add(self.driver());
        }
        given_up
    }

    /// Has a task woken when something becomes of its call.
    #[inline]
    pub(super) fn wait(&mut self, ticket: Ticket, me: &mut Me<'_>) {
        match self.calls.waker(ticket) {
            Some(waker) if waker.will_wake(me.waker) => {}
            waker => match me.clone.take() {
                Some(clone) => me.left = waker.replace(clone),
                None => me.lacks = true,
            },
        }
        self.lone = Some(ticket);
    }

    /// A task has looked at its call, and need not wait.
    #[inline]
    pub(super) fn looked(&mut self, me: &mut Me<'_>) {
        // It may have been woken to read what has come since it has read.
        if self.unread || self.is_earlier() {
            me.driver = self.driver();
        }
    }

    /// Something has come: what is to be woken to read it. The only task that waits does so itself, which saves waking
    /// two.
    pub(super) fn has_come(&mut self) -> Option<Waker> {
        self.unread = true;
        let lone = self.lone.and_then(|lone| self.calls.wake_if_alone(lone));
        lone.or_else(|| self.driver())
    }

    /// Whether what has sent is to send again: another task was to meanwhile, and could not.
    #[inline]
    pub(super) fn sends_again(&mut self) -> bool {
        self.calls.takes_again() || self.calls.has_unsent()
    }
}

/// A task that looks at its call. What is the task's own, its waker, is cloned, woken and dropped without the lock, because
/// all of these may be code of a user's.
#[derive(Debug)]
pub(super) struct Me<'a> {
    waker: &'a Waker,
    /// A clone, to be left with the call.
    clone: Option<Waker>,
    /// There is none, and one is needed: it has to look again with one.
    lacks: bool,
    /// What was left with the call before.
    pub(super) left: Option<Waker>,
    /// The driver, if that is to be woken.
    driver: Option<Waker>,
}

impl<'a> Me<'a> {
    pub(super) fn new(waker: &'a Waker, waits: bool) -> Me<'a> {
        Me {
            waker,
            clone: waits.then(|| waker.clone()),
            lacks: false,
            left: None,
            driver: None,
        }
    }

    /// Whether it has to look again, for which it has what it lacked then. For a task that does not hold the lock.
    pub(super) fn looks_again(&mut self) -> bool {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
        if !mem::take(&mut self.lacks) {
            return false;
        }
        self.clone = Some(self.waker.clone());
        true
    }
}
