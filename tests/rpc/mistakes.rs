//! What the compiler says of a mistake in `service!`: it points at the user's own line, and says what is wrong.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes down what it says now.

use std::env;
use std::io::{self, Write};
use std::process::Command;

/// The compiler whose words these are; every other has its own.
const COMPILER: &str = "rustc 1.95.0 ";

#[test]
fn mistakes_are_shown_where_they_are_made() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(COMPILER) {
        let line = format!(
            "skipped: the compiler's words: they are those of {COMPILER}, and this is {version}"
        );
        // Unlike `eprintln!`, this is seen also when the test passes.
        io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
