//! [`service!`](crate::service!): named methods, as a trait for the server and a type for the client.
//!
//! The macro writes the two ends and nothing else: what they have in common is in `hidden`, which is no part of the
//! crate's interface. A definition is matched in one go, and each method then on its own, so that neither the number
//! of methods nor the length of their comments comes near the compiler's limit of recursion.

mod checks;
mod client;
pub mod hidden;
mod parts;
mod server;
mod whole;

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
///
/// pipetalk::service! {
///     /// A small key-value store.
///     pub trait Kv {
///         /// The value of a key.
///         #[idempotent]
///         fn get(key: String) -> Option<Blob>;
///         /// Sets the value of a key.
///         fn put(key: String, value: Blob) -> Result<(), String>;
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
/// #[derive(Default)]
/// struct Store(Mutex<HashMap<String, Blob>>);
///
/// impl Kv for Store {
///     fn get(&self, _: &Call, key: String) -> Option<Blob> {
///         self.0.lock().unwrap().get(&key).cloned()
///     }
///     fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), String> {
///         if key.is_empty() {
///             return Err("a key has at least one letter".to_owned());
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
/// # let system = if cfg!(target_os = "linux") { "@" } else { "" };
/// # let name = format!("{system}pipetalk-doc-kv-{}", std::process::id());
/// # let name = name.as_str();
/// // The server:
/// let server = Server::bind(name)?;
/// # let handle = server.handle();
/// let serving = std::thread::spawn(move || server.serve(Store::default().service()));
///
/// // The client:
/// let client = KvClient::connect(name)?;
/// assert_eq!(client.put("colour", &Blob::from("blue"))?, Ok(()));
/// assert!(client.put("", &Blob::new())?.is_err());
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
/// There is no `self`, and no `pub`. Each type needs serde's `Serialize` and `Deserialize`; a method has at most 16
/// arguments, and a service at most 512 methods. Comments and other attributes of a method go to the trait's method and to
/// the client's, `#[deprecated]` to the client's alone. A `cfg` can stand before the client, before each of the two [for
/// async programs](#for-async-programs), and before the whole; not before the trait, of which all is made, nor before a
/// method, because both sides have to count the same methods.
///
/// No method can be called as one of those that every client has: `connect`, `connect_with`, `over`, `over_with`, `with`,
/// `with_deadline`, `channel` and `clone`; or as that of the trait, `service`.
///
/// What is written has no `allow` in it, so that a crate may [`forbid`] any lint; with one exception: the methods that
/// have six arguments or more, where Clippy is not to count them.
///
/// `#[name = "..."]` on the trait is what the service calls itself to its peers, the name of the trait unless
/// given; `#[version = "..."]` is the version of the application, for people to read, that of the package unless
/// given. [`ServerOptions`] and [`ClientOptions`] can still set another version. `#[codec = Type]` is the [`Codec`] of the
/// service, [`Bincode`] unless given; one of another than that is served by [`Server::serve_with`].
///
/// # What it makes: the trait
///
/// `pub trait Kv: Send + Sync + 'static`. Each method has `&self` and the [`Call`] before its arguments:
/// `fn get(&self, call: &Call, key: String) -> Option<Blob>`. That of a stream has an [`ItemSink`] behind them, returns
/// nothing, and has a thread until it returns; the sink may outlive it. One more, `fn service(self)`, makes of what implements
/// the trait what [`Server::serve`] takes. What an [`Arc`](std::sync::Arc) points to implements the trait by way of the
/// `Arc` as well, so that `Arc::clone(&store).service()` serves what others have too; also an `Arc<dyn Kv>`.
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
/// # let system = if cfg!(target_os = "linux") { "@" } else { "" };
/// # let name = format!("{system}pipetalk-doc-akv-{}", std::process::id());
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
/// `String` as a `&str`, what is written `Vec<T>` as a `&[T]`, if these are those of the standard library, and everything
/// else by reference.
///
/// # Versions
///
/// Methods are numbered in the order in which they stand. The kinds, names, argument types and return types of all,
/// as they are written, make the service's fingerprint; the names of arguments, comments and attributes do not
/// matter, nor whether a name is written with `r#`, which is a matter of the edition. A client and a server of different fingerprints, or of services with different names, do not serve each
/// other: calls fail with [`CallError::Incompatible`], which names both versions.
///
/// What a type is made of is not in the fingerprint. Give a type that changes another name, or the service.
///
/// [`Bincode`]: crate::codec::Bincode
/// [`Call`]: crate::Call
/// [`CallError::Incompatible`]: crate::CallError::Incompatible
/// [`CallOptions`]: crate::CallOptions
/// [`CallOptions::idempotent`]: crate::CallOptions::idempotent
/// [`Channel`]: crate::Channel
/// [`Codec`]: crate::Codec
/// [`forbid`]: https://doc.rust-lang.org/rustc/lints/levels.html#forbid
/// [`ItemSink`]: crate::ItemSink
/// [`Items`]: crate::Items
/// [`Client`]: crate::Client
/// [`ClientOptions`]: crate::ClientOptions
/// [`Server::serve`]: crate::Server::serve
/// [`Server::serve_with`]: crate::Server::serve_with
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
        $(#[$($of_client:tt)*])*
        $client_visibility:vis struct $client:ident ;
        $($asynchronous:tt)*
    ) => {
        $crate::__service_codec! {
            [$([$($attribute)*])*]
            {
                [$([$($attribute)*])*] [$visibility] $service
                [$([$($of_client)*])*] [$client_visibility] $client
                [$($asynchronous)*]
            }
            [$({ [$([$($of_method)*])*] $kind $method $arguments [$($reply)?] })*]
        }
    };
}
