//! Steps two sessions against each other in any order, and each against a peer that sends any bytes.
//!
//!     cargo +nightly fuzz run session

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/session.rs"]
#[allow(
    dead_code,
    reason = "a private module of the crate, which uses all of it"
)]
mod session;
#[path = "../../src/wire.rs"]
#[allow(
    dead_code,
    reason = "a private module of the crate, which uses all of it"
)]
mod wire;

#[path = "../../tests/fuzzing/session.rs"]
mod target;

fuzz_target!(|data: &[u8]| target::run(data));
