//! Typed calls between a client and a server: on threads, on tokio, and all pairs of them.

#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test says what it expects by unwrapping it, and the same of each driver"
)]

#[path = "../util/drivers.rs"]
mod drivers;
mod faulty;
mod room;
#[path = "../util/mod.rs"]
mod util;

/// The suite with one kind of client and one kind of server.
macro_rules! pair {
    ($name:ident: $client:ident $server:ident) => {
        #[path = "."]
        mod $name {
            mod driver {
                pub(super) use crate::drivers::$client::*;
                pub(super) use crate::drivers::$server::*;
            }
            #[path = "limits.rs"]
            mod limits;
            #[path = "ends.rs"]
            mod ends;
            #[path = "panics.rs"]
            mod panics;
            #[path = "suite.rs"]
            mod suite;
        }
    };
}

pair!(threads: threads_call threads_serve);
#[cfg(feature = "tokio")]
pair!(tasks: tasks_call tasks_serve);
#[cfg(feature = "tokio")]
pair!(threads_call_tasks: threads_call tasks_serve);
#[cfg(feature = "tokio")]
pair!(tasks_call_threads: tasks_call threads_serve);
