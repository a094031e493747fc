//! A stream as its client sees it, the client that threads share, and what its server does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::Condvar;
use loom::thread::{self, JoinHandle};

use crate::client::feed::Feed;
use crate::client::link::Link;
use crate::client::sync::{CLOCK, Mutex, has_passed};
use crate::codec::outgoing::Outgoing;
use crate::proto::call_error::CallError;
use crate::proto::client::{Asked, Next};
use crate::proto::wire::{self, Identity};
use crate::{Deadline, Error, Part, Stream};

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Answer(u32),
    /// One of the items of a stream.
    Item(u32, u32),
    /// No call may begin any more.
    GoingAway,
    /// So many calls may be under way from now on.
    Welcome(u32),
}

/// A connection as its client sees it; the answer to a call is its id.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) line: Mutex<Line>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) to_client: VecDeque<Message>,
    pub(super) closed: bool,
    /// A thread receives.
    pub(super) receiving: bool,
    /// The ids of the requests that the server has, of the answers that were received, and of what was cancelled.
    pub(super) requests: Vec<u32>,
    pub(super) received: Vec<u32>,
    pub(super) cancelled: Vec<u32>,
}

/// What sends the request of a thread; false: it could not be sent.
type Sending = Box<dyn FnOnce(u32) -> bool>;

loom::thread_local! {
    static SEND: RefCell<Option<Sending>> = RefCell::new(None);
    static SENT: RefCell<u32> = RefCell::new(0);
}

impl Wire {
    pub(super) fn change(&self, change: impl FnOnce(&mut Line)) {
        change(&mut self.line.lock());
        self.changed.notify_all();
    }

    pub(super) fn deliver(&self, message: Message) {
        self.change(|line| line.to_client.push_back(message));
    }
}

impl Stream for Wire {
    fn send(&self, message: &[u8], _: Deadline) -> io::Result<()> {
        let sent = match wire::parse(message).unwrap() {
            wire::Message::Request { id, .. } | wire::Message::Open { id, .. } => {
                SENT.with(|sent| *sent.borrow_mut() = id);
                SEND.with(|send| send.borrow_mut().take()).unwrap()(id)
            }
            wire::Message::Notify { .. } => SEND.with(|send| send.borrow_mut().take()).unwrap()(0),
            wire::Message::Cancel { id } => {
                self.change(|line| line.cancelled.push(id));
                true
            }
            _ => true,
        };
        match sent {
            true => Ok(()),
            false => Err(Error::TooLarge { limit: 0, size: 1 }.into()),
        }
    }

    fn recv(&self, _: &mut [u8], _: Deadline) -> io::Result<Option<Part>> {
        unreachable!("messages are received whole")
    }

    fn recv_message(&self, out: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        let mut line = self.line.lock();
        assert!(!line.receiving, "two threads receive");
        line.receiving = true;
        let received = loop {
            if let Some(message) = line.to_client.pop_front() {
                if let Message::Answer(id) = message {
                    line.received.push(id);
                    self.changed.notify_all();
                }
                out.clear();
                message.write(out);
                break Ok(Some(out.len()));
            }
            if line.closed {
                break Ok(None);
            }
            if has_passed(deadline) {
                break Err(io::ErrorKind::TimedOut.into());
            }
            line = self.changed.wait(line).unwrap();
        };
        line.receiving = false;
        received
    }

    fn close(&self) {
        self.change(|line| line.closed = true);
    }
}

impl Message {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Message::Answer(id) => {
                wire::reply(out, id);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Message::Item(id, item) => {
                wire::item(out, id);
                out.extend_from_slice(&item.to_le_bytes());
            }
            Message::GoingAway => wire::going_away(out, None),
            Message::Welcome(max_in_flight) => {
                let identity = Identity {
                    max_in_flight,
                    ..Identity::default()
                };
                wire::welcome(out, &identity);
            }
        }
    }
}

/// A client that threads share.
#[derive(Clone)]
pub(super) struct Client {
    link: Arc<Link>,
    wire: Arc<Wire>,
}

pub(super) type Ended = Result<(), CallError>;

/// A stream, and its id.
#[derive(Clone)]
pub(super) struct Items {
    feed: Arc<Feed>,
    pub(super) id: u32,
}

pub(super) const TIMED_OUT: CallError = CallError::TimedOut { sent: true };
pub(super) const CLOSED: CallError = CallError::Disconnected { sent: true };
pub(super) const NOT_SENT: CallError = CallError::TooLarge {
    limit: 0,
    size: 1,
    reply: false,
};

