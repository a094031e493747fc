//! [`Blob`]: bytes that several may hold.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

/// Bytes, cheap to clone, and decoded without a copy.
///
/// What a `Blob` in a received message holds is a slice of the message itself: it costs no allocation, whatever
/// its size, and a large one is sent from where it is. (Decoded by hand, with [`Codec::decode`](crate::Codec::decode), it is a copy.) A `Vec<u8>` goes through
/// serde one byte at a time, which takes thirty times as long as even a copy. On the wire the two are the same in
/// both [codecs](crate::codec).
///
/// A `Blob` out of a message keeps all of that message in memory, and so do its clones and slices. To store a small
/// one for long, copy it: `Blob::from(&blob[..])`.
///
/// It is read as a `&[u8]`, and compares, orders and hashes as one.
///
/// ```
/// use pipetalk::Blob;
///
/// let blob = Blob::from(vec![1, 2, 3]);
/// assert_eq!(blob, [1, 2, 3]);
/// assert_eq!(blob.slice(1..), [2, 3]);
/// assert_eq!(blob.iter().sum::<u8>(), 6);
/// assert_eq!(blob.into_vec(), vec![1, 2, 3]);
/// ```
#[derive(Clone)]
pub struct Blob(Bytes);

#[derive(Clone)]
enum Bytes {
    Static(&'static [u8]),
    /// A part of a buffer, which is a whole message or was given to us.
    Shared {
        buffer: Arc<Vec<u8>>,
        start: usize,
        end: usize,
    },
}

impl Blob {
    /// No bytes.
    #[must_use]
    pub const fn new() -> Blob {
        Blob::from_static(&[])
    }

    /// Bytes of the program itself, which are not copied.
    #[must_use]
    pub const fn from_static(bytes: &'static [u8]) -> Blob {
        Blob(Bytes::Static(bytes))
    }

    /// A part of the bytes, without a copy.
    ///
    /// # Panics
    ///
    /// As slicing a `&[u8]` does, if the range is not within the bytes.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Blob {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        match &self.0 {
            Bytes::Static(bytes) => Blob(Bytes::Static(&bytes[range])),
            Bytes::Shared { buffer, start, .. } => {
                let len = self[range].len();
                let start = match range.0 {
                    Bound::Included(skip) => start + skip,
                    Bound::Excluded(skip) => start + skip + 1,
                    Bound::Unbounded => *start,
                };
                Blob::part(buffer, start, len)
            }
        }
    }

    /// The bytes as a vector: without a copy if this is all that is left of a vector that was made into a `Blob`.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Bytes::Static(bytes) => bytes.to_vec(),
            Bytes::Shared { buffer, start, end } => {
                if (start, end) != (0, buffer.len()) {
                    return buffer[start..end].to_vec();
                }
                Arc::try_unwrap(buffer).unwrap_or_else(|buffer| buffer.to_vec())
            }
        }
    }

    /// A part that is known to be within the buffer. Nothing of a buffer does not keep it.
    pub(super) fn part(buffer: &Arc<Vec<u8>>, start: usize, len: usize) -> Blob {
        if len == 0 {
            return Blob::new();
        }
        Blob(Bytes::Shared {
            buffer: buffer.clone(),
            start,
            end: start + len,
        })
    }
}

impl Deref for Blob {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Static(bytes) => bytes,
            Bytes::Shared { buffer, start, end } => &buffer[*start..*end],
        }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Blob {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Default for Blob {
    fn default() -> Self {
        Blob::new()
    }
}

/// The length, and as much of the bytes as fits on a line.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let more = if self.len() > SHOWN { "..." } else { "" };
        let start = self[..self.len().min(SHOWN)].escape_ascii();
        write!(f, "Blob({} bytes: \"{start}\"{more})", self.len())
    }
}

// ---------------------------------------------------------------- from and to

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Blob::part(&Arc::new(bytes), 0, len)
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Box<[u8]>> for Blob {
    fn from(bytes: Box<[u8]>) -> Self {
        bytes.into_vec().into()
    }
}

/// A copy; [`Blob::from_static`] makes none.
impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

/// A copy; [`Blob::from_static`] makes none.
impl<const N: usize> From<&[u8; N]> for Blob {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.to_vec().into()
    }
}

/// A copy; [`Blob::from_static`] makes none.
impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl FromIterator<u8> for Blob {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Vec::from_iter(bytes).into()
    }
}

/// The same as [`Blob::into_vec`].
impl From<Blob> for Vec<u8> {
    fn from(blob: Blob) -> Self {
        blob.into_vec()
    }
}

// ---------------------------------------------------------------- as bytes compare

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Blob {}

macro_rules! compares_with {
    ($($type:ty $(, $n:ident)?;)*) => {$(
        impl$(<const $n: usize>)? PartialEq<$type> for Blob {
            fn eq(&self, other: &$type) -> bool {
                let other: &[u8] = other.as_ref();
                **self == *other
            }
        }
    )*};
}

compares_with! {
    [u8];
    &[u8];
    [u8; N], N;
    &[u8; N], N;
    Vec<u8>;
    str;
    &str;
}

impl Hash for Blob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Ord for Blob {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

impl PartialOrd for Blob {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
