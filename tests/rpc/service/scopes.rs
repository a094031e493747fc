//! What a service makes of the scope that it stands in: names that are not those of the standard library, lints that are
//! forbidden, and what a `cfg` leaves out.

use pipetalk::{Call, CallError, ItemSink, ServerOptions, memory};

use super::{Serving, definition};
use util::{Deserialize, Serialize, here, limit, soon};

/// Types and traits that have other names here than there.
mod own {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct Text(pub(super) u8);

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct List<T>(pub(super) T, pub(super) T);

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) enum Maybe<T> {
        Yes(T),
        No,
    }

    #[expect(dead_code, reason = "it is what the macro is not to find")]
    pub(super) trait Nothing {}
}

/// Nothing here is what it is called, and there is no prelude.
#[no_implicit_prelude]
mod bare {
    #[expect(unused_imports, reason = "the macro is not to find them")]
    use super::own::{
        List as Box, Maybe as Err, Maybe as None, Maybe as Ok, Maybe as Some, Nothing as Clone,
        Nothing as Debug, Nothing as Default, Nothing as Fn, Nothing as From, Nothing as Future,
        Nothing as Into, Nothing as Send, Nothing as Sized, Nothing as Sync, Nothing as ToString,
        Text as Arc, Text as Call, Text as CallError, Text as Channel, Text as Client,
        Text as Definition, Text as ItemSink, Text as Items, Text as Payload, Text as PhantomData,
    };
    pub(super) use super::own::{List as Vec, Maybe as Option, Maybe as Result, Text as String};

    mod core {}
    mod std {}
    mod pipetalk {}

    ::pipetalk::service! {
        pub(super) trait Strange {
            #[idempotent]
            fn text(text: String) -> Option<String>;
            fn list(list: Vec<u8>, lists: Vec<Vec<String>>) -> Result<u8>;
            fn all_but_one(list: Vec<Vec<u8>>) -> Vec<u8>;
            notify nothing(text: String);
            stream both(list: Vec<String>) -> String;
        }
        pub(super) struct StrangeClient;
    }

    #[cfg(feature = "tokio")]
    ::pipetalk::service! {
        pub(super) trait Also {
            fn text(text: String, list: Vec<String>) -> Option<String>;
            notify nothing(text: String);
            stream both(list: Vec<String>) -> String;
        }
        pub(super) struct AlsoClient;
        pub(super) async trait AsyncAlso;
        pub(super) async struct AsyncAlsoClient;
    }
}

use bare::Strange as _;
use own::{List, Maybe, Text};

struct Stranger;

impl bare::Strange for Stranger {
    fn text(&self, _: &Call, text: Text) -> Maybe<Text> {
        Maybe::Yes(Text(text.0 + 1))
    }

    fn list(&self, _: &Call, list: List<u8>, lists: List<List<Text>>) -> Maybe<u8> {
        match lists.1.0 == Text(list.1) {
            true => Maybe::No,
            false => Maybe::Yes(list.0),
        }
    }

    fn all_but_one(&self, _: &Call, list: List<List<u8>>) -> List<u8> {
        list.1
    }

    fn nothing(&self, _: &Call, _: Text) {}

    fn both(&self, _: &Call, list: List<Text>, items: ItemSink<Text>) {
        items.send(&list.0).unwrap();
        items.send(&list.1).unwrap();
    }
}

#[test]
fn a_type_is_what_it_is_called_where_it_is_called() {
    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), Stranger.service());
    let client = bare::StrangeClient::over(connector.connect(soon()).unwrap()).unwrap();
    assert_eq!(client.text(&Text(1)), Ok(Maybe::Yes(Text(2))));
    let lists = List(List(Text(1), Text(2)), List(Text(3), Text(4)));
    assert_eq!(client.list(&List(1, 3), &lists), Ok(Maybe::No));
    assert_eq!(client.list(&List(1, 4), &lists), Ok(Maybe::Yes(1)));
    let list = List(List(1, 2), List(3, 4));
    assert_eq!(client.all_but_one(&list), Ok(List(3, 4)));
    client.nothing(&Text(0)).unwrap();
    let items = client.both(&List(Text(5), Text(6))).unwrap();
    let items: Result<Vec<Text>, CallError> = items.collect();
    assert_eq!(items, Ok(vec![Text(5), Text(6)]));
}

#[test]
fn another_name_of_a_string_is_one_as_well() {
    type Name = String;

    pipetalk::service! {
        trait Named {
            fn path(name: std::string::String, also: Name) -> String;
            fn parts(parts: std::vec::Vec<String>) -> String;
        }
        struct NamedClient;
    }

    struct Joins;

    impl Named for Joins {
        fn path(&self, _: &Call, name: String, also: String) -> String {
            name + &also
        }

        fn parts(&self, _: &Call, parts: Vec<String>) -> String {
            parts.concat()
        }
    }

    let _limit = limit(here!());
    let (listener, connector) = memory::listener();
    let _serving = Serving::start(ServerOptions::new().on(listener), Joins.service());
    let client = NamedClient::over(connector.connect(soon()).unwrap()).unwrap();
    // Only the words `String` and `Vec` are passed in another way.
    let path = client.path(&"a".to_owned(), &"b".to_owned());
    assert_eq!(path.as_deref(), Ok("ab"));
    let parts = client.parts(&vec!["a".to_owned()]);
    assert_eq!(parts.as_deref(), Ok("a"));
}

