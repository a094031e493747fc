//! The service whose streams are tested, on threads and in tasks.

use std::io;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use pipetalk::{Blob, Call, Deadline, ItemSink, SinkError};

use util::{A_WHILE, until};

pipetalk::service! {
    pub(crate) trait Numbers {
        /// Counts.
        stream count(from: u64, to: u64) -> u64;
        /// Sends what there is room for without waiting, and then says how much that was; and the rest by waiting.
        stream without_waiting(size: u64, all: u64) -> Blob;
        /// One item of each size.
        stream sized(sizes: Vec<u64>) -> Blob;
        /// So many items, and then an error.
        stream fails(items: u64, text: String) -> u64;
        stream panics(items: u64) -> u64;
        /// Nothing, until it is stopped.
        stream silent() -> u64;
        /// Whatever the test does with the sink, which is all that is left of the call.
        stream kept(items: Vec<u8>) -> u64;
        /// The sink is kept, and then the handler panics.
        stream kept_and_panics() -> u64;
        fn add(a: u64, b: u64) -> u64;
    }
    pub(crate) struct NumbersClient;
    #[cfg(feature = "tokio")]
    pub(crate) async trait AsyncNumbers;
    #[cfg(feature = "tokio")]
    pub(crate) async struct AsyncNumbersClient;
}

/// What the server tells the test.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    /// So much could be sent without waiting.
    Room(u64),
    /// The stream has been stopped.
    Stopped,
    /// No more could be sent.
    SendStopped,
    TooLarge {
        limit: u64,
        size: u64,
    },
}

/// What a handler has given away.
pub(crate) enum Kept {
    Thread(ItemSink<u64>),
    #[cfg(feature = "tokio")]
    Task(pipetalk::tokio::ItemSink<u64>),
}

/// The server's share of a test.
#[derive(Clone)]
pub(crate) struct Books {
    /// How many items have been sent, of all streams.
    pub(crate) sent: Arc<AtomicU64>,
    /// How many streams of sizes have been opened.
    pub(crate) opened: Arc<AtomicU64>,
    /// How many handlers of streams there are.
    pub(crate) handlers: Arc<AtomicU64>,
    told: Arc<Mutex<Sender<Told>>>,
    kept: Arc<Mutex<Sender<Kept>>>,
}

/// A handler of a stream in a task, until it ends.
#[cfg(feature = "tokio")]
struct Handler(Arc<AtomicU64>);

#[cfg(feature = "tokio")]
impl Drop for Handler {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Books {
    pub(crate) fn new() -> (Books, Receiver<Told>, Receiver<Kept>) {
        let (told, telling) = mpsc::channel();
        let (kept, keeping) = mpsc::channel();
        let books = Books {
            sent: Arc::default(),
            opened: Arc::default(),
            handlers: Arc::default(),
            told: Arc::new(Mutex::new(told)),
            kept: Arc::new(Mutex::new(kept)),
        };
        (books, telling, keeping)
    }

    fn tell(&self, what: Told) {
        // The test may be over.
        let _ = self.told.lock().unwrap().send(what);
    }

    /// Counts what was sent; whether there is to be more.
    fn sent(&self, sent: Result<(), SinkError>) -> bool {
        match sent {
            Ok(()) => {
                self.sent.fetch_add(1, Ordering::SeqCst);
                return true;
            }
            Err(SinkError::Stopped) => self.tell(Told::SendStopped),
            Err(SinkError::TooLarge { limit, size }) => self.tell(Told::TooLarge { limit, size }),
            Err(error) => panic!("{error:?}"),
        }
        false
    }

    #[cfg(feature = "tokio")]
    fn begin(&self) -> Handler {
        self.handlers.fetch_add(1, Ordering::SeqCst);
        Handler(Arc::clone(&self.handlers))
    }

    fn keep(&self, sink: Kept) {
        self.kept.lock().unwrap().send(sink).unwrap();
    }
}

fn sized(place: usize, size: u64) -> Blob {
    Blob::from(vec![place as u8; size as usize])
}

impl Numbers for Books {
    fn count(&self, _: &Call, from: u64, to: u64, items: ItemSink<u64>) {
        let _ = (from..to).all(|number| self.sent(items.send(&number)));
    }

