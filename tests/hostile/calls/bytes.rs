//! Messages of a typed conversation, made and read by hand: none of it is the crate's own code.

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const WELCOME: u8 = 0x02;
pub(crate) const REFUSAL: u8 = 0x03;
pub(crate) const REQUEST: u8 = 0x10;
pub(crate) const NOTIFY: u8 = 0x11;
pub(crate) const CANCEL: u8 = 0x12;
pub(crate) const OPEN: u8 = 0x13;
pub(crate) const CREDIT: u8 = 0x14;
pub(crate) const REPLY: u8 = 0x20;
pub(crate) const ERROR: u8 = 0x21;
pub(crate) const ITEM: u8 = 0x22;
pub(crate) const END: u8 = 0x23;
pub(crate) const GOING_AWAY: u8 = 0x30;
pub(crate) const GOODBYE: u8 = 0x31;

/// The codes of failures.
pub(crate) const CANCELLED: u16 = 1;
pub(crate) const TOO_LARGE: u16 = 3;
pub(crate) const OVER_LIMIT: u16 = 4;
pub(crate) const INCOMPATIBLE: u16 = 5;
pub(crate) const UNAVAILABLE: u16 = 6;
pub(crate) const MALFORMED: u16 = 8;
pub(crate) const DENIED: u16 = 9;

/// No time-out.
pub(crate) const FOR_EVER: u32 = u32::MAX;

/// A tag, and what stands behind it.
pub(crate) type Field<'a> = (u8, &'a [u8]);

/// What the codec of these tests is called.
pub(crate) const CODEC: &str = <pipetalk::DefaultCodec as pipetalk::Codec>::NAME;

pub(crate) fn fields(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, value) in fields {
        out.push(*tag);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        out.extend_from_slice(value);
    }
    out
}

