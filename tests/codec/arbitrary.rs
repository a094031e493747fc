//! What is tried on the codecs with bytes from anywhere: `fuzz/` finds them, and a test has its corpus and more.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::net::IpAddr;
use std::num::NonZero;
use std::time::Duration;

use pipetalk::{Blob, Codec};
use serde::de::DeserializeOwned;

use crate::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Record {
    id: u64,
    key: String,
    value: Option<Blob>,
    flags: (bool, i8, u16, i32),
    position: [f64; 2],
}

#[derive(Serialize, Deserialize)]
struct Name(String);

#[derive(Serialize, Deserialize)]
struct Unit;

#[derive(Serialize, Deserialize)]
enum Message {
    Ping,
    Get(Name),
    Put(Name, Blob, Option<u32>),
    Batch { records: Vec<Record>, unit: Unit },
    Nested(Box<Message>),
    Reply(Result<Option<Blob>, String>),
    Table(BTreeMap<Place, Vec<Message>>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place(char, i128);

/// Tries everything with every codec there is. A panic is a finding; so is an abort, and a hang.
pub(crate) fn run(data: &[u8]) {
    #[cfg(feature = "bincode")]
    run_with::<pipetalk::codec::Bincode>(data);
    #[cfg(feature = "postcard")]
    run_with::<pipetalk::codec::Postcard>(data);
}

fn run_with<C: Codec>(data: &[u8]) {
    round_trip::<C, Message>(data);
    round_trip::<C, Vec<Message>>(data);
    round_trip::<C, Record>(data);
    round_trip::<C, (u8, u16, u32, u64, u128)>(data);
    round_trip::<C, (i8, i16, i32, i64, i128)>(data);
    round_trip::<C, (bool, char, f32, f64, Option<Option<bool>>)>(data);
    round_trip::<C, Vec<Vec<Vec<u16>>>>(data);
    round_trip::<C, BTreeMap<String, BTreeSet<i64>>>(data);
    round_trip::<C, (Cow<'static, str>, CString, Box<[u8]>, Blob)>(data);
    round_trip::<C, (Duration, IpAddr, NonZero<u32>, std::ops::Range<usize>)>(data);
    let _ = C::decode::<(&str, &[u8])>(data);
    let _ = C::decode::<HashMap<String, HashMap<u8, Blob>>>(data);
    let _ = C::decode::<(Vec<()>, Vec<Unit>, HashMap<(), ()>)>(data);
}

/// Checks that what was decoded can be encoded, and is itself again when decoded: it has the same bytes, as not every
/// value is equal to itself.
fn round_trip<C: Codec, T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = C::decode::<T>(data) else {
        return;
    };
    let bytes = encoded::<C>(&value);
    let again = C::decode::<T>(&bytes).expect("what was encoded can be decoded");
    assert_eq!(encoded::<C>(&again), bytes);
}

fn encoded<C: Codec>(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    C::encode(value, &mut bytes).expect("what was decoded can be encoded");
    bytes
}
