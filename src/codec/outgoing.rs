//! [`Outgoing`]: a message on its way out, of which large parts may be lent rather than copied.

use std::any::Any;
use std::io::{self, IoSlice};

use serde::Serialize;

use crate::blob::{self, Lent};
use crate::codec::{Codec, CodecError};
use crate::transport::carrier::Carrier;
use crate::{Blob, Deadline};

/// What is in front of a message for a transport to write what it has to write there, so that both are one slice.
pub(crate) const ROOM: usize = 4;

/// How large a buffer is kept for the next message.
const KEPT: usize = 4 << 20;

/// Up to so many pieces are sent without an allocation.
const FEW: usize = 7;

/// A message to send, to which values are appended.
///
/// A large [`Blob`](crate::Blob) among them is not copied: it is sent from where it is.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Nothing, or the room and what is behind it.
    bytes: Vec<u8>,
    /// What few messages have.
    more: More,
}

#[derive(Debug, Default)]
struct More(Option<Box<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Large blobs that belong between the bytes.
    lent: Vec<Lent>,
    /// What is to go only when the message has been sent, or will not be.
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl More {
    #[inline]
    fn lent(&self) -> &[Lent] {
        match &self.0 {
            Some(inner) => &inner.lent,
            None => &[],
        }
    }

    fn get(&mut self) -> &mut Inner {
        self.0.get_or_insert_default()
    }
}

impl Extend<Lent> for More {
    fn extend<T: IntoIterator<Item = Lent>>(&mut self, lent: T) {
        self.get().lent.extend(lent);
    }
}

impl Outgoing {
    /// Appends an encoded value.
    ///
    /// # Errors
    ///
    /// [`CodecError::Encode`] if the value cannot be written in this format; the message is then as it was.
    #[inline]
    pub fn encode<C: Codec, T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        if !C::LENDS {
            return C::encode(value, self.bytes());
        }
        self.bytes();
        let before = self.more.lent().len();
        let encoded = blob::lending(&mut self.bytes, &mut self.more, |bytes| {
            C::encode(value, bytes)
        });
        if encoded.is_err() {
            self.more.get().lent.truncate(before);
        }
        encoded
    }

    /// Appends what has been encoded before; a large one is not copied.
    pub(crate) fn append(&mut self, encoded: &Blob) {
        if encoded.len() < blob::LARGE {
            return self.bytes().extend_from_slice(encoded);
        }
        let at = self.bytes().len();
        self.more.get().lent.push(Lent {
            at,
            blob: encoded.clone(),
        });
    }

    /// The bytes that are not blobs, to be written behind what is there.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[0; ROOM]);
        }
        &mut self.bytes
    }

    #[inline]
    fn without_room(&self) -> &[u8] {
        self.bytes.get(ROOM..).unwrap_or_default()
    }

    /// The whole message, if it is in one piece.
    #[cfg(any(feature = "tokio", test, fuzzing))]
    #[inline]
    pub(crate) fn plain(&self) -> Option<&[u8]> {
        let whole = self.more.lent().is_empty();
        whole.then(|| self.without_room())
    }

    /// How much memory it keeps when it is empty.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        let lent = self.more.lent().iter();
        self.without_room().len() + lent.map(|lent| lent.blob.len()).sum::<usize>()
    }

    /// Keeps something until the message has been sent, or will not be: a share of the server's memory.
    pub(crate) fn keep_until_sent(&mut self, kept: Box<dyn Any + Send + Sync>) {
        self.more.get().kept = Some(kept);
    }

    /// Makes it empty again, and lets go of what was lent or kept for it and of a very large buffer.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        if let Some(inner) = &mut self.more.0 {
            inner.lent.clear();
            inner.kept = None;
        }
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Sends it, and calls `receive` where that has to wait, if there is something to receive with.
    #[inline]
    pub(crate) fn send(
        &mut self,
        stream: &dyn Carrier,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        if self.more.lent().is_empty() {
            return stream.send_in_place(self.bytes(), ROOM, deadline, receive);
        }
        self.in_pieces(|pieces| match receive {
            Some(receive) => stream.send_while_receiving(pieces, deadline, receive),
            None => stream.send_vectored(pieces, deadline),
        })
    }

    #[inline]
    pub(crate) fn in_pieces<'a, R>(&'a self, send: impl FnOnce(&[IoSlice<'a>]) -> R) -> R {
        let lent = self.more.lent();
        if lent.is_empty() {
            return send(&[IoSlice::new(self.without_room())]);
        }
        let (mut few, mut many);
        let count = 2 * lent.len() + 1;
        let pieces = if count <= FEW {
            few = [IoSlice::new(&[]); FEW];
            &mut few[..count]
        } else {
            many = vec![IoSlice::new(&[]); count];
            &mut many[..]
        };
        let (mut rest, mut start) = (self.without_room(), ROOM);
        for (pair, Lent { at, blob }) in pieces.chunks_exact_mut(2).zip(lent) {
            let (head, tail) = rest.split_at(at - start);
            pair.copy_from_slice(&[IoSlice::new(head), IoSlice::new(blob)]);
            (rest, start) = (tail, *at);
        }
        pieces[count - 1] = IoSlice::new(rest);
        send(pieces)
    }
}

/// For a state that is gone through in several ways: without what is kept.
#[cfg(test)]
impl Clone for Outgoing {
    fn clone(&self) -> Self {
        let mut clone = Outgoing {
            bytes: self.bytes.clone(),
            ..Outgoing::default()
        };
        clone.more.extend(self.more.lent().iter().cloned());
        clone
    }
}

impl AsRef<Outgoing> for Outgoing {
    fn as_ref(&self) -> &Outgoing {
        self
    }
}

