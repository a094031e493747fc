//! How values become bytes: the [`Codec`] trait, the codecs that come with the crate, and the guard through which
//! each of them decodes.
//!
//! Bytes from a peer are a claim. The formats themselves believe it: nine bytes that claim a long string abort a
//! process that asks bare bincode for a `String`, a few kilobytes of a recursive type overflow the stack, five
//! bytes of a `Vec<()>` keep a processor busy for seconds, and what follows the value is not looked at. So every
//! codec here decodes through [`guarded`], which holds any format to the limits below.
//!
//! ```
//! use pipetalk::codec::{Codec, CodecError, DefaultCodec};
//!
//! let mut bytes = Vec::new();
//! DefaultCodec::encode(&("answer", Some(42)), &mut bytes)?;
//! let (name, value): (&str, Option<i32>) = DefaultCodec::decode(&bytes)?;
//! assert_eq!((name, value), ("answer", Some(42)));
//!
//! bytes.push(0);
//! let error = DefaultCodec::decode::<(&str, Option<i32>)>(&bytes).unwrap_err();
//! assert_eq!(error, CodecError::Trailing { bytes: 1 });
//! # Ok::<(), CodecError>(())
//! ```
//!
//! # Limits
//!
//! | what | limit | over it |
//! |---|---|---|
//! | values inside one another | [`MAX_DEPTH`] | [`CodecError::TooDeep`] |
//! | elements of sequences and entries of maps, in all | the bytes of input and [`SPARE_ELEMENTS`] | [`CodecError::TooManyElements`] |
//! | memory for elements, entries, and large values behind pointers | [`max_memory`]: 64 bytes for each byte of input, and 1 MiB; beyond 32 MiB, 16 bytes for each byte | [`CodecError::TooMuchMemory`] |
//! | elements that memory is set aside for before they have come | as many as there are bytes of input | grows as they come |
//! | a string's or a byte array's length | the input that is left | [`CodecError::Malformed`] |
//! | bytes after the value | none | [`CodecError::Trailing`] |
//! | an error's text | 256 bytes | cut off |
//!
//! A message of *n* bytes thus costs time and memory in proportion to *n*, whatever its type. How large a message may be
//! is for the [receiver](crate::DEFAULT_MAX_MESSAGE) to say.
//!
//! # Memory
//!
//! What is small in a message can be large in memory: an `Option` of a large struct that is `None`, or an `enum` with one
//! large variant, takes a byte of the message, and in a `Vec` as much memory as the largest value of its type. So the
//! guard counts bytes of memory: each element of a sequence with its size, and what a vector sets aside for more when it
//! grows; each entry of a map twice, and never less than eleven of them, which is the node of a `BTreeMap`; and each
//! value of more than 64 bytes behind a pointer. A claim of more ends the decoding before anything of it is set aside.
//! The limit leaves room for whatever has a few bytes in the message for each element. If an honest message meets it, put
//! a `Box` around what is large and mostly absent, or send a stream of smaller messages.
//!
//! Not counted are strings and bytes, which are as long as they are in the message; values of up to 64 bytes behind
//! pointers, each of which takes a byte of the message at least; what an allocator adds to each piece; the further room
//! in a `BTreeSet`; and what a `Deserialize` implementation allocates that was not derived, on its own account or on a
//! size hint, or that decodes its elements elsewhere than where it is asked to return them. Where memory is short, what
//! the crate sets aside for a message fails as an error. What serde and the collections set aside aborts the process, as
//! everywhere in Rust, if even the memory within these limits cannot be had.
//!
//! # What a type may be
//!
//! The codecs here write values one after the other with no names and no types between, so both sides need the
//! same type. serde's attributes that let the data say what follows cannot work: `flatten`, `tag`, `untagged`,
//! `skip_serializing_if`, and `skip` on one side only. Bytes belong into a [`Blob`](crate::Blob): a `Vec<u8>` goes
//! through serde one element at a time, which takes thirty times as long.

use std::fmt::{self, Debug, Display, Write};

use serde::{Deserialize, Serialize};

mod guard;
pub(crate) mod outgoing;

pub use guard::{MAX_DEPTH, SPARE_ELEMENTS, guarded, max_memory};

/// The codec that is meant where none is named: always this one, whatever features are on. Without feature `bincode` it
/// is a type and no [`Codec`], and a codec has to be named.
pub type DefaultCodec = Bincode;

/// Values as bincode 2 writes them in its standard configuration: small integers in one byte, no names, no types.
///
/// It is a [`Codec`] with feature `bincode`. The [specification] of bincode is the format's. The crate `bincode` itself
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

cfg_if::cfg_if! {
    if #[cfg(feature = "bincode")] {
        mod bincode;
    }
}

