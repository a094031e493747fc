//! What is tried on the messages with bytes from anywhere: the fuzz targets find them, and the unit tests have their
//! corpus and more.

use crate::proto::wire::{self, Code, Failure, Message};

/// Takes the bytes for everything that bytes can be. A panic is a finding.
///
/// What was taken apart can be put together, and is then the same: nothing that the writers write is lost.
pub(crate) fn run(data: &[u8]) {
    if let Ok(message) = wire::parse(data) {
        let message = settled(message);
        assert_eq!(wire::parse(&encoded(&message)), Ok(message));
    }
    if let Ok(info) = wire::parse_info(data) {
        let mut bytes = Vec::new();
        wire::info(&mut bytes, &info);
        assert_eq!(wire::parse_info(&bytes), Ok(info));
    }
    if let Ok(timeout) = wire::parse_drain(data) {
        let mut bytes = Vec::new();
        wire::drain(&mut bytes, timeout);
        assert_eq!(wire::parse_drain(&bytes), Ok(timeout));
    }
}

/// The message without what only a peer of another make writes: sizes with a failure that has none.
fn settled(message: Message<'_>) -> Message<'_> {
    match message {
        Message::Refusal(identity, failure) => Message::Refusal(identity, settled_failure(failure)),
        Message::Error { id, failure } => Message::Error {
            id,
            failure: settled_failure(failure),
        },
        other => other,
    }
}

fn settled_failure(failure: Failure<'_>) -> Failure<'_> {
    match failure.code {
        Code::TooLarge => failure,
        code => Failure::new(code, failure.text),
    }
}

/// The bytes of a message.
pub(crate) fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Message::Hello(identity) => wire::hello(&mut out, identity),
        Message::Welcome(identity) => wire::welcome(&mut out, identity),
        Message::Refusal(identity, failure) => wire::refusal(&mut out, identity, failure),
        Message::Request {
            id,
            method,
            timeout,
            payload,
        } => {
            wire::request(&mut out, *id, *method, *timeout);
            out.extend_from_slice(payload);
        }
        Message::Notify { method, payload } => {
            wire::notify(&mut out, *method);
            out.extend_from_slice(payload);
        }
        Message::Cancel { id } => wire::cancel(&mut out, *id),
        Message::Open {
            id,
            method,
            timeout,
            credit,
            payload,
        } => {
            wire::open(&mut out, *id, *method, *timeout, *credit);
            out.extend_from_slice(payload);
        }
        Message::Credit { id, more } => wire::credit(&mut out, *id, *more),
        Message::Item { id, payload } => {
            wire::item(&mut out, *id);
            out.extend_from_slice(payload);
        }
        Message::End { id } => wire::end(&mut out, *id),
        Message::Reply { id, payload } => {
            wire::reply(&mut out, *id);
            out.extend_from_slice(payload);
        }
        Message::Error { id, failure } => wire::error(&mut out, *id, failure),
        Message::GoingAway { grace } => wire::going_away(&mut out, *grace),
        Message::Goodbye => wire::goodbye(&mut out),
    }
    out
}
