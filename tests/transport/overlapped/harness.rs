//! What the tests have in common.

use std::fmt::Debug;
use std::future::Future;
use std::io;

use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
use pipetalk::{Deadline, Error, ListenOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

pub(crate) use util::{
    A_MOMENT, PortableName, Rng, here, limit, rounds, rounds_or, skipped_under_wine, soon,
};

/// A message that fits into no buffer: sending it waits for the peer.
pub(crate) const HUGE: usize = 4 << 20;

pub(crate) fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn several() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs a test on a runtime of each kind.
pub(crate) fn on_each<F: Future<Output = ()>>(test: impl Fn() -> F) {
    single().block_on(test());
    several().block_on(test());
}

/// A connection: the client's end, the server's, and the listener.
pub(crate) async fn pair() -> (LocalStream, LocalStream, LocalListener) {
    pair_with(&ListenOptions::new()).await
}

pub(crate) async fn pair_with(
    options: &ListenOptions,
) -> (LocalStream, LocalStream, LocalListener) {
    let name = PortableName::new();
    let listener = options.bind_tokio(&*name).unwrap();
    let client = LocalStream::connect(&*name).await.unwrap();
    let server = listener.accept(soon()).await.unwrap();
    (client, server, listener)
}

/// Bytes of which no two messages have the same.
pub(crate) fn content(n: usize, len: usize) -> Vec<u8> {
    let mut state = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) async fn send(stream: &LocalStream, message: &[u8]) {
    stream.send(message, soon()).await.unwrap();
}

/// The next message; `None` at the end.
pub(crate) async fn recv(stream: &LocalStream) -> Option<Vec<u8>> {
    let mut message = vec![0xee; 3];
    let len = stream.recv_message(&mut message, soon()).await.unwrap()?;
    assert_eq!(len, message.len());
    Some(message)
}

pub(crate) async fn assert_works(a: &LocalStream, b: &LocalStream) {
    for (from, to) in [(a, b), (b, a)] {
        send(from, b"still there?").await;
        assert_eq!(recv(to).await.as_deref(), Some(&b"still there?"[..]));
    }
}

/// Polls a future a few times, and drops it: whether it had come to its end.
pub(crate) async fn begin<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for poll in 0..polls {
        if poll > 0 {
            yield_now().await;
        }
        let ready = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        });
        if let Some(output) = ready.await {
            return Some(output);
        }
    }
    None
}

/// Polls a future once, which has to wait, and drops it.
pub(crate) async fn begin_and_drop<F: Future>(future: F)
where
    F::Output: Debug,
{
    if let Some(output) = begin(1, future).await {
        panic!("it had nothing to wait for: {output:?}");
    }
}

#[track_caller]
pub(crate) fn kind<R: Debug>(result: io::Result<R>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[track_caller]
pub(crate) fn ours<R: Debug>(result: io::Result<R>) -> Error {
    let error = result.unwrap_err();
    match Error::of(&error) {
        Some(ours) => ours.clone(),
        None => panic!("not one of this crate's errors: {error:?}"),
    }
}

pub(crate) fn in_a_moment() -> Deadline {
    Deadline::after(A_MOMENT)
}
