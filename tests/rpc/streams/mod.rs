//! Streams of replies: order, windows, and every way in which a stream can end, over the platform's own transport and in
//! memory, with and without a pool; on threads, on tokio, and all pairs of them.
//!
//! `PIPETALK_STRESS` is the number of items of the long stream: 1,000,000 unless set in a release build, fewer otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test says what it expects by unwrapping it, and the same of each driver"
)]

mod clients;
#[path = "../util/drivers.rs"]
mod drivers;
mod left;
mod service;
#[path = "../util/mod.rs"]
mod util;

/// The suite with one kind of client and one kind of server.
macro_rules! pair {
    ($name:ident: $client:ident $server:ident) => {
        #[path = "."]
        mod $name {
            mod driver {
                pub(super) use crate::clients::$client::*;
                pub(super) use crate::service::$server::*;
            }
            #[path = "ends.rs"]
            mod ends;
            #[path = "items.rs"]
            mod items;
            #[path = "servers.rs"]
            mod servers;
            #[path = "town.rs"]
            mod town;
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
#[cfg(feature = "tokio")]
pair!(tasks_call_blocking_tasks: tasks on_blocking_tasks);
