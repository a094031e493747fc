//! Who waits for what: the bookkeeping of a typed conversation, for both roles.
//!
//! Nothing here reads, writes, waits or looks at a clock: a driver hands in each message that it receives, and is
//! told what it means. So the blocking and the asynchronous drivers are the same protocol, and the tests step two
//! sessions against each other through every order of messages that matters.
//!
//! ```text
//!     client                                       server
//!       | hello, request 1                           |
//!       |------------------------------------------->| compatible? welcome : refusal
//!       |                          welcome, reply 1  |
//!       |<-------------------------------------------|
//!       | request 2, request 3, cancel 2             | each request is answered exactly once,
//!       |------------------------------------------->| in any order, also when it is cancelled
//!       |                          reply 3, error 2  |
//!       |<-------------------------------------------|
//! ```
//!
//! That each request is answered exactly once is what makes an id safe to use again: a call that its caller has
//! given up keeps its place until the late answer has come. A stream is a request too, with any number of items
//! before its answer, which is its end:
//!
//! ```text
//!     client                                       server
//!       | open 1, with 64 credits                    |
//!       |------------------------------------------->| items as far as the credit goes
//!       |           item 1, item 1, item 1, item 1   |
//!       |<-------------------------------------------|
//!       | credit 1: 32 more                          | once the consumer has taken them
//!       |------------------------------------------->|
//!       |                            item 1, end 1   |
//!       |<-------------------------------------------|
//! ```

pub(crate) mod call_error;
#[cfg_attr(
    not(feature = "tokio"),
    allow(
        dead_code,
        reason = "the blocking driver queues no requests, and its callers mind their deadlines themselves"
    )
)]
pub(crate) mod client;
mod credit;
pub(crate) mod definition;
#[cfg(any(test, fuzzing))]
pub(crate) mod pair;
mod party;
mod server;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
pub(crate) mod woken;

pub(crate) use client::MAX_IN_FLIGHT;
pub(crate) use party::Party;
#[cfg(test)]
pub(crate) use party::compatible;
pub(crate) use server::{ServerEvent, ServerSession};
pub(crate) use wire::control;
