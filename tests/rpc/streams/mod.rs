//! Streams of replies: order, windows, and every way in which a stream can end, over the platform's own transport and in
//! memory, with and without a pool; on threads, on tokio, and all pairs of them.
//!
//! `PIPETALK_STRESS` is the number of items of the long stream: 1,000,000 in a thorough run of a release build unless set,
//! fewer otherwise.

mod clients;
mod left;
mod service;

mod drivers {
    pub(super) use super::clients::*;
    pub(super) use super::service::*;
}

util::pairs! {
    threads: ends items servers town;
    tasks: ends items servers town;
    threads_call_tasks: ends items servers town;
    threads_call_blocking_tasks: ends items servers town;
    tasks_call_threads: ends items servers town;
    tasks_call_blocking_tasks: ends items servers town;
}
