//! Two sessions against each other in every short order of messages, in long orders at random, and each against
//! what no well-behaved peer sends.

mod both;
pub(super) mod messages;
mod orders;
mod random;
mod server;
mod streams;
