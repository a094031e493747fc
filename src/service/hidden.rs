//! What the code of [`service!`](crate::service!) needs of the crate.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "it is for the macro alone"
)]

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Codec, DefaultCodec};
use crate::server::Service;
use crate::{CallError, CallOptions, Channel, ClientOptions, Deadline, Items, Stream, ToName};

#[cfg(feature = "tokio")]
pub use crate::tokio::service::{AsyncCaller, AsyncServe};

pub use crate::proto::definition::Definition;
pub use crate::server::service::{Dispatch, Open, service};

/// How the trait of a service, by the type of its objects, makes of what implements it what is served. It is a type
/// that the trait can name, and the macro give an implementation.
pub trait Serve<T> {
    type Codec;

    fn serve(service: T) -> Service<T, Self::Codec>;
}

/// What a client of a service is made of.
#[derive(Debug, Clone)]
pub struct Caller<C = DefaultCodec> {
    channel: Channel<C>,
    options: CallOptions,
}

impl<C: Codec> Caller<C> {
    pub fn connect(
        definition: &Definition,
        name: impl ToName,
        options: ClientOptions,
    ) -> Result<Self, CallError> {
        options
            .of_service(definition)
            .channel(name)
            .map(Caller::new)
    }

    pub fn over(
        definition: &Definition,
        stream: impl Stream,
        options: ClientOptions,
    ) -> Result<Self, CallError> {
        options
            .of_service(definition)
            .channel_over(stream)
            .map(Caller::new)
    }

    fn new(channel: Channel<C>) -> Self {
        Caller {
            channel,
            options: CallOptions::new(),
        }
    }

    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Caller {
            channel: self.channel.clone(),
            options,
        }
    }

    #[must_use]
    pub fn with_deadline(&self, deadline: Deadline) -> Self {
        self.with(self.options.deadline(deadline))
    }

    #[must_use]
    pub fn channel(&self) -> &Channel<C> {
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
    ) -> Result<Items<Item, C>, CallError> {
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

// What is said of mistakes: empty, so that what is wrong is not found in it.
pub mod a_method_is_fn_notify_or_stream {}
pub mod all_is_made_of_the_trait_put_this_before_the_whole_service {}
pub mod all_peers_have_the_same_methods_leave_this_out {}
pub mod every_client_has_a_method_of_this_name_choose_another {}
pub mod every_trait_has_a_method_of_this_name_choose_another {}
pub mod only_a_fn_can_be_idempotent_leave_this_out {}
pub mod this_is_said_of_a_whole_service_put_it_before_the_trait {}

/// Whether a type is what it is called: one of the standard library. If it is, this has the constant itself, which is
/// looked at before that of [`NotOfStd`].
#[derive(Debug)]
pub struct Of<T>(PhantomData<T>);

impl Of<String> {
    pub const STD: bool = true;
}

impl<T> Of<Vec<T>> {
    pub const STD: bool = true;
}

pub trait NotOfStd {
    const STD: bool = false;
}

impl<T> NotOfStd for Of<T> {}

/// What a client passes an argument as that is called `String` or `Vec`, by reference.
pub trait Passed {
    type As: ?Sized;
}

#[derive(Debug)]
pub struct Given<T, const STD: bool>(PhantomData<T>);

impl<T> Passed for Given<T, false> {
    type As = T;
}

impl Passed for Given<String, true> {
    type As = str;
}

impl<T> Passed for Given<Vec<T>, true> {
    type As = [T];
}

/// A name without what says that it is no keyword, which is a matter of the edition.
#[must_use]
pub const fn unraw(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match std::str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => name,
        },
        _ => name,
    }
}

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
/// of types: what `stringify!` makes of them is another matter in each version of the compiler. That a name is no
/// keyword, which `r#` says, is a matter of the edition, and left out as well.
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
            if is_raw(text, at - 1) {
                at += 1;
                continue;
            }
            hash = (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        }
        i += 1;
    }
    // That would fit any service.
    if hash == 0 { 1 } else { hash }
}

/// Whether a raw name begins here: `r#`, and then a letter.
const fn is_raw(text: &[u8], at: usize) -> bool {
    at + 2 < text.len()
        && text[at] == b'r'
        && text[at + 1] == b'#'
        && is_of_name(text[at + 2])
        && !(at > 0 && is_of_name(text[at - 1]))
}

const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

const fn ends_types(text: &[u8], mut at: usize) -> bool {
    while at < text.len() && text[at].is_ascii_whitespace() {
        at += 1;
    }
    at < text.len() && text[at] == b'>'
}

#[cfg(test)]
mod tests {
    use super::{fingerprint, unraw};

    #[test]
    fn a_raw_name_is_the_name() {
        assert_eq!(unraw("r#gen"), "gen");
        assert_eq!(unraw("gen"), "gen");
        assert_eq!(unraw("r"), "r");
        let plain = fingerprint(&["fn gen(r,type::T,[u8;1],)->r;"]);
        for raw in [
            "fn r#gen(r,r#type::T,[u8;1],)->r;",
            "fn r#gen(r#r, r#type :: r#T, [u8; 1],) -> r#r;",
        ] {
            assert_eq!(fingerprint(&[raw]), plain, "{raw}");
        }
        // These are no names.
        let text = fingerprint(&[r##"fn a([u8;r#"x"#.len()],);"##]);
        assert_ne!(text, fingerprint(&[r##"fn a([u8;"x"#.len()],);"##]));
    }

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
