//! The trait [`Codec`].

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::error::CodecError;

/// A way to write values as bytes and to read them again.
///
/// A codec is a type and has no values of interest: it is chosen where the types are, and both sides tell each
/// other its [name](Codec::NAME) before the first value.
///
/// # Implementing
///
/// Any format that serde knows will do. Decode through [`guarded`](crate::codec::guarded), which makes a deserializer safe against a
/// hostile peer, and refuse what is left over:
///
/// ```
/// use pipetalk::codec::{self, Codec, CodecError};
/// use serde::{Deserialize, Serialize};
///
/// /// Messages that a person can read.
/// #[derive(Debug, Clone, Copy, Default)]
/// struct Json;
///
/// impl Codec for Json {
///     const NAME: &'static str = "json";
///
///     fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
///         let start = out.len();
///         serde_json::to_writer(&mut *out, value).map_err(|error| {
///             out.truncate(start);
///             CodecError::Encode(error.to_string())
///         })
///     }
///
///     fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
///         let mut json = serde_json::Deserializer::from_slice(bytes);
///         let value = codec::guarded(&mut json, bytes.len())?;
///         json.end().map_err(|error| CodecError::Malformed(error.to_string()))?;
///         Ok(value)
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Json::encode(&[1, 2, 3], &mut bytes)?;
/// assert_eq!(bytes, b"[1,2,3]");
/// assert_eq!(Json::decode::<Vec<u8>>(&bytes)?, [1, 2, 3]);
/// # Ok::<(), CodecError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec",
    note = "where no codec is named, `Bincode` is meant, which is one with feature `bincode` of pipetalk",
    note = "others are named: `Client<Request, Reply, Postcard>`, `serve_with::<Postcard, _>`, and \
            `#[codec = Postcard]` before the trait of a `service!`"
)]
pub trait Codec: Debug + Copy + Default + Send + Sync + 'static {
    /// What the codec is called when two peers compare: at most 32 bytes, and another one whenever the bytes of
    /// any value change.
    const NAME: &'static str;

    /// Whether a [large blob](crate::Blob) may be left out of `out`, and noted with its place. Only for who appends
    /// by `blob::write` and does nothing else with `out`.
    #[doc(hidden)]
    const LENDS: bool = false;

    /// Appends the bytes of `value` to `out`.
    ///
    /// # Errors
    ///
    /// [`CodecError::Encode`] if the value cannot be written in this format; `out` is then as it was. A value
    /// beyond the limits of [decoding](Codec::decode) is written all the same, and refused by the peer.
    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads the value that `bytes` hold. Strings and bytes in it may borrow from them.
    ///
    /// # Errors
    ///
    /// Whatever the bytes are, decoding ends, without a panic and within the [limits](crate::codec#limits). All but
    /// [`CodecError::Encode`] may come.
    fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError>;
}
