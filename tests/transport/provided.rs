//! What the async traits provide for a transport that has nothing better.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use pipetalk::tokio::Stream;
use pipetalk::{DEFAULT_MAX_MESSAGE, Deadline, Error, Part};

use util::{here, limit};

/// A stream that is told what it receives: a part of so many bytes, or an error, and then nothing for ever.
#[derive(Debug, Default)]
struct Scripted {
    script: Mutex<VecDeque<Step>>,
    sent: Mutex<Vec<Vec<u8>>>,
    closed: AtomicBool,
}

#[derive(Debug)]
enum Step {
    Bytes(usize),
    Last(usize),
    End,
    Fail(ErrorKind),
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Step>) -> Scripted {
        Scripted {
            script: Mutex::new(script.into_iter().collect()),
            ..Scripted::default()
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Stream for Scripted {
    async fn send(&self, message: &[u8], _deadline: Deadline) -> io::Result<()> {
        self.sent.lock().unwrap().push(message.to_vec());
        Ok(())
    }

    async fn recv(&self, buf: &mut [u8], _deadline: Deadline) -> io::Result<Option<Part>> {
        let step = self.script.lock().unwrap().pop_front();
        let (left, last) = match step {
            Some(Step::Bytes(left)) => (left, false),
            Some(Step::Last(left)) => (left, true),
            Some(Step::End) => return Ok(None),
            Some(Step::Fail(kind)) => return Err(kind.into()),
            None => return pending().await,
        };
        let len = left.min(buf.len());
        buf[..len].fill(7);
        if len < left {
            let rest = if last { Step::Last } else { Step::Bytes };
            self.script.lock().unwrap().push_front(rest(left - len));
        }
        Ok(Some(Part {
            len,
            last: last && len == left,
        }))
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// Polls a future once; if it is not done, it is dropped.
fn once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

const NEVER: Deadline = Deadline::NEVER;

#[test]
fn a_whole_message_is_put_together_from_parts() {
    let _limit = limit(here!());
    for size in [0, 1, 4_095, 4_096, 4_097, 100_000, DEFAULT_MAX_MESSAGE] {
        let stream = Scripted::new([Step::Last(size), Step::End]);
        let mut message = vec![1; 10];
        let received = once(stream.recv_message(&mut message, NEVER)).unwrap();
        assert_eq!(received.unwrap(), Some(size));
        assert_eq!(message.len(), size);
        assert!(message.iter().all(|&byte| byte == 7));
        let ended = once(stream.recv_message(&mut message, NEVER)).unwrap();
        assert_eq!(ended.unwrap(), None);
        assert!(message.is_empty() && !stream.is_closed());
    }
}

#[test]
fn a_message_over_the_limit_is_dropped_and_the_next_is_intact() {
    let _limit = limit(here!());
    let stream = Scripted::new([Step::Last(DEFAULT_MAX_MESSAGE + 1), Step::Last(3)]);
    let mut message = Vec::new();
    let error = once(stream.recv_message(&mut message, NEVER)).unwrap();
    let expected = Error::TooLarge {
        limit: DEFAULT_MAX_MESSAGE,
        size: DEFAULT_MAX_MESSAGE + 1,
    };
    assert_eq!(Error::of(&error.unwrap_err()), Some(&expected));
    let received = once(stream.recv_message(&mut message, NEVER)).unwrap();
    assert_eq!(received.unwrap(), Some(3));
    assert!(!stream.is_closed());
}

#[test]
fn a_whole_receive_that_is_dropped_or_fails_closes_only_in_mid_message() {
    let _limit = limit(here!());
    let mut message = Vec::new();
    // Nothing had come.
    let stream = Scripted::new([]);
    assert!(once(stream.recv_message(&mut message, NEVER)).is_none());
    assert!(!stream.is_closed());
    let stream = Scripted::new([Step::Fail(ErrorKind::TimedOut)]);
    let error = once(stream.recv_message(&mut message, NEVER)).unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(!stream.is_closed());
    // A part had, and is lost: so the rest must not pass for a message.
    let stream = Scripted::new([Step::Bytes(4_096)]);
    assert!(once(stream.recv_message(&mut message, NEVER)).is_none());
    assert!(stream.is_closed());
    let stream = Scripted::new([Step::Bytes(4_096), Step::Fail(ErrorKind::TimedOut)]);
    let error = once(stream.recv_message(&mut message, NEVER)).unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(stream.is_closed() && message.is_empty());
}

#[test]
fn a_transaction_that_is_dropped_or_late_closes_once_its_request_is_sent() {
    let _limit = limit(here!());
    let mut reply = [0; 8];
    let stream = Scripted::new([Step::Last(5)]);
    let part = once(stream.transact(b"?", &mut reply, NEVER)).unwrap();
    assert_eq!(part.unwrap(), Some(Part { len: 5, last: true }));
    assert!(!stream.is_closed());
    let stream = Scripted::new([Step::Fail(ErrorKind::TimedOut)]);
    let late = once(stream.transact(b"?", &mut reply, NEVER)).unwrap();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(stream.is_closed());
    let stream = Scripted::new([]);
    assert!(once(stream.transact(b"?", &mut reply, NEVER)).is_none());
    assert!(stream.is_closed());
    assert_eq!(*stream.sent.lock().unwrap(), [b"?"]);
    // One that never ran has asked for nothing.
    let stream = Scripted::new([]);
    drop(stream.transact(b"?", &mut reply, NEVER));
    assert!(!stream.is_closed() && stream.sent.lock().unwrap().is_empty());
}

#[test]
fn pieces_are_one_message_and_messages_are_several() {
    let _limit = limit(here!());
    let stream = Scripted::new([]);
    let pieces = [&b"one"[..], b"", b"two"].map(IoSlice::new);
    once(stream.send_vectored(&pieces, NEVER)).unwrap().unwrap();
    once(stream.send_all(&pieces, NEVER)).unwrap().unwrap();
    let sent = stream.sent.lock().unwrap();
    assert_eq!(*sent, [&b"onetwo"[..], b"one", b"", b"two"]);
}

#[test]
fn what_a_transport_cannot_tell_is_unsupported() {
    let _limit = limit(here!());
    let stream = Scripted::new([]);
    assert_eq!(stream.peek().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(stream.peer().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(stream.max_message(), DEFAULT_MAX_MESSAGE);
    stream.abort();
    assert!(stream.is_closed());
}
