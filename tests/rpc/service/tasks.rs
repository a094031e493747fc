//! What `service!` makes for async programs, and that both kinds of ends understand each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pipetalk::tokio::{Listener, LocalListener, Stream, memory};
use pipetalk::{
    Blob, Call, CallError, CallOptions, ClientOptions, ItemSink, Server, ServerHandle,
    ServerOptions,
};
use tokio::runtime::Runtime;

use util::on_tokio::{ManyThreads, OneThread, Runs};
use util::{A_MOMENT, A_WHILE, Deserialize, Place, Serialize, here, limit, soon};

pipetalk::service! {
    /// A small key-value store.
    #[name = "acme.kv"]
    pub(crate) trait Kv {
        /// The value of a key.
        #[idempotent]
        fn get(key: String) -> Option<Blob>;
        fn put(key: String, value: Blob) -> Result<(), PutError>;
        fn many(call: u8, reply: Vec<u64>, request: (String, bool), arguments: char,) -> String;
        notify touch(key: String);
        fn wait();
        fn fail();
        /// Counts, and then fails if it is to.
        stream count(to: u64, fails: bool) -> u64;
    }

    /// Calls a key-value store.
    pub(crate) struct KvClient;

    /// A small key-value store, in tasks.
    #[allow(clippy::module_name_repetitions)]
    pub(crate) async trait AsyncKv;

    /// Calls a key-value store, from tasks.
    pub(crate) async struct AsyncKvClient;
}

// Each of the two may be asked for alone, in any order.
mod orders {
    pipetalk::service! {
        pub(super) trait Plain { fn one() -> u8; }
        pub(super) struct PlainClient;
        pub(super) async struct AsyncPlainClient;
    }
    pipetalk::service! {
        pub(super) trait Other { fn one() -> u8; }
        pub(super) struct OtherClient;
        pub(super) async struct AsyncOtherClient;
        pub(super) async trait AsyncOther;
    }
    pipetalk::service! {
        trait Empty {}
        struct EmptyClient;
        async trait AsyncEmpty;
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PutError {
    EmptyKey,
}

#[derive(Debug)]
struct Store {
    values: Mutex<HashMap<String, Blob>>,
    touched: Mutex<Sender<String>>,
}

impl Store {
    fn new() -> (Store, Receiver<String>) {
        let (touch, touched) = mpsc::channel();
        let store = Store {
            values: Mutex::default(),
            touched: Mutex::new(touch),
        };
        (store, touched)
    }

    fn set(&self, key: String, value: Blob) -> Result<(), PutError> {
        if key.is_empty() {
            return Err(PutError::EmptyKey);
        }
        self.values.lock().insert(key, value);
        Ok(())
    }
}

impl Kv for Store {
    fn get(&self, _: &Call, key: String) -> Option<Blob> {
        self.values.lock().get(&key).cloned()
    }

    fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
        self.set(key, value)
    }

    fn many(&self, _: &Call, a: u8, b: Vec<u64>, c: (String, bool), d: char) -> String {
        format!("{a} {b:?} {c:?} {d}")
    }

    fn touch(&self, _: &Call, key: String) {
        self.touched.lock().send(key).unwrap();
    }

    fn wait(&self, call: &Call) {
        while !call.is_cancelled() {
            thread::yield_now();
        }
    }

    fn fail(&self, _: &Call) {
        util::panic_as_asked();
    }

    fn count(&self, _: &Call, to: u64, fails: bool, items: ItemSink<u64>) {
        if (0..to).all(|number| items.send(&number).is_ok()) && fails {
            items.fail("as asked");
        }
    }
}

/// The same in tasks.
struct AsyncStore(Store);

impl AsyncKv for AsyncStore {
    async fn get(&self, _: &Call, key: String) -> Option<Blob> {
        tokio::task::yield_now().await;
        self.0.values.lock().get(&key).cloned()
    }

    async fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
        self.0.set(key, value)
    }

    async fn many(&self, call: &Call, a: u8, b: Vec<u64>, c: (String, bool), d: char) -> String {
        assert!(!call.is_cancelled());
        format!("{a} {b:?} {c:?} {d}")
    }

    async fn touch(&self, _: &Call, key: String) {
        self.0.touched.lock().send(key).unwrap();
    }

    async fn wait(&self, _: &Call) {
        std::future::pending().await
    }

    async fn fail(&self, _: &Call) {
        tokio::task::yield_now().await;
        util::panic_as_asked();
    }

    async fn count(&self, _: &Call, to: u64, fails: bool, items: pipetalk::tokio::ItemSink<u64>) {
        for number in 0..to {
            if items.send(&number).await.is_err() {
                return;
            }
        }
        if fails {
            items.fail("as asked");
        }
    }
}

/// The kinds of servers.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Threads,
    Tasks,
    /// A blocking trait on an async server.
    BlockingTasks,
}

