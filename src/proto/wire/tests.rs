//! The bytes of every message, what grows and what does not, and bytes from anywhere.

use super::arbitrary::{self, encoded};
use super::*;
use crate::test_util::{Random, corpus};

const ID: u32 = 0x0001_0002;

fn identity() -> Identity<'static> {
    Identity {
        codec: "bincode2",
        service: "kv",
        fingerprint: 0x0123_4567_89ab_cdef,
        version: "1.4",
        max_message: 16 << 20,
        max_in_flight: 64,
        features: 0,
    }
}

fn too_large() -> Failure<'static> {
    Failure {
        limit: 1000,
        size: 70_000,
        ..Failure::new(Code::TooLarge, "é")
    }
}

/// The fields of [`identity`].
const IDENTITY: &str = "
    01 08 00 62 69 6e 63 6f 64 65 32
    02 02 00 6b 76
    03 08 00 ef cd ab 89 67 45 23 01
    04 03 00 31 2e 34
    05 04 00 00 00 00 01
    06 04 00 40 00 00 00
    07 08 00 00 00 00 00 00 00 00 00";

/// The fields of [`too_large`].
const TOO_LARGE: &str = "
    10 02 00 03 00
    11 02 00 c3 a9
    12 08 00 e8 03 00 00 00 00 00 00
    13 08 00 70 11 01 00 00 00 00 00";

