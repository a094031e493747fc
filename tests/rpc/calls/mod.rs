//! Typed calls between a client and a server: on threads, on tokio, and all pairs of them; and over transports that have
//! only what is required.

#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "a test says what it expects by unwrapping it, and the same of each driver"
)]

#[path = "../util/drivers.rs"]
mod drivers;
mod faulty;
mod floods;
mod room;
#[path = "../util/mod.rs"]
mod util;

/// Suites with one kind of client and one kind of server.
macro_rules! suites {
    ($name:ident: $client:ident $server:ident: $($suite:ident)+) => {
        #[path = "."]
        mod $name {
            mod driver {
                pub(super) use crate::drivers::$client::*;
                pub(super) use crate::drivers::$server::*;
            }
            $(mod $suite;)+
        }
    };
}

macro_rules! pair {
    ($name:ident: $client:ident $server:ident) => {
        suites!($name: $client $server: ends limits named panics suite);
    };
}

/// As far as it concerns a transport that says nothing of its limit and of the peer, and is not dialled again.
macro_rules! bare_pair {
    ($name:ident: $client:ident $server:ident) => {
        suites!($name: $client $server: ends panics suite);
    };
}

pair!(threads: threads_call threads_serve);
#[cfg(feature = "tokio")]
pair!(tasks: tasks_call tasks_serve);
#[cfg(feature = "tokio")]
pair!(threads_call_tasks: threads_call tasks_serve);
#[cfg(feature = "tokio")]
pair!(tasks_call_threads: tasks_call threads_serve);
bare_pair!(bare_threads: bare_threads_call bare_threads_serve);
#[cfg(feature = "tokio")]
bare_pair!(bare_tasks: bare_tasks_call bare_tasks_serve);

/// With a server that has one request at a time: of a client, or of all.
macro_rules! one_by_one {
    ($name:ident: $client:ident $server:ident) => {
        suites!($name: $client $server: late turns);
    };
}

one_by_one!(threads_in_turn: threads_call threads_serve);
one_by_one!(bare_threads_in_turn: bare_threads_call bare_threads_serve);
#[cfg(feature = "tokio")]
one_by_one!(tasks_call_threads_in_turn: tasks_call threads_serve);

/// Over the crate's own transports, which can let in nobody more and still those who have come.
macro_rules! draining {
    ($name:ident: $client:ident $server:ident) => {
        suites!($name: $client $server: draining);
    };
}

draining!(threads_drained: threads_call threads_serve);
#[cfg(feature = "tokio")]
draining!(tasks_drained: tasks_call tasks_serve);
#[cfg(feature = "tokio")]
draining!(threads_call_tasks_drained: threads_call tasks_serve);
#[cfg(feature = "tokio")]
draining!(tasks_call_threads_drained: tasks_call threads_serve);
