//! The async transport over Windows pipes: what is particular to it, beside the conformance suite.
//!
//! Operations that outlive their futures, their threads and their runtimes, and foreign peers.

mod drops;
mod ending;
mod foreign;
mod harness;
mod listening;
mod messages;
mod runtimes;
