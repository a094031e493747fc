//! How many elements a value may have.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};

use pipetalk::codec::SPARE_ELEMENTS;
use pipetalk::{Codec, CodecError};
use serde::Deserializer;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use util::{Deserialize, Serialize};

use crate::encoded;

for_each_codec![
    five_bytes_of_empty_elements_end_at_once,
    empty_elements_may_be_a_few_thousand,
    a_claim_of_more_elements_than_bytes_is_refused,
    the_elements_are_counted_in_all,
    every_message_of_elements_with_content_passes,
    a_type_cannot_hide_an_exceeded_limit,
    a_visitor_is_told_of_no_more_elements_than_bytes,
];

fn too_many(bytes: &[u8]) -> CodecError {
    CodecError::TooManyElements {
        limit: bytes.len() + SPARE_ELEMENTS,
    }
}

/// An element with no content, which counts how often it is decoded.
#[derive(Debug, PartialEq)]
struct Nothing;

thread_local! {
    static DECODED: Cell<usize> = const { Cell::new(0) };
}

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.set(DECODED.get() + 1);
        <()>::deserialize(deserializer).map(|()| Nothing)
    }
}

fn five_bytes_of_empty_elements_end_at_once<C: Codec>() {
    // The length, as a number of 32 bits has the same bytes.
    let bytes = encoded::<C>(&u32::MAX);
    assert_eq!(bytes.len(), 5);
    assert_eq!(C::decode::<Vec<Nothing>>(&bytes), Err(too_many(&bytes)));
    assert!(DECODED.get() <= 5 + SPARE_ELEMENTS + 1);
}

fn empty_elements_may_be_a_few_thousand<C: Codec>() {
    for count in [0, 1, SPARE_ELEMENTS, SPARE_ELEMENTS + 1, SPARE_ELEMENTS + 2] {
        let value = vec![(); count];
        let bytes = encoded::<C>(&value);
        assert_eq!(C::decode::<Vec<()>>(&bytes), Ok(value));
    }
    let bytes = encoded::<C>(&vec![(); SPARE_ELEMENTS + 4]);
    assert!(bytes.len() < 4);
    assert_eq!(C::decode::<Vec<()>>(&bytes), Err(too_many(&bytes)));
}

fn a_claim_of_more_elements_than_bytes_is_refused<C: Codec>() {
    fn refused<C: Codec, T: DeserializeOwned + Debug + PartialEq>() {
        for claim in [10_000, 1 << 32, 1 << 40, u64::MAX] {
            let bytes = encoded::<C>(&claim);
            let error = C::decode::<T>(&bytes).unwrap_err();
            match error {
                CodecError::TooManyElements { .. } => assert_eq!(error, too_many(&bytes)),
                // It may as well be seen first that there are none.
                CodecError::Malformed(_) => {}
                other => panic!("{other}"),
            }
        }
    }
    refused::<C, Vec<u8>>();
    refused::<C, Vec<String>>();
    refused::<C, Vec<[u64; 32]>>();
    refused::<C, Vec<Vec<Vec<u8>>>>();
    refused::<C, HashMap<u8, u8>>();
    refused::<C, BTreeMap<String, Vec<String>>>();
    refused::<C, (Vec<Option<()>>, u8)>();
}

fn the_elements_are_counted_in_all<C: Codec>() {
    // No sequence in it has too many by itself.
    let value = vec![vec![(); 1000]; 5];
    let bytes = encoded::<C>(&value);
    assert_eq!(C::decode::<Vec<Vec<()>>>(&bytes), Err(too_many(&bytes)));
    let value: Vec<BTreeMap<u16, [(); 1]>> = vec![BTreeMap::from([(1, [()])]); 1000];
    let bytes = encoded::<C>(&value);
    assert_eq!(C::decode(&bytes), Ok(value));
}

fn every_message_of_elements_with_content_passes<C: Codec>() {
    fn passes<C: Codec, T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
        assert_eq!(C::decode::<T>(&encoded::<C>(value)).as_ref(), Ok(value));
    }
    // Each has as many elements for its bytes as can be.
    const MANY: usize = 20 * SPARE_ELEMENTS;
    passes::<C, _>(&vec![0u8; MANY]);
    passes::<C, _>(&vec![false; MANY]);
    passes::<C, _>(&vec![None::<()>; MANY]);
    passes::<C, _>(&vec![Some(()); MANY]);
    passes::<C, _>(&vec![Ok::<(), ()>(()); MANY]);
    passes::<C, _>(&vec![(1u8,); MANY]);
    passes::<C, _>(&vec![[1u8; 4]; MANY]);
    passes::<C, _>(&vec![String::new(); MANY]);
    passes::<C, _>(&vec![Vec::<u8>::new(); MANY]);
    passes::<C, _>(&vec![vec![vec![0u8]; 1]; MANY]);
    passes::<C, _>(&vec![vec![Vec::<Vec<u8>>::new(); 3]; MANY]);
    passes::<C, _>(&vec![BTreeMap::<u8, u8>::new(); MANY]);
    passes::<C, _>(&BTreeMap::from_iter((0..MANY).map(|key| (key, ()))));
    passes::<C, _>(&vec![BTreeMap::from([((), 0u8)]); MANY]);
}

/// Makes an empty value of whatever goes wrong in its elements.
#[derive(Debug, PartialEq)]
struct Careless;

impl<'de> Deserialize<'de> for Careless {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ignore;

        impl<'de> Visitor<'de> for Ignore {
            type Value = Careless;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Careless, A::Error> {
                while let Ok(Some(_)) = seq.next_element::<Vec<()>>() {}
                Ok(Careless)
            }
        }

        deserializer.deserialize_seq(Ignore)
    }
}

fn a_type_cannot_hide_an_exceeded_limit<C: Codec>() {
    let bytes = encoded::<C>(&vec![vec![(); 10_000]]);
    assert_eq!(C::decode::<Careless>(&bytes), Err(too_many(&bytes)));
    let bytes = encoded::<C>(&vec![vec![()]]);
    assert_eq!(C::decode::<Careless>(&bytes), Ok(Careless));
}

/// How many elements it was told to expect.
struct Hint(Option<usize>);

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;

        impl<'de> Visitor<'de> for Look {
            type Value = Hint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hint, A::Error> {
                let hint = seq.size_hint();
                while seq.next_element::<()>()?.is_some() {}
                Ok(Hint(hint))
            }
        }

        deserializer.deserialize_seq(Look)
    }
}

fn a_visitor_is_told_of_no_more_elements_than_bytes<C: Codec>() {
    for count in [0, 1, 3, 4000] {
        let bytes = encoded::<C>(&vec![(); count]);
        // A codec need not say anything.
        if let Some(hint) = C::decode::<Hint>(&bytes).unwrap().0 {
            assert_eq!(hint, count.min(bytes.len()));
        }
    }
}
