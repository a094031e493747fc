//! The spans of calls, as a subscriber collects them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{Call, CallError, Client, ClientOptions, ServerOptions, memory};
use serde::Serializer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use util::Serialize;

mod service {
    pipetalk::service! {
        pub trait Counter {
            fn add(number: u32) -> u32;
            fn panic();
            notify touch();
        }

        pub struct CounterClient;
    }
}

use service::{Counter, CounterClient};

struct Zero;

impl Counter for Zero {
    fn add(&self, _call: &Call, number: u32) -> u32 {
        tracing::info!(target: "handler", number);
        number
    }

    fn panic(&self, _call: &Call) {
        util::panic_as_asked();
    }

    fn touch(&self, _call: &Call) {}
}

/// Fields by their names, and the name of the span as `span`.
type Fields = BTreeMap<String, String>;

/// What all tests of this file have in common: each has a service with a name of its own.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: Vec<Fields>,
    /// Of each event the span that it is in.
    events: Vec<usize>,
    ended: Vec<usize>,
}

thread_local! {
    static ENTERED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}").trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), value);
    }
}

fn place(id: &Id) -> usize {
    usize::try_from(id.into_u64()).unwrap() - 1
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        let target = span.metadata().target();
        let name = format!("{target}::{}", span.metadata().name());
        fields.insert("span".to_owned(), name);
        span.record(&mut Into(&mut fields));
        let mut collected = self.0.lock().unwrap();
        collected.spans.push(fields);
        Id::from_u64(collected.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Into(&mut self.0.lock().unwrap().spans[place(span)]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == "handler" {
            let inside = ENTERED.with_borrow(|entered| *entered.last().unwrap());
            self.0.lock().unwrap().events.push(inside);
        }
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(place(span)));
    }

    fn exit(&self, span: &Id) {
        let left = ENTERED.with_borrow_mut(Vec::pop);
        assert_eq!(left, Some(place(span)));
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.lock().unwrap().ended.push(place(&span));
        true
    }
}

impl Collector {
    /// The one of the process.
    fn of_all() -> Collector {
        static COLLECTOR: OnceLock<Collector> = OnceLock::new();
        let collect = || {
            let collector = Collector::default();
            tracing::subscriber::set_global_default(collector.clone()).unwrap();
            collector
        };
        COLLECTOR.get_or_init(collect).clone()
    }

    /// The spans of a service that have ended, once there are so many more; the earlier ones are forgotten.
    fn take(&self, service: &str, count: usize) -> Vec<Fields> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut collected = self.0.lock().unwrap();
            let Collected { spans, ended, .. } = &mut *collected;
            let of_service = |place: &usize| spans[*place]["service"] == service;
            if ended.iter().filter(|place| of_service(place)).count() >= count {
                let (taken, left) = ended.drain(..).partition(of_service);
                let taken: Vec<usize> = taken;
                *ended = left;
                let mut taken: Vec<Fields> =
                    taken.iter().map(|place| spans[*place].clone()).collect();
                taken.sort_by_key(|fields| fields["span"].clone());
                return taken;
            }
            drop(collected);
            assert!(Instant::now() < deadline, "{count} spans do not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next call of a service, as both sides saw it: each must have these fields, and a duration.
    fn expect(&self, service: &str, method: &str, call: &str, serve: &str) {
        let spans = self.take(service, 2);
        let pid = process::id().to_string();
        for (fields, (span, outcome)) in spans
            .iter()
            .zip([("pipetalk::call", call), ("pipetalk::serve", serve)])
        {
            let expected = [
                ("span", span),
                ("service", service),
                ("method", method),
                ("peer", pid.as_str()),
                ("outcome", outcome),
            ];
            for (name, value) in expected {
                assert_eq!(fields.get(name).unwrap(), value, "{name} in {fields:?}");
            }
            let duration: u64 = fields["duration_us"].parse().unwrap();
            assert!(duration < 30_000_000);
            assert_eq!(fields.len(), expected.len() + 1);
        }
        assert_eq!(spans.len(), 2);
    }

    /// The spans that the handlers of a service have said something in; they are forgotten.
    fn said_in(&self, service: &str) -> Vec<Fields> {
        let mut collected = self.0.lock().unwrap();
        let Collected { spans, events, .. } = &mut *collected;
        let (said, left) = events
            .drain(..)
            .partition(|place| spans[*place]["service"] == service);
        let said: Vec<usize> = said;
        *events = left;
        said.iter().map(|place| spans[*place].clone()).collect()
    }
}

#[test]
fn each_call_has_a_span_on_both_sides() {
    let _limit = util::limit(util::here!());
    let collector = Collector::of_all();
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new().on(listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(Zero.service()));
    let connect = || connector.connect(Duration::from_secs(30).into()).unwrap();
    let client = CounterClient::over(connect()).unwrap();

    assert_eq!(client.add(7), Ok(7));
    collector.expect("Counter", "add", "ok", "ok");
    let said = collector.said_in("Counter");
    assert_eq!(said[0]["span"], "pipetalk::serve");

    assert_eq!(client.panic(), Err(CallError::Panicked));
    collector.expect("Counter", "panic", "panicked", "panicked");

    client.touch().unwrap();
    collector.expect("Counter", "touch", "ok", "ok");

    client.channel().info().unwrap();
    collector.expect("Counter", "info", "ok", "ok");

    let unknown: Result<u32, CallError> = client.channel().call(9, &(), Default::default());
    assert!(matches!(unknown, Err(CallError::Protocol(_))));
    collector.expect("Counter", "9", "protocol error", "unknown method");

    // The server answers it without a handler.
    let other: Client<u32, u32> = ClientOptions::new()
        .service("Other", "")
        .over(connect())
        .unwrap();
    assert!(matches!(other.call(&1), Err(CallError::Incompatible(_))));
    let spans = collector.take("Other", 1);
    assert_eq!(spans[0]["outcome"], "incompatible");
    assert_eq!(spans[0]["method"], "0");
    assert_eq!(spans.len(), 1);

    handle.stop();
    serving.join().unwrap().unwrap();
}

/// What cannot be encoded without a panic.
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        util::panic_as_asked();
    }
}

