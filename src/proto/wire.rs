//! The messages of a typed conversation, as bytes: headers, greetings, control requests. No input or output
//! happens here.
//!
//! `docs/wire.md` says what each byte is, and golden tests pin it. In short: a message begins with its kind; an
//! opening message (hello, welcome, refusal) has a magic number before it, and then nothing but tagged fields; the
//! others have a fixed header, tagged fields that nobody needs yet, and what the codec made behind them. Unknown
//! fields and flags are skipped, so that there is room to grow; an unknown kind is refused, because nobody could
//! answer it.

#[cfg(any(test, fuzzing))]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// What an opening message begins with.
pub(crate) const MAGIC: [u8; 4] = *b"PTLK";

/// The version of the opening messages, which are frozen otherwise.
pub(crate) const VERSION: u8 = 1;

/// The kinds of messages.
mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const WELCOME: u8 = 0x02;
    pub(super) const REFUSAL: u8 = 0x03;
    pub(super) const REQUEST: u8 = 0x10;
    pub(super) const NOTIFY: u8 = 0x11;
    pub(super) const CANCEL: u8 = 0x12;
    pub(super) const OPEN: u8 = 0x13;
    pub(super) const CREDIT: u8 = 0x14;
    pub(super) const REPLY: u8 = 0x20;
    pub(super) const ERROR: u8 = 0x21;
    pub(super) const ITEM: u8 = 0x22;
    pub(super) const END: u8 = 0x23;
    pub(super) const GOING_AWAY: u8 = 0x30;
    pub(super) const GOODBYE: u8 = 0x31;
}

/// The tags of fields.
mod tag {
    pub(super) const CODEC: u8 = 1;
    pub(super) const SERVICE: u8 = 2;
    pub(super) const FINGERPRINT: u8 = 3;
    pub(super) const VERSION: u8 = 4;
    pub(super) const MAX_MESSAGE: u8 = 5;
    pub(super) const MAX_IN_FLIGHT: u8 = 6;
    pub(super) const FEATURES: u8 = 7;
    pub(super) const CODE: u8 = 16;
    pub(super) const TEXT: u8 = 17;
    pub(super) const LIMIT: u8 = 18;
    pub(super) const SIZE: u8 = 19;
    pub(super) const PID: u8 = 32;
    pub(super) const CONNECTIONS: u8 = 33;
    pub(super) const IN_FLIGHT: u8 = 34;
    pub(super) const DRAINING: u8 = 35;
    pub(super) const TIMEOUT: u8 = 48;
}

/// The methods that every server has, whatever its service. They are frozen: a client of any version may ask.
pub(crate) mod control {
    /// Who are you? Answered by [`super::Info`].
    pub(crate) const INFO: u32 = 0xFFFF_FF00;
    /// Take no more requests, finish those you have, and end.
    pub(crate) const DRAIN: u32 = 0xFFFF_FF01;
    /// End at once.
    pub(crate) const STOP: u32 = 0xFFFF_FF02;
    /// The first method id that no service may use.
    pub(crate) const FIRST: u32 = 0xFFFF_FF00;
}

/// The longest text in a field; longer texts are cut when they are sent.
pub(crate) const MAX_TEXT: usize = 1024;

/// A message that is not one; the text says what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// Who somebody is, as an opening message says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Identity<'a> {
    pub(crate) codec: &'a str,
    pub(crate) service: &'a str,
    /// A number that differs where the methods and their types do; 0 where nobody says.
    pub(crate) fingerprint: u64,
    /// The version of the application, for people to read.
    pub(crate) version: &'a str,
    /// The largest message that is taken, in bytes.
    pub(crate) max_message: u32,
    /// How many requests may be unanswered at once.
    pub(crate) max_in_flight: u32,
    /// What is understood beyond the first release, one bit each.
    pub(crate) features: u64,
}

/// What went wrong with a request or a conversation. The number of an unknown code is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// The request was cancelled, or its time was over.
    Cancelled,
    /// The handler panicked.
    Panicked,
    /// The request, or its reply, is over a limit: `LIMIT` and `SIZE` say which.
    TooLarge,
    /// A limit that is not about size was reached; the text names it.
    OverLimit,
    /// The services, their versions or their codecs do not fit.
    Incompatible,
    /// The server takes no more requests.
    Unavailable,
    /// The service has no such method.
    UnknownMethod,
    /// The request could not be decoded, or breaks the protocol.
    Malformed,
    /// The server does not let this client do that.
    Denied,
    /// The handler ended the stream, and says why.
    Failed,
    /// A code from a later version.
    Other(u16),
}