cfg_if::cfg_if! {
    if #[cfg(feature = "postcard")] {
        mod postcard;

        pub use self::postcard::Postcard;
    }
}

/// A way to write values as bytes and to read them again.
///
/// A codec is a type and has no values of interest: it is chosen where the types are, and both sides tell each
/// other its [name](Codec::NAME) before the first value.
///
/// # Implementing
///
/// Any format that serde knows will do. Decode through [`guarded`], which makes a deserializer safe against a
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
    /// Whatever the bytes are, decoding ends, without a panic and within the [limits](self#limits). All but
    /// [`CodecError::Encode`] may come.
    fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError>;
}

/// Why a value could not be written, or could not be read.
///
/// The texts are for people: they tell what a format found wrong, and may change with it. They hold no more than
/// 256 bytes, also where they quote what the peer has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are not a value of this type; the text says where it shows.
    Malformed(String),
    /// The value has more levels inside one another than [`MAX_DEPTH`].
    TooDeep {
        /// The limit, in levels.
        limit: usize,
    },
    /// The value claims more elements than a message of this size can hold.
    TooManyElements {
        /// The limit, in elements: the message's bytes and [`SPARE_ELEMENTS`].
        limit: usize,
    },
    /// The value takes more memory than a message of this size may have: see [the limits](self#memory).
    TooMuchMemory {
        /// The limit, in bytes: [`max_memory`] of the message's.
        limit: usize,
    },
    /// Bytes are left after the value.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The value cannot be written; the text says why.
    Encode(String),
}

/// What is kept of a text that a format or a type gives, in bytes. It may quote what a peer has sent, at any length.
const MAX_TEXT: usize = 256;

impl CodecError {
    #[cold]
    fn malformed(what: impl Display) -> CodecError {
        CodecError::Malformed(text(what))
    }

    #[cold]
    fn unwritable(what: impl Display) -> CodecError {
        CodecError::Encode(text(what))
    }
}

impl Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Malformed(what) => write!(f, "the bytes are not such a value: {what}"),
            CodecError::TooDeep { limit } => {
                write!(f, "the value is more than {limit} levels deep")
            }
            CodecError::TooManyElements { limit } => write!(
                f,
                "the value claims more than the {limit} elements that its message can hold"
            ),
            CodecError::TooMuchMemory { limit } => write!(
                f,
                "the value takes more than the {limit} bytes of memory that its message may have"
            ),
            CodecError::Trailing { bytes: 1 } => f.write_str("1 byte is left after the value"),
            CodecError::Trailing { bytes } => write!(f, "{bytes} bytes are left after the value"),
            CodecError::Encode(what) => write!(f, "the value cannot be encoded: {what}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// The first [`MAX_TEXT`] bytes of what is displayed. The rest is not even formatted.
fn text(what: impl Display) -> String {
    struct Start(String);

    impl Write for Start {
        fn write_str(&mut self, more: &str) -> fmt::Result {
            let mut end = more.len().min(MAX_TEXT - self.0.len());
            while !more.is_char_boundary(end) {
                end -= 1;
            }
            self.0.push_str(&more[..end]);
            if end < more.len() {
                return Err(fmt::Error);
            }
            Ok(())
        }
    }

    let mut start = Start(String::new());
    // The error is that of a full buffer, or of a `Display` that gives up: what there is will do for both.
    let _ = write!(start, "{what}");
    start.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_off_between_characters() {
        assert_eq!(text("short"), "short");
        assert_eq!(text("a".repeat(1 << 20)).len(), MAX_TEXT);
        // Two bytes each, so that the limit falls into the middle of one.
        let cut = text(format_args!("x{}", "ä".repeat(1000)));
        assert_eq!(cut.len(), MAX_TEXT - 1);
        assert!(cut.ends_with('ä'));
    }

    #[test]
    fn a_name_fits_the_hello() {
        fn check<C: Codec>() {
            assert!((1..=32).contains(&C::NAME.len()), "{}", C::NAME);
        }
        #[cfg(feature = "bincode")]
        check::<Bincode>();
        #[cfg(feature = "postcard")]
        check::<Postcard>();
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (error, says) in [
            (CodecError::Malformed("why".into()), "why"),
            (CodecError::TooDeep { limit: 7 }, "7 levels"),
            (CodecError::TooManyElements { limit: 9 }, "9 elements"),
            (CodecError::TooMuchMemory { limit: 9 }, "9 bytes of memory"),
            (CodecError::Trailing { bytes: 1 }, "1 byte is left"),
            (CodecError::Trailing { bytes: 3 }, "3 bytes are left"),
            (CodecError::Encode("why".into()), "why"),
        ] {
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
