//! How a large blob gets into a message without being copied.
//!
//! serde hands a format a slice, and the format hands it to whoever writes. So the blob says, in a variable of the
//! thread, that it is about to be written; the writer, if it writes into the very buffer for which somebody lends,
//! finds that what it is to write is that blob, and notes it with its place in the buffer instead of copying it.
//! A format that does anything else with the bytes just copies them.

use std::cell::{Cell, RefCell};
use std::ptr;

use super::bytes::Blob;

/// From this size on, lending costs less than copying.
pub(crate) const LARGE: usize = 16 << 10;

/// A blob that belongs between the bytes of a buffer, before the one at `at`.
#[derive(Debug, Clone)]
pub(crate) struct Lent {
    pub(crate) at: usize,
    pub(crate) blob: Blob,
}

thread_local! {
    /// The address of the buffer for which blobs are lent; 0: for none. Only ever compared.
    static BUFFER: Cell<usize> = const { Cell::new(0) };
    /// Whether anything has been lent that nobody has taken yet. Nearly always nothing has.
    static ANY: Cell<bool> = const { Cell::new(false) };
    static LOANS: RefCell<Loans> = const {
        RefCell::new(Loans {
            offered: None,
            lent: Vec::new(),
        })
    };
}

struct Loans {
    /// The blob that is just being serialised.
    offered: Option<Blob>,
    /// Each with the buffer that it is lent to: encoding may nest.
    lent: Vec<(usize, Lent)>,
}

/// Encodes something into `buffer`, and what is lent rather than copied into `lent`.
#[inline]
pub(crate) fn lending<R>(
    buffer: &mut Vec<u8>,
    lent: &mut impl Extend<Lent>,
    encode: impl FnOnce(&mut Vec<u8>) -> R,
) -> R {
    /// Puts back what was there before, also when `encode` panics.
    struct Restore<'a, E: Extend<Lent>> {
        outer: usize,
        address: usize,
        lent: &'a mut E,
    }

    impl<E: Extend<Lent>> Drop for Restore<'_, E> {
        #[inline]
        fn drop(&mut self) {
            let _ = BUFFER.try_with(|current| current.set(self.outer));
            if ANY.try_with(Cell::get).unwrap_or(false) {
                take(self.address, self.lent);
            }
        }
    }

    let address = ptr::from_ref(buffer).addr();
    // In a thread that is ending there is no variable any more, and all is copied.
    let outer = BUFFER.try_with(|current| current.replace(address));
    let _restore = Restore {
        outer: outer.unwrap_or(0),
        address,
        lent,
    };
    encode(buffer)
}

/// Takes what has been lent to a buffer.
#[cold]
fn take(address: usize, lent: &mut impl Extend<Lent>) {
    let _ = LOANS.try_with(|loans| {
        let mut loans = loans.borrow_mut();
        // Whatever was encoded meanwhile has taken its own, and those of the outer one came before.
        let outer = loans
            .lent
            .iter()
            .rposition(|(buffer, _)| *buffer != address);
        let own = loans.lent.drain(outer.map_or(0, |last| last + 1)..);
        lent.extend(own.map(|(_, lent)| lent));
        ANY.set(!loans.lent.is_empty());
    });
}

/// Serialises a blob, by a function that passes its bytes to a format.
#[inline]
pub(super) fn offering<R>(blob: &Blob, serialize: impl FnOnce() -> R) -> R {
    if blob.len() < LARGE || !BUFFER.try_with(|buffer| buffer.get() != 0).unwrap_or(false) {
        return serialize();
    }
    /// Takes the offer back, also when `serialize` panics.
    struct TakeBack;

    impl Drop for TakeBack {
        fn drop(&mut self) {
            offer(None);
        }
    }

    offer(Some(blob.clone()));
    let _take_back = TakeBack;
    serialize()
}

fn offer(blob: Option<Blob>) {
    let _ = LOANS.try_with(|loans| loans.borrow_mut().offered = blob);
}

/// Appends to a buffer what a format writes; a large blob only if nobody lends it.
#[inline]
pub(crate) fn write(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < LARGE || !lend(buffer, bytes) {
        buffer.extend_from_slice(bytes);
    }
}

fn lend(buffer: &Vec<u8>, bytes: &[u8]) -> bool {
    let address = ptr::from_ref(buffer).addr();
    if BUFFER.try_with(Cell::get) != Ok(address) {
        return false;
    }
    let lent = LOANS.try_with(|loans| {
        let mut loans = loans.borrow_mut();
        match loans.offered.take_if(|blob| ptr::eq(&**blob, bytes)) {
            Some(blob) => {
                let at = buffer.len();
                loans.lent.push((address, Lent { at, blob }));
                ANY.set(true);
                true
            }
            None => false,
        }
    });
    lent.unwrap_or(false)
}