const CODES: [(Code, u16); 10] = [
    (Code::Cancelled, 1),
    (Code::Panicked, 2),
    (Code::TooLarge, 3),
    (Code::OverLimit, 4),
    (Code::Incompatible, 5),
    (Code::Unavailable, 6),
    (Code::UnknownMethod, 7),
    (Code::Malformed, 8),
    (Code::Denied, 9),
    (Code::Failed, 10),
];

impl Code {
    #[inline]
    fn number(self) -> u16 {
        match self {
            Code::Other(number) => number,
            known => CODES
                .iter()
                .find(|(code, _)| *code == known)
                .map_or(0, |(_, number)| *number),
        }
    }

    fn from_number(number: u16) -> Code {
        CODES
            .iter()
            .find(|(_, known)| *known == number)
            .map_or(Code::Other(number), |(code, _)| *code)
    }
}

/// A failure, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure<'a> {
    pub(crate) code: Code,
    pub(crate) text: &'a str,
    /// With [`Code::TooLarge`].
    pub(crate) limit: u64,
    /// With [`Code::TooLarge`].
    pub(crate) size: u64,
}

impl<'a> Failure<'a> {
    pub(crate) const fn new(code: Code, text: &'a str) -> Failure<'a> {
        Failure {
            code,
            text,
            limit: 0,
            size: 0,
        }
    }
}

/// What a server says of itself to anybody who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Info<'a> {
    pub(crate) identity: Identity<'a>,
    pub(crate) pid: u32,
    pub(crate) connections: u32,
    pub(crate) in_flight: u32,
    pub(crate) draining: bool,
}

/// A message, taken apart. What the codec made is the end of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Hello(Identity<'a>),
    Welcome(Identity<'a>),
    /// The server does not take part in the conversation; except where it says [`Code::Incompatible`], it closes.
    Refusal(Identity<'a>, Failure<'a>),
    Request {
        id: u32,
        method: u32,
        timeout: Option<Duration>,
        payload: &'a [u8],
    },
    Notify {
        method: u32,
        payload: &'a [u8],
    },
    /// The caller waits for the reply no longer, or wants no more items.
    Cancel {
        id: u32,
    },
    /// A request that is answered by items, as far as the credit goes.
    Open {
        id: u32,
        method: u32,
        timeout: Option<Duration>,
        credit: u32,
        payload: &'a [u8],
    },
    /// More items may be sent.
    Credit {
        id: u32,
        more: u32,
    },
    Reply {
        id: u32,
        payload: &'a [u8],
    },
    /// The failure of a request, or of a stream, which it ends.
    Error {
        id: u32,
        failure: Failure<'a>,
    },
    Item {
        id: u32,
        payload: &'a [u8],
    },
    /// There are no more items.
    End {
        id: u32,
    },
    /// The server ends; requests that it has are answered until then.
    GoingAway {
        grace: Option<Duration>,
    },
    /// The last message: every request that was read has been answered, and no other will be read.
    Goodbye,
}

// ---------------------------------------------------------------- writing

/// Writes an opening message.
pub(crate) fn hello(out: &mut Vec<u8>, identity: &Identity<'_>) {
    opening(out, kind::HELLO, identity);
}

pub(crate) fn welcome(out: &mut Vec<u8>, identity: &Identity<'_>) {
    opening(out, kind::WELCOME, identity);
}

pub(crate) fn refusal(out: &mut Vec<u8>, identity: &Identity<'_>, failure: &Failure<'_>) {
    opening(out, kind::REFUSAL, identity);
    failure_fields(out, failure);
}

fn opening(out: &mut Vec<u8>, kind: u8, identity: &Identity<'_>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[kind, VERSION]);
    identity_fields(out, identity);
}

fn identity_fields(out: &mut Vec<u8>, identity: &Identity<'_>) {
    text(out, tag::CODEC, identity.codec);
    text(out, tag::SERVICE, identity.service);
    field(out, tag::FINGERPRINT, &identity.fingerprint.to_le_bytes());
    text(out, tag::VERSION, identity.version);
    field(out, tag::MAX_MESSAGE, &identity.max_message.to_le_bytes());
    field(
        out,
        tag::MAX_IN_FLIGHT,
        &identity.max_in_flight.to_le_bytes(),
    );
    field(out, tag::FEATURES, &identity.features.to_le_bytes());
}

