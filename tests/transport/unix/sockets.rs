//! What stands where a listener or a client would have its socket: somebody else's, nobody's any more, no socket at
//! all, or the lock beside it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pipetalk::{ConnectOptions, Listener, LocalListener, LocalStream};

use super::{assert_listens, mode};
use crate::harness::*;
use util::{STRANGER, Stranger, here, limit};

#[test]
fn l01_a_foreign_listener_is_addr_in_use_and_unharmed() {
    let _limit = limit(here!());
    let place = Place::new();
    let foreign = UnixListener::bind(place.path()).unwrap();
    let inode = place.path().metadata().unwrap().ino();
    for _ in 0..3 {
        assert_eq!(
            kind(LocalListener::bind(place.name())),
            ErrorKind::AddrInUse
        );
    }
    assert_eq!(place.path().metadata().unwrap().ino(), inode);
    // It may have been probed, but whoever comes now is served.
    let mut client = UnixStream::connect(place.path()).unwrap();
    client.write_all(b"x").unwrap();
    let served = (0..10).any(|_| {
        let (mut stream, _) = foreign.accept().unwrap();
        stream.read(&mut [0; 1]).unwrap() == 1
    });
    assert!(served);
}

#[test]
fn l01_a_foreign_socket_that_does_not_listen_yet_is_in_use() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

    let _limit = limit(here!());
    let place = Place::new();
    // Between bind and listen.
    let foreign = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&foreign, &SocketAddrUnix::new(place.path()).unwrap()).unwrap();
    let inode = place.path().metadata().unwrap().ino();
    for _ in 0..3 {
        let bound = promptly("refusing", || LocalListener::bind(place.name()));
        assert_eq!(kind(bound), ErrorKind::AddrInUse);
    }
    assert_eq!(place.path().metadata().unwrap().ino(), inode);
    // And with a backlog that is full, which macOS and the BSDs refuse in the same way.
    listen(&foreign, 1).unwrap();
    let foreign = UnixListener::from(foreign);
    let mut waiting = Vec::new();
    loop {
        let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::io::ioctl_fionbio(&client, true).unwrap();
        match rustix::net::connect(&client, &SocketAddrUnix::new(place.path()).unwrap()) {
            Ok(()) => waiting.push(client),
            Err(_) => break,
        }
    }
    assert_eq!(
        kind(LocalListener::bind(place.name())),
        ErrorKind::AddrInUse
    );
    // Nobody has come who is no client.
    foreign.set_nonblocking(true).unwrap();
    for _ in &waiting {
        foreign.accept().unwrap();
    }
    assert_eq!(kind(foreign.accept()), ErrorKind::WouldBlock);
    drop(foreign);
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_listens(place.path(), &listener);
}

#[test]
fn l02_a_socket_that_nobody_listens_at_is_taken_over() {
    let _limit = limit(here!());
    let place = Place::new();
    drop(UnixListener::bind(place.path()).unwrap());
    assert!(place.path().exists());
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_listens(place.path(), &listener);
    drop(listener);
    assert!(!place.path().exists());
}

#[test]
fn l02_one_of_many_takes_a_stale_name_over() {
    let _limit = limit(here!());
    const MANY: usize = 4;
    let mut rng = Rng::new();
    for round in 0..rounds(500) {
        let place = Place::new();
        if round % 2 == 0 {
            drop(UnixListener::bind(place.path()).unwrap());
        }
        let barrier = Barrier::new(MANY);
        let bound: Vec<_> = thread::scope(|scope| {
            let binding: Vec<_> = (0..MANY)
                .map(|_| {
                    let (place, barrier, mut rng) = (&place, &barrier, rng.fork());
                    scope.spawn(move || {
                        barrier.wait();
                        rng.shake();
                        LocalListener::bind(place.name())
                    })
                })
                .collect();
            binding
                .into_iter()
                .map(|binding| binding.join().unwrap())
                .collect()
        });
        let (one, others): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        assert_eq!(one.len(), 1, "{others:?}");
        for other in others {
            assert_eq!(kind(other), ErrorKind::AddrInUse);
        }
        assert_listens(place.path(), one[0].as_ref().unwrap());
    }
}

#[test]
fn l02_listeners_that_come_and_go_never_share_a_name() {
    let _limit = limit(here!());
    let place = Place::new();
    let held = AtomicBool::new(false);
    let mut rng = Rng::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            let (place, held, mut rng) = (&place, &held, rng.fork());
            scope.spawn(move || {
                for _ in 0..rounds(500) {
                    match LocalListener::bind(place.name()) {
                        Ok(listener) => {
                            assert!(!held.swap(true, Ordering::SeqCst), "two hold the name");
                            rng.shake();
                            assert!(place.path().exists());
                            assert!(held.swap(false, Ordering::SeqCst));
                            drop(listener);
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
                    }
                    rng.shake();
                }
            });
        }
    });
}

