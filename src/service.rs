//! [`service!`](crate::service!): named methods, as a trait for the server and a type for the client.
//!
//! The macro writes the two ends and nothing else: what they have in common is in `hidden`, which is no part of the
//! crate's interface. A definition is matched in one go, and each method then on its own, so that neither the number
//! of methods nor the length of their comments comes near the compiler's limit of recursion.

use std::fmt;

use crate::codec::DefaultCodec;
use crate::server::{Call, HandleError, Handler, Outgoing, Payload};
use hidden::{Definition, Dispatch};

/// Makes a service out of its methods: a trait for the server to implement, and a client with the same methods.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use pipetalk::{Blob, Call, CallError, Server};
/// use serde::{Deserialize, Serialize};
///
/// pipetalk::service! {
///     /// A small key-value store.
///     pub trait Kv {
///         /// The value of a key.
///         #[idempotent]
///         fn get(key: String) -> Option<Blob>;
///         /// Sets the value of a key.
///         fn put(key: String, value: Blob) -> Result<(), PutError>;
///         /// Says that a key is in use.
///         notify touch(key: String);
///     }
///
///     /// Calls a key-value store.
///     pub struct KvClient;
/// }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// pub enum PutError {
///     EmptyKey,
/// }
///
/// #[derive(Default)]
/// struct Store(Mutex<HashMap<String, Blob>>);
///
/// impl Kv for Store {
///     fn get(&self, _: &Call, key: String) -> Option<Blob> {
///         self.0.lock().unwrap().get(&key).cloned()
///     }
///     fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
///         if key.is_empty() {
///             return Err(PutError::EmptyKey);
///         }
///         self.0.lock().unwrap().insert(key, value);
///         Ok(())
///     }
///     fn touch(&self, call: &Call, key: String) {
///         println!("{key} is in use by {:?}", call.peer());
///     }
/// }
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let unix = format!("{}/docs.sock", dir.path().display());
/// # let name = if cfg!(windows) { format!("pipetalk-doc-kv-{}", std::process::id()) } else { unix };
/// # let name = name.as_str();
/// // The server:
/// let server = Server::bind(name)?;
/// # let handle = server.handle();
/// let serving = std::thread::spawn(move || server.serve(Store::default().service()));
///
/// // The client:
/// let client = KvClient::connect(name)?;
/// assert_eq!(client.put("colour", &Blob::from("blue"))?, Ok(()));
/// assert_eq!(client.put("", &Blob::new())?, Err(PutError::EmptyKey));
/// assert_eq!(client.get("colour")?, Some(Blob::from("blue")));
/// client.touch("colour")?;
/// # handle.drain(std::time::Duration::from_secs(10));
/// # serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is written
///
/// One trait, and one `struct` that names the client; comments, attributes and visibility of both are yours. A method
/// is one of
///
/// * `fn name(argument: Type, ...) -> Type;` which is answered, with `()` if no type is named;
/// * `#[idempotent] fn ...` which does no harm if it is carried out twice, so that a client that
///   [reconnects](crate::ClientOptions::reconnect) may try it again ([`CallOptions::idempotent`]);
/// * `notify name(argument: Type, ...);` which is not answered.
///
/// There is no `self`, and no `pub`. Each type needs serde's `Serialize` and `Deserialize`, and a method has at most
/// 16 arguments. Comments and other attributes of a method go to the trait's method and to the client's; a `cfg` there
/// does not work, because both sides have to count the same methods.
///
/// `#[name = "..."]` on the trait is what the service calls itself to its peers, the name of the trait unless
/// given; `#[version = "..."]` is the version of the application, for people to read, that of the package unless
/// given. [`ServerOptions`] and [`ClientOptions`] can still set another version.
///
/// # What it makes: the trait
///
/// `pub trait Kv: Send + Sync + 'static`. Each method has `&self` and the [`Call`] before its arguments:
/// `fn get(&self, call: &Call, key: String) -> Option<Blob>`. One more, `fn service(self)`, makes of what implements
/// the trait what [`Server::serve`] takes.
///
/// # What it makes: the client
///
/// `pub struct KvClient`, which has no type parameters, is cloned at no cost, and is shared by threads as
/// [`Client`] is. It has
///
/// * `connect(name)`, and `connect_with(name, options)` with [`ClientOptions`];
/// * `over(stream)`, and `over_with(stream, options)`, for a stream that is open already, for example one in
///   [`memory`];
/// * a method for each of the trait's, which returns a `Result<_, CallError>`. What a method returns itself, its own
///   `Result` included, is inside;
/// * `with(options)`, a client on the same connection whose calls have these [`CallOptions`], and
///   `with_deadline(deadline)`: `client.with_deadline(Duration::from_secs(1)).get("key")`;
/// * `channel()`, the [`Channel`] beneath, which can ask the server who it is, and ask it to drain or to stop.
///
/// No argument is copied or moved into a call: a number, a `bool` or a `char` is passed as it is, what is written
/// `String` as a `&str`, what is written `Vec<T>` as a `&[T]`, and everything else by reference.
///
/// # Versions
///
/// Methods are numbered in the order in which they stand. The kinds, names, argument types and return types of all,
/// as they are written, make the service's fingerprint; the names of arguments, comments and attributes do not
/// matter. A client and a server of different fingerprints, or of services with different names, do not serve each
/// other: calls fail with [`CallError::Incompatible`], which names both versions.
///
/// What a type is made of is not in the fingerprint. Give a type that changes another name, or the service.
///
/// [`Call`]: crate::Call
/// [`CallError::Incompatible`]: crate::CallError::Incompatible
/// [`CallOptions`]: crate::CallOptions
/// [`CallOptions::idempotent`]: crate::CallOptions::idempotent
/// [`Channel`]: crate::Channel
/// [`Client`]: crate::Client
/// [`ClientOptions`]: crate::ClientOptions
/// [`Server::serve`]: crate::Server::serve
/// [`ServerOptions`]: crate::ServerOptions
/// [`memory`]: crate::memory
#[macro_export]
macro_rules! service {
    (
        $(#[$($attribute:tt)*])*
        $visibility:vis trait $service:ident {
            $(
                $(#[$($of_method:tt)*])*
                $kind:ident $method:ident $arguments:tt $(-> $reply:ty)? ;
            )*
        }
        $(#[$of_client:meta])*
        $client_visibility:vis struct $client:ident ;
    ) => {
        $crate::__service_item! {
            [] [$([$($attribute)*])*]
            #[allow(dead_code, clippy::too_many_arguments)]
            $visibility trait $service:
                ::core::marker::Send + ::core::marker::Sync + 'static
            {
                $(
                    $crate::__service_trait! {
                        [$([$($of_method)*])*] $kind $method $arguments [$($reply)?]
                    }
                )*

                /// Makes of this what `Server::serve` takes.
                fn service(self) -> $crate::server::Service<Self>
                where
                    Self: ::core::marker::Sized,
                {
                    <$client>::__service(self)
                }
            }
        }

        $(#[$of_client])*
        ///
        /// Clones share the connection.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        $client_visibility struct $client($crate::__private::Caller);

        const _: () = {
            // First, so that a type that cannot be sent is complained of where it stands.
            $($crate::__service_types!($kind $arguments [$($reply)?]);)*

            /// The number of each method.
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum __PipetalkMethod {
                $($method),*
            }

            static __PIPETALK_DEFINITION: $crate::__private::Definition =
                $crate::__private::Definition {
                    name: $crate::__private::first(
                        &[$($crate::__service_own!(name [$($attribute)*])),*],
                        ::core::stringify!($service),
                    ),
                    version: $crate::__private::first(
                        &[$($crate::__service_own!(version [$($attribute)*])),*],
                        $crate::__private::or_empty(::core::option_env!("CARGO_PKG_VERSION")),
                    ),
                    methods: &[$(::core::stringify!($method)),*],
                    fingerprint: $crate::__private::fingerprint(&[
                        $($crate::__service_signature!($kind $method $arguments [$($reply)?])),*
                    ]),
                };

            #[allow(dead_code, clippy::too_many_arguments)]
            impl $client {
                /// Connects to the server at `name` with the defaults.
                ///
                /// # Errors
                ///
                /// `CallError::Unreachable`, with kind `NotFound` if nobody listens; `CallError::TimedOut`.
                $client_visibility fn connect(
                    name: impl $crate::ToName,
                ) -> ::core::result::Result<Self, $crate::CallError> {
                    Self::connect_with(name, $crate::ClientOptions::new())
                }

                /// Connects to the server at `name`.
                ///
                /// # Errors
                ///
                /// As `connect`.
                $client_visibility fn connect_with(
                    name: impl $crate::ToName,
                    options: $crate::ClientOptions,
                ) -> ::core::result::Result<Self, $crate::CallError> {
                    $crate::__private::Caller::connect(&__PIPETALK_DEFINITION, name, options).map(Self)
                }

                /// A client over a stream that is open already. It cannot reconnect.
                ///
                /// # Errors
                ///
                /// `CallError::Disconnected` or `CallError::TimedOut` if the greeting cannot be sent.
                $client_visibility fn over(
                    stream: impl $crate::Stream,
                ) -> ::core::result::Result<Self, $crate::CallError> {
                    Self::over_with(stream, $crate::ClientOptions::new())
                }

                /// A client over a stream that is open already. It cannot reconnect.
                ///
                /// # Errors
                ///
                /// As `over`.
                $client_visibility fn over_with(
                    stream: impl $crate::Stream,
                    options: $crate::ClientOptions,
                ) -> ::core::result::Result<Self, $crate::CallError> {
                    $crate::__private::Caller::over(&__PIPETALK_DEFINITION, stream, options).map(Self)
                }

                /// A client on the same connection whose calls have these options.
                #[must_use]
                $client_visibility fn with(&self, options: $crate::CallOptions) -> Self {
                    Self(self.0.with(options))
                }

                /// A client on the same connection all of whose calls end at this deadline: a point in time, or
                /// how long from now.
                #[must_use]
                $client_visibility fn with_deadline(
                    &self,
                    deadline: impl ::core::convert::Into<$crate::Deadline>,
                ) -> Self {
                    Self(self.0.with_deadline(deadline.into()))
                }

                /// The channel beneath, which can ask the server who it is, and ask it to drain or to stop.
                #[must_use]
                $client_visibility fn channel(&self) -> &$crate::Channel {
                    self.0.channel()
                }

                $(
                    $crate::__service_client! {
                        [$([$($of_method)*])*] $client_visibility
                        $kind $method $arguments [$($reply)?]
                    }
                )*

                fn __service<__PipetalkService: $service>(
                    service: __PipetalkService,
                ) -> $crate::server::Service<__PipetalkService> {
                    $crate::__private::service(
                        service,
                        &__PIPETALK_DEFINITION,
                        Self::__dispatch::<__PipetalkService>,
                    )
                }

                #[allow(deprecated, unused_variables, clippy::ptr_arg, clippy::unit_arg)]
                fn __dispatch<__PipetalkService: $service>(
                    service: &__PipetalkService,
                    method: ::core::primitive::u32,
                    payload: &$crate::server::Payload,
                    call: &$crate::Call,
                    reply: &mut $crate::server::Outgoing,
                ) -> ::core::result::Result<(), $crate::server::HandleError> {
                    $(
                        if method == __PipetalkMethod::$method as ::core::primitive::u32 {
                            $crate::__service_dispatch! {
                                ($service, service, payload, call, reply)
                                $kind $method $arguments [$($reply)?]
                            }
                        }
                    )*
                    ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
                }
            }
        };
    };
}

/// An item with its attributes, without those that are ours: `[done] [[attribute] ...] item`.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_item {
    ([$($done:tt)*] [] $($item:tt)*) => { $($done)* $($item)* };
    ([$($done:tt)*] [[idempotent] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[name = $value:expr] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    ([$($done:tt)*] [[version = $value:expr] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)*] [$($more)*] $($item)* }
    };
    // Long comments in larger steps, because the depth of recursion is limited.
    (
        [$($done:tt)*]
        [
            [doc $($a:tt)*] [doc $($b:tt)*] [doc $($c:tt)*] [doc $($d:tt)*]
            [doc $($e:tt)*] [doc $($f:tt)*] [doc $($g:tt)*] [doc $($h:tt)*]
            $($more:tt)*
        ]
        $($item:tt)*
    ) => {
        $crate::__service_item! {
            [
                $($done)*
                #[doc $($a)*] #[doc $($b)*] #[doc $($c)*] #[doc $($d)*]
                #[doc $($e)*] #[doc $($f)*] #[doc $($g)*] #[doc $($h)*]
            ]
            [$($more)*] $($item)*
        }
    };
    ([$($done:tt)*] [[$($attribute:tt)*] $($more:tt)*] $($item:tt)*) => {
        $crate::__service_item! { [$($done)* #[$($attribute)*]] [$($more)*] $($item)* }
    };
}

/// What one of our own attributes says, if this is it.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_own {
    (name [name = $value:expr]) => {
        ::core::option::Option::Some($value)
    };
    (version [version = $value:expr]) => {
        ::core::option::Option::Some($value)
    };
    ($which:ident [$($attribute:tt)*]) => {
        ::core::option::Option::None
    };
}

/// Whether a method is marked as idempotent.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_idempotent {
    ([idempotent]) => {
        true
    };
    ([$($attribute:tt)*]) => {
        false
    };
}

/// A method of the trait. Arguments that cannot be read are complained of here; the other macros let them pass.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_trait {
    ($attributes:tt notify $method:ident ($($argument:ident : $type:ty),* $(,)?) $reply:tt) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(&self, call: &$crate::Call $(, $argument: $type)*);
        }
    };
    (
        $attributes:tt $kind:ident $method:ident
        ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        $crate::__service_item! {
            [] $attributes
            fn $method(&self, call: &$crate::Call $(, $argument: $type)*) $(-> $reply)?;
        }
    };
    ($attributes:tt $kind:ident $method:ident $arguments:tt $reply:tt) => {
        $crate::__service_arguments! { $arguments $arguments }
    };
}

