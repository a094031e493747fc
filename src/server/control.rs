//! What every server answers, whatever its service.

use std::time::Duration;

use crate::proto::Party;
use crate::proto::wire::{self, Code, Failure, Info, Malformed, control};

/// What a control request asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Info,
    Drain(Duration),
    Stop,
    /// It is answered with this.
    No(Failure<'static>),
}

/// What a control request asks for; `may` says whether this client may end the server.
pub(crate) fn asked(
    method: u32,
    payload: &[u8],
    may: impl FnOnce() -> bool,
) -> Result<Asked, Malformed> {
    Ok(match method {
        control::INFO => Asked::Info,
        _ if !may() => Asked::No(Failure::new(
            Code::Denied,
            "only the server's own user may end it",
        )),
        control::DRAIN => Asked::Drain(wire::parse_drain(payload)?.unwrap_or(Duration::MAX)),
        control::STOP => Asked::Stop,
        _ => Asked::No(Failure::new(Code::UnknownMethod, "no such control request")),
    })
}

/// What a client is told that sent too large a message. Whose request it was is not known, as it was not received.
pub(crate) fn too_large(limit: usize, size: usize) -> Failure<'static> {
    Failure {
        limit: limit as u64,
        size: size as u64,
        ..Failure::new(Code::TooLarge, "a message over the server's limit")
    }
}

/// What a server says of itself.
pub(crate) fn info(ours: &Party, connections: usize, in_flight: usize, draining: bool) -> Info<'_> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Info {
        identity: ours.identity(),
        pid: std::process::id(),
        connections: count(connections),
        in_flight: count(in_flight),
        draining,
    }
}
