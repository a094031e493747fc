//! What tells an operation that has ended from one that has not, and what goes when.

use std::future::Future;
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::Wake;
use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_OPERATION_ABORTED};

use super::*;
use crate::windows::instances::{Bell, Instances};
use crate::windows::{make_ready, open_once, pipe_path};
use crate::{ConnectOptions, ListenOptions, Name};

#[derive(Debug)]
struct Nobody;

impl Bell for Nobody {
    fn ring(&self) {}
}

/// A connected pipe: the server's end and the client's.
fn pair() -> (OwnedHandle, OwnedHandle) {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = format!("pipetalk-operation-{}-{counter}", std::process::id());
    let name = Name::new(&name).unwrap();
    let path = pipe_path(&name).unwrap();
    let instances = Instances::bind(&ListenOptions::new(), path.clone(), Nobody).unwrap();
    let options = ConnectOptions::new();
    let (client, direction) = open_once(&options, &path).unwrap();
    make_ready(&options, &name, &client, direction).unwrap();
    let server = instances.slot().waiting.take().unwrap();
    (server, client)
}

fn ended(stage: Stage<Ended>) -> Ended {
    match stage {
        Stage::Ended(ended) => ended,
        other => panic!("not ended: {other:?}"),
    }
}

/// Writes a message that fits into the pipe.
fn write(pipe: &OwnedHandle, message: &[u8]) {
    let operation = Operation::new().unwrap();
    let ended = ended(operation.write(pipe, message.to_vec()));
    let count = message.len() as u32;
    assert_eq!(ended.result, Ok(Done { count, more: false }));
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it never came about that {what}"
        );
        thread::yield_now();
    }
}

/// Takes what came of an operation, when it has.
fn wait(operation: &Operation) -> Ended {
    let mut taken = Stage::Pending;
    until("the operation ended", || {
        taken = operation.take();
        !matches!(taken, Stage::Pending)
    });
    ended(taken)
}

fn goes(memory: &Weak<Shared>) {
    until("the memory went", || memory.strong_count() == 0);
}

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_ends_at_once_needs_no_callback() {
    let (server, client) = pair();
    let operation = Operation::new().unwrap();
    assert!(matches!(operation.take(), Stage::Idle));
    write(&client, b"hello");
    let mut said = exactly(100);
    said.extend_from_slice(b"say ");
    let read = ended(operation.read(&server, said));
    assert_eq!(
        read.result,
        Ok(Done {
            count: 5,
            more: false
        })
    );
    assert_eq!(read.buffer, b"say hello");
    // A part, and the rest.
    write(&client, b"hello");
    let read = ended(operation.read(&server, exactly(2)));
    assert_eq!(
        read.result,
        Ok(Done {
            count: 2,
            more: true
        })
    );
    assert_eq!(read.buffer, b"he");
    let read = ended(operation.read(&server, exactly(3)));
    assert_eq!(
        read.result,
        Ok(Done {
            count: 3,
            more: false
        })
    );
    assert_eq!(read.buffer, b"llo");
    drop(client);
    let read = ended(operation.read(&server, exactly(3)));
    assert_eq!(read.result, Err(ERROR_BROKEN_PIPE));
    assert!(!operation.0.state.lock().armed);
}

#[test]
fn the_end_of_a_pending_one_wakes_who_waits() {
    let (server, client) = pair();
    let operation = Operation::new().unwrap();
    for (n, message) in [&b"one"[..], b"", b"a part"].into_iter().enumerate() {
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(Arc::clone(&counting));
        let mut cx = Context::from_waker(&waker);
        assert!(matches!(
            operation.read(&server, exactly(3)),
            Stage::Pending
        ));
        assert!(operation.poll_ended(&mut cx, || true).is_pending());
        assert!(operation.poll_ended(&mut cx, || false).is_ready());
        assert!(matches!(operation.take(), Stage::Pending));
        assert_eq!(counting.0.load(Ordering::SeqCst), 0, "round {n}");
        write(&client, message);
        until("it was woken", || counting.0.load(Ordering::SeqCst) == 1);
        assert!(matches!(operation.look(), Stage::Ended(Ok(_))));
        assert!(operation.poll_ended(&mut cx, || true).is_ready());
        let read = ended(operation.take());
        let (count, more) = (message.len().min(3), message.len() > 3);
        assert_eq!(read.buffer, message[..count]);
        let count = count as u32;
        assert_eq!(read.result, Ok(Done { count, more }));
    }
}

