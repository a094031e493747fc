//! The transports for async programs, as the suite sees them.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use pipetalk::tokio::{LocalListener, LocalStream, memory};
use pipetalk::{ConnectOptions, Deadline};

use crate::harness::{self, Dialer, Place, Setup, Transport};
use crate::util::on_tokio::{OnTokio, Runs, wait};

/// The platform's own transport.
#[derive(Debug)]
pub(crate) struct Local<R>(PhantomData<R>);

#[derive(Debug, Clone)]
pub(crate) struct LocalDialer<R> {
    place: Arc<Place>,
    options: ConnectOptions,
    runs: PhantomData<R>,
}

impl<R: Runs> Transport for Local<R> {
    type Stream = OnTokio<LocalStream, R>;
    type Listener = OnTokio<LocalListener, R>;
    type Dialer = LocalDialer<R>;

    const ABORT_DROPS: bool = harness::Local::ABORT_DROPS;
    const PEEK_SEES_EMPTY: bool = harness::Local::PEEK_SEES_EMPTY;
    const LIMIT_IS_BUSY: bool = harness::Local::LIMIT_IS_BUSY;
    const STREAMS_KEEP_THE_NAME: bool = harness::Local::STREAMS_KEEP_THE_NAME;

    fn listen(setup: &Setup) -> (Self::Listener, Self::Dialer) {
        let place = Arc::new(Place::new());
        let (listen, options) = setup.local();
        let _within = R::runtime().enter();
        let listener = listen.bind_tokio(place.name()).unwrap();
        let dialer = LocalDialer {
            place,
            options,
            runs: PhantomData,
        };
        (OnTokio::new(listener), dialer)
    }
}

impl<R: Runs> Dialer for LocalDialer<R> {
    type Stream = OnTokio<LocalStream, R>;

    fn dial(&self, deadline: Deadline) -> io::Result<Self::Stream> {
        let connecting = self.options.connect_tokio(self.place.name(), deadline);
        wait::<R, _>(deadline, connecting).map(OnTokio::new)
    }
}

/// Both ends in this process.
#[derive(Debug)]
pub(crate) struct Memory<R>(PhantomData<R>);

#[derive(Debug, Clone)]
pub(crate) struct MemoryDialer<R>(memory::Connector, PhantomData<R>);

impl<R: Runs> Transport for Memory<R> {
    type Stream = OnTokio<memory::Stream, R>;
    type Listener = OnTokio<memory::Listener, R>;
    type Dialer = MemoryDialer<R>;

    const ABORT_DROPS: bool = harness::Memory::ABORT_DROPS;
    const PEEK_SEES_EMPTY: bool = harness::Memory::PEEK_SEES_EMPTY;
    const LIMIT_IS_BUSY: bool = harness::Memory::LIMIT_IS_BUSY;
    const STREAMS_KEEP_THE_NAME: bool = harness::Memory::STREAMS_KEEP_THE_NAME;

    fn listen(setup: &Setup) -> (Self::Listener, Self::Dialer) {
        let (listener, connector) = setup.memory().listener_tokio();
        (OnTokio::new(listener), MemoryDialer(connector, PhantomData))
    }
}

impl<R: Runs> Dialer for MemoryDialer<R> {
    type Stream = OnTokio<memory::Stream, R>;

    fn dial(&self, deadline: Deadline) -> io::Result<Self::Stream> {
        wait::<R, _>(deadline, self.0.connect(deadline)).map(OnTokio::new)
    }
}