    fn without_waiting(&self, _: &Call, size: u64, all: u64, items: ItemSink<Blob>) {
        let item = sized(7, size);
        let room = (0..all)
            .take_while(|_| items.try_send(&item) != Err(SinkError::Full))
            .count() as u64;
        self.tell(Told::Room(room));
        let _ = (room..all).all(|_| self.sent(items.send(&item)));
    }

    fn sized(&self, _: &Call, sizes: Vec<u64>, items: ItemSink<Blob>) {
        self.opened.fetch_add(1, Ordering::SeqCst);
        for (place, size) in sizes.into_iter().enumerate() {
            if !self.sent(items.send(&sized(place, size))) {
                return;
            }
        }
    }

    fn fails(&self, _: &Call, items: u64, text: String, sink: ItemSink<u64>) {
        (0..items).for_each(|number| assert!(self.sent(sink.send(&number))));
        sink.fail(&text);
    }

    fn panics(&self, _: &Call, items: u64, sink: ItemSink<u64>) {
        (0..items).for_each(|number| assert!(self.sent(sink.send(&number))));
        // Nothing is printed.
        panic::resume_unwind(Box::new("as asked"));
    }

    fn silent(&self, call: &Call, items: ItemSink<u64>) {
        assert!(items.wait_until_stopped(A_WHILE * 4));
        until("the call is cancelled as well", || call.is_cancelled());
        assert_eq!(items.send(&1), Err(SinkError::Stopped));
        self.tell(Told::Stopped);
    }

    fn kept(&self, _: &Call, items: Vec<u8>, sink: ItemSink<u64>) {
        // An argument of the name that the macro uses is no matter.
        assert_eq!(items, [1, 2, 3]);
        self.keep(Kept::Thread(sink));
    }

    fn kept_and_panics(&self, _: &Call, items: ItemSink<u64>) {
        self.keep(Kept::Thread(items));
        panic::resume_unwind(Box::new("as asked"));
    }

    fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
        a + b
    }
}

/// Servers on threads.
pub(crate) mod threads_serve {
    use super::*;

    pub(crate) use pipetalk::Listener;
    pub(crate) use util::drivers::threads_serve::{Server, bind, on};

    /// Whether a handler ends when its stream does, wherever it is.
    pub(crate) const ENDS_HANDLERS: bool = false;

    pub(crate) const POOLS: &[usize] = &[0, 2];

    pub(crate) fn serve<L: Listener>(server: Server<L>, books: Books) -> io::Result<()> {
        server.serve(books.service())
    }

    /// With a closure that counts.
    pub(crate) fn serve_closure<L: Listener>(server: Server<L>) -> io::Result<()> {
        server.serve(|to: u64, _: &Call, items: ItemSink<u64>| {
            (0..to).for_each(|number| items.send(&number).unwrap());
        })
    }
}