fn failure_fields(out: &mut Vec<u8>, failure: &Failure<'_>) {
    field(out, tag::CODE, &failure.code.number().to_le_bytes());
    text(out, tag::TEXT, failure.text);
    if failure.code == Code::TooLarge {
        field(out, tag::LIMIT, &failure.limit.to_le_bytes());
        field(out, tag::SIZE, &failure.size.to_le_bytes());
    }
}

/// The header of a request; what the codec makes of it goes behind.
#[inline]
pub(crate) fn request(out: &mut Vec<u8>, id: u32, method: u32, timeout: Option<Duration>) {
    let [id, method] = [id, method].map(u32::to_le_bytes);
    let timeout = milliseconds(timeout).to_le_bytes();
    // In one go, as it is the header of nearly every message of a client.
    let header = [[kind::REQUEST, 0, 0, 0], id, method, timeout];
    out.extend_from_slice(header.as_flattened());
}

/// The header of a notification.
pub(crate) fn notify(out: &mut Vec<u8>, method: u32) {
    header(out, kind::NOTIFY, 0);
    out.extend_from_slice(&method.to_le_bytes());
}

pub(crate) fn cancel(out: &mut Vec<u8>, id: u32) {
    header(out, kind::CANCEL, id);
}

/// The header of the request for a stream.
pub(crate) fn open(
    out: &mut Vec<u8>,
    id: u32,
    method: u32,
    timeout: Option<Duration>,
    credit: u32,
) {
    header(out, kind::OPEN, id);
    out.extend_from_slice(&method.to_le_bytes());
    out.extend_from_slice(&milliseconds(timeout).to_le_bytes());
    out.extend_from_slice(&credit.to_le_bytes());
}

pub(crate) fn credit(out: &mut Vec<u8>, id: u32, more: u32) {
    header(out, kind::CREDIT, id);
    out.extend_from_slice(&more.to_le_bytes());
}

/// The header of an item of a stream.
#[inline]
pub(crate) fn item(out: &mut Vec<u8>, id: u32) {
    header(out, kind::ITEM, id);
}

pub(crate) fn end(out: &mut Vec<u8>, id: u32) {
    header(out, kind::END, id);
}

/// The header of a reply.
#[inline]
pub(crate) fn reply(out: &mut Vec<u8>, id: u32) {
    header(out, kind::REPLY, id);
}

pub(crate) fn error(out: &mut Vec<u8>, id: u32, failure: &Failure<'_>) {
    let start = out.len();
    header(out, kind::ERROR, id);
    let fields = out.len();
    failure_fields(out, failure);
    let length = u16::try_from(out.len() - fields).unwrap_or(u16::MAX);
    if let Some(place) = out.get_mut(start + 2..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

pub(crate) fn going_away(out: &mut Vec<u8>, grace: Option<Duration>) {
    header(out, kind::GOING_AWAY, 0);
    out.extend_from_slice(&milliseconds(grace).to_le_bytes());
}

pub(crate) fn goodbye(out: &mut Vec<u8>) {
    header(out, kind::GOODBYE, 0);
}

/// The payload of the reply to [`control::INFO`].
pub(crate) fn info(out: &mut Vec<u8>, info: &Info<'_>) {
    identity_fields(out, &info.identity);
    field(out, tag::PID, &info.pid.to_le_bytes());
    field(out, tag::CONNECTIONS, &info.connections.to_le_bytes());
    field(out, tag::IN_FLIGHT, &info.in_flight.to_le_bytes());
    field(out, tag::DRAINING, &[u8::from(info.draining)]);
}

/// The payload of a [`control::DRAIN`] request.
pub(crate) fn drain(out: &mut Vec<u8>, timeout: Option<Duration>) {
    field(out, tag::TIMEOUT, &milliseconds(timeout).to_le_bytes());
}

/// Kind, flags (none yet), the length of the fields (none unless filled in), and the id.
#[inline]
fn header(out: &mut Vec<u8>, kind: u8, id: u32) {
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.extend_from_slice(&id.to_le_bytes());
}

fn field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.push(tag);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&value[..usize::from(length)]);
}