/// Fails on what is wrong with the arguments, which come twice: to be recognized, and to be pointed at.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_arguments {
    ($all:tt ($($argument:ident : $type:ty),* $(,)?)) => {};
    (($first:tt $($more:tt)*) (self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
    (($first:tt $($more:tt)*) (mut self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
    (($first:tt $($more:tt)*) (&self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
    (($first:tt $($more:tt)*) (&mut self $($other:tt)*)) => {
        $crate::__service_self! { $first }
    };
}

/// Fails, with its rule beside what breaks it.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_self {
    (no self is written here: the trait and the client have it anyway) => {};
}

/// What is wrong with the kind and the types of a method is complained of here, each where it stands.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_types {
    (fn ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]) => {{
        $($crate::__private::sent::<$type>();)*
        $($crate::__private::sent::<$reply>();)?
    }};
    (notify ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]) => {{
        $($crate::__private::sent::<$type>();)*
        $($crate::__private::nothing::<$reply>();)?
    }};
    (fn $($mistake:tt)*) => {};
    (notify $($mistake:tt)*) => {};
    ($kind:ident $($more:tt)*) => { $crate::__private::a_method_is_fn_or_notify::$kind };
}

/// The part of a method in the fingerprint.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_signature {
    ($kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]) => {
        ::core::concat!(
            ::core::stringify!($kind), " ", ::core::stringify!($method),
            "(", $(::core::stringify!($type), ",",)* ")",
            $("->", ::core::stringify!($reply),)? ";"
        )
    };
    ($($mistake:tt)*) => { "" };
}

