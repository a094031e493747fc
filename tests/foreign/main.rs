//! Foreign peers: a message client and a message server in C, on plain Win32 calls (`tests/c/`), against this crate
//! and against the examples `pipe_server` and `pipe_client`, in both roles.
//!
//! The C programs are compiled on the way, by `x86_64-w64-mingw32-gcc`, `gcc`, `clang` or `cl`, whichever is found
//! first; where the tests run under Wine, that is the mingw compiler of the system around it. If
//! `PIPETALK_C_PEERS` names a directory, `message_client.exe` and `message_server.exe` are taken from there
//! instead. Without any of these each test says aloud that it skips.
//!
//! The examples have to be built: `cargo test` does that, `cargo test --test foreign` alone does not.

// Also what is not a `#[test]` function itself is a test here.
#![allow(clippy::unwrap_used)]

#[cfg(windows)]
mod c_clients;
#[cfg(windows)]
mod c_peers;
#[cfg(windows)]
mod c_servers;
mod examples;
#[cfg(windows)]
mod programs;
#[cfg(feature = "bincode")]
mod typed_examples;

#[cfg(not(windows))]
#[test]
fn c_peers_need_windows() {
    util::skip(
        "tests/foreign",
        "it is about Windows pipes: run it with --target x86_64-pc-windows-gnu",
    );
}