/// An opening message with these fields and no others.
pub(crate) fn opening(kind: u8, with: &[Field<'_>]) -> Vec<u8> {
    [b"PTLK", &[kind, 1][..], &fields(with)].concat()
}

/// The opening message of somebody who fits the server of these tests, or the client.
pub(crate) fn fitting(kind: u8, and: &[Field<'_>]) -> Vec<u8> {
    let usual: [Field<'_>; 5] = [
        (1, CODEC.as_bytes()),
        (2, b""),
        (4, b"7.7"),
        (5, &(1_u32 << 20).to_le_bytes()),
        (6, &64_u32.to_le_bytes()),
    ];
    opening(kind, &[&usual, and].concat())
}

pub(crate) fn hello() -> Vec<u8> {
    fitting(HELLO, &[])
}

pub(crate) fn welcome() -> Vec<u8> {
    fitting(WELCOME, &[])
}

/// A message that is no opening: flags, an id, fields that nobody knows, and the rest.
pub(crate) fn message(
    kind: u8,
    flags: u8,
    id: u32,
    with: &[u8],
    fixed: &[u8],
    rest: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(with.len()).unwrap().to_le_bytes();
    [
        &[kind, flags],
        &length[..],
        &id.to_le_bytes(),
        fixed,
        with,
        rest,
    ]
    .concat()
}

pub(crate) fn request(id: u32, timeout: u32, payload: &[u8]) -> Vec<u8> {
    let fixed = [0_u32.to_le_bytes(), timeout.to_le_bytes()].concat();
    message(REQUEST, 0, id, &[], &fixed, payload)
}

pub(crate) fn notification(payload: &[u8]) -> Vec<u8> {
    message(NOTIFY, 0, 0, &[], &0_u32.to_le_bytes(), payload)
}

pub(crate) fn cancel(id: u32) -> Vec<u8> {
    message(CANCEL, 0, id, &[], &[], &[])
}

pub(crate) fn open(id: u32, timeout: u32, credit: u32, payload: &[u8]) -> Vec<u8> {
    let fixed = [0, timeout, credit].map(u32::to_le_bytes).concat();
    message(OPEN, 0, id, &[], &fixed, payload)
}

pub(crate) fn credit(id: u32, more: u32) -> Vec<u8> {
    message(CREDIT, 0, id, &[], &more.to_le_bytes(), &[])
}

pub(crate) fn item(id: u32, payload: &[u8]) -> Vec<u8> {
    message(ITEM, 0, id, &[], &[], payload)
}

pub(crate) fn end(id: u32) -> Vec<u8> {
    message(END, 0, id, &[], &[], &[])
}

pub(crate) fn reply(id: u32, payload: &[u8]) -> Vec<u8> {
    message(REPLY, 0, id, &[], &[], payload)
}

pub(crate) fn error(id: u32, code: u16, text: &str) -> Vec<u8> {
    let with = fields(&[(16, &code.to_le_bytes()), (17, text.as_bytes())]);
    message(ERROR, 0, id, &with, &[], &[])
}

pub(crate) fn going_away() -> Vec<u8> {
    message(GOING_AWAY, 0, 0, &[], &1_000_u32.to_le_bytes(), &[])
}

/// What somebody said, as far as these tests care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Hello,
    Welcome,
    Refusal(Failure),
    Request {
        id: u32,
        timeout: u32,
        payload: Vec<u8>,
    },
    Cancel {
        id: u32,
    },
    Open {
        id: u32,
        timeout: u32,
        credit: u32,
    },
    Credit {
        id: u32,
        more: u32,
    },
    Item {
        id: u32,
        payload: Vec<u8>,
    },
    End {
        id: u32,
    },
    Reply {
        id: u32,
        payload: Vec<u8>,
    },
    Error {
        id: u32,
        failure: Failure,
    },
    Other(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) text: String,
    pub(crate) limit: u64,
    pub(crate) size: u64,
}

fn failure(mut bytes: &[u8]) -> Failure {
    let mut failure = Failure::default();
    while !bytes.is_empty() {
        let end = 3 + usize::from(u16::from_le_bytes(bytes[1..3].try_into().unwrap()));
        let value = &bytes[3..end];
        match bytes[0] {
            16 => failure.code = u16::from_le_bytes(value.try_into().unwrap()),
            17 => failure.text = String::from_utf8(value.to_vec()).unwrap(),
            18 => failure.limit = u64::from_le_bytes(value.try_into().unwrap()),
            19 => failure.size = u64::from_le_bytes(value.try_into().unwrap()),
            _ => {}
        }
        bytes = &bytes[end..];
    }
    failure
}

/// Reads what one of the crate has written, which is well-formed.
pub(crate) fn read(bytes: &[u8]) -> Said {
    if let Some(opening) = bytes.strip_prefix(b"PTLK") {
        return match opening[0] {
            HELLO => Said::Hello,
            WELCOME => Said::Welcome,
            REFUSAL => Said::Refusal(failure(&opening[2..])),
            kind => Said::Other(kind),
        };
    }
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let length = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
    let id = number(4);
    match bytes[0] {
        REQUEST => Said::Request {
            id,
            timeout: number(12),
            payload: bytes[16 + length..].to_vec(),
        },
        CANCEL => Said::Cancel { id },
        OPEN => Said::Open {
            id,
            timeout: number(12),
            credit: number(16),
        },
        CREDIT => Said::Credit {
            id,
            more: number(8),
        },
        ITEM => Said::Item {
            id,
            payload: bytes[8 + length..].to_vec(),
        },
        END => Said::End { id },
        REPLY => Said::Reply {
            id,
            payload: bytes[8 + length..].to_vec(),
        },
        ERROR => Said::Error {
            id,
            failure: failure(&bytes[8..8 + length]),
        },
        kind => Said::Other(kind),
    }
}

/// A length or a number as the codec writes it where it says the largest that there is.
pub(crate) fn claim(length: u64) -> Vec<u8> {
    if cfg!(feature = "bincode") {
        return [&[0xfd], &length.to_le_bytes()[..]].concat();
    }
    let mut left = length;
    let mut out = Vec::new();
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        if left == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
