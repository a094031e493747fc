//! [`Blob`]: bytes inside a message, read where they lie.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::sync::Arc;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod bytes;
mod lending;

pub use bytes::Blob;
#[cfg(any(feature = "bincode", feature = "postcard"))]
pub(crate) use lending::write;
pub(crate) use lending::{LARGE, Lent, lending};

impl Serialize for Blob {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lending::offering(self, || serializer.serialize_bytes(self))
    }
}

impl<'de> Deserialize<'de> for Blob {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    #[inline]
    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Blob, E> {
        Ok(shared(bytes).unwrap_or_else(|| bytes.into()))
    }

    #[inline]
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(bytes.into())
    }

    #[inline]
    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(bytes.into())
    }

    /// For a format that has no bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Blob, A::Error> {
        // The hint is the peer's claim, unless a guard has seen to it.
        let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

thread_local! {
    /// The message that this thread is decoding.
    static MESSAGE: RefCell<Option<Arc<Vec<u8>>>> = const { RefCell::new(None) };
}

/// Decodes something out of `message`, such that every [`Blob`] in it is a slice of `message`.
///
/// When it returns, only these hold `message` besides the caller: with them gone, [`Arc::get_mut`] gives the buffer
/// back for the next message. What else is decoded meanwhile on this thread, out of other bytes, is copied.
///
/// serde hands a visitor a slice and no owner, hence the thread's variable.
#[inline]
pub(crate) fn sharing<R>(message: &Arc<Vec<u8>>, decode: impl FnOnce() -> R) -> R {
    /// Puts back what was there before, also when `decode` panics.
    struct Restore(Option<Arc<Vec<u8>>>);

    impl Drop for Restore {
        fn drop(&mut self) {
            swap(&mut self.0);
        }
    }

    let mut outer = Some(message.clone());
    swap(&mut outer);
    let _restore = Restore(outer);
    decode()
}

/// In a thread that is ending there is no variable any more, and a `Blob` is a copy.
#[inline]
fn swap(message: &mut Option<Arc<Vec<u8>>>) {
    let _ = MESSAGE.try_with(|current| mem::swap(&mut *current.borrow_mut(), message));
}

/// The part of the thread's message that `bytes` are, if they are.
fn shared(bytes: &[u8]) -> Option<Blob> {
    let found = MESSAGE.try_with(|message| {
        let message = message.borrow();
        let message = message.as_ref()?;
        let start = bytes.as_ptr().addr().checked_sub(message.as_ptr().addr())?;
        let end = start.checked_add(bytes.len())?;
        (end <= message.len()).then(|| Blob::part(message, start, bytes.len()))
    });
    found.ok().flatten()
}

#[cfg(test)]
#[cfg(feature = "bincode")]
mod tests {
    use std::collections::HashMap;
    use std::ops::Bound;
    use std::panic;

    use super::*;
    use crate::codec::{Codec, DefaultCodec};

    fn message<T: Serialize>(value: &T) -> Arc<Vec<u8>> {
        let mut bytes = b"header".to_vec();
        DefaultCodec::encode(value, &mut bytes).unwrap();
        Arc::new(bytes)
    }

    fn decode<T: for<'de> Deserialize<'de>>(message: &Arc<Vec<u8>>) -> T {
        sharing(message, || DefaultCodec::decode(&message[6..])).unwrap()
    }

    #[test]
    fn a_blob_is_a_slice_of_the_message() {
        let mut message = message(&(1u8, Blob::from(vec![7; 1 << 20]), "after"));
        let (before, blob, after): (u8, Blob, String) = decode(&message);
        assert_eq!((before, &*after), (1, "after"));
        assert_eq!(blob, vec![7; 1 << 20]);
        // After it come a byte of length and a text of five.
        let start = message.len() - 6 - (1 << 20);
        assert_eq!(blob.as_ptr(), message[start..].as_ptr());

        let part = blob.clone().slice(1000..2000);
        assert_eq!(part.as_ptr(), message[start + 1000..].as_ptr());
        drop(blob);
        assert!(Arc::get_mut(&mut message).is_none());
        drop(part);
        assert!(Arc::get_mut(&mut message).is_some());
    }

    #[test]
    fn a_blob_outlives_the_message() {
        let blob: Blob = decode(&message(&Blob::from("content")));
        assert_eq!(blob, "content");
        assert_eq!(blob.into_vec(), b"content");
    }

    #[test]
    fn an_empty_blob_does_not_keep_the_message() {
        let mut message = message(&Blob::new());
        let blob: Blob = decode(&message);
        assert!(blob.is_empty());
        assert!(Arc::get_mut(&mut message).is_some());
    }