/// Names that are keywords in another edition, or in all.
mod raw {
    pipetalk::service! {
        pub(super) trait r#Gen {
            fn r#gen(r#async: u8) -> u8;
            notify r#try(of: Vec<r#u8>);
        }
        pub(super) struct GenClient;
    }
}

struct Any;

impl raw::Gen for Any {
    fn r#gen(&self, _: &Call, r#async: u8) -> u8 {
        r#async
    }

    fn r#try(&self, _: &Call, _: Vec<u8>) {}
}

#[test]
fn a_raw_name_is_the_name() {
    use pipetalk::server::Handler;

    let (name, _, fingerprint) = definition(raw::Gen::service(Any));
    assert_eq!(name, "Gen");
    // As a program of an earlier edition has it.
    assert_eq!(fingerprint, fnv("fngen(u8,)->u8;notifytry(Vec<u8>,);"));
    assert_eq!(raw::Gen::service(Any).methods(), ["gen", "try"]);
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Whatever a crate may forbid; private, and nobody uses any of it.
#[forbid(
    warnings,
    unused,
    nonstandard_style,
    rust_2018_idioms,
    dead_code,
    deprecated,
    non_camel_case_types,
    non_snake_case,
    unused_variables,
    unused_mut,
    unused_must_use,
    unreachable_code,
    unused_qualifications,
    unit_bindings,
    unused_results,
    missing_docs,
    missing_debug_implementations,
    trivial_casts,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::too_many_arguments,
    clippy::ptr_arg,
    clippy::unit_arg,
    clippy::upper_case_acronyms
)]
mod forbids {
    pipetalk::service! {
        trait Unused {
            #[idempotent]
            fn get(key: String, value: Vec<u8>, or: Option<u8>) -> Option<String>;
            fn nothing();
            fn five(a: u8, b: u8, c: u8, d: u8, e: u8) -> ();
            #[deprecated]
            fn old(to: u8) -> u8;
            notify touch(key: String);
            stream list(prefix: String) -> String;
        }
        struct UnusedClient;
    }

    pipetalk::service! {
        trait Empty {}
        struct EmptyClient;
    }

    #[cfg(feature = "tokio")]
    pipetalk::service! {
        trait Unused2 {
            #[idempotent]
            fn get(key: String, value: Vec<u8>, or: Option<u8>) -> Option<String>;
            fn nothing();
            fn five(a: u8, b: u8, c: u8, d: u8, e: u8) -> ();
            #[deprecated]
            fn old(to: u8) -> u8;
            notify touch(key: String);
            stream list(prefix: String) -> String;
        }
        struct Unused2Client;
        async trait AsyncUnused2;
        async struct AsyncUnused2Client;
    }

    #[cfg(feature = "tokio")]
    pipetalk::service! {
        trait Empty2 {}
        struct Empty2Client;
        async trait AsyncEmpty2;
        async struct AsyncEmpty2Client;
    }
}

/// Each part may be left out, but for the trait that all is made of.
mod left_out {
    pipetalk::service! {
        /// Comments may stand
        pub(super) trait Server { fn one() -> u8; }
        /// before
        #[cfg(any())]
        /// and behind.
        pub(super) struct ServerClient;
        #[cfg(any())]
        pub(super) async trait AsyncServer;
        #[cfg(any())]
        pub(super) async struct AsyncServerClient;
    }

    #[cfg(feature = "tokio")]
    pipetalk::service! {
        pub(super) trait Also { fn one() -> u8; }
        #[cfg(all())]
        pub(super) struct AlsoClient;
        #[cfg(all())]
        pub(super) async trait AsyncAlso;
        #[cfg(any())]
        pub(super) async struct AsyncAlsoClient;
    }
}

impl left_out::Server for Any {
    fn one(&self, _: &Call) -> u8 {
        1
    }
}

#[test]
fn what_is_left_out_leaves_the_rest() {
    let (name, ..) = definition(left_out::Server::service(Any));
    assert_eq!(name, "Server");
    #[cfg(feature = "tokio")]
    {
        use left_out::AsyncAlso as _;

        struct Tasks;

        impl left_out::AsyncAlso for Tasks {
            async fn one(&self, _: &Call) -> u8 {
                1
            }
        }

        let handler = Tasks.service();
        assert_eq!(pipetalk::tokio::Handler::service(&handler), "Also");
    }
}
