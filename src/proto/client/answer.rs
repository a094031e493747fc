//! [`Answer`]: what comes back, and what control requests and their answers say.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::blob;
use crate::codec::Codec;
use crate::codec::outgoing::Outgoing;
use crate::proto::Party;
use crate::proto::call_error::{CallError, Version};
use crate::proto::wire;

/// What a reply is made of: the message, and where the codec's part begins.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Answer {
    pub(crate) message: Arc<Vec<u8>>,
    start: usize,
    /// That of the message, which need not begin where the vector does.
    pub(crate) size: usize,
}

impl Answer {
    /// Of a message that begins at `begins` and ends with so many bytes of the codec.
    #[inline]
    pub(crate) fn new(message: Arc<Vec<u8>>, begins: usize, payload: usize) -> Answer {
        Answer {
            start: message.len() - payload,
            size: message.len() - begins,
            message,
        }
    }

    /// What the codec made.
    #[inline]
    pub(crate) fn payload(&self) -> &[u8] {
        &self.message[self.start..]
    }

    /// Decodes the reply. A [`Blob`](crate::Blob) in it is a slice of the message.
    #[inline]
    pub(crate) fn decode<C: Codec, Reply: DeserializeOwned>(&self) -> Result<Reply, CallError> {
        blob::sharing(&self.message, || C::decode(self.payload()))
            .map_err(|error| CallError::Decode(error.to_string()))
    }

    /// What a server says of itself.
    pub(crate) fn server_info(&self) -> Result<ServerInfo, CallError> {
        let info = wire::parse_info(self.payload())
            .map_err(|malformed| CallError::Decode(malformed.0.to_owned()))?;
        Ok(ServerInfo {
            version: Version::from(&Party::from(info.identity)),
            pid: info.pid,
            connections: info.connections,
            in_flight: info.in_flight,
            draining: info.draining,
        })
    }
}

/// Writes the argument of a request to drain.
pub(crate) fn drain(out: &mut Outgoing, timeout: Duration) {
    wire::drain(out.bytes(), Some(timeout));
}

/// What a server says of itself: [`Channel::info`](crate::Channel::info).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its service and version.
    pub version: Version,
    /// Its process id.
    pub pid: u32,
    /// How many connections are open, this one included.
    pub connections: u32,
    /// How many requests are unanswered, over all connections, this one included.
    pub in_flight: u32,
    /// Whether it is ending.
    pub draining: bool,
}