#[test]
fn an_end_that_is_noticed_before_the_callback_disturbs_no_later_one() {
    let (server, client) = pair();
    let operation = Operation::new().unwrap();
    let memory = Arc::downgrade(&operation.0);
    for n in 0..3_000_u32 {
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(Arc::clone(&counting));
        let mut cx = Context::from_waker(&waker);
        assert!(matches!(
            operation.read(&server, exactly(9)),
            Stage::Pending
        ));
        if n % 2 == 0 {
            // Nobody waits: who asks again and again may be earlier than the callback.
            write(&client, &n.to_le_bytes());
            assert_eq!(wait(&operation).buffer, n.to_le_bytes());
        } else {
            // Whoever waits is woken, whatever was left behind by the one before.
            assert!(operation.poll_ended(&mut cx, || true).is_pending());
            write(&client, &n.to_le_bytes());
            until("it was woken", || counting.0.load(Ordering::SeqCst) == 1);
            assert_eq!(ended(operation.take()).buffer, n.to_le_bytes());
        }
    }
    drop(operation);
    goes(&memory);
}

#[test]
fn what_is_pending_is_kept_until_it_has_ended_and_not_longer() {
    for n in 0..500 {
        let (server, client) = pair();
        let (reading, writing) = (Operation::new().unwrap(), Operation::new().unwrap());
        let memory = [&reading, &writing].map(|operation| Arc::downgrade(&operation.0));
        assert!(matches!(reading.read(&server, exactly(9)), Stage::Pending));
        assert!(matches!(
            writing.write(&server, vec![7; 200_000]),
            Stage::Pending
        ));
        if n % 3 == 0 {
            cancel_all(&server);
            assert_eq!(wait(&reading).result, Err(ERROR_OPERATION_ABORTED));
        }
        drop((reading, writing));
        if n % 3 == 1 {
            // Ended by the other end.
            drop(client);
            memory.iter().for_each(goes);
            drop(server);
        } else {
            drop(server);
            memory.iter().for_each(goes);
        }
    }
}

#[test]
fn one_operation_is_cancelled_and_the_other_is_not() {
    let (server, client) = pair();
    let (reading, writing) = (Operation::new().unwrap(), Operation::new().unwrap());
    assert!(matches!(reading.read(&server, exactly(9)), Stage::Pending));
    assert!(matches!(
        writing.write(&server, vec![7; 200_000]),
        Stage::Pending
    ));
    writing.cancel(&server);
    assert_eq!(ended(writing.take()).result, Err(ERROR_OPERATION_ABORTED));
    // There is none any more.
    writing.cancel(&server);
    write(&client, b"hello");
    assert_eq!(wait(&reading).buffer, b"hello");
}

/// Drops something when it is woken, on the thread of the callback.
#[derive(Debug)]
struct Dropping<T>(Mutex<Option<T>>);

impl<T: Send + 'static> Wake for Dropping<T> {
    fn wake(self: Arc<Self>) {
        let gone = self.0.lock().take();
        drop(gone);
    }
}

#[test]
fn the_last_of_an_operation_may_go_in_its_callback() {
    for _ in 0..200 {
        let (server, client) = pair();
        let operation = Arc::new(Operation::new().unwrap());
        let memory = Arc::downgrade(&operation.0);
        assert!(matches!(
            operation.read(&server, exactly(9)),
            Stage::Pending
        ));
        let dropping = Dropping(Mutex::new(Some((Arc::clone(&operation), server))));
        let waker = Waker::from(Arc::new(dropping));
        let mut cx = Context::from_waker(&waker);
        assert!(operation.poll_ended(&mut cx, || true).is_pending());
        drop(operation);
        drop(waker);
        write(&client, b"hello");
        goes(&memory);
    }
}

#[test]
fn a_task_that_waits_no_longer_is_forgotten() {
    let (server, _client) = pair();
    let operation = Operation::new().unwrap();
    assert!(matches!(
        operation.read(&server, exactly(9)),
        Stage::Pending
    ));
    let counting = Arc::new(Counting::default());
    let waker = Waker::from(Arc::clone(&counting));
    let mut waiting = Box::pin(operation.ended(|| true));
    let polled = waiting.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&counting), 2);
    drop(waiting);
    assert_eq!(Arc::strong_count(&counting), 1);
}

/// An empty buffer with exactly so much room.
fn exactly(room: usize) -> Vec<u8> {
    Vec::with_capacity(room)
}
