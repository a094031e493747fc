//! One item for many streams: on threads, on tokio, and all pairs of them.

#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test says what it expects by unwrapping it, and the same of each driver"
)]

#[path = "../util/drivers.rs"]
mod drivers;
mod service;
#[path = "../util/mod.rs"]
mod util;

use pipetalk::{Codec, DefaultCodec, Event};

/// The suite with one kind of client and one kind of server.
macro_rules! pair {
    ($name:ident: $client:ident $server:ident) => {
        #[path = "."]
        mod $name {
            mod driver {
                pub(super) use crate::service::$client::*;
                pub(super) use crate::service::$server::*;
            }
            #[path = "filters.rs"]
            mod filters;
            #[path = "suite.rs"]
            mod suite;
        }
    };
}

pair!(threads: threads on_threads);
#[cfg(feature = "tokio")]
pair!(tasks: tasks on_tasks);
#[cfg(feature = "tokio")]
pair!(threads_call_tasks: threads on_tasks);
#[cfg(feature = "tokio")]
pair!(threads_call_blocking_tasks: threads on_blocking_tasks);
#[cfg(feature = "tokio")]
pair!(tasks_call_threads: tasks on_threads);

#[test]
fn an_event_is_on_the_wire_as_a_result_is() {
    let encode = |event: &Event<u16>| {
        let mut bytes = Vec::new();
        DefaultCodec::encode(event, &mut bytes).unwrap();
        let decoded: Event<u16> = DefaultCodec::decode(&bytes).unwrap();
        assert_eq!(decoded, *event);
        bytes
    };
    assert_eq!(encode(&Event::Item(7)), [0, 7]);
    assert_eq!(encode(&Event::Missed(9)), [1, 9]);
    assert!(DefaultCodec::decode::<Event<u16>>(&[2, 9]).is_err());
}
