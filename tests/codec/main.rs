//! The codecs: their bytes, and what they make of bytes that a hostile peer has chosen.
//!
//! A test that holds for every codec runs as `bincode::...` and as `postcard::...`, for those that are built in.

#![cfg(feature = "typed")]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

/// Runs functions that are generic over the codec, as tests for each codec there is.
macro_rules! for_each_codec {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "bincode")]
        mod bincode {
            $(#[test] fn $test() {
                let _limit = util::limit(util::here!());
                super::$test::<pipetalk::codec::Bincode>();
            })*
        }
        #[cfg(feature = "postcard")]
        mod postcard {
            $(#[test] fn $test() {
                let _limit = util::limit(util::here!());
                super::$test::<pipetalk::codec::Postcard>();
            })*
        }
    };
}

mod depth;
mod elements;
mod format;
mod fuzz;
mod golden;
mod malformed;
mod memory;
#[cfg(feature = "postcard")]
mod named;

use pipetalk::Codec;
// `arbitrary` has them from here, and in `fuzz/` from there.
use util::{Deserialize, Serialize};

fn encoded<C: Codec>(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::new();
    C::encode(value, &mut bytes).unwrap();
    bytes
}
