//! A server, and how to connect to it.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use pipetalk::{CallError, CallOptions, ClientOptions, ServerHandle, ServerOptions, memory};

use super::driver::{ENDS_HANDLERS, Listener, NumbersClient, POOLS, Server, bind, on, serve};
use crate::streams::service::{Books, Kept, Told};
use util::{A_WHILE, Place, promptly, soon, until};

pub(super) struct Town {
    /// For what a failing test says.
    pub(super) kind: &'static str,
    pub(super) handle: ServerHandle,
    pub(super) serving: Option<JoinHandle<()>>,
    pub(super) connect: Box<dyn Fn(ClientOptions) -> NumbersClient + Send + Sync>,
    pub(super) books: Books,
    told: Receiver<Told>,
    kept: Receiver<Kept>,
}

impl Town {
    pub(super) fn new<L: Listener>(
        kind: &'static str,
        server: Server<L>,
        connect: impl Fn(ClientOptions) -> NumbersClient + Send + Sync + 'static,
    ) -> Town {
        let (books, told, kept) = Books::new();
        let handle = server.handle();
        let desk = books.clone();
        let serving = thread::spawn(move || serve(server, desk).unwrap());
        Town {
            kind,
            handle,
            serving: Some(serving),
            connect: Box::new(connect),
            books,
            told,
            kept,
        }
    }

    /// One in memory.
    pub(super) fn in_memory(options: ServerOptions, memory: memory::Options) -> Town {
        let (listener, connector) = memory.listener();
        Town::new("memory", on(options, listener), move |options| {
            NumbersClient::over_with(connector.connect(soon()).unwrap(), options).unwrap()
        })
    }

    /// One of the platform's own.
    pub(super) fn local(options: ServerOptions) -> Town {
        let place = Place::new();
        let server = bind(options, place.name()).unwrap();
        Town::new("local", server, move |options| {
            NumbersClient::connect_with(place.name(), options).unwrap()
        })
    }

    pub(super) fn client(&self) -> NumbersClient {
        (self.connect)(ClientOptions::new())
    }

    #[track_caller]
    pub(super) fn told(&self) -> Told {
        self.told.recv_timeout(A_WHILE).unwrap()
    }

    #[track_caller]
    pub(super) fn kept(&self) -> Kept {
        self.kept.recv_timeout(A_WHILE).unwrap()
    }

    /// The handlers of the streams that nobody wants any more have noticed, and say so; or, where they are ended from
    /// outside, none is left.
    #[track_caller]
    pub(super) fn have_noticed<const N: usize>(&self, expected: [Told; N]) {
        if ENDS_HANDLERS {
            until("no handler is left", || {
                self.books.handlers.load(Ordering::SeqCst) == 0
            });
            return;
        }
        let mut told = [(); N].map(|()| self.told());
        told.sort();
        assert_eq!(told, expected);
    }

    /// How many items have been sent, of all streams.
    pub(super) fn sent(&self) -> u64 {
        self.books.sent.load(Ordering::SeqCst)
    }

    pub(super) fn finish(mut self) {
        self.handle.drain(A_WHILE);
        self.ends();
    }

    /// It has ended, or does so soon.
    pub(super) fn ends(&mut self) {
        promptly("the end of a server that does nothing", || {
            self.serving.take().unwrap().join().unwrap();
        });
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Runs a test over each kind of transport, with and without a pool where there is one.
pub(super) fn each(options: impl Fn() -> ServerOptions, test: impl Fn(&Town)) {
    for &pool in POOLS {
        let town = Town::local(options().pool(pool));
        test(&town);
        town.finish();

        let town = Town::in_memory(options().pool(pool), memory::Options::new());
        test(&town);
        town.finish();
    }
}

pub(super) fn window(credits: u32) -> CallOptions {
    CallOptions::new().window(credits)
}

pub(super) fn all_of<T>(
    items: impl Iterator<Item = Result<T, CallError>>,
) -> Result<Vec<T>, CallError> {
    items.collect()
}
