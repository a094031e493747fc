//! Where a name is on Unix.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use pipetalk::{ConnectOptions, LocalListener, Name};
use tempfile::TempDir;

use super::{assert_listens, mode};
use crate::harness::*;
use crate::names::assert_refused;
use util::{Actor, PortableName, here, limit, runtime_directories, skip};

/// The longest path of a socket, without its closing NUL: unix(7), unix(4).
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A listener in another process that has its own idea of the runtime directory.
fn listen_in(runtime_directory: &Path, name: &str) -> Actor {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("XDG_RUNTIME_DIR", runtime_directory);
    let mut actor = Actor::start_with(command, "listen", &[name]);
    assert_eq!(actor.says(), "listening");
    actor
}

#[test]
fn n01_a_portable_name_is_a_socket_in_the_runtime_directory() {
    let _limit = limit(here!());
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let name = PortableName::new();
    let _listener = listen_in(directory.path(), &name.to_uppercase());
    let path = directory.path().join(format!("{}.sock", &*name));
    assert!(path.symlink_metadata().unwrap().file_type().is_socket());
    assert_eq!(mode(&path) & 0o077, 0);
    let mut greeting = [0; 11];
    UnixStream::connect(&path)
        .unwrap()
        .read_exact(&mut greeting)
        .unwrap();
    assert_eq!(&greeting, b"\x07\0\0\0welcome");
}

#[test]
fn n01_a_runtime_directory_that_others_can_enter_is_not_used() {
    let _limit = limit(here!());
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let name = PortableName::new();
    let _listener = listen_in(directory.path(), &name);
    let socket = format!("{}.sock", &*name);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let found = runtime_directories()
        .iter()
        .any(|directory| directory.join(&socket).exists());
    assert!(found, "{socket} is in none of {:?}", runtime_directories());
}

#[test]
fn n01_the_machines_name_and_the_users_own() {
    let _limit = limit(here!());
    let directory = if cfg!(target_os = "linux") {
        "/run"
    } else {
        "/var/run"
    };
    let path = Name::path(format!("{directory}/acme.kv.sock")).unwrap();
    assert_eq!(Name::system("Acme.kv").unwrap(), path);
    // A portable name is in the user's own directory already.
    let portable = Name::new("acme.kv").unwrap();
    assert_eq!(Name::per_user("Acme.kv").unwrap(), portable);
    for name in ["/run/acme.sock", "", r"a\b"] {
        assert_eq!(kind(Name::system(name)), ErrorKind::InvalidInput);
        assert_eq!(kind(Name::per_user(name)), ErrorKind::InvalidInput);
    }
}

#[test]
fn n03_a_path_over_the_limit_is_refused_before_any_call() {
    let _limit = limit(here!());
    // Where there is no directory, the system would say something else.
    let path = format!("/nowhere/{}", "x".repeat(LONGEST + 1 - 9));
    assert_refused(
        &path,
        &[&LONGEST.to_string(), &(LONGEST + 1).to_string(), "too long"],
    );
    let bound = LocalListener::bind(&path[..LONGEST]);
    assert_eq!(kind(bound), ErrorKind::NotFound);
}

#[test]
fn n03_the_longest_path_works() {
    let _limit = limit(here!());
    let directory = TempDir::new().unwrap();
    let room = LONGEST - directory.path().as_os_str().len() - 1;
    let path = directory.path().join("x".repeat(room));
    assert_eq!(path.as_os_str().len(), LONGEST);
    let listener = LocalListener::bind(Name::path(&path).unwrap()).unwrap();
    assert_listens(&path, &listener);
}

#[test]
fn n05_a_pipe_of_another_machine_is_unsupported() {
    let _limit = limit(here!());
    for name in [r"\\server\pipe\name", r"\\.\pipe\with\directories"] {
        let bound = LocalListener::bind(name).map(drop);
        let dialed = ConnectOptions::new().connect(name, soon()).map(drop);
        for result in [bound, dialed] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("Windows"), "{error}");
        }
    }
}

#[test]
fn n05_a_relative_path_is_a_path() {
    let _limit = limit(here!());
    // Without changing the directory of the whole process: up to the root, and down again.
    let place = Place::new();
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let relative = format!("{}{}", up, &place.name()[1..]);
    if relative.len() > LONGEST {
        skip("N5", "this directory is too deep for a relative path");
        return;
    }
    let listener = LocalListener::bind(&relative).unwrap();
    assert_listens(place.path(), &listener);
}