struct Serving {
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Serving {
    fn start(kind: Kind, runtime: &'static Runtime, place: &Place) -> (Serving, Receiver<String>) {
        let (store, touched) = Store::new();
        let options = ServerOptions::new();
        let _within = runtime.enter();
        let (handle, thread) = match kind {
            Kind::Threads => {
                let server = Server::bind(place.name()).unwrap();
                let handle = server.handle();
                (handle, thread::spawn(move || server.serve(store.service())))
            }
            Kind::Tasks => {
                let server = options.bind_tokio(place.name()).unwrap();
                let handle = server.handle();
                let service = AsyncStore(store).service();
                (
                    handle,
                    thread::spawn(move || runtime.block_on(server.serve(service))),
                )
            }
            Kind::BlockingTasks => {
                let server = options.bind_tokio(place.name()).unwrap();
                let handle = server.handle();
                let service = store.service();
                (
                    handle,
                    thread::spawn(move || runtime.block_on(server.serve_blocking(service))),
                )
            }
        };
        let thread = Some(thread);
        (Serving { handle, thread }, touched)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

#[test]
fn all_pairs_of_blocking_and_async_ends_understand_each_other() {
    let _limit = limit(here!());
    for kind in [Kind::Threads, Kind::Tasks, Kind::BlockingTasks] {
        for runtime in [ManyThreads::runtime(), OneThread::runtime()] {
            println!("{kind:?}");
            let place = Place::new();
            let (_serving, touched) = Serving::start(kind, runtime, &place);
            call_from_a_thread(&place, &touched);
            ManyThreads::runtime().block_on(call_from_a_task(&place, &touched));
        }
    }
}

fn call_from_a_thread(place: &Place, touched: &Receiver<String>) {
    let client = KvClient::connect(place.name()).unwrap();
    assert_eq!(client.get("key").unwrap(), None);
    assert_eq!(client.put("key", &"value".into()).unwrap(), Ok(()));
    assert_eq!(client.get("key").unwrap(), Some("value".into()));
    let error = client.put("", &Blob::new()).unwrap();
    assert_eq!(error, Err(PutError::EmptyKey));
    let text = client.many(1, &[2, 3], &("four".into(), true), '5');
    assert_eq!(text.unwrap(), "1 [2, 3] (\"four\", true) 5");
    client.touch("touched").unwrap();
    assert_eq!(touched.recv_timeout(A_WHILE).unwrap(), "touched");
    assert_eq!(client.fail().unwrap_err(), CallError::Panicked);
    let late = CallError::TimedOut { sent: true };
    assert_eq!(client.with_deadline(A_MOMENT).wait().unwrap_err(), late);
    assert_eq!(client.put("key", &Blob::new()).unwrap(), Ok(()));
    let counted: Result<Vec<u64>, CallError> = client.count(500, false).unwrap().collect();
    assert!(counted.unwrap().into_iter().eq(0..500));
    let mut failing = client.count(1, true).unwrap();
    assert_eq!(failing.next(), Some(Ok(0)));
    assert_eq!(
        failing.next(),
        Some(Err(CallError::Failed("as asked".into())))
    );
    // It is given up half-way.
    assert_eq!(client.count(u64::MAX, false).unwrap().next(), Some(Ok(0)));
    let server = client.channel().server().unwrap();
    assert_eq!(server.service, "acme.kv");
    let large = Blob::from(vec![7; 1 << 20]);
    assert_eq!(client.put("large", &large).unwrap(), Ok(()));
    assert_eq!(client.get("large").unwrap(), Some(large));
    assert_eq!(client.put("key", &Blob::new()).unwrap(), Ok(()));
}

async fn call_from_a_task(place: &Place, touched: &Receiver<String>) {
    let client = AsyncKvClient::connect(place.name()).await.unwrap();
    assert_eq!(client.get("other").await.unwrap(), None);
    assert_eq!(client.put("other", &"value".into()).await.unwrap(), Ok(()));
    assert_eq!(client.get("other").await.unwrap(), Some("value".into()));
    let error = client.put("", &Blob::new()).await.unwrap();
    assert_eq!(error, Err(PutError::EmptyKey));
    let text = client.many(1, &[2, 3], &("four".into(), true), '5').await;
    assert_eq!(text.unwrap(), "1 [2, 3] (\"four\", true) 5");
    client.touch("touched").await.unwrap();
    assert_eq!(touched.recv_timeout(A_WHILE).unwrap(), "touched");
    assert_eq!(client.fail().await.unwrap_err(), CallError::Panicked);
    let late = CallError::TimedOut { sent: true };
    let hurried = client.with_deadline(A_MOMENT);
    assert_eq!(hurried.wait().await.unwrap_err(), late);
    let moment = CallOptions::new().deadline(A_MOMENT);
    assert_eq!(client.with(moment).wait().await.unwrap_err(), late);
    let none = client.with_deadline(Duration::ZERO);
    let error = none.get("key").await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    let mut items = client.count(500, false).await.unwrap();
    for number in 0..500 {
        assert_eq!(items.next().await, Some(Ok(number)));
    }
    assert_eq!(items.next().await, None);
    let mut failing = client.count(1, true).await.unwrap();
    assert_eq!(failing.next().await, Some(Ok(0)));
    let why = CallError::Failed("as asked".into());
    assert_eq!(failing.next().await, Some(Err(why)));
    let mut given_up = client.count(u64::MAX, false).await.unwrap();
    assert_eq!(given_up.next().await, Some(Ok(0)));
    drop(given_up);
    let server = client.channel().server().unwrap();
    assert_eq!(server.service, "acme.kv");
    let large = Blob::from(vec![8; 1 << 20]);
    assert_eq!(client.put("larger", &large).await.unwrap(), Ok(()));
    assert_eq!(
        client.clone().get("larger").await.unwrap().as_ref(),
        Some(&large)
    );
    // Others may call between the tasks of this one.
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.many(n, &[], &(n.to_string(), false), 'x').await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let text = call.await.unwrap().unwrap();
        assert_eq!(text, format!("{n} [] (\"{n}\", false) x"));
    }
}

#[test]
fn only_what_is_idempotent_is_tried_again() {
    let _limit = limit(here!());
    ManyThreads::runtime().block_on(async {
        let lost = Err(CallError::Disconnected { sent: true });
        for (attempt, expected) in [(0, Ok(())), (1, lost.clone()), (2, Ok(())), (3, lost)] {
            let place = Place::new();
            let listener = LocalListener::bind(place.name()).unwrap();
            let options = ClientOptions::new().reconnect(true);
            // A server that takes one request and dies of it, and one after it that does not.
            let serving = async {
                let stream = listener.accept(soon()).await.unwrap();
                let mut message = Vec::new();
                for _ in ["hello", "request"] {
                    let received = stream.recv_message(&mut message, soon()).await;
                    received.unwrap().unwrap();
                }
                drop((stream, listener));
                let server = pipetalk::tokio::Server::bind(place.name()).unwrap();
                let (store, _touched) = Store::new();
                server.serve(AsyncStore(store).service()).await.unwrap();
            };
            let calling = async {
                let client = AsyncKvClient::connect_with(place.name(), options)
                    .await
                    .unwrap();
                let called = match attempt {
                    0 => client.get("key").await.map(drop),
                    1 => client.put("key", &Blob::new()).await.map(drop),
                    2 => {
                        let options = CallOptions::new().idempotent(true);
                        let client = client.with(options);
                        client.put("key", &Blob::new()).await.map(drop)
                    }
                    _ => client.wait().await,
                };
                assert_eq!(called, expected, "{attempt}");
            };
            tokio::select! {
                () = serving => panic!("nobody ends it"),
                () = calling => {}
            }
        }
    });
}

#[test]
fn a_client_of_another_version_is_told_so() {
    let _limit = limit(here!());
    ManyThreads::runtime().block_on(async {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let handle = server.handle();
        let (store, _touched) = Store::new();
        let serving = tokio::spawn(server.serve(AsyncStore(store).service()));
        let stream = connector.connect(soon()).await.unwrap();
        let client = orders::AsyncPlainClient::over(stream).unwrap();
        let CallError::Incompatible(parties) = client.one().await.unwrap_err() else {
            panic!("it fits");
        };
        assert_eq!(parties.theirs.service, "acme.kv");
        let (kv, other) = (parties.theirs.fingerprint, parties.ours.fingerprint);
        assert_ne!(kv, other);
        assert_eq!(parties.ours.service, "Plain");
        // It may still ask, and ask it to end.
        let info = client.channel().info().await.unwrap();
        assert_eq!(info.version.fingerprint, kv);
        handle.stop();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn what_is_shared_is_served_as_well() {
    let _limit = limit(here!());
    ManyThreads::runtime().block_on(async {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let handle = server.handle();
        let (store, _touched) = Store::new();
        let store = Arc::new(AsyncStore(store));
        let serving = tokio::spawn(server.serve(AsyncKv::service(Arc::clone(&store))));
        let stream = connector.connect(soon()).await.unwrap();
        let client = AsyncKvClient::over(stream).unwrap();
        assert_eq!(client.put("key", &"value".into()).await.unwrap(), Ok(()));
        assert_eq!(store.0.values.lock()["key"], Blob::from("value"));
        let mut items = client.count(2, false).await.unwrap();
        assert_eq!(items.next().await, Some(Ok(0)));
        assert_eq!(items.next().await, Some(Ok(1)));
        assert_eq!(items.next().await, None);
        client.touch("key").await.unwrap();
        assert_eq!(client.fail().await.unwrap_err(), CallError::Panicked);
        handle.stop();
        serving.await.unwrap().unwrap();
    });
}
