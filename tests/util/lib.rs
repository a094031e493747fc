//! What the tests share: time limits, shaken timing, names, child processes, drivers, and skipping aloud.

#![allow(
    clippy::unwrap_used,
    clippy::new_without_default,
    clippy::should_implement_trait,
    reason = "a test says what it expects by unwrapping it, and these are no items of a published crate"
)]

mod actor;
pub mod allocator;
pub mod bomb;
#[cfg(feature = "bincode")]
pub mod drivers;
mod example;
#[cfg(feature = "tokio")]
pub mod on_tokio;
mod pairs;
mod panics;
mod rng;
mod rounds;
pub mod scarce;
#[cfg(feature = "tokio")]
pub mod tasks;
#[cfg(target_os = "linux")]
pub mod traced;

#[cfg(unix)]
#[path = "unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows.rs"]
mod platform;

use std::env;
use std::io::{self, Write};
use std::ops::Deref;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::Deadline;

pub use actor::{Actor, Play, announce, play, wait_for_release};
pub use example::{EXAMPLE_LIMIT, Running, example, spawn};
pub use panics::{expect_panics_of_tokio, panic_as_asked};
pub use platform::*;
pub use rng::Rng;
pub use rounds::{is_quick, many, rounds, rounds_or};
pub use with_macros::{Deserialize, Serialize};

/// The traits, and the macros of the same names, whether or not serde has its feature `derive`: see `Cargo.toml`.
#[allow(
    unused_imports,
    unreachable_pub,
    reason = "with that feature the second has nothing new"
)]
mod with_macros {
    pub use serde::*;
    pub use serde_derive::*;
}

/// How long a test may take before it is called hung.
const LIMIT: Duration = Duration::from_secs(120);

/// The deadline of calls that are expected to succeed: far enough for the slowest machine.
pub const A_WHILE: Duration = Duration::from_secs(30);

/// What a deadline that is meant to expire is set to.
pub const A_MOMENT: Duration = Duration::from_millis(60);

/// The name of the test function that stands around this.
#[macro_export]
macro_rules! here {
    () => {{
        fn here() {}
        std::any::type_name_of_val(&here).trim_end_matches("::here")
    }};
}

/// Ends the process with the test's name if the test is still running after a time.
///
/// A thread that hangs cannot be ended, so that the process has to be.
#[must_use = "the limit ends when this is dropped"]
pub struct Limit {
    _running: Sender<()>,
}

pub fn limit(test: &str) -> Limit {
    panics::report_at_once();
    let (running, ended) = mpsc::channel();
    let mut time = LIMIT * slowness() * rounds::thoroughness().unwrap_or(1);
    if test.contains("stress") {
        time += Duration::from_millis(10 * variable("PIPETALK_STRESS").unwrap_or(0));
    }
    let test = test.to_owned();
    thread::spawn(move || {
        if ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
            shout(&format!("HUNG: {test} did not end within {time:?}"));
            process::exit(101);
        }
    });
    Limit { _running: running }
}

/// Prints a line to stderr, past the capturing of the test's output.
pub fn shout(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Says that a test shows nothing here, and why.
pub fn skip(item: &str, why: &str) {
    shout(&format!("skipped: {item}: {why}"));
}

/// Whether to skip what Wine cannot show; says so if it is.
pub fn skipped_under_wine(item: &str, why: &str) -> bool {
    let wine = is_wine();
    if wine {
        shout(&format!("skipped under Wine: {item}: {why}"));
    }
    wine
}

/// By how much everything is slower than usual, under Valgrind for example: `PIPETALK_SLOW`.
pub fn slowness() -> u32 {
    variable("PIPETALK_SLOW").map_or(1, |slow: u32| slow.max(1))
}

pub fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

/// The deadline of a call that is expected to succeed.
pub fn soon() -> Deadline {
    Deadline::after(A_WHILE * slowness())
}

/// Waits for a condition that must come about.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(!deadline.has_passed(), "it never came about that {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Asserts that something is prompt: it does not take a while, on a slow machine either.
pub fn promptly<R>(what: &str, act: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = act();
    let took = start.elapsed();
    assert!(took < A_WHILE / 3 * slowness(), "{what} took {took:?}");
    result
}

/// A portable name that nobody else uses. Dropping it clears away what a listener leaves behind for the next.
#[derive(Debug)]
pub struct PortableName(String);

impl PortableName {
    pub fn new() -> PortableName {
        PortableName::ending("")
    }

    pub fn ending(suffix: &str) -> PortableName {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        PortableName(format!("pipetalk-test-{}-{counter}{suffix}", process::id()))
    }

    /// The pipe path, as those write it who open the pipe without this crate.
    pub fn pipe(&self) -> String {
        format!(r"\\.\pipe\{}", self.0)
    }
}

impl Deref for PortableName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for PortableName {
    fn drop(&mut self) {
        platform::clear_away(&self.0);
    }
}

/// The programs in the README, and the codec in the documentation of `Codec`, which the crate itself does not depend on
/// enough to test.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/codec-of-your-own.md")]
pub struct Documents;