/// Every kind of message, and its bytes: what other programs have written down, and read.
fn golden() -> Vec<(Message<'static>, Vec<u8>)> {
    let request = |timeout| Message::Request {
        id: ID,
        method: 7,
        timeout,
        payload: b"hi",
    };
    let table: [(Message<'static>, &[&str]); 20] = [
        (
            Message::Hello(identity()),
            &["50 54 4c 4b  01 01", IDENTITY],
        ),
        (
            Message::Welcome(identity()),
            &["50 54 4c 4b  02 01", IDENTITY],
        ),
        (
            Message::Refusal(identity(), too_large()),
            &["50 54 4c 4b  03 01", IDENTITY, TOO_LARGE],
        ),
        (
            Message::Refusal(identity(), Failure::new(Code::Incompatible, "no")),
            &[
                "50 54 4c 4b  03 01",
                IDENTITY,
                "10 02 00 05 00  11 02 00 6e 6f",
            ],
        ),
        (
            request(Some(Duration::from_secs(30))),
            &["10 00 00 00  02 00 01 00  07 00 00 00  30 75 00 00  68 69"],
        ),
        (
            request(None),
            &["10 00 00 00  02 00 01 00  07 00 00 00  ff ff ff ff  68 69"],
        ),
        (
            Message::Notify {
                method: 7,
                payload: b"hi",
            },
            &["11 00 00 00  00 00 00 00  07 00 00 00  68 69"],
        ),
        (Message::Cancel { id: ID }, &["12 00 00 00  02 00 01 00"]),
        (
            Message::Open {
                id: ID,
                method: 7,
                timeout: None,
                credit: 64,
                payload: b"hi",
            },
            &["13 00 00 00  02 00 01 00  07 00 00 00  ff ff ff ff  40 00 00 00  68 69"],
        ),
        (
            Message::Credit { id: ID, more: 32 },
            &["14 00 00 00  02 00 01 00  20 00 00 00"],
        ),
        (
            Message::Item {
                id: ID,
                payload: b"hi",
            },
            &["22 00 00 00  02 00 01 00  68 69"],
        ),
        (Message::End { id: ID }, &["23 00 00 00  02 00 01 00"]),
        (
            Message::Error {
                id: ID,
                failure: Failure::new(Code::Failed, "no"),
            },
            &["21 00 0a 00  02 00 01 00", "10 02 00 0a 00  11 02 00 6e 6f"],
        ),
        (
            Message::Reply {
                id: ID,
                payload: b"hi",
            },
            &["20 00 00 00  02 00 01 00  68 69"],
        ),
        (
            Message::Reply {
                id: ID,
                payload: b"",
            },
            &["20 00 00 00  02 00 01 00"],
        ),
        (
            Message::Error {
                id: ID,
                failure: Failure::new(Code::Panicked, ""),
            },
            &["21 00 08 00  02 00 01 00", "10 02 00 02 00  11 00 00"],
        ),
        (
            Message::Error {
                id: ID,
                failure: too_large(),
            },
            &["21 00 20 00  02 00 01 00", TOO_LARGE],
        ),
        (
            Message::GoingAway {
                grace: Some(Duration::from_millis(500)),
            },
            &["30 00 00 00  00 00 00 00  f4 01 00 00"],
        ),
        (
            Message::GoingAway { grace: None },
            &["30 00 00 00  00 00 00 00  ff ff ff ff"],
        ),
        (Message::Goodbye, &["31 00 00 00  00 00 00 00"]),
    ];
    table
        .into_iter()
        .map(|(message, bytes)| (message, hex(&bytes.concat())))
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// A field, as a later version or another program may send it.
fn field_of(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, tag, value);
    out
}

/// The message with fields put into its header, or behind those that it has.
fn with_fields(message: &[u8], fields: &[u8]) -> Vec<u8> {
    if message.starts_with(&MAGIC) {
        return [message, fields].concat();
    }
    let had = usize::from(u16::from_le_bytes([message[2], message[3]]));
    let header = match message[0] {
        kind::OPEN => 20,
        kind::REQUEST => 16,
        kind::NOTIFY | kind::GOING_AWAY | kind::CREDIT => 12,
        _ => 8,
    };
    let (before, behind) = message.split_at(header + had);
    let mut out = [before, fields, behind].concat();
    let length = u16::try_from(had + fields.len()).unwrap();
    out[2..4].copy_from_slice(&length.to_le_bytes());
    out
}

#[test]
fn every_message_has_the_bytes_that_are_written_down() {
    for (message, bytes) in golden() {
        assert_eq!(encoded(&message), bytes, "{message:?}");
        assert_eq!(parse(&bytes), Ok(message));
    }
}

#[test]
fn the_payloads_of_control_requests_have_the_bytes_that_are_written_down() {
    let told = Info {
        identity: identity(),
        pid: 1234,
        connections: 3,
        in_flight: 2,
        draining: true,
    };
    let rest = "20 04 00 d2 04 00 00  21 04 00 03 00 00 00  22 04 00 02 00 00 00  23 01 00 01";
    let bytes = hex(&[IDENTITY, rest].concat());
    let mut out = Vec::new();
    info(&mut out, &told);
    assert_eq!(out, bytes);
    assert_eq!(parse_info(&bytes), Ok(told));

    let bytes = hex("30 04 00 88 13 00 00");
    let mut out = Vec::new();
    drain(&mut out, Some(Duration::from_secs(5)));
    assert_eq!(out, bytes);
    assert_eq!(parse_drain(&bytes), Ok(Some(Duration::from_secs(5))));
    assert_eq!(parse_drain(b""), Ok(None));
    assert_eq!(parse_info(b""), Ok(Info::default()));
}

#[test]
fn the_numbers_of_codes_and_control_requests_are_frozen() {
    for (code, number) in CODES {
        assert_eq!(code.number(), number);
        assert_eq!(Code::from_number(number), code);
    }
    let numbers = CODES.map(|(_, number)| number);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for number in [0, 11, u16::MAX] {
        assert_eq!(Code::from_number(number), Code::Other(number));
        assert_eq!(Code::Other(number).number(), number);
    }
    assert_eq!(
        [control::INFO, control::DRAIN, control::STOP, control::FIRST],
        [0xffff_ff00, 0xffff_ff01, 0xffff_ff02, 0xffff_ff00]
    );
}

#[test]
fn unknown_fields_are_skipped() {
    let unknown = [
        field_of(200, b"later"),
        field_of(0, b""),
        field_of(201, &[0; 3]),
    ]
    .concat();
    for (message, bytes) in golden() {
        assert_eq!(parse(&with_fields(&bytes, &unknown)), Ok(message));
    }
    let told = [unknown.as_slice(), &field_of(tag::PID, &[9, 0, 0, 0])].concat();
    assert_eq!(parse_info(&told).unwrap().pid, 9);
    let timeout = [unknown.as_slice(), &field_of(tag::TIMEOUT, &[9, 0, 0, 0])].concat();
    assert_eq!(parse_drain(&timeout), Ok(Some(Duration::from_millis(9))));
}

#[test]
fn unknown_flags_are_skipped() {
    for (message, mut bytes) in golden() {
        if !bytes.starts_with(&MAGIC) {
            bytes[1] = 0xff;
            assert_eq!(parse(&bytes), Ok(message));
        }
    }
}

#[test]
fn the_id_of_a_message_that_has_none_means_nothing() {
    for (message, mut bytes) in golden() {
        if matches!(
            message,
            Message::Notify { .. } | Message::GoingAway { .. } | Message::Goodbye
        ) {
            bytes[4..8].fill(0xff);
            assert_eq!(parse(&bytes), Ok(message));
        }
    }
}

#[test]
fn fields_that_are_missing_are_empty_or_nought() {
    assert_eq!(
        parse(b"PTLK\x01\x01"),
        Ok(Message::Hello(Identity::default()))
    );
    let failure = Failure::new(Code::Other(0), "");
    assert_eq!(
        parse(&hex("21 00 00 00  02 00 01 00")),
        Ok(Message::Error { id: ID, failure })
    );
    assert_eq!(
        parse(b"PTLK\x03\x01"),
        Ok(Message::Refusal(Identity::default(), failure))
    );
}

#[test]
fn of_fields_with_one_tag_the_last_counts() {
    let mut bytes = encoded(&Message::Hello(identity()));
    text(&mut bytes, tag::SERVICE, "first");
    text(&mut bytes, tag::SERVICE, "last");
    let Ok(Message::Hello(parsed)) = parse(&bytes) else {
        panic!("not a hello");
    };
    assert_eq!(parsed.service, "last");
    assert_eq!(parsed.codec, identity().codec);
}

#[test]
fn unknown_kinds_are_refused() {
    let known = [
        kind::REQUEST,
        kind::NOTIFY,
        kind::CANCEL,
        kind::OPEN,
        kind::CREDIT,
        kind::REPLY,
        kind::ERROR,
        kind::ITEM,
        kind::END,
        kind::GOING_AWAY,
        kind::GOODBYE,
    ];
    for first in 0..=u8::MAX {
        let mut bytes = [0; 20];
        bytes[0] = first;
        // What must be empty behind the header of some is a payload of others.
        let refused = matches!(
            parse(&bytes),
            Err(Malformed(
                "an unknown kind of message" | "an opening message without its magic number"
            ))
        );
        assert_eq!(refused, !known.contains(&first), "{first:#x}");
    }
    for first in 0..=u8::MAX {
        let bytes = [&MAGIC[..], &[first, VERSION]].concat();
        assert_eq!(
            parse(&bytes).is_ok(),
            [kind::HELLO, kind::WELCOME, kind::REFUSAL].contains(&first)
        );
    }
}

#[test]
fn an_unknown_version_of_the_opening_is_refused() {
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        let bytes = [&MAGIC[..], &[kind::HELLO, version]].concat();
        assert_eq!(
            parse(&bytes),
            Err(Malformed("an unknown version of the opening"))
        );
    }
}

