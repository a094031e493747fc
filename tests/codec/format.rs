//! The guard around a format that has everything: names, types, values that say what they are.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use pipetalk::codec::{self, MAX_DEPTH};
use pipetalk::{Blob, CodecError};
use serde::de::{DeserializeOwned, IgnoredAny};
use util::{Deserialize, Serialize};

fn decode<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, CodecError> {
    codec::guarded(&mut serde_json::Deserializer::from_str(json), json.len())
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u8);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tuple(u8, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Variant {
    Unit,
    Newtype(Newtype),
    Tuple(i8, char),
    Struct { field: Option<Box<Variant>> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { value: u8 },
    Two { value: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    bool: bool,
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    floats: (f32, f64),
    char: char,
    text: String,
    blob: Blob,
    nothing: (),
    unit: Unit,
    newtype: Newtype,
    tuple: Tuple,
    options: (Option<u8>, Option<u8>),
    variants: Vec<Variant>,
    map: BTreeMap<String, Vec<u16>>,
    /// A format for people gets the text.
    address: IpAddr,
    tagged: [Tagged; 2],
    untagged: Untagged,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

#[test]
fn a_value_of_every_kind_passes() {
    let _limit = util::limit(util::here!());
    let value = Everything {
        bool: true,
        signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
        unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
        floats: (1.5, -2.5),
        char: 'ä',
        text: "with \"quotes\"".to_owned(),
        blob: Blob::from("bytes"),
        nothing: (),
        unit: Unit,
        newtype: Newtype(1),
        tuple: Tuple(2, "two".to_owned()),
        options: (None, Some(3)),
        variants: vec![
            Variant::Unit,
            Variant::Newtype(Newtype(4)),
            Variant::Tuple(-5, '5'),
            Variant::Struct {
                field: Some(Box::new(Variant::Unit)),
            },
        ],
        map: BTreeMap::from([("key".to_owned(), vec![1, 2, 300])]),
        address: [127, 0, 0, 1].into(),
        tagged: [
            Tagged::One { value: 1 },
            Tagged::Two {
                value: "two".to_owned(),
            },
        ],
        untagged: Untagged::List(vec![Untagged::Number(6), Untagged::Text("six".to_owned())]),
        rest: BTreeMap::from([("unknown".to_owned(), Untagged::Number(7))]),
    };
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(decode(&json), Ok(value));
    assert_eq!(decode::<&str>(r#""borrowed""#), Ok("borrowed"));
    assert!(decode::<IgnoredAny>(&json).is_ok());
    // Without a hint from the format, elements are paid for one by one.
    let many = vec![[0u8; 0]; 100_000];
    assert_eq!(decode(&serde_json::to_string(&many).unwrap()), Ok(many));
}

#[test]
fn depth_is_counted_whatever_the_format_calls() {
    let _limit = util::limit(util::here!());
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only their levels matter")]
    enum Deep {
        #[serde(rename = "a")]
        Struct { a: Box<Deep> },
        #[serde(rename = "b")]
        Newtype(Box<Deep>),
        #[serde(rename = "c")]
        Map(BTreeMap<String, Deep>),
        #[serde(rename = "d")]
        Option(Option<Box<Deep>>),
        #[serde(rename = "e")]
        Tuple(Box<Deep>, Box<Deep>),
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only their levels matter")]
    struct List(Vec<List>);

    fn too_deep<T: DeserializeOwned + Debug>(level: &str, levels: usize) {
        // The format has a limit of its own, of as many brackets as ours is levels.
        let json = level.repeat(MAX_DEPTH / levels + 1);
        let error = decode::<T>(&json).unwrap_err();
        assert_eq!(error, CodecError::TooDeep { limit: MAX_DEPTH }, "{level}");
    }
    too_deep::<List>("[", 2);
    too_deep::<Deep>(r#"{"d":"#, 2);
    let short = |level: &str| decode::<Deep>(&level.repeat(MAX_DEPTH / 3)).unwrap_err();
    for level in [r#"{"a":{"a":"#, r#"{"b":"#, r#"{"c":{"":"#, r#"{"e":["#] {
        assert!(matches!(short(level), CodecError::Malformed(_)), "{level}");
    }
    let brackets = "[".repeat(MAX_DEPTH + 1);
    assert!(decode::<serde_json::Value>(&brackets).is_err());
}

#[test]
fn an_error_is_in_the_words_of_the_format() {
    let _limit = util::limit(util::here!());
    let error = decode::<Vec<u8>>("[1, 2, 300]").unwrap_err();
    let CodecError::Malformed(text) = error else {
        panic!("{error:?}");
    };
    assert!(text.contains("300") && text.contains("column 10"), "{text}");
}

#[test]
fn memory_is_counted_where_no_length_is_claimed() {
    let _limit = util::limit(util::here!());
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        id: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        large: Option<[u64; 32]>,
    }

    // Fields with their names are a part of their struct, however large.
    let few: Vec<Row> = (0..99)
        .map(|id| Row {
            id,
            large: Some([7; 32]),
        })
        .collect();
    assert_eq!(decode(&serde_json::to_string(&few).unwrap()), Ok(few));
    let row = serde_json::to_string(&Row { id: 0, large: None }).unwrap();
    let many = format!("[{}]", vec![row; 20_000].join(","));
    assert_eq!(decode::<Vec<Row>>(&many).unwrap().len(), 20_000);

    let absent = format!("[{}]", vec!["null"; 1 << 19].join(","));
    let limit = codec::max_memory(absent.len());
    let expected = CodecError::TooMuchMemory { limit };
    assert_eq!(decode::<Vec<Option<[u64; 32]>>>(&absent), Err(expected));
    let absent = absent.replace("null", "[null]");
    let limit = codec::max_memory(absent.len());
    let expected = CodecError::TooMuchMemory { limit };
    assert_eq!(
        decode::<Vec<Vec<Option<[u64; 32]>>>>(&absent),
        Err(expected)
    );
}

#[test]
fn a_format_without_bytes_will_do_for_a_blob() {
    let _limit = util::limit(util::here!());
    let json = serde_json::to_string(&Blob::from("ab")).unwrap();
    assert_eq!(json, "[97,98]");
    assert_eq!(serde_json::from_str::<Blob>(&json).unwrap(), "ab");
    assert_eq!(serde_json::from_str::<Blob>(r#""text""#).unwrap(), "text");
    assert!(serde_json::from_str::<Blob>("[256]").is_err());
}
