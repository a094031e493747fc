//! The places that a portable name can have, which processes of one user see differently: a server that starts before its
//! user has logged in has no runtime directory, and what a temporary directory is depends on a variable.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipetalk::{ConnectOptions, Deadline, ListenOptions, Listener};
use rustix::fs::Mode;
use tempfile::TempDir;

use super::mode;
use crate::harness::*;
use util::{Actor, PortableName, Stranger, announce, here, limit, skip, wait_for_release};

/// A name, and directories that no other test has. The runtime directory is not there yet.
struct World {
    name: PortableName,
    directory: TempDir,
}

impl World {
    fn new() -> World {
        let world = World {
            name: PortableName::new(),
            directory: TempDir::new().unwrap(),
        };
        fs::create_dir(world.temporary()).unwrap();
        // As a stranger sees it, too.
        for directory in [world.directory.path(), &world.temporary()] {
            fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
        }
        world
    }

    fn runtime(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    /// The user's directory within the temporary one.
    fn in_temporary(&self, uid: u32) -> PathBuf {
        self.temporary().join(format!("pipetalk-{uid}"))
    }

    fn file(&self) -> String {
        format!("{}.sock", &*self.name)
    }

    fn log_in(&self) {
        fs::create_dir(self.runtime()).unwrap();
        fs::set_permissions(self.runtime(), Permissions::from_mode(0o700)).unwrap();
    }

    fn start(&self, command: Command, part: &str, driver: &str) -> Actor {
        self.start_with(command, part, &[driver, &self.name])
    }

    fn start_with(&self, mut command: Command, part: &str, args: &[&str]) -> Actor {
        command.env("TMPDIR", self.temporary());
        Actor::start_with(command, part, args)
    }
}

fn this() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// A process of before the log-in.
fn before() -> Command {
    let mut command = this();
    command.env_remove("XDG_RUNTIME_DIR");
    command
}

/// One that is given a runtime directory.
fn with(runtime: &Path) -> Command {
    let mut command = this();
    command.env("XDG_RUNTIME_DIR", runtime);
    command
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn told<R>(result: std::io::Result<R>, what: &str) -> (Option<R>, String) {
    match result {
        Ok(result) => (Some(result), what.to_owned()),
        Err(error) => (None, format!("{:?}: {error}", error.kind())),
    }
}

/// In the actor: listens until it is released, and says what came of it.
pub(crate) fn try_to_bind<T: Named>(name: &str) {
    let (listener, said) = told(T::bind(name), "listening");
    announce(&said);
    wait_for_release();
    drop(listener);
}

/// The same with another umask than that of the test.
pub(crate) fn bind_under_umask<T: Named>(umask: &str, name: &str) {
    let umask = u32::from_str_radix(umask, 8).unwrap();
    rustix::process::umask(Mode::from_raw_mode(umask as _));
    try_to_bind::<T>(name);
}

/// In the actor: connects, waiting for the server if asked to, and says what came of it.
pub(crate) fn try_to_connect<T: Named>(wait: bool, name: &str) {
    announce("connecting");
    let options = ConnectOptions::new().wait_for_server(wait);
    let (_stream, said) = told(T::connect_with(&options, name, soon()), "connected");
    announce(&said);
    wait_for_release();
}

fn connect<T: Named>(world: &World, command: Command) -> String {
    let mut client = world.start(command, "try to connect", T::WORD);
    assert_eq!(client.says(), "connecting");
    client.says()
}

pub(crate) fn n01_a_server_of_before_the_log_in_is_found_after_it<T: Named>() {
    let world = World::new();
    let mut server = world.start(before(), "try to bind", T::WORD);
    assert_eq!(server.says(), "listening");
    world.log_in();
    assert_eq!(connect::<T>(&world, with(&world.runtime())), "connected");
    // And no second one takes the name at the place that there is now.
    let mut second = world.start(with(&world.runtime()), "try to bind", T::WORD);
    let said = second.says();
    assert!(said.starts_with("AddrInUse"), "{said}");
    assert!(said.contains(&world.file()), "{said}");
    second.release();
    second.wait();
    assert!(!world.runtime().join(world.file()).exists());
    server.release();
    server.wait();
    let mut second = world.start(with(&world.runtime()), "try to bind", T::WORD);
    assert_eq!(second.says(), "listening");
    assert!(world.runtime().join(world.file()).exists());
}

pub(crate) fn c03_a_server_is_waited_for_at_a_place_that_comes_later<T: Named>() {
    let world = World::new();
    let mut client = world.start(with(&world.runtime()), "wait and connect", T::WORD);
    assert_eq!(client.says(), "connecting");
    // One that others can enter is not looked into, most likely for a few tries, and no reason to stop looking.
    fs::create_dir(world.runtime()).unwrap();
    fs::set_permissions(world.runtime(), Permissions::from_mode(0o755)).unwrap();
    std::thread::sleep(A_MOMENT);
    fs::set_permissions(world.runtime(), Permissions::from_mode(0o700)).unwrap();
    let mut server = world.start(with(&world.runtime()), "try to bind", T::WORD);
    assert_eq!(server.says(), "listening");
    assert!(world.runtime().join(world.file()).exists());
    assert_eq!(client.says(), "connected");
}

pub(crate) fn c01_not_found_names_the_places_and_nothing_is_created<T: Named>() {
    let world = World::new();
    let said = connect::<T>(&world, with(&world.runtime()));
    assert!(said.starts_with("NotFound: nobody listens at"), "{said}");
    for place in [world.runtime(), world.in_temporary(uid())] {
        let place = place.join(world.file());
        assert!(said.contains(place.to_str().unwrap()), "{place:?}: {said}");
    }
    assert!(!world.runtime().exists());
    assert_eq!(fs::read_dir(world.temporary()).unwrap().count(), 0);
    // What is not looked at is said as well, and why.
    world.log_in();
    fs::set_permissions(world.runtime(), Permissions::from_mode(0o750)).unwrap();
    let said = connect::<T>(&world, with(&world.runtime()));
    assert!(said.starts_with("NotFound: nobody listens at"), "{said}");
    let passed_over = format!("{} is passed over", world.runtime().display());
    assert!(said.contains(&passed_over), "{said}");
    assert!(said.contains("0750"), "{said}");
}

pub(crate) fn n01_a_server_in_the_usual_temporary_directory_is_found_from_another<T: Named>() {
    let world = World::new();
    // On macOS each user has one that is not /tmp.
    let mut usual = before();
    usual.env("TMPDIR", "/tmp");
    let mut server = Actor::start_with(usual, "try to bind", &[T::WORD, &world.name]);
    assert_eq!(server.says(), "listening");
    assert_eq!(connect::<T>(&world, before()), "connected");
    // There is no second one either, though its own place comes first.
    let mut second = world.start(before(), "try to bind", T::WORD);
    let said = second.says();
    assert!(said.starts_with("AddrInUse"), "{said}");
}

/// A listener, with a place of its own in a directory in which the process is, and a limit of one connection.
pub(crate) fn move_away<T: Named>(from: &str, to: &str) {
    std::env::set_current_dir(from).unwrap();
    let listener = T::bind_with(&ListenOptions::new().instances(1), "./s").unwrap();
    let client = T::connect("./s").unwrap();
    std::env::set_current_dir(to).unwrap();
    // With this one the listener is busy, for which it connects to itself.
    let server = listener.accept(soon()).unwrap();
    assert_works(&client, &server);
    let name = format!("{from}/s");
    if T::LIMIT_IS_BUSY {
        let next = T::connect_with(&ConnectOptions::new(), &name, Deadline::NOW);
        assert_eq!(ours(next), pipetalk::Error::Busy);
    }
    assert!(T::access(&listener).is_ok());
    drop((client, server));
    let client = T::connect(&name).unwrap();
    assert_works(&client, &listener.accept(soon()).unwrap());
    drop(listener);
    assert!(!Path::new(&name).exists());
    announce("moved");
}

pub(crate) fn n05_a_relative_path_stays_where_it_was_bound<T: Named>() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let other = UnixListener::bind(to.path().join("s")).unwrap();
    other.set_nonblocking(true).unwrap();
    let [from_path, to_path] = [&from, &to].map(|directory| directory.path().to_str().unwrap());
    let mut actor = Actor::start("move away", &[T::WORD, from_path, to_path]);
    assert_eq!(actor.says(), "moved");
    assert!(to.path().join("s").exists());
    // Nor has it connected to what has that name there.
    assert_eq!(kind(other.accept()), ErrorKind::WouldBlock);
}

#[test]
fn i02_no_umask_makes_a_place_that_its_user_cannot_use() {
    let _limit = limit(here!());
    let stranger = Stranger::new("I2");
    for umask in ["177", "277", "777", "000"] {
        let world = World::new();
        let command = || match &stranger {
            Some(stranger) => stranger.command(),
            None => this(),
        };
        let without_runtime = || {
            let mut command = command();
            command.env("XDG_RUNTIME_DIR", world.runtime());
            command
        };
        let args = ["blocking", umask, &world.name];
        let mut first = world.start_with(without_runtime(), "bind under umask", &args);
        assert_eq!(first.says(), "listening", "umask {umask}");
        let directory = world.in_temporary(stranger.as_ref().map_or(uid(), |_| util::STRANGER));
        let file = directory.join(world.file());
        // It may have one that the system has made.
        if file.exists() {
            let lock = directory.join(format!("{}.lock", world.file()));
            assert_eq!(mode(&directory), 0o700, "umask {umask}");
            assert_eq!(mode(&lock), 0o600, "umask {umask}");
            assert_eq!(mode(&file), 0o600, "umask {umask}");
            first.release();
            first.wait();
            // What was left so by another program, or an older one, is mended.
            for path in [&lock, &directory] {
                fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
            }
        } else {
            skip(
                "I2",
                "the system has made a runtime directory for this user",
            );
            first.release();
            first.wait();
        }
        let mut next = world.start(without_runtime(), "try to bind", "blocking");
        assert_eq!(next.says(), "listening", "umask {umask}");
    }
}
