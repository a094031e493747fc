//! Steps both ends of a conversation against each other in any order, and each against a peer that sends any bytes.
//!
//!     cargo +nightly fuzz run session

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pipetalk::fuzzing::pair(data));
