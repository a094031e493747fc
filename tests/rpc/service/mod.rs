//! What `service!` makes.

mod scopes;
#[cfg(feature = "tokio")]
mod tasks;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pipetalk::server::Handler;
use pipetalk::{
    Blob, Call, CallError, CallOptions, Channel, ClientOptions, DefaultCodec, ItemSink, Listener,
    LocalListener, Server, ServerHandle, ServerOptions, Stream, memory,
};

use util::{A_MOMENT, A_WHILE, Deserialize, Place, Serialize, here, limit, soon};

pipetalk::service! {
    /// A small key-value store.
    pub(crate) trait Kv {
        /// The value of a key.
        #[idempotent]
        fn get(key: String) -> Option<Blob>;
        fn put(key: String, value: Blob) -> Result<(), PutError>;
        notify touch(key: String);
        fn wait();
        fn fail() -> ();
    }

    /// Calls a key-value store.
    pub(crate) struct KvClient;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PutError {
    EmptyKey,
}

struct Store {
    values: Mutex<HashMap<String, Blob>>,
    touched: Mutex<Sender<String>>,
}

impl Kv for Store {
    fn get(&self, _: &Call, key: String) -> Option<Blob> {
        self.values.lock().get(&key).cloned()
    }

    fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
        if key.is_empty() {
            return Err(PutError::EmptyKey);
        }
        self.values.lock().insert(key, value);
        Ok(())
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
}

fn store() -> Store {
    Store {
        values: Mutex::default(),
        touched: Mutex::new(channel().0),
    }
}

/// A server that is ended when this is dropped.
struct Serving {
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Serving {
    fn start<L: Listener, M: 'static>(
        server: Server<L>,
        handler: impl Handler<DefaultCodec, M>,
    ) -> Serving {
        Serving {
            handle: server.handle(),
            thread: Some(thread::spawn(move || server.serve(handler))),
        }
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
fn methods_are_called_by_name() {
    let _limit = limit(here!());
    let place = Place::new();
    let (sender, touched) = channel();
    let store = Store {
        touched: Mutex::new(sender),
        ..store()
    };
    let _serving = Serving::start(Server::bind(place.name()).unwrap(), store.service());
    let client = KvClient::connect(place.name()).unwrap();
    assert_eq!(client.get("key").unwrap(), None);
    assert_eq!(client.put("key", &"value".into()).unwrap(), Ok(()));
    assert_eq!(client.clone().get("key").unwrap(), Some("value".into()));
    let error = client.put("", &Blob::new()).unwrap();
    assert_eq!(error, Err(PutError::EmptyKey));
    client.touch("touched").unwrap();
    assert_eq!(touched.recv_timeout(A_WHILE).unwrap(), "touched");
    assert_eq!(client.fail().unwrap_err(), CallError::Panicked);
    // An owned key will do as well.
    assert!(client.get(&String::from("key")).unwrap().is_some());
}

#[test]
fn a_deadline_is_for_the_calls_of_its_client() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), store().service());
    let client = KvClient::over(connector.connect(soon()).unwrap()).unwrap();
    let late = CallError::TimedOut { sent: true };
    assert_eq!(client.with_deadline(A_MOMENT).wait().unwrap_err(), late);
    let moment = CallOptions::new().deadline(A_MOMENT);
    assert_eq!(client.with(moment).wait().unwrap_err(), late);
    assert_eq!(client.get("key").unwrap(), None);
    let hurried = client.with_deadline(Duration::ZERO);
    let error = hurried.get("key").unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    assert_eq!(client.get("key").unwrap(), None);
}

/// A server that takes one request and dies of it, and one after it that does not.
fn twice(place: &Place, first: LocalListener) -> Serving {
    let stream = first.accept(soon()).unwrap();
    let mut message = Vec::new();
    for _ in ["hello", "request"] {
        stream.recv_message(&mut message, soon()).unwrap().unwrap();
    }
    drop((stream, first));
    Serving::start(Server::bind(place.name()).unwrap(), store().service())
}

