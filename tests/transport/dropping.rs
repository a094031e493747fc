//! D5: futures that are dropped before they are done lose nothing, and send a message in whole or not at all.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use pipetalk::tokio::{Listener, LocalListener, Stream};
use pipetalk::{ConnectOptions, Deadline, Error};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::harness::{
    A_MOMENT, HUGE, Place, Rng, Setup, content, is_content, kind, ours, rounds, rounds_or, soon,
};
use crate::on_tokio::{AsyncDialer, AsyncTransport};
use util::on_tokio::{ManyThreads, Runs};

/// How many futures are dropped over one connection.
fn drops() -> usize {
    rounds(10_000) as usize
}

/// Polls a future for a while and drops it then, unless it is done before.
async fn for_a_while<F: Future>(rng: &mut Rng, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    if rng.one_in(100) {
        return timeout(Duration::from_millis(1), future).await.ok();
    }
    let yields = rng.in_range(0..8);
    tokio::select! {
        biased;
        output = future.as_mut() => Some(output),
        () = async {
            for _ in 0..yields {
                yield_now().await;
            }
        } => None,
    }
}

async fn dawdle(rng: &mut Rng) {
    if rng.one_in(200) {
        tokio::time::sleep(Duration::from_micros(rng.in_range(0..2_000) as u64)).await;
    }
    for _ in 0..rng.in_range(0..6) {
        yield_now().await;
    }
}

/// A connection of which one end sends and the other receives: in each direction once.
fn both_ways<T: AsyncTransport, F: Future<Output = ()>>(
    setup: &Setup,
    test: impl Fn(T::Stream, T::Stream) -> F,
) {
    T::block_on(async {
        let (listener, dialer) = T::listen(setup);
        for forth in [true, false] {
            let client = dialer.dial(soon()).await.unwrap();
            let server = listener.accept(soon()).await.unwrap();
            if forth {
                test(client, server).await;
            } else {
                test(server, client).await;
            }
        }
    });
}

/// The length of the `n`th message: mostly small, now and then larger than any buffer.
fn length(n: usize) -> usize {
    match n % 97 {
        0 => 0,
        1 => 300_000,
        2..20 => n % 5_000,
        _ => n % 100,
    }
}

pub(crate) fn d05_dropped_receives_lose_nothing<T: AsyncTransport>() {
    both_ways::<T, _>(&Setup::default(), |from, to| async move {
        let enough = Arc::new(AtomicBool::new(false));
        let mut rng = Rng::new();
        let sending = T::spawn({
            let (enough, mut rng) = (Arc::clone(&enough), rng.fork());
            async move {
                let mut sent = 0;
                while !enough.load(Ordering::SeqCst) {
                    let message = content(sent, length(sent));
                    from.send(&message, soon()).await.unwrap();
                    sent += 1;
                    dawdle(&mut rng).await;
                }
                sent
            }
        });
        let (mut received, mut dropped) = (0, 0);
        let (mut message, mut parts, mut buf) = (Vec::new(), Vec::new(), vec![0; 70_000]);
        loop {
            enough.store(dropped >= drops(), Ordering::SeqCst);
            // In the middle of a message, a whole receive gets what is left of it.
            let whole = if rng.one_in(2) {
                match for_a_while(&mut rng, to.recv_message(&mut message, soon())).await {
                    Some(Ok(Some(len))) => {
                        assert_eq!(len, message.len());
                        parts.extend_from_slice(&message);
                        true
                    }
                    Some(Ok(None)) => break,
                    None => {
                        dropped += 1;
                        false
                    }
                    Some(Err(error)) => panic!("{error:?}"),
                }
            } else {
                let size = rng.size(buf.len());
                match for_a_while(&mut rng, to.recv(&mut buf[..size], soon())).await {
                    Some(Ok(Some(part))) => {
                        parts.extend_from_slice(&buf[..part.len]);
                        part.last
                    }
                    Some(Ok(None)) => break,
                    None => {
                        dropped += 1;
                        false
                    }
                    Some(Err(error)) => panic!("{error:?}"),
                }
            };
            if whole {
                assert_eq!(parts.len(), length(received), "message {received}");
                assert!(is_content(received, &parts), "message {received}");
                parts.clear();
                received += 1;
            }
        }
        assert!(parts.is_empty(), "the end came within a message");
        assert_eq!(received, sending.await.unwrap());
    });
}

