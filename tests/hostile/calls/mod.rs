//! Peers that speak the typed protocol badly: too little, too much, nonsense, or nothing and then no more. Each
//! gets the answer that the documents promise, a well-behaved client beside it never waits longer than its
//! deadline, memory stays within a stated limit, and no thread is left over.
//!
//! What a peer can do below that, to messages themselves, is in `messages`.

pub(crate) mod bytes;
mod drivers;
pub(crate) mod gate;

util::pairs! {
    threads: against_client against_server crowds deaths held town;
    tasks: against_client against_server crowds deaths town;
    threads_call_blocking_tasks: against_server crowds deaths town;
}