#[test]
fn only_what_is_idempotent_is_tried_again() {
    let _limit = limit(here!());
    type Attempt = fn(&KvClient) -> Result<(), CallError>;
    let lost = Err(CallError::Disconnected { sent: true });
    let attempts: [(Attempt, _); 4] = [
        (|client| client.get("key").map(drop), Ok(())),
        (
            |client| client.put("key", &Blob::new()).map(drop),
            lost.clone(),
        ),
        (
            |client| {
                let options = CallOptions::new().idempotent(true);
                client.with(options).put("key", &Blob::new()).map(drop)
            },
            Ok(()),
        ),
        (|client| client.wait(), lost),
    ];
    for (attempt, expected) in attempts {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        thread::scope(|scope| {
            let serving = scope.spawn(|| twice(&place, listener));
            let options = ClientOptions::new().reconnect(true);
            let client = KvClient::connect_with(place.name(), options).unwrap();
            assert_eq!(attempt(&client), expected);
            drop(serving.join().unwrap());
        });
    }
}

pipetalk::service! {
    /// Has methods of each kind.
    #[name = "kinds"]
    trait Kinds {
        fn double(number: u32) -> u32;
        stream up_to(number: u32) -> u32;
        notify forget();
    }
    struct KindsClient;
}

pipetalk::service! {
    /// The same but for a kind.
    #[name = "kinds"]
    trait OtherKinds {
        fn double(number: u32) -> u32;
        fn up_to(number: u32) -> u32;
        notify forget();
    }
    struct OtherKindsClient;
}

struct Numbers;

impl Kinds for Numbers {
    fn double(&self, _: &Call, number: u32) -> u32 {
        2 * number
    }

    fn up_to(&self, _: &Call, number: u32, items: ItemSink<u32>) {
        (0..number).for_each(|number| items.send(&number).unwrap());
    }

    fn forget(&self, _: &Call) {}
}

impl OtherKinds for Numbers {
    fn double(&self, _: &Call, number: u32) -> u32 {
        2 * number
    }

    fn up_to(&self, _: &Call, number: u32) -> u32 {
        number
    }

    fn forget(&self, _: &Call) {}
}

#[test]
fn a_stream_is_iterated_over() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), Kinds::service(Numbers));
    let client = KindsClient::over(connector.connect(soon()).unwrap()).unwrap();
    let items: Result<Vec<u32>, CallError> = client.up_to(5).unwrap().collect();
    assert_eq!(items, Ok(vec![0, 1, 2, 3, 4]));
    assert_eq!(client.double(4), Ok(8));
    client.forget().unwrap();
}

#[test]
fn the_kind_of_a_method_is_in_the_fingerprint() {
    let _limit = limit(here!());
    let (_, _, fingerprint) = definition(Kinds::service(Numbers));
    // It is on the wire as well.
    assert_eq!(fingerprint, 0xe4fb_94cc_8636_ea57);
    assert_ne!(fingerprint, definition(OtherKinds::service(Numbers)).2);
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(
        ServerOptions::new().on(listener),
        OtherKinds::service(Numbers),
    );
    let client = KindsClient::over(connector.connect(soon()).unwrap()).unwrap();
    for _ in 0..2 {
        let error = match client.up_to(5) {
            Ok(mut items) => items.next().unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, CallError::Incompatible(_)), "{error:?}");
    }
    let other = OtherKindsClient::over(connector.connect(soon()).unwrap()).unwrap();
    assert_eq!(other.up_to(5), Ok(5));
    assert_eq!(other.double(5), Ok(10));
    other.forget().unwrap();
}

/// The name, version and fingerprint of a service.
fn definition<M>(handler: impl Handler<DefaultCodec, M>) -> (&'static str, &'static str, u64) {
    (handler.service(), handler.version(), handler.fingerprint())
}