/// A message that says which it is.
fn numbered(n: usize) -> Vec<u8> {
    let mut message = (n as u64).to_le_bytes().to_vec();
    message.extend_from_slice(&content(n, n % 500));
    message
}

fn number_of(message: &[u8]) -> usize {
    let (n, rest) = message.split_first_chunk().expect("a message of ours");
    let n = u64::from_le_bytes(*n) as usize;
    assert_eq!(rest.len(), n % 500, "message {n}");
    assert!(is_content(n, rest), "message {n}");
    n
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Sent,
    Dropped,
}

/// What has come when a receive begins that does not wait is there for it, whoever has begun to receive before.
pub(crate) fn d05_a_receive_that_does_not_wait_gets_what_a_dropped_one_would_have<
    T: AsyncTransport,
>() {
    both_ways::<T, _>(&Setup::default(), |sender, receiver| async move {
        let receiver = Arc::new(receiver);
        let (mut message, mut n) = (Vec::new(), 0);
        // The system may have to do with the thread that has begun, which has other things to do.
        let (begin, to_begin) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let (beginner, handle) = (Arc::clone(&receiver), Handle::current());
        let thread = thread::spawn(move || {
            let _within = handle.enter();
            let mut cx = Context::from_waker(Waker::noop());
            loop {
                match to_begin.try_recv() {
                    Ok(()) => {}
                    Err(mpsc::TryRecvError::Empty) => continue,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
                {
                    let mut unused = Vec::new();
                    let mut waiting = pin!(beginner.recv_message(&mut unused, Deadline::NEVER));
                    let polled = waiting.as_mut().poll(&mut cx);
                    assert!(polled.is_pending(), "nothing was sent");
                }
                begun.send(()).unwrap();
            }
        });
        for _ in 0..rounds(2_000) {
            n += 1;
            let sent = content(n, n % 300);
            begin.send(()).unwrap();
            has_begun.recv().unwrap();
            sender.send(&sent, soon()).await.unwrap();
            let received = receiver.recv_message(&mut message, Deadline::NOW).await;
            assert_eq!(received.unwrap(), Some(sent.len()), "message {n}");
            assert_eq!(message, sent);
        }
        drop(begin);
        thread.join().unwrap();
    });
}

pub(crate) fn d05_dropped_sends_are_whole_or_nothing<T: AsyncTransport>() {
    let setup = Setup {
        buffer_size: Some(4 << 10),
        ..Setup::default()
    };
    both_ways::<T, _>(&setup, |from, to| async move {
        let mut rng = Rng::new();
        let receiving = T::spawn({
            let mut rng = rng.fork();
            async move {
                let (mut all, mut message) = (Vec::new(), Vec::new());
                while to
                    .recv_message(&mut message, soon())
                    .await
                    .unwrap()
                    .is_some()
                {
                    all.push(number_of(&message));
                    dawdle(&mut rng).await;
                }
                all
            }
        });
        let (mut fates, mut dropped) = (Vec::new(), 0);
        while dropped < drops() {
            let first = fates.len();
            let messages: Vec<_> = (first..first + 3).map(numbered).collect();
            let slices: Vec<_> = messages.iter().map(|m| IoSlice::new(m)).collect();
            let (count, done) = match rng.in_range(0..3) {
                0 => {
                    let sent = for_a_while(&mut rng, from.send(&messages[0], soon())).await;
                    (1, sent)
                }
                1 => {
                    let (head, tail) = messages[0].split_at(5);
                    let pieces = [head, tail].map(IoSlice::new);
                    let sent = for_a_while(&mut rng, from.send_vectored(&pieces, soon())).await;
                    (1, sent)
                }
                _ => {
                    let sent = for_a_while(&mut rng, from.send_all(&slices, soon())).await;
                    (3, sent)
                }
            };
            let fate = match done.transpose().unwrap() {
                Some(()) => Fate::Sent,
                None => {
                    dropped += 1;
                    Fate::Dropped
                }
            };
            fates.extend(vec![fate; count]);
        }
        drop(from);
        let received = receiving.await.unwrap();
        assert!(
            received.windows(2).all(|two| two[0] < two[1]),
            "out of order or twice"
        );
        assert!(received.last().is_none_or(|&last| last < fates.len()));
        for (n, fate) in fates.iter().enumerate() {
            let arrived = received.binary_search(&n).is_ok();
            assert!(arrived || *fate == Fate::Dropped, "message {n} is lost");
        }
    });
}

/// Where a part has gone already, there is either all of it in the end, or an end.
pub(crate) fn d05_a_send_that_is_dropped_half_way_closes_or_goes_on<T: AsyncTransport>() {
    both_ways::<T, _>(&Setup::default(), |from, to| async move {
        let message = content(1, HUGE);
        let mut buf = vec![0; 10_000];
        let mut all = Vec::new();
        {
            let mut sending = pin!(from.send(&message, soon()));
            let part = tokio::select! {
                sent = sending.as_mut() => panic!("it fits into no buffer: {sent:?}"),
                part = to.recv(&mut buf, soon()) => part.unwrap().expect("a part, not the end"),
            };
            assert!(!part.last);
            all.extend_from_slice(&buf[..part.len]);
        }
        let receive_the_rest = async {
            loop {
                match to.recv(&mut buf, soon()).await {
                    Ok(Some(part)) => {
                        all.extend_from_slice(&buf[..part.len]);
                        if part.last {
                            break Ok(());
                        }
                    }
                    Ok(None) => panic!("a clean end in the middle of a message"),
                    Err(error) => break Err(error),
                }
            }
        };
        let (next, received) = tokio::join!(from.send(b"next", soon()), receive_the_rest);
        assert!(is_content(1, &all));
        match next {
            Ok(()) => {
                received.unwrap();
                assert_eq!(all.len(), HUGE);
                let mut message = Vec::new();
                to.recv_message(&mut message, soon()).await.unwrap();
                assert_eq!(message, b"next");
            }
            Err(error) => {
                assert_eq!(Error::of(&error), Some(&Error::Poisoned), "{error:?}");
                assert_eq!(ours(received), Error::Truncated);
                assert_eq!(to.recv(&mut buf, soon()).await.unwrap(), None);
                assert_eq!(ours(from.recv(&mut buf, soon()).await), Error::Poisoned);
            }
        }
    });
}

/// Its reply would be taken for that of the next request.
pub(crate) fn d05_a_dropped_transaction_closes_for_good<T: AsyncTransport>() {
    both_ways::<T, _>(&Setup::default(), |from, to| async move {
        let mut reply = [0; 8];
        {
            let mut asking = pin!(from.transact(b"question", &mut reply, soon()));
            let mut question = Vec::new();
            tokio::select! {
                part = asking.as_mut() => panic!("nobody has answered: {part:?}"),
                received = to.recv_message(&mut question, soon()) => {
                    assert_eq!(received.unwrap(), Some(8));
                }
            }
        }
        assert_eq!(ours(from.send(b"next", soon()).await), Error::Poisoned);
        assert_eq!(
            ours(from.recv(&mut reply, soon()).await.map(drop)),
            Error::Poisoned
        );
        assert_eq!(to.recv(&mut [0; 8], soon()).await.unwrap(), None);
    });
}

pub(crate) fn d05_dropped_accepts_lose_no_connection<T: AsyncTransport>() {
    T::block_on(async {
        let clients = rounds_or(600, 200) as usize;
        let (listener, dialer) = T::listen(&Setup::default());
        let mut rng = Rng::new();
        let dialing = T::spawn({
            let (mut rng, dialer) = (rng.fork(), dialer.clone());
            async move {
                for n in 0..clients {
                    let client = dialer.dial(soon()).await.unwrap();
                    client.send(&numbered(n), soon()).await.unwrap();
                    dawdle(&mut rng).await;
                }
            }
        });
        let (mut served, mut message) = (0, Vec::new());
        let give_up = soon();
        while served < clients {
            assert!(!give_up.has_passed(), "client {served} never came");
            if let Some(server) = for_a_while(&mut rng, listener.accept(soon())).await {
                let server = server.unwrap();
                server.recv_message(&mut message, soon()).await.unwrap();
                assert_eq!(number_of(&message), served);
                served += 1;
            }
        }
        dialing.await.unwrap();
        let nobody = listener.accept(Deadline::after(A_MOMENT)).await;
        assert_eq!(kind(nobody), io::ErrorKind::TimedOut);
    });
}

pub(crate) fn d05_dropped_connects_leave_no_connection<T: AsyncTransport>() {
    let setup = Setup {
        instances: Some(1),
        ..Setup::default()
    };
    T::block_on(async {
        let (listener, dialer) = T::listen(&setup);
        let mut rng = Rng::new();
        for _ in 0..rounds_or(30, 10) {
            let client = dialer.dial(soon()).await.unwrap();
            let server = listener.accept(soon()).await.unwrap();
            let mut dialed = Vec::new();
            for _ in 0..20 {
                // There is no place for it, so that it is dropped; unless it may wait in a backlog.
                dialed.extend(for_a_while(&mut rng, dialer.dial(soon())).await);
            }
            assert!(dialed.is_empty() || !T::LIMIT_IS_BUSY);
            drop((client, server, dialed));
        }
        let dial = async {
            let client = dialer.dial(soon()).await.unwrap();
            client.send(b"here I am", soon()).await.unwrap();
            client
        };
        let accept = async {
            loop {
                let server = listener.accept(soon()).await.unwrap();
                let mut message = Vec::new();
                // Whoever waited in a backlog has left without a word.
                let received = server.recv_message(&mut message, soon()).await;
                if received.unwrap().is_some() {
                    break message;
                }
            }
        };
        let (_client, message) = tokio::join!(dial, accept);
        assert_eq!(message, b"here I am");
    });
}

/// For the transports that have names.
pub(crate) fn d05_a_dropped_call_leaves_no_connection() {
    ManyThreads::runtime().block_on(async {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        let (options, mut reply) = (ConnectOptions::new(), Vec::new());
        let server = {
            let mut calling =
                pin!(options.call_tokio(place.name(), b"question", &mut reply, soon()));
            let asked = async {
                let server = listener.accept(soon()).await.unwrap();
                let mut message = Vec::new();
                server.recv_message(&mut message, soon()).await.unwrap();
                assert_eq!(message, b"question");
                server
            };
            tokio::select! {
                called = calling.as_mut() => panic!("nobody has answered: {called:?}"),
                server = asked => server,
            }
        };
        assert_eq!(server.recv(&mut [0; 8], soon()).await.unwrap(), None);
    });
}

/// Several tasks send and several receive on one stream, and each of them drops what it began now and then.
pub(crate) fn d05_drops_among_many_tasks_lose_nothing<T: AsyncTransport>() {
    const SENDERS: usize = 4;
    both_ways::<T, _>(&Setup::default(), |from, to| async move {
        let each = rounds_or(1_000, 200) as usize;
        let (from, to) = (Arc::new(from), Arc::new(to));
        let mut rng = Rng::new();
        let left = Arc::new(AtomicUsize::new(SENDERS));
        let all = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for sender in 0..SENDERS {
            let (from, left, mut rng) = (Arc::clone(&from), Arc::clone(&left), rng.fork());
            tasks.push(T::spawn(async move {
                for n in 0..each {
                    let message = numbered(sender * each + n);
                    from.send(&message, soon()).await.unwrap();
                    dawdle(&mut rng).await;
                }
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    from.close();
                }
            }));
        }
        for _ in 0..3 {
            let (to, all, mut rng) = (Arc::clone(&to), Arc::clone(&all), rng.fork());
            tasks.push(T::spawn(async move {
                let mut message = Vec::new();
                loop {
                    let receiving = to.recv_message(&mut message, soon());
                    match for_a_while(&mut rng, receiving).await {
                        Some(Ok(Some(_))) => all.lock().unwrap().push(number_of(&message)),
                        Some(Ok(None)) => break,
                        Some(Err(error)) => panic!("{error:?}"),
                        None => dawdle(&mut rng).await,
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let mut all = std::mem::take(&mut *all.lock().unwrap());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..SENDERS * each), "lost or twice");
    });
}