/// Wherever a message ends too early, it is refused, or is one that may end there.
#[test]
fn a_message_may_be_cut_anywhere() {
    for (message, bytes) in golden() {
        for end in 0..bytes.len() {
            let cut = parse(&bytes[..end]);
            let may_end = match message {
                Message::Open { .. } => end >= 20,
                Message::Request { .. } => end >= 16,
                Message::Notify { .. } => end >= 12,
                Message::Reply { .. } | Message::Item { .. } => end >= 8,
                // Between two fields.
                Message::Hello(_) | Message::Welcome(_) | Message::Refusal(..) => {
                    end >= 6 && Fields(&bytes[6..end]).all(|field| field.is_ok())
                }
                _ => false,
            };
            assert_eq!(cut.is_ok(), may_end, "{message:?} cut at {end}: {cut:?}");
        }
    }
}

#[test]
fn what_goes_on_where_it_should_end_is_refused() {
    for (message, mut bytes) in golden() {
        bytes.push(0);
        let parsed = parse(&bytes);
        match message {
            Message::Request { .. }
            | Message::Notify { .. }
            | Message::Open { .. }
            | Message::Reply { .. }
            | Message::Item { .. } => assert!(parsed.is_ok()),
            _ => assert!(parsed.is_err(), "{message:?}"),
        }
    }
}

#[test]
fn fields_that_claim_more_than_there_is_are_refused() {
    for (message, mut bytes) in golden() {
        if !bytes.starts_with(&MAGIC) {
            bytes[2..4].fill(0xff);
            assert_eq!(parse(&bytes), Err(SHORT), "{message:?}");
        }
    }
    for fields in ["10", "10 02", "10 02 00", "10 02 00 00", "c8 ff ff 00"] {
        let fields = hex(fields);
        assert_eq!(parse(&[b"PTLK\x01\x01", &fields[..]].concat()), Err(SHORT));
        assert_eq!(parse_info(&fields), Err(SHORT));
        assert_eq!(parse_drain(&fields), Err(SHORT));
        let request = encoded(&Message::Cancel { id: ID });
        assert_eq!(parse(&with_fields(&request, &fields)), Err(SHORT));
    }
}

#[test]
fn a_field_of_the_wrong_length_is_refused() {
    let wrong = Err(Malformed("a field of the wrong length"));
    for (tag, right) in [
        (tag::FINGERPRINT, 8),
        (tag::MAX_MESSAGE, 4),
        (tag::MAX_IN_FLIGHT, 4),
        (tag::FEATURES, 8),
        (tag::CODE, 2),
        (tag::LIMIT, 8),
        (tag::SIZE, 8),
    ] {
        for length in (0..10).filter(|length| *length != right) {
            let field = field_of(tag, &vec![0; length]);
            let refusal = [b"PTLK\x03\x01", &field[..]].concat();
            assert_eq!(parse(&refusal), wrong, "{tag} of {length} bytes");
        }
    }
    for tag in [tag::PID, tag::CONNECTIONS, tag::IN_FLIGHT, tag::DRAINING] {
        assert!(parse_info(&field_of(tag, &[0; 2])).is_err());
    }
    assert!(parse_drain(&field_of(tag::TIMEOUT, &[0; 8])).is_err());
}

