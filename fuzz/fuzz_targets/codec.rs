//! Decodes any bytes into values of many types, with every codec.
//!
//!     cargo +nightly fuzz run codec

#![no_main]

use libfuzzer_sys::fuzz_target;
// The target has both from the crate that it is a module of.
use serde::{Deserialize, Serialize};

#[path = "../../tests/codec/arbitrary.rs"]
mod target;

fuzz_target!(|data: &[u8]| target::run(data));
