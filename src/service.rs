//! [`service!`](crate::service!): named methods, as a trait for the server and a type for the client.
//!
//! The macro writes the two ends and nothing else: what they have in common is in `hidden`, which is no part of the
//! crate's interface. A definition is matched in one go, and each method then on its own, so that neither the number
//! of methods nor the length of their comments comes near the compiler's limit of recursion.

use std::fmt;

use crate::codec::DefaultCodec;
use crate::server::{Call, HandleError, Handler, Opening, Outgoing, Payload};
use hidden::{Definition, Dispatch, Open};

pub mod hidden;
mod parts;

cfg_if::cfg_if! {
    if #[cfg(feature = "tokio")] {
        mod asynchronous;
    } else {
        mod blocking_only;
    }
}

/// Makes a service out of its methods: a trait for the server to implement, and a client with the same methods.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use pipetalk::{Blob, Call, CallError, ItemSink, Server};
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
///         /// All keys that begin so.
///         stream list(prefix: String) -> String;
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
///     fn list(&self, _: &Call, prefix: String, items: ItemSink<String>) {
///         let keys: Vec<String> = self.0.lock().unwrap().keys().cloned().collect();
///         for key in keys.iter().filter(|key| key.starts_with(&prefix)) {
///             // An error says that nobody wants more.
///             if items.send(key).is_err() {
///                 return;
///             }
///         }
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
/// let keys: Result<Vec<String>, CallError> = client.list("col")?.collect();
/// assert_eq!(keys?, ["colour"]);
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
/// * `notify name(argument: Type, ...);` which is not answered;
/// * `stream name(argument: Type, ...) -> Item;` which is answered by any number of items, and then by the end or an
///   error.
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
/// `fn get(&self, call: &Call, key: String) -> Option<Blob>`. That of a stream has an [`ItemSink`] behind them, returns
/// nothing, and runs on a thread of its own; the sink may outlive it. One more, `fn service(self)`, makes of what implements
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
///   `Result` included, is inside; of a stream it is the [`Items`], an iterator;
/// * `with(options)`, a client on the same connection whose calls have these [`CallOptions`], and
///   `with_deadline(deadline)`: `client.with_deadline(Duration::from_secs(1)).get("key")`;
/// * `channel()`, the [`Channel`] beneath, which can ask the server who it is, and ask it to drain or to stop.
///
/// # For async programs
///
/// With feature `tokio` there may be two more lines, each of which can be left out:
///
/// ```
/// # #[cfg(feature = "tokio")]
/// pipetalk::service! {
///     /// A small key-value store.
///     pub trait Kv {
///         fn get(key: String) -> Option<String>;
///         notify touch(key: String);
///     }
///
///     /// Calls a key-value store.
///     pub struct KvClient;
///
///     /// A small key-value store, for async programs.
///     pub async trait AsyncKv;
///
///     /// Calls a key-value store from async programs.
///     pub async struct AsyncKvClient;
/// }
///
/// # #[cfg(feature = "tokio")]
/// struct Store;
///
/// # #[cfg(feature = "tokio")]
/// impl AsyncKv for Store {
///     async fn get(&self, _: &pipetalk::Call, key: String) -> Option<String> {
///         tokio::task::yield_now().await;
///         Some(format!("the value of {key}"))
///     }
///     async fn touch(&self, _: &pipetalk::Call, _: String) {}
/// }
///
/// # #[cfg(feature = "tokio")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let unix = format!("{}/docs.sock", dir.path().display());
/// # let name = if cfg!(windows) { format!("pipetalk-doc-akv-{}", std::process::id()) } else { unix };
/// # let name = name.as_str();
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let server = pipetalk::tokio::Server::bind(name)?;
/// # let handle = server.handle();
/// let serving = tokio::spawn(server.serve(Store.service()));
///
/// let client = AsyncKvClient::connect(name).await?;
/// assert_eq!(client.get("colour").await?.as_deref(), Some("the value of colour"));
/// # handle.drain(std::time::Duration::from_secs(10));
/// # serving.await??;
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
///
/// The trait has the same methods, each of which returns a future that is `Send` and can be written as an `async fn`;
/// what implements it is served by [`tokio::Server::serve`], and its arguments have to be `Send`. The client has the
/// same methods as the other, to be awaited, over [`tokio::Channel`]. It is one service, with one fingerprint: blocking
/// and async ends understand each other. A blocking trait can be served by an async server as well, by
/// [`tokio::Server::serve_blocking`].
///
/// A `stream` method of the trait gets a [`tokio::ItemSink`] behind its arguments, and its future, in a task of its own,
/// is dropped when nobody takes the items any more; the client's is awaited until the stream is open, and gives
/// [`tokio::Items`].
///
/// # What arguments are passed as
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
/// [`ItemSink`]: crate::ItemSink
/// [`Items`]: crate::Items
/// [`Client`]: crate::Client
/// [`ClientOptions`]: crate::ClientOptions
/// [`Server::serve`]: crate::Server::serve
/// [`ServerOptions`]: crate::ServerOptions
/// [`memory`]: crate::memory
#[cfg_attr(
    feature = "tokio",
    doc = "[`tokio::Channel`]: crate::tokio::Channel\n[`tokio::ItemSink`]: crate::tokio::ItemSink\n[`tokio::Items`]: crate::tokio::Items\n[`tokio::Server::serve`]: crate::tokio::Server::serve\n[`tokio::Server::serve_blocking`]: crate::tokio::Server::serve_blocking"
)]
#[cfg_attr(
    not(feature = "tokio"),
    doc = "[`tokio::Channel`]: crate::Channel\n[`tokio::ItemSink`]: crate::ItemSink\n[`tokio::Items`]: crate::Items\n[`tokio::Server::serve`]: crate::Server::serve\n[`tokio::Server::serve_blocking`]: crate::Server::serve"
)]
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
        $($asynchronous:tt)*
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

        $crate::__service_async_items! {
            {
                $client
                $({ [$([$($of_method)*])*] $kind $method $arguments [$($reply)?] })*
            }
            $($asynchronous)*
        }

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
                        Self::__open::<__PipetalkService>,
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

                #[allow(deprecated, unused_variables, clippy::ptr_arg)]
                fn __open<__PipetalkService: $service>(
                    service: &__PipetalkService,
                    method: ::core::primitive::u32,
                    payload: &$crate::server::Payload,
                    call: &$crate::Call,
                    opening: $crate::server::Opening,
                ) -> ::core::result::Result<(), $crate::server::HandleError> {
                    $(
                        if method == __PipetalkMethod::$method as ::core::primitive::u32 {
                            $crate::__service_open! {
                                ($service, service, payload, call, opening)
                                $kind $method $arguments [$($reply)?]
                            }
                        }
                    )*
                    ::core::result::Result::Err($crate::server::HandleError::UnknownMethod)
                }
            }

            $crate::__service_async_impls! {
                {
                    $client
                    $({ [$([$($of_method)*])*] $kind $method $arguments [$($reply)?] })*
                }
                $($asynchronous)*
            }
        };
    };
}

/// What implements a service, as [`Server::serve`](crate::Server::serve) takes it: `store.service()`, where `store`
/// implements a trait that [`service!`](crate::service!) has made.
pub struct Service<T> {
    service: T,
    definition: &'static Definition,
    dispatch: Dispatch<T>,
    open: Open<T>,
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

    fn open(
        &self,
        method: u32,
        payload: &Payload,
        call: &Call,
        opening: Opening,
    ) -> Result<(), HandleError> {
        (self.open)(&self.service, method, payload, call, opening)
    }
}

impl<T> fmt::Debug for Service<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.definition).finish()
    }
}
