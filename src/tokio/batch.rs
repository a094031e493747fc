//! Sending what is ready in one go.

use std::io::{self, IoSlice};

use super::transport::Stream;
use crate::Deadline;
use crate::base::pool::{Pool, borrow, give_back};
use crate::codec::outgoing::Outgoing;

/// From this size on a message is sent on its own.
const LARGE: usize = 64 << 10;

/// So many vectors a thread keeps, each of no more than so many slices.
const KEPT: usize = 4;
const KEPT_SLICES: usize = 1024;

thread_local! {
    /// Lent to those that send, of whom several may wait for room at a time, so that a connection has none of its own
    /// while it is idle.
    static SLICES: Pool<IoSlice<'static>, KEPT> = const { Pool::new(KEPT_SLICES) };
}

/// Why a batch was not sent, and which of its messages certainly were, or were not.
#[derive(Debug)]
pub(super) struct Failed {
    /// So many messages were sent before those of which it is not known.
    pub(super) sent: usize,
    /// And so many were not, or in part at most, if that can be said of any: then it is one.
    pub(super) doubtful: usize,
    pub(super) error: io::Error,
}

/// Sends messages in their order, small ones together.
pub(super) async fn send_batch<S: Stream, M: AsRef<Outgoing>>(
    stream: &S,
    batch: &[M],
    deadline: Deadline,
) -> Result<(), Failed> {
    let mut sent = 0;
    while let Some(first) = batch.get(sent) {
        let rest = batch[sent..].iter();
        let together = rest.map_while(|message| small(message.as_ref())).count();
        let result = match (together, first.as_ref().plain()) {
            // By the same call as several, for this future to be small.
            (0 | 1, Some(message)) => {
                let alone = [IoSlice::new(message)];
                stream.send_all(&alone, deadline).await
            }
            (0 | 1, None) => {
                let pieces = first.as_ref().in_pieces(<[_]>::to_vec);
                Box::pin(stream.send_vectored(&pieces, deadline)).await
            }
            _ => {
                let mut group = emptied(borrow(&SLICES));
                let messages = batch[sent..sent + together].iter();
                group.extend(messages.filter_map(|message| small(message.as_ref())));
                let result = stream.send_all(&group, deadline).await;
                give_back(&SLICES, emptied(group));
                result
            }
        };
        let doubtful = together.max(1);
        if let Err(error) = result {
            return Err(Failed {
                sent,
                doubtful,
                error,
            });
        }
        sent += doubtful;
    }
    Ok(())
}

/// The bytes of a message that is sent together with others.
fn small(message: &Outgoing) -> Option<IoSlice<'_>> {
    let bytes = message.plain().filter(|bytes| bytes.len() < LARGE)?;
    Some(IoSlice::new(bytes))
}

/// The same vector without what is in it, for what lives longer or less long. Collecting a vector's own iterator reuses
/// its memory.
fn emptied<'b>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'b>> {
    slices.clear();
    slices.into_iter().map(|_| IoSlice::new(&[])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_vector_keeps_its_memory() {
        let bytes = vec![1, 2, 3];
        let mut slices = Vec::with_capacity(64);
        slices.push(IoSlice::new(&bytes));
        let address = slices.as_ptr().addr();
        let emptied: Vec<IoSlice<'static>> = emptied(slices);
        drop(bytes);
        assert!(emptied.is_empty());
        assert_eq!((emptied.as_ptr().addr(), emptied.capacity()), (address, 64));
    }
}
