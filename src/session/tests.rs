//! Two sessions against each other in every short order of messages, in long orders at random, and each against
//! what no well-behaved peer sends.

// With their paths, as this file is included with its own.
#[path = "tests/both.rs"]
mod both;
#[path = "tests/client.rs"]
mod client;
#[path = "tests/messages.rs"]
mod messages;
#[path = "tests/orders.rs"]
mod orders;
#[path = "tests/random.rs"]
mod random;
#[path = "tests/server.rs"]
mod server;
#[path = "tests/streams.rs"]
mod streams;

#[path = "../../tests/fuzzing/session.rs"]
mod target;