#[cfg(test)]
#[cfg(feature = "bincode")]
mod tests {
    use std::panic::{self, AssertUnwindSafe};

    use serde::ser::Error as _;
    use serde::{Deserialize, Serializer};

    use super::*;
    use crate::blob::LARGE;
    use crate::codec::DefaultCodec;

    /// The message in one piece, as it is sent.
    fn whole(message: &Outgoing) -> Vec<u8> {
        let whole =
            message.in_pieces(|pieces| pieces.iter().flat_map(|piece| piece.to_vec()).collect());
        assert_eq!(message.len(), Vec::len(&whole));
        whole
    }

    fn copied<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        DefaultCodec::encode(value, &mut bytes).unwrap();
        bytes
    }

    fn blob(size: usize) -> Blob {
        Blob::from_iter((0..size).map(|place| (place * 31 / 7) as u8))
    }

    #[test]
    fn what_is_lent_is_sent_in_its_place() {
        let large = blob(LARGE);
        for blobs in [
            vec![],
            vec![large.clone()],
            vec![blob(LARGE - 1), large.slice(1..)],
            vec![
                large.clone(),
                large.clone(),
                blob(0),
                blob(5),
                blob(3 * LARGE).slice(7..),
            ],
            // More than there are places without an allocation.
            vec![large.clone(); 20],
        ] {
            let lent = blobs.iter().filter(|blob| blob.len() >= LARGE).count();
            let value = (1u8, "before", blobs, Some("after"));
            let mut message = Outgoing::default();
            message.bytes().extend_from_slice(b"header");
            message.encode::<DefaultCodec, _>(&value).unwrap();
            assert_eq!(message.more.lent().len(), lent);
            assert_eq!(whole(&message), [&b"header"[..], &copied(&value)].concat());

            // A second value, behind it.
            message.encode::<DefaultCodec, _>(&value).unwrap();
            assert_eq!(message.len(), 6 + 2 * copied(&value).len());
            assert!(whole(&message).ends_with(&copied(&value)));

            message.clear();
            assert_eq!((whole(&message), message.len()), (vec![], 0));
        }
    }

    #[test]
    fn a_large_blob_is_not_copied() {
        let blob = blob(1 << 20);
        let mut message = Outgoing::default();
        message.encode::<DefaultCodec, _>(&blob).unwrap();
        assert!(message.without_room().len() < 10);
        message.in_pieces(|pieces| {
            assert!(pieces.iter().any(|piece| piece.as_ptr() == blob.as_ptr()))
        });
        // It may go before the message is sent.
        drop(blob);
        assert_eq!(message.len(), message.without_room().len() + (1 << 20));
    }

    /// A codec around another one, which looks at what that has written.
    #[derive(Debug, Clone, Copy, Default)]
    struct Inverted;

    impl Codec for Inverted {
        const NAME: &'static str = "inverted";

        fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
            let start = out.len();
            DefaultCodec::encode(value, out)?;
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
            Ok(())
        }

        fn decode<'de, T: Deserialize<'de>>(_: &'de [u8]) -> Result<T, CodecError> {
            unreachable!("nothing here decodes")
        }
    }

    #[test]
    fn a_codec_around_another_gets_all_bytes() {
        let value = (blob(LARGE), "after");
        let mut message = Outgoing::default();
        message.encode::<Inverted, _>(&value).unwrap();
        let inverted: Vec<u8> = copied(&value).iter().map(|byte| !byte).collect();
        assert_eq!(whole(&message), inverted);
    }

    /// A value that, while it is encoded, encodes the blob into another buffer.
    struct Nested(Blob);

    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = copied(&self.0);
            assert!(inner.ends_with(&self.0), "the buffer is somebody else's");
            let mut other = Outgoing::default();
            other
                .encode::<DefaultCodec, _>(&self.0)
                .map_err(S::Error::custom)?;
            assert_eq!(whole(&other), inner);
            serializer.serialize_bytes(&inner)
        }
    }

    #[test]
    fn encoding_nests() {
        let blob = blob(2 * LARGE);
        let value = (blob.clone(), Nested(blob.clone()), blob);
        let mut message = Outgoing::default();
        message.encode::<DefaultCodec, _>(&value).unwrap();
        assert_eq!(message.more.lent().len(), 2);
        assert_eq!(whole(&message), copied(&value));
    }

    struct Fails(Blob, fn() -> bool);

    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match (self.1)() {
                true => Err(S::Error::custom("as asked")),
                false => self.0.serialize(serializer),
            }
        }
    }

    #[test]
    fn what_cannot_be_encoded_leaves_nothing() {
        let large = blob(LARGE);
        let mut message = Outgoing::default();
        message.encode::<DefaultCodec, _>(&large).unwrap();
        let before = whole(&message);
        let fails = (large.clone(), Fails(large.clone(), || true));
        let error = message.encode::<DefaultCodec, _>(&fails).unwrap_err();
        assert!(matches!(error, CodecError::Encode(_)), "{error}");
        assert_eq!(whole(&message), before);
    }

    #[test]
    fn a_panic_ends_lending() {
        let large = blob(LARGE);
        let panics = (
            large.clone(),
            Fails(large.clone(), || panic::resume_unwind(Box::new(()))),
        );
        let mut message = Outgoing::default();
        let encode = || message.encode::<DefaultCodec, _>(&panics);
        panic::catch_unwind(AssertUnwindSafe(encode)).unwrap_err();
        // Nobody lends any more, and the next message is not concerned.
        assert!(copied(&large).ends_with(&large));
        message.clear();
        message.encode::<DefaultCodec, _>(&large).unwrap();
        assert_eq!(whole(&message), copied(&large));
    }
}
