//! The codec bincode: the one place that knows the crate by name.
//!
//! Version 2.0.1 is the last one ([RUSTSEC-2025-0141]: the crate is unmaintained, and 3.0.0 is a compile error). Its
//! format is what matters, and that is pinned byte by byte in `tests/codec/golden.rs`.
//!
//! [RUSTSEC-2025-0141]: https://rustsec.org/advisories/RUSTSEC-2025-0141.html

use std::marker::PhantomData;

use bincode::config::{self, Configuration};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::de::{DeserializeSeed, Deserializer};
use serde::{Deserialize, Serialize};

use super::contract::Codec;
use super::default::Bincode;
use super::error::CodecError;
use super::guard::Budget;
use crate::blob;

const CONFIG: Configuration = config::standard();

impl Codec for Bincode {
    const NAME: &'static str = "bincode-2";

    const LENDS: bool = true;

    #[inline]
    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        bincode::serde::encode_into_writer(value, Append(out), CONFIG).map_err(|error| {
            out.truncate(start);
            CodecError::unwritable(error)
        })
    }

    #[inline]
    fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
        let budget = Budget::new(bytes.len());
        let seed = Seed {
            budget: &budget,
            value: PhantomData,
        };
        let result = bincode::serde::seed_decode_from_slice(seed, bytes, CONFIG);
        let (value, used) = budget.close(result, describe)?;
        match bytes.len() - used {
            0 => Ok(value),
            left => Err(CodecError::Trailing { bytes: left }),
        }
    }
}

/// Only with a seed does bincode tell how much it has used.
struct Seed<'b, T> {
    budget: &'b Budget,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, bincode: D) -> Result<T, D::Error> {
        T::deserialize(self.budget.guard(bincode))
    }
}

/// bincode displays its errors as Rust prints them for debugging, in which a type's own text has quotes around it.
fn describe(error: DecodeError) -> CodecError {
    match error {
        DecodeError::OtherString(text) => CodecError::malformed(text),
        error => CodecError::malformed(error),
    }
}

struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        blob::write(self.0, bytes);
        Ok(())
    }
}
