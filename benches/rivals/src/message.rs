//! What is sent: the same for every peer, in the type that the peer's own documentation would have one use.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A struct that bincode encodes in [64 bytes](crate::scenario::Scenario::SMALL).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Small {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) place: [f64; 5],
    pub(crate) flags: (u16, u16),
}

impl Small {
    pub(crate) fn numbered(number: u64) -> Small {
        Small {
            number: u64::MAX - number,
            size: u64::MAX,
            place: [1.5, -2.5, 3.5, 0.0, f64::MAX],
            flags: (u16::MAX, u16::MAX),
        }
    }
}

/// What requests and replies are.
pub(crate) trait Message: Clone + Send + Sync + 'static {
    /// That of this number and of about this size.
    fn numbered(number: u64, size: usize) -> Self;
    /// Whether it is the same, as far as it is cheap to tell.
    fn is(&self, other: &Self) -> bool;
}

impl Message for Small {
    fn numbered(number: u64, _: usize) -> Small {
        Small::numbered(number)
    }

    fn is(&self, other: &Small) -> bool {
        self == other
    }
}

/// Bytes with their number at both ends.
pub(crate) fn numbered_bytes(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; size];
    let number = number.to_le_bytes();
    let ends = size.min(number.len());
    bytes[..ends].copy_from_slice(&number[..ends]);
    bytes[size - ends..].copy_from_slice(&number[..ends]);
    bytes
}

/// Whether two have the same length and ends: not to compare a whole megabyte.
pub(crate) fn same_ends(one: &[u8], other: &[u8]) -> bool {
    let ends = one.len().min(8);
    one.len() == other.len()
        && one[..ends] == other[..ends]
        && one[one.len() - ends..] == other[other.len() - ends..]
}

impl Message for Vec<u8> {
    fn numbered(number: u64, size: usize) -> Self {
        numbered_bytes(number, size)
    }

    fn is(&self, other: &Self) -> bool {
        same_ends(self, other)
    }
}

impl Message for pipetalk::Blob {
    fn numbered(number: u64, size: usize) -> Self {
        numbered_bytes(number, size).into()
    }

    fn is(&self, other: &Self) -> bool {
        same_ends(self, other)
    }
}

impl Message for bytes::Bytes {
    fn numbered(number: u64, size: usize) -> Self {
        numbered_bytes(number, size).into()
    }

    fn is(&self, other: &Self) -> bool {
        same_ends(self, other)
    }
}

/// Requests made beforehand, which are asked in turn, so that no reply passes for the next: as many for every peer, because
/// they share the caches with what is measured.
#[derive(Debug, Clone)]
pub(crate) struct Requests<M> {
    all: Arc<[M]>,
    next: usize,
}

impl<M: Message> Requests<M> {
    pub(crate) fn new(size: usize) -> Requests<M> {
        let count = ((1 << 16) / size).clamp(2, 64) as u64;
        Requests {
            all: (0..count).map(|number| M::numbered(number, size)).collect(),
            next: 0,
        }
    }

    /// The same ones, beginning elsewhere.
    pub(crate) fn beginning_at(&self, place: usize) -> Requests<M> {
        Requests {
            all: self.all.clone(),
            next: place,
        }
    }

    pub(crate) fn next(&mut self) -> &M {
        self.next += 1;
        &self.all[self.next % self.all.len()]
    }
}

/// That a reply is its request.
pub(crate) fn check<M: Message>(reply: &M, request: &M) -> io::Result<()> {
    if reply.is(request) {
        Ok(())
    } else {
        Err(wrong_reply())
    }
}

pub(crate) fn wrong_reply() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the reply is not the request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_small_message_has_the_size_that_it_goes_by() {
        let encoded =
            bincode::serde::encode_to_vec(Small::numbered(1), bincode::config::standard());
        assert_eq!(encoded.unwrap().len(), Scenario::SMALL);
    }

    #[test]
    fn another_reply_is_wrong() {
        let mut requests = Requests::<bytes::Bytes>::new(64 << 10);
        let first = requests.next().clone();
        assert!(check(&first, &first).is_ok());
        assert!(check(&first, requests.next()).is_err());
        assert!(check(&first.slice(1..), &first).is_err());
    }
}
