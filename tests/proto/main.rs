//! The typed protocol by itself, without a connection.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

#[cfg(target_os = "linux")]
mod model;
