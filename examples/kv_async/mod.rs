//! The service of `kv_async_server` and `kv_async_client`, which is that of `kv_server` and `kv_client`.
//!
//! A program has one definition for all its ends. This one stands beside that of the blocking examples because those
//! are to build without feature `tokio`; as it says the same, the ends of both understand each other.

#[path = "../kv/mod.rs"]
mod blocking;

use pipetalk::{Blob, Event};

pub(crate) use blocking::{Change, NAME, PutError, check_key};

pipetalk::service! {
    /// A small key-value store.
    pub(crate) trait Kv {
        /// The value of a key.
        #[idempotent]
        fn get(key: String) -> Option<Blob>;
        /// Sets the value of a key.
        fn put(key: String, value: Blob) -> Result<(), PutError>;
        /// Makes sure that there is a key, without a value if it is new.
        notify touch(key: String);
        /// What changes from now on, of all keys that begin so.
        stream watch(prefix: String) -> Event<Change>;
    }

    /// Calls a key-value store.
    pub(crate) struct KvClient;

    /// A small key-value store, for async programs.
    pub(crate) async trait AsyncKv;

    /// Calls a key-value store from async programs.
    pub(crate) async struct AsyncKvClient;
}