#[test]
fn a_call_that_panics_on_its_way_says_so() {
    let _limit = util::limit(util::here!());
    let collector = Collector::of_all();
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new().service("Panics", "").on(listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(|(): (), _: &Call| ()));
    let client: Client<Panics, ()> = ClientOptions::new()
        .service("Panics", "")
        .over(connector.connect(Duration::from_secs(30).into()).unwrap())
        .unwrap();
    let called = panic::catch_unwind(AssertUnwindSafe(|| client.call(&Panics)));
    assert!(called.is_err());
    let spans = collector.take("Panics", 1);
    assert_eq!(spans[0]["outcome"], "panicked");
    assert!(spans[0].contains_key("duration_us"));
    handle.stop();
    serving.join().unwrap().unwrap();
}

#[cfg(feature = "tokio")]
mod tasks {
    use std::future::{Future, pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use pipetalk::tokio;

    use super::*;

    mod service {
        pipetalk::service! {
            pub trait Waiting {
                fn wait();
                notify told();
                stream watch() -> u32;
            }

            pub struct WaitingClient;
            pub async trait AsyncWaiting;
            pub async struct AsyncWaitingClient;
        }
    }

    use service::{AsyncWaiting, AsyncWaitingClient};

    /// Says something when it is dropped.
    struct Says;

    impl Drop for Says {
        fn drop(&mut self) {
            tracing::info!(target: "handler", "dropped");
        }
    }

    /// Tells when a handler has begun.
    struct Waits(::tokio::sync::mpsc::UnboundedSender<()>);

    impl AsyncWaiting for Waits {
        async fn wait(&self, _: &Call) {
            let _says = Says;
            // Once it is on a list, and once in its own task, which the client's end comes to.
            ::tokio::task::yield_now().await;
            self.0.send(()).unwrap();
            pending().await
        }

        async fn told(&self, _: &Call) {
            let _says = Says;
            self.0.send(()).unwrap();
            pending().await
        }

        async fn watch(&self, _: &Call, _items: tokio::ItemSink<u32>) {
            let _says = Says;
            self.0.send(()).unwrap();
            pending().await
        }
    }

    /// What the handlers say as they are dropped is said in their spans.
    fn expect_said(collector: &Collector, method: &str) {
        let said = collector.said_in("Waiting");
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0]["span"], "pipetalk::serve");
        assert_eq!(said[0]["method"], method);
    }

    #[test]
    fn what_is_dropped_says_so_in_its_span() {
        let _limit = util::limit(util::here!());
        let collector = Collector::of_all();
        let runtime = ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (listener, connector) = tokio::memory::listener();
            let server = ServerOptions::new().on_tokio(listener);
            let handle = server.handle();
            let (begins, mut begun) = ::tokio::sync::mpsc::unbounded_channel();
            let serving = ::tokio::spawn(server.serve(Waits(begins).service()));
            let stream = connector.connect(Duration::from_secs(30).into()).await;
            let client = AsyncWaitingClient::over(stream.unwrap()).unwrap();

            {
                let mut call = pin!(client.wait());
                let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
                assert!(!polled);
                begun.recv().await.unwrap();
            }
            within_a_while(&collector, "wait", "cancelled", "cancelled").await;
            expect_said(&collector, "wait");

            let items = client.watch().await.unwrap();
            begun.recv().await.unwrap();
            drop(items);
            within_a_while(&collector, "watch", "ok", "cancelled").await;
            expect_said(&collector, "watch");

            // A notification is nobody's to cancel, but for the server's end.
            client.told().await.unwrap();
            begun.recv().await.unwrap();
            handle.stop();
            serving.await.unwrap().unwrap();
            within_a_while(&collector, "told", "ok", "cancelled").await;
            expect_said(&collector, "told");
        });
    }

    /// As `expect`, while the runtime's only thread goes on.
    async fn within_a_while(collector: &Collector, method: &str, call: &str, serve: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let of_service = |place: &usize| {
            let collected = collector.0.lock().unwrap();
            collected.spans[*place]["service"] == "Waiting"
        };
        loop {
            let ended = collector.0.lock().unwrap().ended.clone();
            if ended.iter().filter(|place| of_service(place)).count() >= 2 {
                return collector.expect("Waiting", method, call, serve);
            }
            assert!(
                Instant::now() < deadline,
                "the spans of {method} do not end"
            );
            ::tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
