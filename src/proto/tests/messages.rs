//! Messages as a peer sends them, whatever it may, and the server that gets them.

use crate::proto::wire::{self, Code, Failure, Identity, Malformed};
use crate::proto::{ServerEvent, ServerSession};

pub(in crate::proto) fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

pub(in crate::proto) fn hello_from(identity: &Identity<'_>) -> Vec<u8> {
    written(|out| wire::hello(out, identity))
}

pub(in crate::proto) fn reply_to(id: u32) -> Vec<u8> {
    written(|out| wire::reply(out, id))
}

pub(in crate::proto) fn request_with(id: u32, method: u32) -> Vec<u8> {
    written(|out| wire::request(out, id, method, None))
}

pub(in crate::proto) fn notification_of(method: u32) -> Vec<u8> {
    written(|out| wire::notify(out, method))
}

pub(in crate::proto) fn cancellation_of(id: u32) -> Vec<u8> {
    written(|out| wire::cancel(out, id))
}

pub(in crate::proto) fn open_with(id: u32, credit: u32) -> Vec<u8> {
    written(|out| wire::open(out, id, 1, None, credit))
}

pub(in crate::proto) fn credit_of(id: u32, more: u32) -> Vec<u8> {
    written(|out| wire::credit(out, id, more))
}

/// An item whose message is so long.
pub(in crate::proto) fn item_of(id: u32, size: usize) -> Vec<u8> {
    written(|out| {
        wire::item(out, id);
        out.resize(size, 0);
    })
}

pub(in crate::proto) fn end_of(id: u32) -> Vec<u8> {
    written(|out| wire::end(out, id))
}

pub(in crate::proto) fn welcome_with(max_in_flight: u32) -> Vec<u8> {
    let identity = Identity {
        max_in_flight,
        ..Identity::default()
    };
    written(|out| wire::welcome(out, &identity))
}

pub(in crate::proto) fn refusal_with(code: Code) -> Vec<u8> {
    let failure = Failure::new(code, "why");
    written(|out| wire::refusal(out, &Identity::default(), &failure))
}

/// A server that a client has greeted, and this client's identity, which is the server's own.
pub(in crate::proto) fn greeted(max_in_flight: usize) -> ServerSession {
    let mut server = ServerSession::new(max_in_flight);
    let hello = hello_from(&Identity::default());
    let event = server.receive(&Identity::default(), &hello);
    assert_eq!(event, Ok(ServerEvent::Hello));
    server
}

pub(in crate::proto) fn at(server: &mut ServerSession, message: &[u8]) -> Result<(), Malformed> {
    server.receive(&Identity::default(), message).map(drop)
}
