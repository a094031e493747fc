//! A process that listens and forks: what one of the two lets go of, the other still has.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::exit;
use std::thread;
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use pipetalk::{ConnectOptions, Deadline, Error, ListenOptions, Listener};

use super::processor_time;
use crate::harness::*;
use crate::unix::assert_listens;
use util::{Actor, announce, here, limit, wait_for_release};

/// Runs something in a child of this process, which ends with it.
fn in_child(act: impl FnOnce()) -> Pid {
    // SAFETY: the child goes on with this thread alone. It takes locks of the C library and of the standard library, which
    // no other thread of a test's actor holds now: they all wait. The allocator is usable after fork(2) as glibc has it.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            exit(i32::from(acted.is_err()));
        }
    }
}

fn wait(child: Pid) {
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
}

fn serve_one<L: Listener>(listener: &L) {
    let stream = listener.accept(soon()).unwrap();
    send(&stream, b"welcome");
    while recv(&stream).is_some() {}
}

fn assert_served<T: Named>(name: &str) {
    let client = T::connect(name).unwrap();
    assert_eq!(recv(&client).as_deref(), Some(b"welcome".as_slice()));
}

pub(crate) fn l03_what_a_child_lets_go_of_its_parent_still_has<T: Named>() {
    for how in ["drop", "stop", "stop while accepting"] {
        let place = Place::new();
        let mut parent = Actor::start("fork and go on", &[T::WORD, how, place.name()]);
        assert_eq!(parent.says(), "forked");
        assert_served::<Local>(place.name());
        assert_eq!(kind(Local::bind(place.name())), ErrorKind::AddrInUse);
        parent.release();
        parent.wait();
        assert!(!place.path().exists(), "{how}");
        Local::bind(place.name()).unwrap();
    }
}

/// The part of [`l03_what_a_child_lets_go_of_its_parent_still_has`].
pub(crate) fn fork_and_go_on<T: Named>(how: &str, name: &str) {
    let mut listener = Some(T::bind(name).unwrap());
    if how == "stop while accepting" {
        let listener = listener.as_ref().unwrap();
        thread::scope(|scope| {
            let accepting = scope.spawn(|| serve_one(listener));
            // Most likely it waits by then.
            thread::sleep(A_MOMENT);
            wait(in_child(|| promptly("stopping", || listener.stop())));
            announce("forked");
            accepting.join().unwrap();
        });
    } else {
        wait(in_child(|| match how {
            "drop" => promptly("dropping", || drop(listener.take())),
            _ => promptly("stopping", || listener.as_ref().unwrap().stop()),
        }));
        announce("forked");
        serve_one(listener.as_ref().unwrap());
    }
    // What the child did has not left this one awake for ever.
    let mut stat = File::open("/proc/self/stat").unwrap();
    let before = processor_time(&mut stat);
    let deadline = Deadline::after(Duration::from_secs(1));
    let accepted = listener.as_ref().unwrap().accept(deadline);
    assert_eq!(kind(accepted), ErrorKind::TimedOut);
    let used = processor_time(&mut stat) - before;
    assert!(used < 30, "{used} hundredths of a second of one second");
    wait_for_release();
    drop(listener);
}

#[test]
fn l03_what_a_parent_lets_go_of_its_child_still_has() {
    let _limit = limit(here!());
    let place = Place::new();
    let mut daemon = Actor::start("fork and leave", &[place.name()]);
    assert_eq!(daemon.says(), "left");
    for _ in 0..3 {
        assert_eq!(kind(Local::bind(place.name())), ErrorKind::AddrInUse);
        assert_served::<Local>(place.name());
    }
    daemon.release();
    daemon.wait();
    // The last one cleans up.
    assert!(!place.path().exists());
    Local::bind(place.name()).unwrap();
}

/// The part of [`l03_what_a_parent_lets_go_of_its_child_still_has`].
pub(crate) fn fork_and_leave(name: &str) {
    let listener = Local::bind(name).unwrap();
    // The parent drops its copy with what it does not run.
    let child = in_child(move || {
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                for stream in listener.incoming() {
                    send(&stream.unwrap(), b"welcome");
                }
            });
            wait_for_release();
            promptly("stopping", || listener.stop());
            serving.join().unwrap();
        });
        assert_eq!(ours(listener.accept(soon())), Error::Stopped);
    });
    announce("left");
    wait(child);
}

#[test]
fn l03_a_stop_frees_the_name_whatever_a_child_still_has() {
    let _limit = limit(here!());
    let place = Place::new();
    let mut parent = Actor::start("fork and stop", &[place.name()]);
    assert_eq!(parent.says(), "stopped");
    let listener = Local::bind(place.name()).unwrap();
    parent.release();
    parent.wait();
    // Nor does the child, when it ends, take away what is not its own.
    assert!(place.path().exists());
    assert_listens(place.path(), &listener);
}

/// The part of [`l03_a_stop_frees_the_name_whatever_a_child_still_has`].
pub(crate) fn fork_and_stop(name: &str) {
    let mut listener = Some(Local::bind(name).unwrap());
    let child = in_child(|| {
        wait_for_release();
        drop(listener.take());
    });
    promptly("stopping", || listener.as_ref().unwrap().stop());
    assert!(!Path::new(name).exists());
    announce("stopped");
    wait(child);
}

#[test]
fn l06_what_a_child_drops_makes_no_room_for_its_parents_clients() {
    let _limit = limit(here!());
    let place = Place::new();
    let mut parent = Actor::start("fork with a connection", &[place.name()]);
    assert_eq!(parent.says(), "busy");
}

/// The part of [`l06_what_a_child_drops_makes_no_room_for_its_parents_clients`].
pub(crate) fn fork_with_a_connection(name: &str) {
    let listener = Local::bind_with(&ListenOptions::new().instances(1), name).unwrap();
    let client = Local::connect(name).unwrap();
    let mut server = Some(listener.accept(soon()).unwrap());
    wait(in_child(|| drop(server.take())));
    let next = Local::connect_with(&ConnectOptions::new(), name, Deadline::NOW);
    assert_eq!(ours(next), Error::Busy);
    assert_works(&client, server.as_ref().unwrap());
    announce("busy");
}
