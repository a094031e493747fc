//! What the code of [`service!`](crate::service!) needs of the crate.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "it is for the macro alone"
)]

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Service;
use crate::server::{Call, HandleError, Opening, Outgoing, Payload};
use crate::{CallError, CallOptions, Channel, ClientOptions, Deadline, Items, Stream, ToName};

#[cfg(feature = "tokio")]
pub use crate::tokio::service::AsyncCaller;

/// What a service is to its peers.
#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub version: &'static str,
    pub methods: &'static [&'static str],
    pub fingerprint: u64,
}

pub type Dispatch<T> = fn(&T, u32, &Payload, &Call, &mut Outgoing) -> Result<(), HandleError>;

pub type Open<T> = fn(&T, u32, &Payload, &Call, Opening) -> Result<(), HandleError>;

pub fn service<T>(
    service: T,
    definition: &'static Definition,
    dispatch: Dispatch<T>,
    open: Open<T>,
) -> Service<T> {
    Service {
        service,
        definition,
        dispatch,
        open,
    }
}

/// What a client of a service is made of.
#[derive(Debug, Clone)]
pub struct Caller {
    channel: Channel,
    options: CallOptions,
}

impl Caller {
    pub fn connect(
        definition: &Definition,
        name: impl ToName,
        options: ClientOptions,
    ) -> Result<Caller, CallError> {
        options
            .of_service(definition)
            .channel(name)
            .map(Caller::new)
    }

    pub fn over(
        definition: &Definition,
        stream: impl Stream,
        options: ClientOptions,
    ) -> Result<Caller, CallError> {
        options
            .of_service(definition)
            .channel_over(stream)
            .map(Caller::new)
    }

    fn new(channel: Channel) -> Caller {
        Caller {
            channel,
            options: CallOptions::new(),
        }
    }

    #[must_use]
    pub fn with(&self, options: CallOptions) -> Caller {
        Caller {
            channel: self.channel.clone(),
            options,
        }
    }

    #[must_use]
    pub fn with_deadline(&self, deadline: Deadline) -> Caller {
        self.with(self.options.deadline(deadline))
    }

    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    pub fn call<Arguments: Serialize, Reply: DeserializeOwned>(
        &self,
        method: u32,
        idempotent: bool,
        arguments: &Arguments,
    ) -> Result<Reply, CallError> {
        let options = if idempotent {
            self.options.idempotent(true)
        } else {
            self.options
        };
        self.channel.call(method, arguments, options)
    }

    pub fn notify<Arguments: Serialize>(
        &self,
        method: u32,
        arguments: &Arguments,
    ) -> Result<(), CallError> {
        self.channel.notify(method, arguments, self.options)
    }

    pub fn open<Arguments: Serialize, Item: DeserializeOwned>(
        &self,
        method: u32,
        arguments: &Arguments,
    ) -> Result<Items<Item>, CallError> {
        self.channel.open(method, arguments, self.options)
    }
}

/// What can be sent.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another program",
    label = "this needs serde's `Serialize` and `Deserialize`"
)]
pub trait Sent {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Sent for T {}

pub const fn sent<T: Sent>() {}

/// Empty, so that what a method begins with otherwise is not found in it.
pub mod a_method_is_fn_notify_or_stream {}

/// What a notification returns.
#[diagnostic::on_unimplemented(
    message = "a `notify` method returns nothing",
    label = "nobody waits for this"
)]
pub trait Nothing {}

impl Nothing for () {}

pub const fn nothing<T: Nothing>() {}

#[must_use]
pub const fn first(given: &[Option<&'static str>], otherwise: &'static str) -> &'static str {
    let mut i = 0;
    while i < given.len() {
        if let Some(text) = given[i] {
            return text;
        }
        i += 1;
    }
    otherwise
}

#[must_use]
pub const fn or_empty(text: Option<&'static str>) -> &'static str {
    match text {
        Some(text) => text,
        None => "",
    }
}

/// The FNV-1a hash, in 64 bits, of the signatures. White space is left out, and so is a comma that ends a list
/// of types: what `stringify!` makes of them is another matter in each version of the compiler.
#[must_use]
pub const fn fingerprint(signatures: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < signatures.len() {
        let text = signatures[i].as_bytes();
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            at += 1;
            if byte.is_ascii_whitespace() || byte == b',' && ends_types(text, at) {
                continue;
            }
            hash = (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        }
        i += 1;
    }
    // That would fit any service.
    if hash == 0 { 1 } else { hash }
}

const fn ends_types(text: &[u8], mut at: usize) -> bool {
    while at < text.len() && text[at].is_ascii_whitespace() {
        at += 1;
    }
    at < text.len() && text[at] == b'>'
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_is_the_fnv_1a_hash_of_the_signatures() {
        // The test vectors of the hash's authors.
        assert_eq!(fingerprint(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(&["a"]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fingerprint(&["foo", "bar"]), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn white_space_does_not_matter_to_a_fingerprint() {
        let plain = fingerprint(&["fn get(HashMap<String,Vec<u8>>,)->Option<Blob>;"]);
        for other in [
            "fn get(HashMap < String, Vec < u8 > >,)->Option < Blob >;",
            "fn get(HashMap<String, Vec<u8,>\n,>,)->Option<Blob>;",
        ] {
            assert_eq!(fingerprint(&[other]), plain, "{other}");
        }
        assert_ne!(
            fingerprint(&["fn get(HashMap<String,Vec<u8>>)->Option<Blob>;"]),
            plain
        );
    }
}