#[test]
fn a_text_is_utf_8_and_not_too_long() {
    for tag in [tag::CODEC, tag::SERVICE, tag::VERSION, tag::TEXT] {
        let refusal = |value: &[u8]| [b"PTLK\x03\x01", field_of(tag, value).as_slice()].concat();
        assert!(parse(&refusal(&[b'x'; MAX_TEXT])).is_ok());
        assert_eq!(
            parse(&refusal(&[b'x'; MAX_TEXT + 1])),
            Err(Malformed("a text that is too long"))
        );
        assert_eq!(
            parse(&refusal(&[0xc3])),
            Err(Malformed("a text that is not UTF-8"))
        );
    }
}

#[test]
fn a_long_text_is_cut_between_two_characters() {
    for (character, kept) in [
        ('x', MAX_TEXT),
        ('é', MAX_TEXT),
        ('€', MAX_TEXT - 1),
        ('🦀', MAX_TEXT),
    ] {
        let long: String = std::iter::repeat_n(character, 70_000 / character.len_utf8()).collect();
        assert_eq!(cut(&long).len(), kept);
        // All that has a text has as much of it.
        let identity = Identity {
            codec: &long,
            service: &long,
            version: &long,
            ..identity()
        };
        let failure = Failure::new(Code::Denied, &long);
        let refusal = encoded(&Message::Refusal(identity, failure));
        let Ok(Message::Refusal(parsed, why)) = parse(&refusal) else {
            panic!("not a refusal");
        };
        for text in [parsed.codec, parsed.service, parsed.version, why.text] {
            assert_eq!(text, &long[..kept]);
        }
        let error = encoded(&Message::Error { id: ID, failure });
        assert!(matches!(
            parse(&error),
            Ok(Message::Error { failure, .. }) if failure.text == &long[..kept]
        ));
    }
    assert_eq!(cut(""), "");
}

/// Never sooner than asked for, and a time that is too long is the longest that is not for ever.
#[test]
fn a_time_is_rounded_up_and_saturates() {
    let longest = u32::MAX - 1;
    for (time, travels) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(1), 1),
        (Duration::from_nanos(1_000_001), 2),
        (Duration::from_secs(30), 30_000),
        (Duration::from_millis(u64::from(longest) - 1), longest - 1),
        (Duration::from_millis(longest.into()), longest),
        (Duration::from_millis(u32::MAX.into()), longest),
        (Duration::from_secs(u64::MAX), longest),
        (Duration::MAX, longest),
    ] {
        assert_eq!(milliseconds(Some(time)), travels, "{time:?}");
        assert_eq!(
            duration(travels),
            Some(Duration::from_millis(travels.into()))
        );
    }
    assert_eq!(milliseconds(None), u32::MAX);
    assert_eq!(duration(u32::MAX), None);
}

#[test]
fn what_is_written_is_appended() {
    let mut out = b"before".to_vec();
    let failure = too_large();
    error(&mut out, ID, &failure);
    let (before, message) = out.split_at(6);
    assert_eq!(before, b"before");
    assert_eq!(parse(message), Ok(Message::Error { id: ID, failure }));
}

// ---------------------------------------------------------------- bytes from anywhere

#[test]
fn the_corpus_is_harmless() {
    for case in corpus("wire") {
        arbitrary::run(&case);
        for end in 0..case.len() {
            arbitrary::run(&case[..end]);
        }
    }
}

#[test]
fn changed_messages_are_harmless() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let cases = corpus("wire")
        .into_iter()
        .chain(golden().into_iter().map(|(_, bytes)| bytes));
    for case in cases.filter(|case| !case.is_empty()) {
        for _ in 0..2_000 {
            let mut case = case.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(case.len());
                case[at] = random.byte();
            }
            arbitrary::run(&case);
        }
    }
}

#[test]
fn bytes_at_random_are_harmless() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let kinds = [
        "50 54 4c 4b 01 01",
        "50 54 4c 4b 02 01",
        "50 54 4c 4b 03 01",
        "10",
        "11",
        "12",
        "13",
        "14",
        "20",
        "21",
        "22",
        "23",
        "30",
        "31",
        "",
    ]
    .map(hex);
    for _ in 0..200_000 {
        let mut case = kinds[random.below(kinds.len())].clone();
        let length = random.below(48);
        case.extend((0..length).map(|_| random.byte()));
        arbitrary::run(&case);
    }
}
