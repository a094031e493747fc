//! The codec that is meant where none is named.

/// The codec that is meant where none is named: always this one, whatever features are on. Without feature `bincode` it
/// is a type and no [`Codec`](crate::codec::Codec), and a codec has to be named.
pub type DefaultCodec = Bincode;

/// Values as bincode 2 writes them in its standard configuration: small integers in one byte, no names, no types.
///
/// It is a [`Codec`](crate::codec::Codec) with feature `bincode`. The [specification] of bincode is the format's. The crate `bincode` itself
/// is no longer maintained ([RUSTSEC-2025-0141]); for those whose rules exclude it, there are the feature `postcard`, and
/// codecs of their own.
///
/// [specification]: https://docs.rs/bincode/2.0.1/bincode/spec/index.html
/// [RUSTSEC-2025-0141]: https://rustsec.org/advisories/RUSTSEC-2025-0141.html
///
/// ```
/// use pipetalk::codec::{Bincode, Codec, CodecError};
///
/// let mut bytes = Vec::new();
/// Bincode::encode(&(300, "hi"), &mut bytes)?;
/// assert_eq!(bytes, [0xfb, 0x58, 0x02, 2, b'h', b'i']);
/// assert_eq!(Bincode::decode::<(i32, &str)>(&bytes)?, (300, "hi"));
///
/// // Nine bytes that claim a string of 2^56 bytes.
/// let error = Bincode::decode::<String>(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap_err();
/// assert!(matches!(error, CodecError::Malformed(_)));
/// # Ok::<(), CodecError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bincode;
