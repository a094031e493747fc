//! The bytes of values, for good: programs of different versions talk to each other.
//!
//! Whatever changes one of these makes another codec, with another [name](pipetalk::Codec::NAME). The bytes follow
//! from the specifications of [bincode](https://docs.rs/bincode/2.0.1/bincode/spec/index.html) and of
//! [postcard](https://postcard.jamesmunns.com/wire-format).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use pipetalk::{Blob, Codec};
use serde::de::DeserializeOwned;
use util::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u16);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tuple(u8, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Struct {
    id: u32,
    name: String,
    next: Option<Box<Struct>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Enum {
    Unit,
    Newtype(i32),
    Tuple(u8, bool),
    Struct { x: i16, y: Vec<Enum> },
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// A row is a value, its bytes with bincode, and with postcard if they differ.
macro_rules! table {
    ($($value:expr, $bincode:literal $(, $postcard:literal)?;)*) => {
        #[cfg(feature = "bincode")]
        #[test]
        fn bincode() {
            let _limit = util::limit(util::here!());
            $(check::<pipetalk::codec::Bincode, _>(&$value, stringify!($value), $bincode);)*
        }

        #[cfg(feature = "postcard")]
        #[test]
        fn postcard() {
            let _limit = util::limit(util::here!());
            $(
                let bytes = [$bincode $(, $postcard)?];
                check::<pipetalk::codec::Postcard, _>(&$value, stringify!($value), bytes[bytes.len() - 1]);
            )*
        }
    };
}

fn check<C, T>(value: &T, name: &str, bytes: &str)
where
    C: Codec,
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let bytes: Vec<u8> = bytes
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let encoded = crate::encoded::<C>(value);
    assert_eq!(encoded, bytes, "{name} is {encoded:02x?}");
    assert_eq!(C::decode::<T>(&bytes).as_ref(), Ok(value), "{name}");
}

#[test]
fn the_names_are() {
    let _limit = util::limit(util::here!());
    #[cfg(feature = "bincode")]
    assert_eq!(pipetalk::codec::Bincode::NAME, "bincode-2");
    #[cfg(feature = "postcard")]
    assert_eq!(pipetalk::codec::Postcard::NAME, "postcard-1");
}

table! {
    (), "";
    false, "00";
    true, "01";

    0u8, "00";
    255u8, "ff";
    127u16, "7f";
    128u16, "80", "80 01";
    250u16, "fa", "fa 01";
    251u16, "fb fb 00", "fb 01";
    16383u16, "fb ff 3f", "ff 7f";
    16384u16, "fb 00 40", "80 80 01";
    u16::MAX, "fb ff ff", "ff ff 03";
    250u32, "fa", "fa 01";
    65535u32, "fb ff ff", "ff ff 03";
    65536u32, "fc 00 00 01 00", "80 80 04";
    u32::MAX, "fc ff ff ff ff", "ff ff ff ff 0f";
    1u64, "01";
    0xffff_ffffu64, "fc ff ff ff ff", "ff ff ff ff 0f";
    0x1_0000_0000u64, "fd 00 00 00 00 01 00 00 00", "80 80 80 80 10";
    u64::MAX, "fd ff ff ff ff ff ff ff ff", "ff ff ff ff ff ff ff ff ff 01";
    300usize, "fb 2c 01", "ac 02";
    0x1_0000_0000_0000_0000u128, "fe 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00", "80 80 80 80 80 80 80 80 80 02";
    u128::MAX,
        "fe ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff",
        "ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff 03";

    0i8, "00";
    -1i8, "ff";
    i8::MIN, "80";
    0i16, "00";
    -1i16, "01";
    1i16, "02";
    63i16, "7e";
    -64i16, "7f";
    64i16, "80", "80 01";
    125i32, "fa", "fa 01";
    -126i32, "fb fb 00", "fb 01";
    i16::MIN, "fb ff ff", "ff ff 03";
    i32::MAX, "fc fe ff ff ff", "fe ff ff ff 0f";
    i64::MIN, "fd ff ff ff ff ff ff ff ff", "ff ff ff ff ff ff ff ff ff 01";
    -300isize, "fb 57 02", "d7 04";
    i128::MIN,
        "fe ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff",
        "ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff 03";

    1.5f32, "00 00 c0 3f";
    -0.0f32, "00 00 00 80";
    1.5f64, "00 00 00 00 00 00 f8 3f";
    f64::NEG_INFINITY, "00 00 00 00 00 00 f0 ff";

    'a', "61", "01 61";
    'ä', "c3 a4", "02 c3 a4";
    '€', "e2 82 ac", "03 e2 82 ac";
    '😀', "f0 9f 98 80", "04 f0 9f 98 80";

    text(""), "00";
    text("hällo"), "06 68 c3 a4 6c 6c 6f";
    vec![text("ab"); 2], "02 02 61 62 02 61 62";
    // The length at the border, then the bytes; the rest of the long ones is cut off by the shortest value there is.
    vec![(); 250], "fa", "fa 01";
    vec![(); 251], "fb fb 00", "fb 01";
    Blob::new(), "00";
    Blob::from(&[0, 1, 0xff]), "03 00 01 ff";
    vec![0u8, 1, 0xff], "03 00 01 ff";

    None::<u32>, "00";
    Some(5u8), "01 05";
    Some(None::<u8>), "01 00";
    Some(()), "01";
    Ok::<u8, ()>(7), "00 07";
    Err::<u8, ()>(()), "01";

    (1u8, true, text("x")), "01 01 01 78";
    [1u8, 2, 3], "01 02 03";
    [300u16; 2], "fb 2c 01 fb 2c 01", "ac 02 ac 02";
    Unit, "";
    Newtype(300), "fb 2c 01", "ac 02";
    Tuple(1, text("x")), "01 01 78";
    Struct { id: 1, name: text("a"), next: None }, "01 01 61 00";
    Struct { id: 1, name: text("a"), next: Some(Box::new(Struct { id: 200, name: text(""), next: None })) },
        "01 01 61 01 c8 00 00",
        "01 01 61 01 c8 01 00 00";

    Enum::Unit, "00";
    Enum::Newtype(-2), "01 03";
    Enum::Tuple(9, true), "02 09 01";
    Enum::Struct { x: -1, y: vec![] }, "03 01 00";
    Enum::Struct { x: 1000, y: vec![Enum::Unit, Enum::Newtype(0)] }, "03 fb d0 07 02 00 01 00", "03 d0 0f 02 00 01 00";

    BTreeMap::<u8, u8>::new(), "00";
    BTreeMap::from([(text("a"), 1u8), (text("b"), 2)]), "02 01 61 01 01 62 02";
    BTreeMap::from([(1u8, vec![Some(-1i8)])]), "01 01 01 01 ff";

    Duration::new(300, 7), "fb 2c 01 07", "ac 02 07";
    IpAddr::from([127, 0, 0, 1]), "00 7f 00 00 01";
    1u32..5, "01 05";
}
