//! Typed calls between a client and a server: on threads, on tokio, and all pairs of them; and over transports that have
//! only what is required.

use util::drivers;

mod faulty;
mod floods;
mod room;

// Bare: transports that say nothing of their limit and of the peer, and are not dialled again. `late` and `turns` are about
// a server that has one request at a time, of a client or of all.
util::pairs! {
    threads: draining ends late limits named panics suite turns;
    tasks: draining ends limits named panics suite;
    threads_call_tasks: draining ends limits named panics suite;
    tasks_call_threads: draining ends late limits named panics suite turns;
    bare_threads: ends late panics suite turns;
    bare_tasks: ends panics suite;
}