impl Client {
    /// One whose server has said that so many calls may be under way.
    pub(super) fn new(limit: u32) -> Client {
        let client = Client::unmet();
        client.wire.deliver(Message::Welcome(limit));
        assert!(client.link.read_if_none_does());
        client
    }

    /// One whose server has not said anything yet: one call may be under way.
    pub(super) fn unmet() -> Client {
        let wire = Arc::new(Wire {
            line: Mutex::new(Line::default()),
            changed: Condvar::new(),
        });
        let stream = Box::new(Arc::clone(&wire));
        let link = Link::open(stream, Arc::default(), Deadline::NEVER).unwrap();
        let link = Arc::new(link);
        Client { link, wire }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Has the next request of this thread sent in this way.
    fn sends(&self, send: impl FnOnce(&Client, u32) -> bool + 'static) {
        let client = self.clone();
        let send: Sending = Box::new(move |id| send(&client, id));
        SEND.with(|current| *current.borrow_mut() = Some(send));
    }

    /// One call; false from `send`: the request could not be sent.
    pub(super) fn call(
        &self,
        deadline: Deadline,
        send: impl FnOnce(&Client, u32) -> bool + 'static,
    ) -> Ended {
        self.sends(send);
        let called = self.link.call(1, &mut |_| Ok(()), deadline, None);
        // It may not have come to that.
        drop(SEND.with(|send| send.borrow_mut().take()));
        let answer = called?;
        let id = SENT.with(|sent| *sent.borrow());
        assert_eq!(answer.payload(), id.to_le_bytes(), "somebody else's answer");
        self.link.recycle(answer);
        Ok(())
    }

    /// Sends a notification that is so large that it waits for the welcome.
    pub(super) fn notify(&self, send: impl FnOnce(&Client) + 'static) -> Ended {
        self.sends(|client, _| {
            send(client);
            true
        });
        let large = &mut |out: &mut Outgoing| {
            out.bytes().resize(100_000, 0);
            Ok(())
        };
        self.link.notify(1, large, Deadline::NEVER)
    }

    /// Opens a stream: which items come, and when, is the server's affair.
    pub(super) fn open(&self) -> Items {
        self.sends(|_, _| true);
        let asked = Asked::Items {
            method: 1,
            window: 64,
        };
        let (never, nothing) = (Deadline::NEVER, &mut |_: &mut Outgoing| Ok(()));
        let feed = Feed::open(&self.link, asked, nothing, never, never).unwrap();
        Items {
            feed: Arc::new(feed),
            id: SENT.with(|sent| *sent.borrow()),
        }
    }

    /// A call of another thread.
    pub(super) fn spawn(
        &self,
        deadline: Deadline,
        send: impl FnOnce(&Client, u32) -> bool + 'static,
    ) -> JoinHandle<Ended> {
        let client = self.clone();
        thread::spawn(move || client.call(deadline, send))
    }

    pub(super) fn pass_the_deadline(&self) {
        CLOCK.lock().pass();
        // A thread that was about to wait for a message is waiting once the lock is had.
        self.wire().change(|_| {});
    }

    pub(super) fn cancelled(&self) -> usize {
        self.wire().line.lock().cancelled.len()
    }
}

impl Items {
    /// What the stream has next; `None`: nothing in time.
    pub(super) fn next(&self, deadline: Deadline) -> Option<Result<u32, CallError>> {
        Some(match self.feed.next(deadline)? {
            Next::Item(item) => {
                let number = u32::from_le_bytes(item.payload().try_into().unwrap());
                self.feed.recycle(item);
                Ok(number)
            }
            Next::End => panic!("no stream ends here"),
            Next::Failed(error) => Err(error),
        })
    }
}

/// The server answers as soon as it has the request.
pub(super) fn answered(client: &Client, id: u32) -> bool {
    client.wire().deliver(Message::Answer(id));
    true
}

/// The server answers once it has two requests, in this order.
pub(super) fn answered_together(order: [usize; 2]) -> impl FnOnce(&Client, u32) -> bool {
    move |client, id| {
        client.wire().change(|line| {
            line.requests.push(id);
            if line.requests.len() == 2 {
                let answers = order.map(|place| Message::Answer(line.requests[place]));
                line.to_client.extend(answers);
            }
        });
        true
    }
}

/// The server never answers.
pub(super) fn unanswered(_: &Client, _: u32) -> bool {
    true
}

pub(super) fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}