/// What a method does on the server.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_dispatch {
    (
        ($trait:ident, $service:ident, $payload:ident, $call:ident, $out:ident)
        $kind:ident $method:ident ($($argument:ident : $type:ty),* $(,)?) [$($reply:ty)?]
    ) => {
        let ($($argument,)*) =
            $payload.decode::<$crate::DefaultCodec, ($($type,)*)>()?;
        let reply = <__PipetalkService as $trait>::$method($service, $call $(, $argument)*);
        return $crate::__service_reply!($kind reply $out);
    };
    ($($mistake:tt)*) => {};
}

/// What becomes of a method's value.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_reply {
    (fn $reply:ident $out:ident) => {
        $crate::server::encode_reply::<$crate::DefaultCodec, _>(&$reply, $out)
    };
    ($kind:ident $reply:ident $out:ident) => {
        ::core::result::Result::Ok(())
    };
}

/// A method of the client. The arguments go one by one from the end to the middle, with the types that they have
/// there.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_client {
    ($attributes:tt $visibility:vis $kind:ident $method:ident ($($arguments:tt)*) $reply:tt) => {
        $crate::__service_client! { @ $attributes [$visibility] $kind $method $reply () $($arguments)* }
    };
    (
        @ $attributes:tt $visibility:tt $kind:ident $method:ident $reply:tt ($($done:tt)*)
        $argument:ident : $type:ident $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $attributes $visibility $kind $method $reply
            ($($done)* ($argument: $crate::__service_argument!($type))) $($($more)*)?
        }
    };
    (
        @ $attributes:tt $visibility:tt $kind:ident $method:ident $reply:tt ($($done:tt)*)
        $argument:ident : Vec<$type:ty> $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $attributes $visibility $kind $method $reply
            ($($done)* ($argument: &[$type])) $($($more)*)?
        }
    };
    (
        @ $attributes:tt $visibility:tt $kind:ident $method:ident $reply:tt ($($done:tt)*)
        $argument:ident : $type:ty $(, $($more:tt)*)?
    ) => {
        $crate::__service_client! {
            @ $attributes $visibility $kind $method $reply
            ($($done)* ($argument: &$type)) $($($more)*)?
        }
    };
    (
        @ [$($attribute:tt)*] [$visibility:vis] fn $method:ident [$($reply:ty)?]
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] [$($attribute)*]
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError` says how a call can fail."]
            $visibility fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<$crate::__service_type!($($reply)?), $crate::CallError> {
                self.0.call(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    false $(|| $crate::__service_idempotent!($attribute))*,
                    &($($argument,)*),
                )
            }
        }
    };
    (
        @ $attributes:tt [$visibility:vis] notify $method:ident $reply:tt
        ($(($argument:ident : $type:ty))*)
    ) => {
        $crate::__service_item! {
            [] $attributes
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = ""]
            #[doc = "`CallError`; that it was sent does not say that it was carried out."]
            $visibility fn $method(
                &self $(, $argument: $type)*
            ) -> ::core::result::Result<(), $crate::CallError> {
                self.0.notify(
                    __PipetalkMethod::$method as ::core::primitive::u32,
                    &($($argument,)*),
                )
            }
        }
    };
    ($($mistake:tt)*) => {};
}

/// How a client passes an argument whose type is a single word.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_argument {
    (String) => {
        &::core::primitive::str
    };
    (bool) => {
        bool
    };
    (char) => {
        char
    };
    (f32) => {
        f32
    };
    (f64) => {
        f64
    };
    (i8) => {
        i8
    };
    (i16) => {
        i16
    };
    (i32) => {
        i32
    };
    (i64) => {
        i64
    };
    (i128) => {
        i128
    };
    (isize) => {
        isize
    };
    (u8) => {
        u8
    };
    (u16) => {
        u16
    };
    (u32) => {
        u32
    };
    (u64) => {
        u64
    };
    (u128) => {
        u128
    };
    (usize) => {
        usize
    };
    ($type:ident) => {
        &$type
    };
}

/// A type, or `()` where none is written.
#[doc(hidden)]
#[macro_export]
macro_rules! __service_type {
    () => {
        ()
    };
    ($type:ty) => {
        $type
    };
}

/// What implements a service, as [`Server::serve`](crate::Server::serve) takes it: `store.service()`, where `store`
/// implements a trait that [`service!`](crate::service!) has made.
pub struct Service<T> {
    service: T,
    definition: &'static Definition,
    dispatch: Dispatch<T>,
}

impl<T: Send + Sync + 'static> Handler<DefaultCodec, Service<T>> for Service<T> {
    fn service(&self) -> &'static str {
        self.definition.name
    }

    fn version(&self) -> &'static str {
        self.definition.version
    }

    fn fingerprint(&self) -> u64 {
        self.definition.fingerprint
    }

    fn methods(&self) -> &'static [&'static str] {
        self.definition.methods
    }

    fn handle(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        (self.dispatch)(&self.service, method, payload, call, reply)
    }
}

impl<T> fmt::Debug for Service<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.definition).finish()
    }
}

/// What the macro's code needs of the crate.
#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "it is for the macro alone"
)]
pub mod hidden {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::Service;
    use crate::server::{Call, HandleError, Outgoing, Payload};
    use crate::{CallError, CallOptions, Channel, ClientOptions, Deadline, Stream, ToName};

    /// What a service is to its peers.
    #[derive(Debug)]
    pub struct Definition {
        pub name: &'static str,
        pub version: &'static str,
        pub methods: &'static [&'static str],
        pub fingerprint: u64,
    }

    pub type Dispatch<T> = fn(&T, u32, &Payload, &Call, &mut Outgoing) -> Result<(), HandleError>;

    pub fn service<T>(
        service: T,
        definition: &'static Definition,
        dispatch: Dispatch<T>,
    ) -> Service<T> {
        Service {
            service,
            definition,
            dispatch,
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
    pub mod a_method_is_fn_or_notify {}

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
}

#[cfg(test)]
mod tests {
    use super::hidden::fingerprint;

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
