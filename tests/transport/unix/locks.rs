//! The locks beside a path, in directories where others may create files as well.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;

use pipetalk::{LocalListener, LocalStream};
use rustix::fs::{FlockOperation, flock};

use super::{assert_listens, mode};
use crate::harness::*;
use util::{Actor, STRANGER, Stranger, here, limit};

/// A place in a directory where everybody may create files, and nobody may remove another's.
fn in_a_sticky_directory() -> Place {
    let place = Place::new();
    fs::set_permissions(place.directory(), Permissions::from_mode(0o1777)).unwrap();
    place
}

/// Another user's file, that anybody may open and nobody can lock.
fn held_by_a_stranger(name: &str) -> File {
    let file = File::create_new(name).unwrap();
    fs::set_permissions(name, Permissions::from_mode(0o666)).unwrap();
    chown(name, Some(STRANGER), None).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

#[test]
fn l02_a_lock_file_that_root_left_keeps_nobody_else_out() {
    let _limit = limit(here!());
    let Some(stranger) = Stranger::new("L2") else {
        return;
    };
    let place = in_a_sticky_directory();
    drop(LocalListener::bind(place.name()).unwrap());
    let lock = format!("{}.lock", place.name());
    assert_eq!(fs::metadata(&lock).unwrap().uid(), 0);
    let listen = || {
        Actor::start_with(
            stranger.command(),
            "try to bind",
            &["blocking", place.name()],
        )
    };
    let mut first = listen();
    assert_eq!(first.says(), "listening");
    // It has a lock all the same, and what it leaves when it dies is taken over.
    let mut second = listen();
    let said = second.says();
    assert!(said.starts_with("AddrInUse"), "{said}");
    first.kill();
    assert!(place.path().exists());
    let mut third = listen();
    assert_eq!(third.says(), "listening");
    // The name is that user's now: root does not take it away.
    let error = LocalListener::bind(place.name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&STRANGER.to_string()), "{error}");
}

#[test]
fn l02_a_strangers_lock_file_denies_nobody_the_name() {
    let _limit = limit(here!());
    let Some(_stranger) = Stranger::new("L2") else {
        return;
    };
    let place = in_a_sticky_directory();
    let first = format!("{}.lock", place.name());
    let second = format!("{}.0.lock", place.name());
    let _held = held_by_a_stranger(&first);
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_listens(place.path(), &listener);
    assert_eq!(mode(second.as_ref()), 0o600);
    assert_eq!(
        kind(LocalListener::bind(place.name())),
        ErrorKind::AddrInUse
    );
    // Also when the first name is free again: one that has it finds the other.
    fs::remove_file(&first).unwrap();
    let error = LocalListener::bind(place.name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&second), "{error}");
    drop(listener);
    assert!(!place.path().exists());
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_listens(place.path(), &listener);
}

#[test]
fn l02_where_there_is_no_lock_a_free_name_is_bound_and_a_stale_one_is_told() {
    let _limit = limit(here!());
    let Some(_stranger) = Stranger::new("L2") else {
        return;
    };
    let place = in_a_sticky_directory();
    let names = [".lock", ".0.lock"].map(|suffix| format!("{}{suffix}", place.name()));
    let _held = names.each_ref().map(|name| held_by_a_stranger(name));
    for stop in [true, false] {
        let listener = LocalListener::bind(place.name()).unwrap();
        assert_listens(place.path(), &listener);
        assert_eq!(
            kind(LocalListener::bind(place.name())),
            ErrorKind::AddrInUse
        );
        if stop {
            pipetalk::Listener::stop(&listener);
        }
        drop(listener);
        assert!(!place.path().exists());
    }
    drop(UnixListener::bind(place.path()).unwrap());
    let error = LocalListener::bind(place.name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    for word in names.iter().chain([&STRANGER.to_string()]) {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(place.path().exists());
    fs::remove_file(place.path()).unwrap();
    LocalListener::bind(place.name()).unwrap();
}

#[test]
fn l02_a_lock_file_that_its_user_cannot_open_is_mended() {
    let _limit = limit(here!());
    let place = Place::new();
    let lock = format!("{}.lock", place.name());
    for mode_before in [0o000, 0o400, 0o666] {
        fs::write(&lock, "").unwrap();
        fs::set_permissions(&lock, Permissions::from_mode(mode_before)).unwrap();
        let listener = LocalListener::bind(place.name()).unwrap();
        assert_listens(place.path(), &listener);
        assert_eq!(mode(lock.as_ref()), 0o600, "{mode_before:o}");
        drop(listener);
        fs::remove_file(&lock).unwrap();
    }
}

#[test]
fn l04_what_is_no_file_is_no_lock_and_is_told() {
    let _limit = limit(here!());
    let place = Place::new();
    let lock = format!("{}.lock", place.name());
    fs::create_dir(&lock).unwrap();
    let error = promptly("refusing", || {
        LocalListener::bind(place.name()).unwrap_err()
    });
    assert!(error.to_string().contains(&lock), "{error}");
    fs::remove_dir(&lock).unwrap();
    // A pipe would be waited at for its other end.
    let made = std::process::Command::new("mkfifo").arg(&lock).status();
    assert!(made.unwrap().success());
    let error = promptly("refusing", || {
        LocalListener::bind(place.name()).unwrap_err()
    });
    assert!(error.to_string().contains(&lock), "{error}");
    fs::remove_file(&lock).unwrap();
    // In a directory that is not there, and in one that is a file.
    for place in ["/nowhere/s".to_owned(), format!("{lock}/s")] {
        fs::write(&lock, "").unwrap();
        let error = LocalListener::bind(&place).unwrap_err();
        assert!(error.to_string().contains(&place), "{error}");
    }
    let listener = LocalListener::bind(place.name()).unwrap();
    LocalStream::connect(place.name()).unwrap();
    drop(listener);
}

#[test]
fn l04_a_lock_file_that_is_another_files_name_is_not_touched() {
    let _limit = limit(here!());
    let place = Place::new();
    let precious = place.directory().join("precious");
    fs::write(&precious, "").unwrap();
    let lock = format!("{}.lock", place.name());
    fs::hard_link(&precious, &lock).unwrap();
    for before in [0o644, 0o000] {
        fs::set_permissions(&precious, Permissions::from_mode(before)).unwrap();
        let listener = LocalListener::bind(place.name()).unwrap();
        assert_listens(place.path(), &listener);
        assert_eq!(mode(&precious), before);
        assert_eq!(
            kind(LocalListener::bind(place.name())),
            ErrorKind::AddrInUse
        );
    }
}