fn text(out: &mut Vec<u8>, tag: u8, text: &str) {
    field(out, tag, cut(text).as_bytes());
}

/// The beginning of a text, as much as a field may hold.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A time as it travels: rounded up to milliseconds, and the largest number for ever.
#[inline]
fn milliseconds(time: Option<Duration>) -> u32 {
    match time {
        Some(time) => {
            let begun = u64::from(time.subsec_nanos().div_ceil(1_000_000));
            let whole = time.as_secs().saturating_mul(1_000).saturating_add(begun);
            u32::try_from(whole).map_or(u32::MAX - 1, |ms| ms.min(u32::MAX - 1))
        }
        None => u32::MAX,
    }
}

#[inline]
fn duration(milliseconds: u32) -> Option<Duration> {
    (milliseconds != u32::MAX).then(|| Duration::from_millis(milliseconds.into()))
}

// ---------------------------------------------------------------- reading

/// Whether a message asks for something that a handler does: a look at its first byte.
#[cfg(feature = "tokio")]
pub(crate) fn asks(message: &[u8]) -> bool {
    matches!(
        message.first(),
        Some(&(kind::REQUEST | kind::NOTIFY | kind::OPEN))
    )
}

/// Takes a message apart.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>> {
    if let Some(rest) = bytes.strip_prefix(&MAGIC) {
        return parse_opening(rest);
    }
    let mut rest = Reader(bytes);
    let [kind, _flags, low, high] = rest.array()?;
    let id = u32::from_le_bytes(rest.array()?);
    let fields = usize::from(u16::from_le_bytes([low, high]));
    match kind {
        kind::REQUEST => {
            let method = u32::from_le_bytes(rest.array()?);
            let timeout = duration(u32::from_le_bytes(rest.array()?));
            rest.skip_fields(fields)?;
            Ok(Message::Request {
                id,
                method,
                timeout,
                payload: rest.0,
            })
        }
        kind::NOTIFY => {
            let method = u32::from_le_bytes(rest.array()?);
            rest.skip_fields(fields)?;
            Ok(Message::Notify {
                method,
                payload: rest.0,
            })
        }
        kind::CANCEL => {
            rest.skip_fields(fields)?;
            rest.nothing_more(Message::Cancel { id })
        }
        kind::OPEN => {
            let method = u32::from_le_bytes(rest.array()?);
            let timeout = duration(u32::from_le_bytes(rest.array()?));
            let credit = u32::from_le_bytes(rest.array()?);
            rest.skip_fields(fields)?;
            Ok(Message::Open {
                id,
                method,
                timeout,
                credit,
                payload: rest.0,
            })
        }
        kind::CREDIT => {
            let more = u32::from_le_bytes(rest.array()?);
            rest.skip_fields(fields)?;
            rest.nothing_more(Message::Credit { id, more })
        }
        kind::REPLY => {
            rest.skip_fields(fields)?;
            Ok(Message::Reply {
                id,
                payload: rest.0,
            })
        }
        kind::ITEM => {
            rest.skip_fields(fields)?;
            Ok(Message::Item {
                id,
                payload: rest.0,
            })
        }
        kind::END => {
            rest.skip_fields(fields)?;
            rest.nothing_more(Message::End { id })
        }
        kind::ERROR => {
            let failure = parse_failure(Fields(rest.take(fields)?))?;
            rest.nothing_more(Message::Error { id, failure })
        }
        kind::GOING_AWAY => {
            let grace = duration(u32::from_le_bytes(rest.array()?));
            rest.skip_fields(fields)?;
            rest.nothing_more(Message::GoingAway { grace })
        }
        kind::GOODBYE => {
            rest.skip_fields(fields)?;
            rest.nothing_more(Message::Goodbye)
        }
        kind::HELLO | kind::WELCOME | kind::REFUSAL => {
            Err(Malformed("an opening message without its magic number"))
        }
        _ => Err(Malformed("an unknown kind of message")),
    }
}

