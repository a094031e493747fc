//! What everything else is built on: points in time, errors, names and peers. Nothing here knows a transport.

pub(crate) mod access;
pub(crate) mod backoff;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) mod by_instant;
pub(crate) mod callback;
pub(crate) mod caught;
pub(crate) mod clock;
pub(crate) mod deadline;
pub(crate) mod error;
pub(crate) mod name;
pub(crate) mod peer;
#[cfg(feature = "tokio")]
pub(crate) mod pool;
pub(crate) mod signal;
pub(crate) mod spin;
pub(crate) mod system;
pub(crate) mod user;
