//! Peers on a Unix socket that die, stall, lie and flood: each gets the error that the contract names, within the
//! deadline and the stated memory, and nobody else notices.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod crowds;
mod flow;
mod lengths;
mod noise;
mod pieces;
mod town;
#[path = "../util/mod.rs"]
mod util;

mod actors {
    use crate::lengths::measure;
    use crate::util::play;

    /// A process of its own, where nobody else's memory is counted.
    #[test]
    fn actor() {
        play(|part, args| match (part, args) {
            ("measure", []) => measure(),
            _ => panic!("there is no part {part:?} with {args:?}"),
        });
    }
}
