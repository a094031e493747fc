//! Panics that a test expects, and that the log of a run that passes has nothing of.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

/// Where the crate asks tokio, which panics where a runtime lacks something.
const ASKS_TOKIO: [&str; 4] = [
    "src/tokio/",
    "src/transport/tokio/",
    "src/unix/tokio/",
    "src/windows/tokio/",
];

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Panics, because a request asked for it; nothing is printed.
pub fn panic_as_asked() -> ! {
    panic::resume_unwind(Box::new("as asked"))
}

/// While it is there, nothing is printed of some of this thread's panics: see [`expect_panics_of_tokio`].
#[must_use = "panics are expected until this is dropped"]
pub struct Expecting(());

impl Drop for Expecting {
    fn drop(&mut self) {
        EXPECTED.set(false);
    }
}

/// Announces panics where the crate asks tokio, for it to make errors of. A test's own are printed still.
pub fn expect_panics_of_tokio() -> Expecting {
    EXPECTED.set(true);
    Expecting(())
}

fn is_expected(info: &PanicHookInfo<'_>) -> bool {
    let expected = EXPECTED.try_with(Cell::get).unwrap_or_default();
    let asks_tokio = |file: &str| {
        let file = file.replace('\\', "/");
        ASKS_TOKIO.iter().any(|begins| file.starts_with(begins))
    };
    expected
        && info
            .location()
            .is_some_and(|location| asks_tokio(location.file()))
}

/// What a failing test says would be lost if another thread then hung: so say it past the capture as well.
pub(crate) fn report_at_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_expected(info) {
                let _ = io::stderr().write_all(format!("{info}\n").as_bytes());
                usual(info);
            }
        }));
    });
}
