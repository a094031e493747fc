//! The service of `kv_server` and `kv_client`: what both have to know.

use pipetalk::{Blob, Event};
use serde_derive::{Deserialize, Serialize};

/// Where the server listens unless it is told otherwise.
pub(crate) const NAME: &str = "pipetalk.kv";

const LONGEST_KEY: u32 = 1024;

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
}

/// A key has got a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) value: Blob,
}

/// Why a value is not taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum PutError {
    /// A key has at least one byte.
    EmptyKey,
    /// A key has no more bytes than this.
    LongKey { limit: u32 },
}

/// Whether a value can have this key.
pub(crate) fn check_key(key: &str) -> Result<(), PutError> {
    if key.is_empty() {
        return Err(PutError::EmptyKey);
    }
    if key.len() > LONGEST_KEY as usize {
        return Err(PutError::LongKey { limit: LONGEST_KEY });
    }
    Ok(())
}
