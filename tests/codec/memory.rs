//! What decoding sets aside, as counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;

use pipetalk::{Blob, Codec};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::encoded;

for_each_codec![
    a_claim_sets_little_aside,
    memory_is_in_proportion_to_the_message,
    decoding_what_lies_in_the_message_allocates_nothing,
    encoding_into_a_warm_buffer_allocates_nothing,
];

/// Counts what each thread has from the system's allocator.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    // What one thread has, another may give back.
    let now = NOW.get().saturating_add(more).saturating_sub(less);
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
    COUNT.set(COUNT.get() + usize::from(more > 0));
}

// SAFETY: everything is left to the system's allocator, and what is counted allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as for the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while the content moves.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: as for the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were in use at once in `run`, and how often something was allocated.
fn allocated<R>(run: impl FnOnce() -> R) -> (usize, usize) {
    let (before, count) = (NOW.get(), COUNT.get());
    PEAK.set(before);
    drop(run());
    (PEAK.get() - before, COUNT.get() - count)
}

#[test]
fn the_count_is_right() {
    let run = || drop((vec![0u8; 1000], Vec::<u8>::with_capacity(500)));
    assert_eq!(allocated(run), (1500, 2));
    assert_eq!(allocated(|| vec![0u8; 1000]), (1000, 1));
    assert_eq!(allocated(|| ()), (0, 0));
}

type Large = [[u64; 16]; 8];

fn a_claim_sets_little_aside<C: Codec>() {
    #[track_caller]
    fn little<C: Codec, T: DeserializeOwned>(bytes: &[u8]) {
        let (peak, _) = allocated(|| assert!(C::decode::<T>(bytes).is_err()));
        assert!(peak < 64 << 10, "{peak} bytes for {bytes:x?}");
    }
    // The small ones are within what a message may have, so that decoding begins.
    for claim in [50, 1000, 4000, 1 << 16, 1 << 32, 1 << 40, 1 << 56, u64::MAX] {
        let bytes = [encoded::<C>(&claim), vec![1; 6]].concat();
        little::<C, String>(&bytes);
        little::<C, CString>(&bytes);
        little::<C, Blob>(&bytes);
        little::<C, Vec<u8>>(&bytes);
        little::<C, Vec<Large>>(&bytes);
        little::<C, Vec<String>>(&bytes);
        little::<C, HashMap<u8, Large>>(&bytes);
        little::<C, HashMap<String, Vec<Large>>>(&bytes);
        little::<C, BTreeMap<u64, String>>(&bytes);
        little::<C, Vec<Vec<Vec<Vec<Large>>>>>(&[&[1, 1, 1], &bytes[..]].concat());
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "it is never read")]
enum List {
    Empty,
    Of(Vec<List>),
}

fn memory_is_in_proportion_to_the_message<C: Codec>() {
    // Lists one in the other, each with the longest claim there can be: alone they would have the limit of serde
    // for each, a mebibyte.
    for claim in [100, 1000, 4000] {
        let level = [vec![1], encoded::<C>(&claim)].concat();
        let bytes = level.repeat(60);
        let (peak, _) = allocated(|| assert!(C::decode::<List>(&bytes).is_err()));
        let most = (bytes.len() + 4096) * size_of::<List>();
        assert!(peak <= most + 4096, "{peak} bytes for {}", bytes.len());
    }
}

fn decoding_what_lies_in_the_message_allocates_nothing<C: Codec>() {
    type Borrowed<'a> = (u64, &'a str, Option<&'a [u8]>, [i32; 3], Result<f64, char>);
    let value: Borrowed<'_> = (7, "text", None, [1, -300, 70_000], Ok(0.5));
    let bytes = encoded::<C>(&value);
    let (_, count) = allocated(|| assert_eq!(C::decode::<Borrowed<'_>>(&bytes), Ok(value)));
    assert_eq!(count, 0);
}

fn encoding_into_a_warm_buffer_allocates_nothing<C: Codec>() {
    let value = (
        7u64,
        "text",
        vec![Some(300u16), None],
        Blob::from(vec![7; 1 << 20]),
    );
    let mut bytes = encoded::<C>(&value);
    bytes.clear();
    let (_, count) = allocated(|| C::encode(&value, &mut bytes).unwrap());
    assert_eq!(count, 0);
}
