//! N1 to N6: what a name is. Where the system keeps it is in `unix/names.rs` and `windows.rs`.

use std::io::ErrorKind;

use pipetalk::{
    ConnectOptions, Deadline, ListenOptions, Listener, LocalListener, LocalStream, Name,
};

use crate::harness::{assert_works, kind, soon};
use util::{PortableName, skipped_under_wine};

/// Asserts that what listens at one name is found at the other.
pub(crate) fn assert_same_place(bound: &str, dialed: &str) {
    let listener = LocalListener::bind(bound).unwrap();
    let client = LocalStream::connect(dialed).unwrap();
    let server = listener.accept(soon()).unwrap();
    assert_works(&client, &server);
}

/// Asserts that a name is refused in words by whoever uses it.
pub(crate) fn assert_refused(name: &str, words: &[&str]) {
    let bound = ListenOptions::new().bind(name).map(drop);
    let dialed = ConnectOptions::new().connect(name, Deadline::NOW).map(drop);
    for result in [bound, dialed] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
        for word in words {
            assert!(error.to_string().contains(word), "{name:?}: {error}");
        }
    }
}

pub(crate) fn n01_a_portable_name_is_found_by_its_pipe_path() {
    let name = PortableName::new();
    assert_same_place(&name, &name.pipe());
    let name = PortableName::new();
    assert_same_place(&name.pipe(), &name);
}

pub(crate) fn n02_case_does_not_matter() {
    let name = PortableName::new();
    assert_same_place(&name.to_uppercase(), &name);
    let name = PortableName::ending("-ÄÖß");
    assert_same_place(&name, &name.replace("ÄÖ", "äö").replace("pipe", "PIPE"));
}

pub(crate) fn n02_a_name_in_other_letters_is_in_use() {
    let name = PortableName::new();
    let _listener = LocalListener::bind(&*name).unwrap();
    if skipped_under_wine("N2, L1", "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored") {
        return;
    }
    assert_eq!(
        kind(LocalListener::bind(name.to_uppercase())),
        ErrorKind::AddrInUse
    );
}

pub(crate) fn n03_a_name_over_256_characters_is_refused() {
    assert_refused(&"x".repeat(248), &["256", "257", "too long"]);
    assert_refused(&format!(r"\\.\pipe\{}", "x".repeat(300)), &["256", "309"]);
    // What counts is UTF-16 units: each of these is two.
    assert_refused(&"🦀".repeat(124), &["256", "257"]);
}

pub(crate) fn n04_a_name_that_cannot_be_is_refused_in_words() {
    let cases = [
        ("", "empty"),
        ("@", "empty"),
        (r"\\.\pipe\", "empty"),
        ("a/b", "slash"),
        (r"a\b", "backslash"),
        ("a\0b", "control"),
        ("a\u{1f}b", "control"),
        ("a\u{7f}", "control"),
        ("/tmp/", "not the path"),
        ("/tmp/a\0b", "NUL"),
        (r"\\.\pipe\a/b", "not a pipe path"),
        (r"\\\pipe\a", "not a pipe path"),
        (".", "another place"),
        ("a.", "a dot"),
        ("a ", "a space"),
        ("c:", "colon"),
        (r"\\.\pipe\..\C:\x.txt", "another place"),
        (r"\\.\pipe\a\..\b", "another place"),
        (r"\\.\pipe\C:\x.txt", "colon"),
        (r"\\.\pipe\a\\b", "empty"),
    ];
    for (name, word) in cases {
        assert_refused(name, &[word]);
    }
}

pub(crate) fn n05_a_listener_says_the_name_it_listens_at() {
    let name = PortableName::new();
    let listener = LocalListener::bind(name.pipe()).unwrap();
    assert_eq!(listener.name(), &Name::new(&name).unwrap());
    assert_eq!(listener.name().to_string(), *name);
    listener.stop();
    assert_eq!(listener.name().to_string(), *name);
}

pub(crate) fn n06_a_local_pipe_path_is_accepted() {
    if skipped_under_wine("N6", "it has no app containers to show it in") {
        return;
    }
    let portable = PortableName::new();
    let name = format!(r"\\.\pipe\LOCAL\{}", &*portable);
    assert_same_place(&name, &name);
}
