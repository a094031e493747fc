//! Takes any bytes for messages, and puts together again what could be taken apart.
//!
//!     cargo +nightly fuzz run wire

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/wire.rs"]
#[allow(
    dead_code,
    reason = "a private module of the crate, which uses all of it"
)]
mod wire;

#[path = "../../tests/fuzzing/wire.rs"]
mod target;

fuzz_target!(|data: &[u8]| target::run(data));
