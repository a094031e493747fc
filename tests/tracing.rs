//! The spans of calls, as a subscriber collects them.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{Call, CallError, Client, ClientOptions, ServerOptions, memory};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

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
        panic!("as asked");
    }

    fn touch(&self, _call: &Call) {}
}

/// Fields by their names, and the name of the span as `span`.
type Fields = BTreeMap<String, String>;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: Vec<Fields>,
    /// Of each event the span that it is in.
    events: Vec<Fields>,
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
            let mut collected = self.0.lock().unwrap();
            let span = collected.spans[inside].clone();
            collected.events.push(span);
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
    /// The spans that have ended, once there are so many more; the earlier ones are forgotten.
    fn take(&self, count: usize) -> Vec<Fields> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut collected = self.0.lock().unwrap();
            if collected.ended.len() >= count {
                let ended = std::mem::take(&mut collected.ended);
                let mut spans: Vec<Fields> = ended
                    .into_iter()
                    .map(|place| collected.spans[place].clone())
                    .collect();
                spans.sort_by_key(|fields| fields["span"].clone());
                return spans;
            }
            drop(collected);
            assert!(Instant::now() < deadline, "{count} spans do not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next call, as both sides saw it: each must have these fields, and a duration.
    fn expect(&self, method: &str, call: &str, serve: &str) {
        let spans = self.take(2);
        let pid = process::id().to_string();
        for (fields, (span, outcome)) in spans
            .iter()
            .zip([("pipetalk::call", call), ("pipetalk::serve", serve)])
        {
            let expected = [
                ("span", span),
                ("service", "Counter"),
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
}

#[test]
fn each_call_has_a_span_on_both_sides() {
    let collector = Collector::default();
    tracing::subscriber::set_global_default(collector.clone()).unwrap();
    let (listener, connector) = memory::listener();
    let server = ServerOptions::new().on(listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(Zero.service()));
    let connect = || connector.connect(Duration::from_secs(30).into()).unwrap();
    let client = CounterClient::over(connect()).unwrap();

    assert_eq!(client.add(7), Ok(7));
    collector.expect("add", "ok", "ok");
    let event = collector.0.lock().unwrap().events.pop().unwrap();
    assert_eq!(event["span"], "pipetalk::serve");

    assert_eq!(client.panic(), Err(CallError::Panicked));
    collector.expect("panic", "panicked", "panicked");

    client.touch().unwrap();
    collector.expect("touch", "ok", "ok");

    client.channel().info().unwrap();
    collector.expect("info", "ok", "ok");

    let unknown: Result<u32, CallError> = client.channel().call(9, &(), Default::default());
    assert!(matches!(unknown, Err(CallError::Protocol(_))));
    collector.expect("9", "protocol error", "unknown method");

    // The server answers it without a handler.
    let other: Client<u32, u32> = ClientOptions::new()
        .service("Other", "")
        .over(connect())
        .unwrap();
    assert!(matches!(other.call(&1), Err(CallError::Incompatible(_))));
    let spans = collector.take(1);
    assert_eq!(spans[0]["outcome"], "incompatible");
    assert_eq!(spans[0]["method"], "0");
    assert_eq!(spans.len(), 1);

    handle.stop();
    serving.join().unwrap().unwrap();
}
