//! How many levels a value may have, and the stack that they take.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread;

use pipetalk::codec::MAX_DEPTH;
use pipetalk::{Codec, CodecError};
use serde::Deserializer;
use serde::de::DeserializeOwned;
use util::Deserialize;

for_each_codec![
    a_million_levels_are_refused,
    the_limit_is_met_exactly,
    a_type_that_only_nests_is_refused,
    what_is_left_again_does_not_count,
    the_deepest_values_take_half_of_the_smallest_stack,
];

/// What a main thread has on Windows; other threads of Rust have twice as much.
const SMALLEST_STACK: usize = 1 << 20;

fn on_the_smallest_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(SMALLEST_STACK);
    thread.spawn(test).unwrap().join().unwrap();
}

const TOO_DEEP: CodecError = CodecError::TooDeep { limit: MAX_DEPTH };

// Each of these types begins with a byte of 0 where a value ends and of 1 where it goes on. For that, all codecs
// have the same bytes.

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only their levels matter")]
enum Tree {
    Leaf(Depth),
    Node(Box<Tree>),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only their levels matter")]
enum Expression {
    Literal(Depth),
    Sum {
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Product(Box<Expression>, Box<Expression>),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only their levels matter")]
enum Value {
    Leaf(Depth),
    List(Vec<Value>),
    Map(BTreeMap<(), Value>),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only their levels matter")]
struct Optional(Option<Box<Optional>>, Depth);

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only their levels matter")]
struct Newtype(Vec<Newtype>);

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only their levels matter")]
struct Large {
    next: Option<Box<Large>>,
    depth: Depth,
    content: ([u64; 32], [u64; 32]),
}

/// Decodes from nothing and notes how far down the stack has come.
#[derive(Debug)]
struct Depth;

thread_local! {
    static LOWEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// An address near the top of the stack.
#[inline(never)]
fn stack() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here).addr()
}

impl<'de> Deserialize<'de> for Depth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LOWEST.set(LOWEST.get().min(stack()));
        <()>::deserialize(deserializer).map(|()| Depth)
    }
}

fn a_million_levels_are_refused<C: Codec>() {
    fn refused<C: Codec, T: DeserializeOwned>(level: &[u8]) {
        let error = C::decode::<T>(&level.repeat(1_000_000)).err();
        assert_eq!(error, Some(TOO_DEEP));
    }
    on_the_smallest_stack(|| {
        refused::<C, Tree>(&[1]);
        refused::<C, Expression>(&[1]);
        refused::<C, Expression>(&[2]);
        refused::<C, Value>(&[1, 1]);
        refused::<C, Value>(&[2, 1]);
        refused::<C, Optional>(&[1]);
        refused::<C, Newtype>(&[1]);
        refused::<C, Large>(&[1]);
    });
}

fn the_limit_is_met_exactly<C: Codec>() {
    fn met<C: Codec, T: DeserializeOwned>(level: &[u8], end: &[u8], levels: usize, at_end: usize) {
        let most = (MAX_DEPTH - at_end) / levels;
        for (count, ends) in [(most, true), (most + 1, false)] {
            let bytes = [level.repeat(count), end.to_vec()].concat();
            match C::decode::<T>(&bytes) {
                Ok(_) => assert!(ends, "{count} times {levels} levels"),
                Err(error) => assert!(!ends && error == TOO_DEEP, "{count}: {error}"),
            }
        }
    }
    on_the_smallest_stack(|| {
        met::<C, Tree>(&[1], &[0], 1, 1);
        met::<C, Value>(&[1, 1], &[0], 2, 1);
        met::<C, Value>(&[2, 1], &[0], 2, 1);
        met::<C, Optional>(&[1], &[0], 2, 1);
        met::<C, Newtype>(&[1], &[0], 2, 2);
    });
}

/// It has no value, so that there is no input that ends it.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "there is no value of it")]
struct Forever(Box<Forever>);

fn a_type_that_only_nests_is_refused<C: Codec>() {
    on_the_smallest_stack(|| assert_eq!(C::decode::<Forever>(&[]).err(), Some(TOO_DEEP)));
}

fn what_is_left_again_does_not_count<C: Codec>() {
    type Item = (Option<Option<u8>>, Vec<Result<(), [u8; 1]>>);
    let items: Vec<Item> = vec![(Some(Some(1)), vec![Ok(()), Err([2])]); 1000];
    let bytes = crate::encoded::<C>(&items);
    assert_eq!(C::decode::<Vec<Item>>(&bytes), Ok(items));
}

fn the_deepest_values_take_half_of_the_smallest_stack<C: Codec>() {
    fn measure<C: Codec, T: DeserializeOwned>(level: &[u8], end: &[u8]) {
        LOWEST.set(usize::MAX);
        let top = stack();
        // As deep as it goes: what it ends with, if it ends at all, is not the point.
        for count in 1..=MAX_DEPTH {
            let _ = C::decode::<T>(&[&level.repeat(count), end].concat());
        }
        let used = top - LOWEST.get();
        println!("{} {}: {used} bytes", C::NAME, std::any::type_name::<T>());
        assert!(used < SMALLEST_STACK / 2, "{used}");
    }
    // Where a limit is not kept, this tells by how much rather than overflow.
    let thread = thread::Builder::new().stack_size(16 * SMALLEST_STACK);
    let test = || {
        measure::<C, Tree>(&[1], &[0]);
        measure::<C, Expression>(&[1], &[0]);
        measure::<C, Expression>(&[2], &[0]);
        measure::<C, Value>(&[1, 1], &[0]);
        measure::<C, Value>(&[2, 1], &[0]);
        measure::<C, Optional>(&[1], &[0]);
        measure::<C, Large>(&[1], &[0; 65]);
    };
    thread.spawn(test).unwrap().join().unwrap();
}