fn parse_opening(bytes: &[u8]) -> Result<Message<'_>> {
    let mut rest = Reader(bytes);
    let [kind, version] = rest.array()?;
    if version != VERSION {
        return Err(Malformed("an unknown version of the opening"));
    }
    let fields = Fields(rest.0);
    let identity = parse_identity(fields)?;
    match kind {
        kind::HELLO => Ok(Message::Hello(identity)),
        kind::WELCOME => Ok(Message::Welcome(identity)),
        kind::REFUSAL => Ok(Message::Refusal(identity, parse_failure(fields)?)),
        _ => Err(Malformed("an unknown kind of opening")),
    }
}

fn parse_identity(fields: Fields<'_>) -> Result<Identity<'_>> {
    let mut identity = Identity::default();
    for field in fields {
        let (tag, value) = field?;
        match tag {
            tag::CODEC => identity.codec = as_text(value)?,
            tag::SERVICE => identity.service = as_text(value)?,
            tag::FINGERPRINT => identity.fingerprint = u64::from_le_bytes(as_array(value)?),
            tag::VERSION => identity.version = as_text(value)?,
            tag::MAX_MESSAGE => identity.max_message = u32::from_le_bytes(as_array(value)?),
            tag::MAX_IN_FLIGHT => identity.max_in_flight = u32::from_le_bytes(as_array(value)?),
            tag::FEATURES => identity.features = u64::from_le_bytes(as_array(value)?),
            _ => {}
        }
    }
    Ok(identity)
}

fn parse_failure(fields: Fields<'_>) -> Result<Failure<'_>> {
    let mut failure = Failure::new(Code::Other(0), "");
    for field in fields {
        let (tag, value) = field?;
        match tag {
            tag::CODE => failure.code = Code::from_number(u16::from_le_bytes(as_array(value)?)),
            tag::TEXT => failure.text = as_text(value)?,
            tag::LIMIT => failure.limit = u64::from_le_bytes(as_array(value)?),
            tag::SIZE => failure.size = u64::from_le_bytes(as_array(value)?),
            _ => {}
        }
    }
    Ok(failure)
}

/// Reads the payload of the reply to [`control::INFO`].
pub(crate) fn parse_info(bytes: &[u8]) -> Result<Info<'_>> {
    let fields = Fields(bytes);
    let mut info = Info {
        identity: parse_identity(fields)?,
        ..Info::default()
    };
    for field in fields {
        let (tag, value) = field?;
        match tag {
            tag::PID => info.pid = u32::from_le_bytes(as_array(value)?),
            tag::CONNECTIONS => info.connections = u32::from_le_bytes(as_array(value)?),
            tag::IN_FLIGHT => info.in_flight = u32::from_le_bytes(as_array(value)?),
            tag::DRAINING => info.draining = as_array::<1>(value)? != [0],
            _ => {}
        }
    }
    Ok(info)
}

/// Reads the payload of a [`control::DRAIN`] request.
pub(crate) fn parse_drain(bytes: &[u8]) -> Result<Option<Duration>> {
    let mut timeout = None;
    for field in Fields(bytes) {
        if let (tag::TIMEOUT, value) = field? {
            timeout = duration(u32::from_le_bytes(as_array(value)?));
        }
    }
    Ok(timeout)
}

const SHORT: Malformed = Malformed("a message that ends too early");

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        as_array(self.take(N)?)
    }

    /// Fields of a later version, which have to be fields all the same.
    #[inline]
    fn skip_fields(&mut self, length: usize) -> Result<()> {
        Fields(self.take(length)?).try_for_each(|field| field.map(drop))
    }

    fn nothing_more<T>(&self, message: T) -> Result<T> {
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Malformed("a message that goes on where it should end"))
        }
    }
}

/// Tagged fields: a tag, a length of two bytes, and the value. Of several with one tag the last counts.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, &'a [u8])>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut rest = Reader(std::mem::take(&mut self.0));
        let field = (|| {
            let [tag, low, high] = rest.array()?;
            let value = rest.take(usize::from(u16::from_le_bytes([low, high])))?;
            Ok((tag, value))
        })();
        if field.is_ok() {
            self.0 = rest.0;
        }
        Some(field)
    }
}

fn as_array<const N: usize>(value: &[u8]) -> Result<[u8; N]> {
    value
        .try_into()
        .map_err(|_| Malformed("a field of the wrong length"))
}

fn as_text(value: &[u8]) -> Result<&str> {
    if value.len() > MAX_TEXT {
        return Err(Malformed("a text that is too long"));
    }
    std::str::from_utf8(value).map_err(|_| Malformed("a text that is not UTF-8"))
}