#[test]
fn l02_the_lock_file_stays_and_whoever_holds_it_holds_the_name() {
    use rustix::fs::{FlockOperation, flock};

    let _limit = limit(here!());
    let place = Place::new();
    let lock = format!("{}.lock", place.name());
    drop(LocalListener::bind(place.name()).unwrap());
    let inode = fs::metadata(&lock).unwrap().ino();
    assert_eq!(mode(Path::new(&lock)), 0o600);
    drop(LocalListener::bind(place.name()).unwrap());
    // Another file would be another lock, and two could each hold one.
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode);

    // Somebody who is about to listen has it: what is there now is his to clear away.
    drop(UnixListener::bind(place.path()).unwrap());
    let stale = place.path().metadata().unwrap().ino();
    let held = File::open(&lock).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let bound = LocalListener::bind(place.name());
    assert_eq!(kind(bound), ErrorKind::AddrInUse);
    assert_eq!(place.path().metadata().unwrap().ino(), stale);
    flock(&held, FlockOperation::Unlock).unwrap();
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_listens(place.path(), &listener);
}

#[test]
fn l03_dropping_a_listener_never_removes_a_successors_socket() {
    let _limit = limit(here!());
    for stop in [false, true] {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        // Somebody tidies up, and somebody else listens there.
        fs::remove_file(place.path()).unwrap();
        let successor = UnixListener::bind(place.path()).unwrap();
        if stop {
            listener.stop();
        }
        drop(listener);
        assert!(place.path().exists());
        let _client = UnixStream::connect(place.path()).unwrap();
        successor.accept().unwrap();
    }
}

#[test]
fn l03_a_socket_that_is_gone_already_is_no_error() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    fs::remove_file(place.path()).unwrap();
    listener.stop();
    drop(LocalListener::bind(place.name()).unwrap());
}

#[test]
fn l04_what_is_not_a_socket_is_never_touched() {
    let _limit = limit(here!());
    let place = Place::new();
    let path = place.path();

    fs::write(path, "precious").unwrap();
    assert_eq!(
        kind(LocalListener::bind(place.name())),
        ErrorKind::AlreadyExists
    );
    assert_eq!(fs::read(path).unwrap(), b"precious");
    fs::remove_file(path).unwrap();

    fs::create_dir(path).unwrap();
    assert_eq!(
        kind(LocalListener::bind(place.name())),
        ErrorKind::AlreadyExists
    );
    assert!(path.is_dir());
    fs::remove_dir(path).unwrap();

    // A link is not followed: neither to a file nor to a socket that nobody listens at.
    let target = place.directory().join("target");
    for stale_socket in [false, true] {
        if stale_socket {
            drop(UnixListener::bind(&target).unwrap());
        } else {
            fs::write(&target, "precious").unwrap();
        }
        symlink(&target, path).unwrap();
        assert_eq!(
            kind(LocalListener::bind(place.name())),
            ErrorKind::AlreadyExists
        );
        assert!(path.is_symlink() && target.exists());
        fs::remove_file(path).unwrap();
        fs::remove_file(&target).unwrap();
    }

    // A link to nowhere is not followed either: nothing is made at its end.
    symlink(&target, path).unwrap();
    assert_eq!(
        kind(LocalListener::bind(place.name())),
        ErrorKind::AlreadyExists
    );
    assert!(path.is_symlink() && !target.exists());
}

#[test]
fn l04_a_lock_file_that_is_a_link_is_not_followed() {
    let _limit = limit(here!());
    let place = Place::new();
    let target = place.directory().join("target");
    symlink(&target, format!("{}.lock", place.name())).unwrap();
    LocalListener::bind(place.name()).unwrap_err();
    assert!(!target.exists());
}

#[test]
fn l04_a_socket_of_another_kind_is_never_touched() {
    let _limit = limit(here!());
    let place = Place::new();
    let foreign = UnixDatagram::bind(place.path()).unwrap();
    let bound = kind(LocalListener::bind(place.name()));
    assert!(
        matches!(bound, ErrorKind::AddrInUse | ErrorKind::AlreadyExists),
        "{bound:?}"
    );
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"x", place.path()).unwrap();
    assert_eq!(foreign.recv(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn l04_another_users_socket_is_never_touched() {
    let _limit = limit(here!());
    let Some(_stranger) = Stranger::new("L4") else {
        return;
    };
    let place = Place::new();
    drop(UnixListener::bind(place.path()).unwrap());
    chown(place.path(), Some(STRANGER), None).unwrap();
    let inode = place.path().metadata().unwrap().ino();
    let bound = kind(LocalListener::bind(place.name()));
    assert!(
        matches!(bound, ErrorKind::AddrInUse | ErrorKind::AlreadyExists),
        "{bound:?}"
    );
    assert_eq!(place.path().metadata().unwrap().ino(), inode);
}

#[test]
fn c01_a_socket_that_nobody_listens_at_is_not_found() {
    let _limit = limit(here!());
    let place = Place::new();
    drop(UnixListener::bind(place.path()).unwrap());
    let dialed = promptly("finding nobody", || LocalStream::connect(place.name()));
    assert_eq!(kind(dialed), ErrorKind::NotFound);
    assert!(place.path().exists(), "a client removes nothing");
}

#[test]
fn c03_a_server_is_waited_for_behind_a_stale_socket() {
    let _limit = limit(here!());
    let place = Place::new();
    drop(UnixListener::bind(place.path()).unwrap());
    thread::scope(|scope| {
        let dialing = scope.spawn(|| {
            let patient = ConnectOptions::new().wait_for_server(true);
            patient.connect(place.name(), soon()).unwrap()
        });
        let listener = LocalListener::bind(place.name()).unwrap();
        let server = listener.accept(soon()).unwrap();
        assert_works(&dialing.join().unwrap(), &server);
    });
}