impl Kept {
    pub(crate) fn send(&self, number: &u64) -> Result<(), SinkError> {
        match self {
            Kept::Thread(sink) => sink.send(number),
            #[cfg(feature = "tokio")]
            Kept::Task(sink) => util::drivers::tasks_call::wait(sink.send(number)),
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        match self {
            Kept::Thread(sink) => sink.is_stopped(),
            #[cfg(feature = "tokio")]
            Kept::Task(sink) => sink.is_stopped(),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        match self {
            Kept::Thread(sink) => sink.is_draining(),
            #[cfg(feature = "tokio")]
            Kept::Task(sink) => sink.is_draining(),
        }
    }

    pub(crate) fn wait_until_stopped(&self, deadline: Deadline) -> bool {
        match self {
            Kept::Thread(sink) => sink.wait_until_stopped(deadline),
            #[cfg(feature = "tokio")]
            Kept::Task(sink) => util::drivers::tasks_call::wait(async {
                let left = deadline.remaining().unwrap();
                tokio::time::timeout(left, sink.stopped()).await.is_ok()
            }),
        }
    }
}

#[cfg(feature = "tokio")]
pub(crate) use in_tasks::{blocking_tasks_serve, tasks_serve};

#[cfg(feature = "tokio")]
mod in_tasks {
    use pipetalk::tokio::ItemSink;

    use super::*;

    /// The same in tasks.
    struct InTasks(Books);

    impl AsyncNumbers for InTasks {
        async fn count(&self, _: &Call, from: u64, to: u64, items: ItemSink<u64>) {
            let _handler = self.0.begin();
            for number in from..to {
                if !self.0.sent(items.send(&number).await) {
                    return;
                }
            }
        }

        async fn without_waiting(&self, _: &Call, size: u64, all: u64, items: ItemSink<Blob>) {
            let _handler = self.0.begin();
            let item = super::sized(7, size);
            let room = (0..all)
                .take_while(|_| items.try_send(&item) != Err(SinkError::Full))
                .count() as u64;
            self.0.tell(Told::Room(room));
            for _ in room..all {
                if !self.0.sent(items.send(&item).await) {
                    return;
                }
            }
        }

        async fn sized(&self, _: &Call, sizes: Vec<u64>, items: ItemSink<Blob>) {
            let _handler = self.0.begin();
            self.0.opened.fetch_add(1, Ordering::SeqCst);
            for (place, size) in sizes.into_iter().enumerate() {
                if !self.0.sent(items.send(&super::sized(place, size)).await) {
                    return;
                }
            }
        }

        async fn fails(&self, _: &Call, items: u64, text: String, sink: ItemSink<u64>) {
            let _handler = self.0.begin();
            for number in 0..items {
                assert!(self.0.sent(sink.send(&number).await));
            }
            sink.fail(&text);
        }

        async fn panics(&self, _: &Call, items: u64, sink: ItemSink<u64>) {
            let _handler = self.0.begin();
            for number in 0..items {
                assert!(self.0.sent(sink.send(&number).await));
            }
            panic::resume_unwind(Box::new("as asked"));
        }

        async fn silent(&self, _: &Call, items: ItemSink<u64>) {
            let _handler = self.0.begin();
            items.stopped().await;
            // Its future may be dropped before, but it is never woken for nothing.
            assert_eq!(items.send(&1).await, Err(SinkError::Stopped));
        }

        async fn kept(&self, _: &Call, items: Vec<u8>, sink: ItemSink<u64>) {
            assert_eq!(items, [1, 2, 3]);
            self.0.keep(Kept::Task(sink));
        }

        async fn kept_and_panics(&self, _: &Call, items: ItemSink<u64>) {
            self.0.keep(Kept::Task(items));
            panic::resume_unwind(Box::new("as asked"));
        }

        async fn add(&self, _: &Call, a: u64, b: u64) -> u64 {
            a + b
        }
    }

    /// Servers on tokio.
    pub(crate) mod tasks_serve {
        use super::*;

        pub(crate) use pipetalk::tokio::Listener;
        pub(crate) use util::drivers::tasks_serve::{Server, bind, on};

        pub(crate) const ENDS_HANDLERS: bool = true;

        /// There is none.
        pub(crate) const POOLS: &[usize] = &[0];

        pub(crate) fn serve<L: Listener>(server: Server<L>, books: Books) -> io::Result<()> {
            server.serve_async(InTasks(books).service())
        }

        pub(crate) fn serve_closure<L: Listener>(server: Server<L>) -> io::Result<()> {
            server.serve_async(|to: u64, _: Call, items: ItemSink<u64>| async move {
                for number in 0..to {
                    items.send(&number).await.unwrap();
                }
            })
        }
    }

    /// Servers on tokio whose handlers block.
    pub(crate) mod blocking_tasks_serve {
        use super::*;

        pub(crate) use super::tasks_serve::{Listener, POOLS, Server, bind, on};

        pub(crate) const ENDS_HANDLERS: bool = false;

        pub(crate) fn serve<L: Listener>(server: Server<L>, books: Books) -> io::Result<()> {
            server.serve(Numbers::service(books))
        }

        pub(crate) fn serve_closure<L: Listener>(server: Server<L>) -> io::Result<()> {
            server.serve(|to: u64, _: &Call, items: pipetalk::ItemSink<u64>| {
                (0..to).for_each(|number| items.send(&number).unwrap());
            })
        }
    }
}