#[test]
fn client_and_server_say_the_same_of_themselves() {
    let _limit = limit(here!());
    let (name, version, fingerprint) = definition(store().service());
    // It is on the wire: no version of the compiler, and none of this crate, may change it.
    assert_eq!(fingerprint, 0x41e6_7cb1_7248_59c8);
    assert_eq!((name, version), ("Kv", env!("CARGO_PKG_VERSION")));

    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), store().service());
    let connect = || connector.connect(soon()).unwrap();
    let client = KvClient::over(connect()).unwrap();
    client.get("key").unwrap();
    let server = client.channel().server().unwrap();
    assert_eq!(
        (&*server.service, &*server.version, server.fingerprint),
        (name, version, fingerprint)
    );

    // What the client says of itself is seen where it is refused.
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new()
        .service("Other", "7.7")
        .fingerprint(7)
        .on(listener);
    let _serving = Serving::start(server, |(): (), _: &Call| ());
    let connect = || connector.connect(soon()).unwrap();
    for (options, expected) in [
        (ClientOptions::new(), version),
        (ClientOptions::new().version("8.8"), "8.8"),
        (ClientOptions::new().service("Mine", "9.9"), "9.9"),
    ] {
        let client = KvClient::over_with(connect(), options).unwrap();
        let CallError::Incompatible(parties) = client.get("key").unwrap_err() else {
            panic!("it fits");
        };
        let (ours, theirs) = (&parties.ours, &parties.theirs);
        assert_eq!(
            (&*ours.service, &*ours.version, ours.fingerprint),
            (name, expected, fingerprint)
        );
        assert_eq!(
            (&*theirs.service, &*theirs.version, theirs.fingerprint),
            ("Other", "7.7", 7)
        );
    }
}

/// Makes a service of some methods and gives what it says of itself.
macro_rules! definition_of {
    ({ $($attributes:tt)* } { $($methods:tt)* }) => {{
        pipetalk::service! {
            $($attributes)*
            trait Made { $($methods)* }
            struct MadeClient;
        }
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().fingerprint(1).service("", "").on(listener);
        let _serving = Serving::start(server, |(): (), _: &Call| ());
        let client = MadeClient::over(connector.connect(soon()).unwrap()).unwrap();
        let channel: &Channel = client.channel();
        match channel.call::<(), ()>(0, &(), CallOptions::new()) {
            Err(CallError::Incompatible(parties)) => parties.ours,
            other => panic!("{other:?}"),
        }
    }};
}

#[test]
fn a_name_and_a_version_can_be_given() {
    let _limit = limit(here!());
    let made = definition_of!({} {});
    assert_eq!(
        (&*made.service, &*made.version),
        ("Made", env!("CARGO_PKG_VERSION"))
    );
    let made = definition_of!({
        /// Comments may stand
        #[name = "acme.made"]
        /// between
        #[version = concat!("1.", "2")]
        /// them.
    } {});
    assert_eq!((&*made.service, &*made.version), ("acme.made", "1.2"));
}

#[test]
fn the_fingerprint_is_of_the_methods_and_their_types() {
    let _limit = limit(here!());
    let first = definition_of!({} {
        fn get(key: String) -> Option<Blob>;
        notify touch(keys: HashMap<String, Vec<u8>>);
    });
    let same = definition_of!({ #[name = "other"] #[version = "3"] } {
        /// With a comment.
        #[idempotent]
        fn get(other: String,) -> Option < Blob >;
        notify touch(keys: HashMap<String, Vec<u8>,>);
    });
    assert_eq!(first.fingerprint, same.fingerprint);
    let mut all = vec![
        first,
        definition_of!({} {}),
        definition_of!({} { fn get(key: String) -> Option<Blob>; }),
        definition_of!({} { fn get(key: String) -> Blob; }),
        definition_of!({} { fn get(key: String); }),
        definition_of!({} { fn get(key: u64); }),
        definition_of!({} { fn get(a: u64, b: u64); }),
        definition_of!({} { fn got(key: u64); }),
        definition_of!({} { notify get(key: u64); }),
        definition_of!({} {
            notify touch(keys: HashMap<String, Vec<u8>>);
            fn get(key: String) -> Option<Blob>;
        }),
    ];
    let count = all.len();
    all.sort_by_key(|made| made.fingerprint);
    all.dedup_by_key(|made| made.fingerprint);
    assert_eq!(all.len(), count);
}

