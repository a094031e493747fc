//! The transports for async programs, as the suite sees them.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use pipetalk::tokio::{
    Listener as AsyncListener, LocalListener, LocalStream, Stream as AsyncStream, memory,
};
use pipetalk::{ConnectOptions, Deadline, ListenOptions};
use tokio::task::JoinHandle;

use crate::harness::{self, Dialer, Named, Place, Setup, Transport};
use util::on_tokio::{OnTokio, OneThread, Runs, wait};

/// The same transports where a test is async itself.
pub(crate) trait AsyncTransport: 'static {
    type Stream: AsyncStream;
    type Listener: AsyncListener<Stream = Self::Stream>;
    type Dialer: AsyncDialer<Stream = Self::Stream>;

    /// As [`Transport::LIMIT_IS_BUSY`].
    const LIMIT_IS_BUSY: bool;

    /// Runs a test.
    fn block_on<F: Future>(test: F) -> F::Output;

    /// Runs something beside it.
    fn spawn<F>(task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static;

    fn listen(setup: &Setup) -> (Self::Listener, Self::Dialer);
}

/// A client of one listener.
pub(crate) trait AsyncDialer: Clone + Send + Sync + 'static {
    type Stream: AsyncStream;

    fn dial(&self, deadline: Deadline) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The two traits for a transport, of which one is a wrapper of the other.
macro_rules! transport {
    ($transport:ident, $dialer:ident, $listener:ty, $stream:ty) => {
        impl<R: Runs> AsyncTransport for $transport<R> {
            type Stream = $stream;
            type Listener = $listener;
            type Dialer = $dialer<R>;

            const LIMIT_IS_BUSY: bool = harness::$transport::LIMIT_IS_BUSY;

            fn block_on<F: Future>(test: F) -> F::Output {
                R::runtime().block_on(test)
            }

            fn spawn<F>(task: F) -> JoinHandle<F::Output>
            where
                F: Future<Output: Send> + Send + 'static,
            {
                R::runtime().spawn(task)
            }

            fn listen(setup: &Setup) -> ($listener, $dialer<R>) {
                Self::open(setup)
            }
        }

        impl<R: Runs> Transport for $transport<R> {
            type Stream = OnTokio<$stream, R>;
            type Listener = OnTokio<$listener, R>;
            type Dialer = $dialer<R>;

            const ABORT_DROPS: bool = harness::$transport::ABORT_DROPS;
            const PEEK_SEES_EMPTY: bool = harness::$transport::PEEK_SEES_EMPTY;
            const LIMIT_IS_BUSY: bool = harness::$transport::LIMIT_IS_BUSY;
            const STREAMS_KEEP_THE_NAME: bool = harness::$transport::STREAMS_KEEP_THE_NAME;

            fn listen(setup: &Setup) -> (Self::Listener, Self::Dialer) {
                let _within = R::runtime().enter();
                let (listener, dialer) = Self::open(setup);
                (OnTokio::new(listener), dialer)
            }
        }

        impl<R: Runs> Dialer for $dialer<R> {
            type Stream = OnTokio<$stream, R>;

            fn dial(&self, deadline: Deadline) -> io::Result<Self::Stream> {
                wait::<R, _>(deadline, AsyncDialer::dial(self, deadline)).map(OnTokio::new)
            }
        }
    };
}

transport!(Local, LocalDialer, LocalListener, LocalStream);
transport!(Memory, MemoryDialer, memory::Listener, memory::Stream);

/// The platform's own transport.
#[derive(Debug)]
pub(crate) struct Local<R>(PhantomData<R>);

#[derive(Debug, Clone)]
pub(crate) struct LocalDialer<R> {
    place: Arc<Place>,
    options: ConnectOptions,
    runs: PhantomData<R>,
}

impl<R: Runs> Local<R> {
    fn open(setup: &Setup) -> (LocalListener, LocalDialer<R>) {
        let place = Arc::new(Place::new());
        let (listen, options) = setup.local();
        let listener = listen.bind_tokio(place.name()).unwrap();
        let dialer = LocalDialer {
            place,
            options,
            runs: PhantomData,
        };
        (listener, dialer)
    }
}

impl<R: Runs> Named for Local<R> {
    const WORD: &str = "async";

    fn bind_with(options: &ListenOptions, name: &str) -> io::Result<Self::Listener> {
        let _within = R::runtime().enter();
        options.bind_tokio(name).map(OnTokio::new)
    }

    fn connect_with(
        options: &ConnectOptions,
        name: &str,
        deadline: Deadline,
    ) -> io::Result<Self::Stream> {
        wait::<R, _>(deadline, options.connect_tokio(name, deadline)).map(OnTokio::new)
    }

    fn call_with(
        options: &ConnectOptions,
        name: &str,
        request: &[u8],
        reply: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<usize> {
        wait::<R, _>(deadline, options.call_tokio(name, request, reply, deadline))
    }

    fn access(listener: &Self::Listener) -> io::Result<String> {
        listener.inner.access()
    }

    fn impersonate<A>(stream: &Self::Stream, act: impl FnOnce() -> A) -> io::Result<A> {
        stream.inner.impersonate(act)
    }
}

impl<R: Runs> AsyncDialer for LocalDialer<R> {
    type Stream = LocalStream;

    async fn dial(&self, deadline: Deadline) -> io::Result<LocalStream> {
        self.options
            .connect_tokio(self.place.name(), deadline)
            .await
    }
}

/// For a process that counts its threads' time and its descriptors.
#[cfg_attr(
    windows,
    allow(dead_code, reason = "no process of a test counts that on Windows")
)]
pub(crate) type AsyncLocal = Local<OneThread>;

/// Both ends in this process.
#[derive(Debug)]
pub(crate) struct Memory<R>(PhantomData<R>);

#[derive(Debug, Clone)]
pub(crate) struct MemoryDialer<R>(memory::Connector, PhantomData<R>);

impl<R: Runs> Memory<R> {
    fn open(setup: &Setup) -> (memory::Listener, MemoryDialer<R>) {
        let (listener, connector) = setup.memory().listener_tokio();
        (listener, MemoryDialer(connector, PhantomData))
    }
}

impl<R: Runs> AsyncDialer for MemoryDialer<R> {
    type Stream = memory::Stream;

    async fn dial(&self, deadline: Deadline) -> io::Result<memory::Stream> {
        self.0.connect(deadline).await
    }
}
