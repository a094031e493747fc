//! What decoding sets aside, as counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::CString;
use std::fmt::Debug;

use pipetalk::codec::max_memory;
use pipetalk::{Blob, Codec, CodecError};
use serde::de::DeserializeOwned;
use util::{Deserialize, Serialize};

use crate::encoded;

for_each_codec![
    a_claim_sets_little_aside,
    memory_is_in_proportion_to_the_message,
    memory_does_not_follow_the_type,
    a_claim_of_too_much_memory_sets_little_aside,
    what_is_large_and_there_passes,
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
    let _limit = util::limit(util::here!());
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

/// Large in memory, and a byte in the message if it is absent.
type Absent = Option<Large>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "that is what it is about")]
enum Uneven {
    Small,
    Large(Large),
}

/// Has a large value behind a pointer, which is small in the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Boxed(Box<(Absent, u8)>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Absent, Option<Box<Chain>>);

fn memory_does_not_follow_the_type<C: Codec>() {
    #[track_caller]
    fn bounded<C: Codec, T: DeserializeOwned>(bytes: &[u8]) {
        let limit = max_memory(bytes.len());
        let (peak, _) = allocated(|| match C::decode::<T>(bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error, CodecError::TooMuchMemory { limit }),
        });
        // While a vector moves, there are both the old and the new. And what is begun when the limit is met has been set
        // aside already.
        let most = limit + limit / 2 + (4 << 20);
        assert!(peak < most, "{peak} bytes for {}", bytes.len());
    }
    for len in [1_000, 40_000, 1 << 20] {
        let elements = encoded::<C>(&vec![0u8; len]);
        bounded::<C, Vec<Absent>>(&elements);
        bounded::<C, VecDeque<Uneven>>(&elements);
        bounded::<C, Vec<(Option<[u64; 4]>, ())>>(&elements);
        bounded::<C, Vec<String>>(&elements);
        // Each with a byte that says that it is there, and another for what is in it.
        bounded::<C, Vec<Option<Boxed>>>(&encoded::<C>(&vec![(1u8, 0u8, 0u8); len / 3]));
        bounded::<C, Vec<Boxed>>(&encoded::<C>(&vec![(0u8, 0u8); len / 2]));
        bounded::<C, Vec<Chain>>(&encoded::<C>(&vec![(0u8, 1u8, 0u8, 0u8); len / 4]));
        bounded::<C, Vec<Vec<Absent>>>(&encoded::<C>(&vec![vec![0u8; 9]; len / 10]));
        bounded::<C, HashMap<u32, Absent>>(&encoded::<C>(&map(len / 2)));
        bounded::<C, BTreeMap<u32, Uneven>>(&encoded::<C>(&map(len / 2)));
        let maps = encoded::<C>(&vec![BTreeMap::from([(0u8, 0u8)]); len / 3]);
        bounded::<C, Vec<BTreeMap<u8, Absent>>>(&maps);
        bounded::<C, Vec<HashMap<u8, Absent>>>(&maps);
    }
}

fn map(len: usize) -> BTreeMap<u32, u8> {
    (0..u32::try_from(len).unwrap())
        .map(|key| (key, 0))
        .collect()
}

fn a_claim_of_too_much_memory_sets_little_aside<C: Codec>() {
    let absent: Vec<Absent> = (0..1 << 18).map(|_| None).collect();
    let bytes = encoded::<C>(&absent);
    assert!(size_of_val(&*absent) >= 256 << 20);
    let limit = max_memory(bytes.len());
    let expected = Err(CodecError::TooMuchMemory { limit });
    let (peak, _) = allocated(|| assert_eq!(C::decode::<Vec<Absent>>(&bytes), expected));
    assert!(peak < 2 << 20, "{peak} bytes");
    // Level by level as well: each may set aside what serde does, if it is within the limit.
    let level = [vec![1], encoded::<C>(&4000u32)].concat();
    let bytes = [level.repeat(100), vec![0; 400_000]].concat();
    let (peak, _) = allocated(|| assert!(C::decode::<Wide>(&bytes).is_err()));
    assert!(peak < max_memory(bytes.len()) + (2 << 20), "{peak} bytes");
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "it is never read")]
#[expect(clippy::large_enum_variant, reason = "that is what it is about")]
enum Wide {
    Empty([u64; 30]),
    Of(Vec<Wide>),
}

fn what_is_large_and_there_passes<C: Codec>() {
    fn passes<C: Codec, T: Serialize + DeserializeOwned + Debug + PartialEq>(value: T) {
        assert_eq!(C::decode::<T>(&encoded::<C>(&value)), Ok(value));
    }
    let large: Large = [[1 << 40; 16]; 8];
    passes::<C, _>(vec![Some(large); 2_000]);
    passes::<C, _>((0..2_000).map(|_| Uneven::Large(large)).collect::<Vec<_>>());
    passes::<C, _>((0..500).map(|_| Uneven::Small).collect::<Vec<_>>());
    passes::<C, _>(
        (0..500u32)
            .map(|key| (key, large))
            .collect::<BTreeMap<_, _>>(),
    );
    passes::<C, _>(vec![(1u8, Some(Boxed(Box::new((Some(large), 2))))); 1_000]);
    // The smallest of everyday's values, in a vector that has just doubled.
    passes::<C, _>(vec![1u64; (1 << 21) + 1]);
    passes::<C, _>(vec![(1u32, 2u64); (1 << 20) + 1]);
    passes::<C, _>(vec![None::<f64>; 1_000_000]);
    passes::<C, _>(vec![String::from("a"); 500_000]);
    passes::<C, _>(vec![
        HashMap::from([("key".to_owned(), "value".to_owned())]);
        20_000
    ]);
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