    #[test]
    fn bytes_from_elsewhere_are_copied() {
        let outer = message(&Blob::from("outer"));
        let inner = message(&Blob::from("inner"));
        let blob: Blob = sharing(&outer, || DefaultCodec::decode(&inner[6..])).unwrap();
        assert_eq!(blob, "inner");
        assert_eq!(
            (Arc::strong_count(&outer), Arc::strong_count(&inner)),
            (1, 1)
        );

        let blob: Blob = DefaultCodec::decode(&inner[6..]).unwrap();
        assert_eq!(blob, "inner");
        assert_eq!(Arc::strong_count(&inner), 1);
    }

    #[test]
    fn sharing_nests_and_ends_with_a_panic() {
        let outer = message(&Blob::from("outer"));
        let inner = message(&Blob::from("inner"));
        sharing(&outer, || {
            let blob: Blob = decode(&inner);
            assert_eq!(Arc::strong_count(&inner), 2);
            drop(blob);
            panic::catch_unwind(|| sharing(&inner, || panic!("in the middle of decoding")))
                .unwrap_err();
            assert_eq!(Arc::strong_count(&inner), 1);
            let blob: Blob = DefaultCodec::decode(&outer[6..]).unwrap();
            assert_eq!(Arc::strong_count(&outer), 3);
            drop(blob);
        });
        assert_eq!(Arc::strong_count(&outer), 1);
    }

    #[test]
    fn a_vector_goes_in_and_out_without_a_copy() {
        let vec = b"content".to_vec();
        let at = vec.as_ptr();
        let blob = Blob::from(vec);
        assert_eq!(blob.as_ptr(), at);
        let clone = blob.clone();
        let (copy, original) = (clone.into_vec(), blob.into_vec());
        assert_ne!(copy.as_ptr(), at);
        assert_eq!(original.as_ptr(), at);

        let part = Blob::from("content").slice(..3);
        assert_eq!(part.into_vec(), b"con");
        assert_eq!(Blob::from_static(b"static").into_vec(), b"static");
    }

    #[test]
    fn slices_are_those_of_the_bytes() {
        for blob in [Blob::from("content"), Blob::from_static(b"content")] {
            let inner = blob.slice(1..6);
            assert_eq!(inner, "onten");
            assert_eq!(inner.slice(1..=2), "nt");
            assert_eq!(inner.slice((Bound::Excluded(1), Bound::Unbounded)), "ten");
            assert_eq!(inner.slice(..), inner);
            assert_eq!(inner.slice(5..), "");
            for range in [0..6, 6..6, usize::MAX..usize::MAX] {
                let inner = inner.clone();
                panic::catch_unwind(move || inner.slice(range)).unwrap_err();
            }
        }
    }

    #[test]
    fn it_compares_orders_and_hashes_as_its_bytes() {
        let blob = Blob::from_static(b"key");
        assert_eq!(blob, Blob::from("key"));
        assert_eq!(blob, "key");
        assert_eq!(blob, b"key");
        assert_eq!(blob, b"key"[..]);
        assert_eq!(blob, &b"key"[..]);
        assert_eq!(blob, *b"key");
        assert_eq!(blob, b"key".to_vec());
        assert_eq!(blob, *"key");
        let (less, more) = (Blob::from("abc"), Blob::from("keys"));
        assert!(blob > less && blob < more);
        assert_eq!(HashMap::from([(blob, 1)]).get(&b"key"[..]), Some(&1));
    }

    #[test]
    fn it_is_made_from_whatever_holds_bytes() {
        assert_eq!(Blob::default(), "");
        assert_eq!(Blob::from("text".to_owned()), "text");
        assert_eq!(Blob::from(b"bytes"), "bytes");
        assert_eq!(Blob::from(b"bytes".to_vec().into_boxed_slice()), "bytes");
        assert_eq!(Blob::from_iter(b"bytes".iter().copied()), "bytes");
        assert_eq!(Vec::from(Blob::from("bytes")), b"bytes");
    }

    #[test]
    fn its_debug_text_is_short() {
        let blob = Blob::from("a\"\n");
        assert_eq!(format!("{blob:?}"), r#"Blob(3 bytes: "a\"\n")"#);
        let text = format!("{:?}", Blob::from(vec![0xff; 1 << 20]));
        assert!(text.starts_with("Blob(1048576 bytes: "), "{text}");
        assert!(text.len() < 200, "{text}");
    }
}
