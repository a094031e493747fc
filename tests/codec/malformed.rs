//! Bytes that are no value, in every way that there is.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fmt::Debug;
use std::num::NonZero;

use pipetalk::{Blob, Codec, CodecError};
use serde::Serializer;
use serde::de::DeserializeOwned;
use util::{Deserialize, Serialize};

use crate::encoded;

for_each_codec![
    bytes_after_the_value_are_refused,
    nine_bytes_that_claim_a_huge_string_are_refused,
    text_that_is_not_utf8_is_refused,
    a_bool_an_option_and_a_char_that_are_none_are_refused,
    a_variant_that_is_none_is_refused,
    a_number_too_large_for_its_type_is_refused,
    a_message_that_ends_at_any_byte_is_refused,
    the_text_of_an_error_is_short,
    what_cannot_be_encoded_leaves_nothing_behind,
];

#[track_caller]
fn malformed<C: Codec, T: DeserializeOwned + Debug>(bytes: &[u8]) {
    match C::decode::<T>(bytes) {
        Err(CodecError::Malformed(text)) => assert!(!text.is_empty()),
        other => panic!("{bytes:x?}: {other:?}"),
    }
}

fn bytes_after_the_value_are_refused<C: Codec>() {
    fn refused<C: Codec, T: Serialize + DeserializeOwned + Debug>(value: &T) {
        let mut bytes = encoded::<C>(value);
        for left in 1..300 {
            bytes.push(0);
            let error = C::decode::<T>(&bytes).unwrap_err();
            assert_eq!(error, CodecError::Trailing { bytes: left });
        }
    }
    refused::<C, _>(&());
    refused::<C, _>(&1u8);
    refused::<C, _>(&"text".to_owned());
    refused::<C, _>(&Blob::from("bytes"));
    refused::<C, _>(&vec![Some(1), None]);
    refused::<C, _>(&Vec::<u8>::new());
    refused::<C, _>(&BTreeMap::from([(1, 2)]));
}

fn nine_bytes_that_claim_a_huge_string_are_refused<C: Codec>() {
    for claim in [10, 1 << 20, 1 << 40, 1 << 56, isize::MAX as u64, u64::MAX] {
        // The length of a string, of which there is nothing else; as much as that is, there is less of it.
        let bytes = [encoded::<C>(&claim), b"text".to_vec()].concat();
        malformed::<C, String>(&bytes);
        malformed::<C, Box<str>>(&bytes);
        malformed::<C, CString>(&bytes);
        malformed::<C, Blob>(&bytes);
        malformed::<C, (String, u8)>(&bytes);
        assert!(C::decode::<&str>(&bytes).is_err());
        assert!(C::decode::<&[u8]>(&bytes).is_err());
        let inside = [vec![1], bytes].concat();
        malformed::<C, Option<String>>(&inside);
        malformed::<C, Vec<String>>(&inside);
        malformed::<C, HashMap<String, String>>(&inside);
    }
}

fn text_that_is_not_utf8_is_refused<C: Codec>() {
    for bytes in [&b"\xff"[..], b"\xc3", b"ab\xed\xa0\x80", b"\xf8aaaa"] {
        let mut bytes = encoded::<C>(&Blob::from(bytes));
        assert!(C::decode::<Blob>(&bytes).is_ok());
        malformed::<C, String>(&bytes);
        malformed::<C, Box<str>>(&bytes);
        assert!(C::decode::<&str>(&bytes).is_err());
        bytes.insert(0, 1);
        malformed::<C, Vec<String>>(&bytes);
    }
}

fn a_bool_an_option_and_a_char_that_are_none_are_refused<C: Codec>() {
    for byte in 2..=255 {
        malformed::<C, bool>(&[byte]);
        malformed::<C, Option<u8>>(&[byte, 1]);
    }
    // A surrogate, something beyond the last character, a character in too many bytes, a byte out of place.
    for char in [
        &b"\xed\xa0\x80"[..],
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\x80",
    ] {
        assert!(C::decode::<char>(char).is_err());
        let with_length = encoded::<C>(&Blob::from(char));
        assert!(C::decode::<char>(&with_length).is_err());
    }
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "it is never read")]
enum Three {
    Unit,
    Newtype(u8),
    Struct { field: u8 },
}

