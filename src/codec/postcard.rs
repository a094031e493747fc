//! The codec postcard.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::contract::Codec;
use super::error::CodecError;
use super::guard::guarded;
use crate::blob;

/// Values as postcard 1 writes them: small integers in one byte, no names, no types.
///
/// The [specification] of the format is stable. Of the texts with which types object to a value, postcard keeps
/// none: an error says no more than that it was the type.
///
/// [specification]: https://postcard.jamesmunns.com
///
/// ```
/// use pipetalk::codec::{Codec, CodecError, Postcard};
///
/// let mut bytes = Vec::new();
/// Postcard::encode(&(300, "hi"), &mut bytes)?;
/// assert_eq!(bytes, [0xd8, 0x04, 2, b'h', b'i']);
/// assert_eq!(Postcard::decode::<(i32, &str)>(&bytes)?, (300, "hi"));
/// # Ok::<(), CodecError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Postcard;

impl Codec for Postcard {
    const NAME: &'static str = "postcard-1";

    const LENDS: bool = true;

    #[inline]
    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        postcard::serialize_with_flavor(value, Append(out)).map_err(|error| {
            out.truncate(start);
            CodecError::unwritable(error)
        })
    }

    #[inline]
    fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
        let mut postcard = postcard::Deserializer::from_bytes(bytes);
        let value = guarded(&mut postcard, bytes.len())?;
        match postcard.finalize().map_err(CodecError::malformed)? {
            [] => Ok(value),
            left => Err(CodecError::Trailing { bytes: left.len() }),
        }
    }
}

struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        blob::write(self.0, bytes);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
