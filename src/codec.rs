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

mod contract;
mod default;
mod error;
mod guard;
pub(crate) mod outgoing;

pub use contract::Codec;
pub use default::{Bincode, DefaultCodec};
pub use error::CodecError;
pub use guard::{MAX_DEPTH, SPARE_ELEMENTS, guarded, max_memory};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
