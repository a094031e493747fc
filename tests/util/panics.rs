//! Panics that a test expects, and that the log of a run that passes has nothing of.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static EXPECTED: Cell<&'static [&'static str]> = const { Cell::new(&[]) };
}

/// Panics, because a request asked for it; nothing is printed.
pub fn panic_as_asked() -> ! {
    panic::resume_unwind(Box::new("as asked"))
}

/// While it is there, nothing is printed of this thread's panics in some files: see [`expect_panics_in`].
#[must_use = "panics are expected until this is dropped"]
pub struct Expecting(());

impl Drop for Expecting {
    fn drop(&mut self) {
        EXPECTED.set(&[]);
    }
}

/// Announces panics in files whose paths begin so, for the crate to make errors of. A test's own still are printed.
pub fn expect_panics_in(files: &'static [&'static str]) -> Expecting {
    EXPECTED.set(files);
    Expecting(())
}

fn is_expected(info: &PanicHookInfo<'_>) -> bool {
    let expected = EXPECTED.try_with(Cell::get).unwrap_or_default();
    info.location().is_some_and(|location| {
        let file = location.file().replace('\\', "/");
        expected.iter().any(|begins| file.starts_with(begins))
    })
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
