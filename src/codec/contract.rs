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
// Not a doc test of this crate, which would need that format for it; the tests in `tests/` have it.
#[cfg_attr(not(doctest), doc = include_str!("../../docs/codec-of-your-own.md"))]
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