#[test]
fn a_method_that_the_server_has_not_is_an_error() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), store().service());
    let client = KvClient::over(connector.connect(soon()).unwrap()).unwrap();
    let error = client
        .channel()
        .call::<_, ()>(5, &(), CallOptions::new())
        .unwrap_err();
    assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
    let error = client
        .channel()
        .call::<_, ()>(0, &7u8, CallOptions::new())
        .unwrap_err();
    assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
    assert_eq!(client.get("key").unwrap(), None);
}

mod words {
    //! Everything that a definition may say, in names that the macro might use itself.

    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct T(pub(super) i8);

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct Method;

    pipetalk::service! {
        pub(super) trait Words {
            fn numbers(call: u8, reply: i128, payload: f64, method: bool, service: char) -> String;
            fn vectors(a: Vec<Vec<u8>>, b: Vec<T>, c: Vec<String>,) -> usize;
            fn others(a: Option<u32>, b: (u8, String), c: BTreeMap<String, Vec<Method>>) -> (T, Method);
            #[deprecated]
            #[must_use]
            fn r#type(r#fn: [u8; 4]) -> [u8; 4];
            notify nothing();
            fn sixteen(
                a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8,
                i: u8, j: u8, k: u8, l: u8, m: u8, n: u8, o: u8, p: u8,
            ) -> u8;
        }

        #[allow(clippy::module_name_repetitions)]
        pub(super) struct WordsClient;
    }

    pub(super) struct Speaker;

    impl Words for Speaker {
        fn numbers(&self, _: &Call, a: u8, b: i128, c: f64, d: bool, e: char) -> String {
            format!("{a} {b} {c} {d} {e}")
        }
        fn vectors(&self, _: &Call, a: Vec<Vec<u8>>, b: Vec<T>, c: Vec<String>) -> usize {
            a.len() + b.len() + c.len()
        }
        fn others(
            &self,
            _: &Call,
            a: Option<u32>,
            b: (u8, String),
            c: BTreeMap<String, Vec<Method>>,
        ) -> (T, Method) {
            assert_eq!((a, b.0, c.len()), (Some(1), 2, 1));
            (T(-3), Method)
        }
        fn r#type(&self, _: &Call, r#fn: [u8; 4]) -> [u8; 4] {
            r#fn
        }
        fn nothing(&self, _: &Call) {}
        fn sixteen(
            &self,
            _: &Call,
            a: u8,
            b: u8,
            c: u8,
            d: u8,
            e: u8,
            f: u8,
            g: u8,
            h: u8,
            i: u8,
            j: u8,
            k: u8,
            l: u8,
            m: u8,
            n: u8,
            o: u8,
            p: u8,
        ) -> u8 {
            a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p
        }
    }
}

#[test]
fn any_words_and_types_will_do() {
    use words::{Method, Speaker, T, Words, WordsClient};

    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), Speaker.service());
    let client = WordsClient::over(connector.connect(soon()).unwrap()).unwrap();
    let text = client.numbers(1, -2, 3.5, true, 'x').unwrap();
    assert_eq!(text, "1 -2 3.5 true x");
    let count = client.vectors(&[vec![1], vec![]], &[T(1)], &[]).unwrap();
    assert_eq!(count, 3);
    let map = [("key".to_owned(), vec![Method; 3])].into();
    let others = client.others(&Some(1), &(2, "two".into()), &map).unwrap();
    assert_eq!(others, (T(-3), Method));
    #[allow(deprecated)]
    let array = client.r#type(&[1, 2, 3, 4]).unwrap();
    assert_eq!(array, [1, 2, 3, 4]);
    client.nothing().unwrap();
    let sum = client.sixteen(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    assert_eq!(sum.unwrap(), 136);
}

