//! Takes any bytes for messages, and puts together again what could be taken apart.
//!
//!     cargo +nightly fuzz run wire

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pipetalk::fuzzing::wire(data));