/// No value of it can be.
#[derive(Debug, Deserialize)]
enum Never {}

fn a_variant_that_is_none_is_refused<C: Codec>() {
    for variant in [3, 4, 250, 251, u32::MAX] {
        malformed::<C, Three>(&[encoded::<C>(&variant), vec![0; 9]].concat());
    }
    malformed::<C, Never>(&[0]);
    malformed::<C, Result<(), ()>>(&[2]);
    malformed::<C, Three>(&encoded::<C>(&(1u64 << 40)));
}

fn a_number_too_large_for_its_type_is_refused<C: Codec>() {
    malformed::<C, u16>(&encoded::<C>(&(1u32 << 16)));
    malformed::<C, i16>(&encoded::<C>(&(1i32 << 16)));
    malformed::<C, u32>(&encoded::<C>(&(1u64 << 32)));
    malformed::<C, u64>(&encoded::<C>(&(1u128 << 64)));
    malformed::<C, NonZero<u8>>(&[0]);
    malformed::<C, [u8; 4]>(&[1, 2, 3]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Option<Box<Shape>>),
    Tuple(u8, i64, f32),
    Struct {
        name: String,
        blob: Blob,
        map: BTreeMap<char, (u128, bool)>,
        list: Vec<Shape>,
    },
}

fn a_message_that_ends_at_any_byte_is_refused<C: Codec>() {
    fn refused<C: Codec, T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
        let bytes = encoded::<C>(value);
        assert_eq!(C::decode::<T>(&bytes).as_ref(), Ok(value));
        for end in 0..bytes.len() {
            malformed::<C, T>(&bytes[..end]);
        }
    }
    refused::<C, _>(&(u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX));
    refused::<C, _>(&(i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN));
    refused::<C, _>(&(true, 'ä', 1.5f32, -2.5f64));
    refused::<C, _>(&("text".to_owned(), "ä".repeat(300), Blob::from(vec![7; 300])));
    refused::<C, _>(&vec![Some(1u16), None, Some(300)]);
    refused::<C, _>(&BTreeMap::from_iter(
        (0..300).map(|key| (key, key.to_string())),
    ));
    refused::<C, _>(&Shape::Struct {
        name: "name".to_owned(),
        blob: Blob::from("blob"),
        map: BTreeMap::from([('a', (1 << 100, true)), ('😀', (0, false))]),
        list: vec![
            Shape::Unit,
            Shape::Newtype(Some(Box::new(Shape::Tuple(1, -300, 0.5)))),
            Shape::Newtype(None),
        ],
    });
}

/// A text of at most ten bytes, which quotes what it is not.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Short;

impl TryFrom<String> for Short {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > 10 {
            return Err(format!("not short: {text}"));
        }
        Ok(Short)
    }
}

fn the_text_of_an_error_is_short<C: Codec>() {
    assert!(C::decode::<Short>(&encoded::<C>("short")).is_ok());
    let error = C::decode::<Short>(&encoded::<C>(&"long".repeat(1 << 20))).unwrap_err();
    let CodecError::Malformed(text) = error else {
        panic!("{error:?}");
    };
    assert!(text.len() <= 256, "{}", text.len());
    // postcard keeps no texts.
    assert!(
        text.starts_with("not short: longlong") || C::NAME == "postcard-1",
        "{text}"
    );
}

struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The formats here begin a sequence with its length.
        serializer.collect_seq((0..10).filter(|number| number % 2 == 0))
    }
}

fn what_cannot_be_encoded_leaves_nothing_behind<C: Codec>() {
    let mut bytes = b"before".to_vec();
    let error = C::encode(&("text", [1, 2, 3], Unwritable), &mut bytes).unwrap_err();
    assert!(
        matches!(&error, CodecError::Encode(text) if !text.is_empty()),
        "{error:?}"
    );
    assert_eq!(bytes, b"before");
    C::encode(&(), &mut bytes).unwrap();
    C::encode(&1u8, &mut bytes).unwrap();
    assert_eq!(bytes, b"before\x01");
}
