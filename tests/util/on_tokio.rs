//! Async transports as blocking ones, so that what is written against the blocking traits runs on them too.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pipetalk::tokio::{Listener as AsyncListener, Stream as AsyncStream};
use pipetalk::{Deadline, Listener, Part, Peer, Stream, Waiting};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// A kind of runtime, of which all threads of the test binary share one.
pub trait Runs: Debug + Clone + Send + Sync + 'static {
    fn runtime() -> &'static Runtime;
}

#[derive(Debug, Clone)]
pub struct ManyThreads;

impl Runs for ManyThreads {
    fn runtime() -> &'static Runtime {
        static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build().unwrap()
        });
        &RUNTIME
    }
}

/// Whoever blocks on it drives it, one at a time.
#[derive(Debug, Clone)]
pub struct OneThread;

impl Runs for OneThread {
    fn runtime() -> &'static Runtime {
        static RUNTIME: LazyLock<Runtime> =
            LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
        &RUNTIME
    }
}

/// A stream or a listener whose calls block until they are done.
#[derive(Debug)]
pub struct OnTokio<T, R> {
    pub inner: T,
    runs: PhantomData<R>,
}

impl<T, R: Runs> OnTokio<T, R> {
    pub fn new(inner: T) -> Self {
        OnTokio {
            inner,
            runs: PhantomData,
        }
    }
}

/// Waits for a call to be done. One that is not to wait is not waited for, and may be made by who is being waited for.
pub fn wait<R: Runs, T>(
    deadline: Deadline,
    call: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let _within = R::runtime().enter();
    if deadline != Deadline::NOW {
        return R::runtime().block_on(call);
    }
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a call waits that was told not to"),
    }
}

/// How often a send that waits looks whether there is something to receive.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl<S: AsyncStream, R: Runs> Stream for OnTokio<S, R> {
    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        wait::<R, _>(deadline, self.inner.send(message, deadline))
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        wait::<R, _>(deadline, self.inner.recv(buf, deadline))
    }

    fn close(&self) {
        self.inner.close();
    }

    fn abort(&self) {
        self.inner.abort();
    }

    fn max_message(&self) -> usize {
        self.inner.max_message()
    }

    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        wait::<R, _>(deadline, self.inner.recv_message(message, deadline))
    }

    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        wait::<R, _>(deadline, self.inner.send_vectored(pieces, deadline))
    }

    /// An async program sends in one task and receives in another; here the two take turns.
    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        R::runtime().block_on(async {
            let mut sending = pin!(self.inner.send_vectored(pieces, deadline));
            loop {
                match timeout(LOOK_AGAIN, sending.as_mut()).await {
                    Ok(sent) => return sent,
                    Err(_) => while receive() {},
                }
            }
        })
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        self.inner.peek()
    }

    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        wait::<R, _>(deadline, self.inner.transact(request, reply, deadline))
    }

    fn peer(&self) -> io::Result<Peer> {
        self.inner.peer()
    }
}

impl<L: AsyncListener, R: Runs> Listener for OnTokio<L, R> {
    type Stream = OnTokio<L::Stream, R>;

    fn accept(&self, deadline: Deadline) -> io::Result<Self::Stream> {
        wait::<R, _>(deadline, self.inner.accept(deadline)).map(OnTokio::new)
    }

    fn stop(&self) {
        self.inner.stop();
    }
}