/// A service of many methods, with a long comment on each.
macro_rules! many {
    ([$($name:ident)*] $lines:tt) => {
        many! { @ $(($name $lines))* }
        impl Many for Number {
            $(fn $name(&self, _: &Call, add: u32) -> u32 { self.0 + add })*
        }
    };
    (@ $(($name:ident [$($line:literal)*]))*) => {
        pipetalk::service! {
            trait Many {
                $($(#[doc = $line])* #[idempotent] fn $name(add: u32) -> u32;)*
            }
            struct ManyClient;
        }
    };
}

struct Number(u32);

many! {
    [
        a0 a1 a2 a3 a4 a5 a6 a7 a8 a9
        b0 b1 b2 b3 b4 b5 b6 b7 b8 b9
        c0 c1 c2 c3 c4 c5 c6 c7 c8 c9
        d0 d1 d2 d3 d4 d5 d6 d7 d8 d9
        e0 e1 e2 e3 e4 e5 e6 e7 e8 e9
        f0 f1 f2 f3 f4 f5 f6 f7 f8 f9
        g0 g1 g2 g3 g4 g5 g6 g7 g8 g9
        h0 h1 h2 h3 h4 h5 h6 h7 h8 h9
        i0 i1 i2 i3 i4 i5 i6 i7 i8 i9
        j0 j1 j2 j3 j4 j5 j6 j7 j8 j9
        k0 k1 k2 k3 k4 k5 k6 k7 k8 k9
        l0 l1 l2 l3 l4 l5 l6 l7 l8 l9
        m0 m1 m2 m3 m4 m5 m6 m7 m8 m9
        n0 n1 n2 n3 n4 n5 n6 n7 n8 n9
    ]
    [
        "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22" "23" "24"
        "25" "26" "27" "28" "29" "30" "31" "32" "33" "34" "35" "36" "37" "38" "39" "40" "41" "42" "43" "44" "45" "46" "47" "48" "49"
        "50" "51" "52" "53" "54" "55" "56" "57" "58" "59" "60" "61" "62" "63" "64" "65" "66" "67" "68" "69" "70" "71" "72" "73" "74"
        "75" "76" "77" "78" "79" "80" "81" "82" "83" "84" "85" "86" "87" "88" "89" "90" "91" "92" "93" "94" "95" "96" "97" "98" "99"
        "100" "101" "102" "103" "104" "105" "106" "107" "108" "109" "110" "111" "112" "113" "114" "115" "116" "117" "118" "119" "120" "121" "122" "123" "124"
        "125" "126" "127" "128" "129" "130" "131" "132" "133" "134" "135" "136" "137" "138" "139" "140" "141" "142" "143" "144" "145" "146" "147" "148" "149"
        "150" "151" "152" "153" "154" "155" "156" "157" "158" "159" "160" "161" "162" "163" "164" "165" "166" "167" "168" "169" "170" "171" "172" "173" "174"
        "175" "176" "177" "178" "179" "180" "181" "182" "183" "184" "185" "186" "187" "188" "189" "190" "191" "192" "193" "194" "195" "196" "197" "198" "199"
    ]
}

#[test]
fn a_service_may_be_large() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), Number(40).service());
    let client = ManyClient::over(connector.connect(soon()).unwrap()).unwrap();
    assert_eq!(client.a0(2).unwrap(), 42);
    assert_eq!(client.n9(2).unwrap(), 42);
}

#[test]
fn what_is_shared_is_served_as_well() {
    let _limit = limit(here!());
    let store = Arc::new(store());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(
        ServerOptions::new().on(listener),
        Arc::clone(&store).service(),
    );
    let client = KvClient::over(connector.connect(soon()).unwrap()).unwrap();
    assert_eq!(client.put("key", &"value".into()).unwrap(), Ok(()));
    assert_eq!(store.values.lock()["key"], Blob::from("value"));
    assert_eq!(client.fail().unwrap_err(), CallError::Panicked);

    // Also whatever its type.
    let numbers: Arc<dyn Kinds> = Arc::new(Numbers);
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), numbers.service());
    let client = KindsClient::over(connector.connect(soon()).unwrap()).unwrap();
    let items: Result<Vec<u32>, CallError> = client.up_to(3).unwrap().collect();
    assert_eq!(items, Ok(vec![0, 1, 2]));
    assert_eq!(client.double(4), Ok(8));
    client.forget().unwrap();
}
