//! What only Unix has, and where a name is there.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pipetalk::{
    Access, ConnectOptions, Deadline, Error, ListenOptions, Listener, LocalListener, LocalStream,
    Name, ReadMode, Stream, Trust, UserId,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use crate::harness::*;
use crate::names::assert_refused;
use crate::util::{
    Actor, PortableName, STRANGER, Stranger, announce, here, limit, runtime_directories, skip,
};

/// The longest path of a socket, without its closing NUL: unix(7), unix(4).
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

fn assert_listens(path: &Path, listener: &LocalListener) {
    let client = ConnectOptions::new()
        .connect(Name::path(path).unwrap(), soon())
        .unwrap();
    assert_works(&client, &listener.accept(soon()).unwrap());
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

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

#[test]
fn m12_there_is_no_byte_mode() {
    let _limit = limit(here!());
    let place = Place::new();
    let bound = ListenOptions::new()
        .read_mode(ReadMode::Byte)
        .bind(place.name());
    assert_eq!(kind(bound), ErrorKind::Unsupported);
    let _listener = LocalListener::bind(place.name()).unwrap();
    let dialed = ConnectOptions::new()
        .read_mode(ReadMode::Byte)
        .connect(place.name(), soon());
    assert_eq!(kind(dialed), ErrorKind::Unsupported);
}

#[test]
fn i02_by_default_the_socket_is_its_users_only() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    assert_eq!(mode(place.path()), 0o600);
    let found = place.path().metadata().unwrap();
    let shown = format!("uid {} gid {} mode 0600", found.uid(), found.gid());
    assert_eq!(listener.access().unwrap(), shown);
    assert_eq!(UserId::Uid(found.uid()), UserId::current().unwrap());
}

#[test]
fn i02_the_mode_is_set_from_before_the_socket_has_a_name() {
    let _limit = limit(here!());
    if cfg!(not(target_os = "linux")) {
        skip("I2", "only Linux sets the mode of a socket before bind");
        return;
    }
    let place = Place::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::SeqCst) {
                if let Ok(found) = place.path().symlink_metadata() {
                    assert_eq!(found.mode() & 0o077, 0, "open for a moment");
                    seen += 1;
                }
            }
            seen
        });
        for _ in 0..rounds(3_000) {
            drop(LocalListener::bind(place.name()).unwrap());
        }
        done.store(true, Ordering::SeqCst);
        assert!(watching.join().unwrap() > 0);
    });
}

#[test]
fn i02_another_user_is_kept_out_by_the_mode() {
    let _limit = limit(here!());
    let Some(stranger) = Stranger::new("I2") else {
        return;
    };
    let place = Place::new();
    place.open_to_everyone();
    let listener = LocalListener::bind(place.name()).unwrap();
    let mut client = Actor::start_with(stranger.command(), "greet anyone", &[place.name()]);
    assert_eq!(client.says(), "PermissionDenied");
    assert_listens(place.path(), &listener);
}

#[test]
fn i02_another_user_that_got_in_is_not_accepted() {
    let _limit = limit(here!());
    let Some(stranger) = Stranger::new("I2") else {
        return;
    };
    let place = Place::new();
    place.open_to_everyone();
    let listener = LocalListener::bind(place.name()).unwrap();
    // As somebody's chmod might.
    fs::set_permissions(place.path(), Permissions::from_mode(0o666)).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let stream = listener.accept(soon()).unwrap();
            assert_eq!(
                stream.peer().unwrap().user,
                Some(UserId::current().unwrap())
            );
            assert_eq!(recv(&stream).unwrap(), b"hello");
            send(&stream, b"you");
        });
        for _ in 0..3 {
            let mut client = Actor::start_with(stranger.command(), "greet anyone", &[place.name()]);
            let said = client.says();
            assert!(matches!(&*said, "end" | "BrokenPipe"), "{said}");
        }
        // The accept loop went on, and hands out who may come.
        let mut client = Actor::start("greet", &[place.name()]);
        assert_eq!(client.says(), "reply you");
        accepting.join().unwrap();
    });
}

#[test]
fn i03_a_squatter_is_not_talked_to() {
    let _limit = limit(here!());
    let Some(stranger) = Stranger::new("I3") else {
        return;
    };
    let place = Place::new();
    place.open_to_everyone();
    let mut server = Actor::start_with(stranger.command(), "listen", &[place.name()]);
    assert_eq!(server.says(), "listening");
    let error = LocalStream::connect(place.name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&STRANGER.to_string()), "{error}");
    // But root is let in by the mode, so that the server has to let it in as well; it does not.
    for trust in [Trust::Anyone, Trust::User(UserId::Uid(STRANGER))] {
        let options = ConnectOptions::new().trust(trust);
        let client = options.connect(place.name(), soon()).unwrap();
        assert_eq!(client.peer().unwrap().user, Some(UserId::Uid(STRANGER)));
        assert_ended(&client);
    }
}

#[test]
fn i03_the_system_is_trusted_by_other_users() {
    let _limit = limit(here!());
    let Some(stranger) = Stranger::new("I3") else {
        return;
    };
    let place = Place::new();
    place.open_to_everyone();
    let options = ListenOptions::new().access(Access::Everyone);
    let listener = options.bind(place.name()).unwrap();
    let mut client = Actor::start_with(stranger.command(), "greet", &[place.name()]);
    let stream = listener.accept(soon()).unwrap();
    assert_eq!(stream.peer().unwrap().user, Some(UserId::Uid(STRANGER)));
    assert_eq!(recv(&stream).unwrap(), b"hello");
    send(&stream, b"you");
    assert_eq!(client.says(), "reply you");
}

#[test]
fn i04_access_is_asked_for_in_words_and_shown() {
    let _limit = limit(here!());
    let place = Place::new();
    let gid = rustix::process::getegid().as_raw();
    let cases = [
        (Access::SameUser, 0o600),
        (Access::Everyone, 0o666),
        (Access::Group(gid.to_string()), 0o660),
        (Access::Mode(0o640), 0o640),
        (Access::Mode(0o666), 0o666),
        (Access::Mode(0o600), 0o600),
    ];
    for (access, expected) in cases {
        let listener = ListenOptions::new()
            .access(access.clone())
            .bind(place.name())
            .unwrap();
        assert_eq!(mode(place.path()), expected, "{access:?}");
        assert_eq!(place.path().metadata().unwrap().gid(), gid);
        let shown = listener.access().unwrap();
        assert!(
            shown.ends_with(&format!("gid {gid} mode {expected:04o}")),
            "{access:?}: {shown}"
        );
        assert_listens(place.path(), &listener);
    }
}

#[test]
fn i04_access_that_cannot_be_is_refused_in_words() {
    let _limit = limit(here!());
    let place = Place::new();
    let bind = |access: Access, name: &str| ListenOptions::new().access(access).bind(name);
    let sddl = bind(Access::Sddl("D:(A;;GA;;;WD)".into()), place.name());
    assert_eq!(kind(sddl), ErrorKind::Unsupported);
    let nobody = bind(Access::Group("no-such-group-anywhere".into()), place.name()).unwrap_err();
    assert!(
        nobody.to_string().contains("no-such-group-anywhere"),
        "{nobody}"
    );
    assert!(!place.path().exists());
    // In the user's own directory nobody else could reach it.
    let name = PortableName::new();
    for access in [
        Access::Everyone,
        Access::Group("0".into()),
        Access::Mode(0o666),
    ] {
        let error = bind(access, &name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("system"), "{error}");
    }
}

#[test]
fn i05_impersonation_is_unsupported() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let client = LocalStream::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    for stream in [client, server] {
        let mut ran = false;
        assert_eq!(
            kind(stream.impersonate(|| ran = true)),
            ErrorKind::Unsupported
        );
        assert!(!ran);
    }
}

/// Sends bytes with a copy of each descriptor.
fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[&UnixStream]) {
    let descriptors: Vec<_> = descriptors.iter().map(|socket| socket.as_fd()).collect();
    let message = SendAncillaryMessage::ScmRights(&descriptors);
    let mut space = vec![std::mem::MaybeUninit::uninit(); message.size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(message));
    let sent = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
    assert_eq!(sent, bytes.len());
}

#[test]
fn i07_unexpected_descriptors_are_closed() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    // One, and more than a receiver that does not expect any would have room for.
    for count in [1, 250] {
        let raw = UnixStream::connect(place.path()).unwrap();
        let stream = listener.accept(soon()).unwrap();
        let (mut kept, sent) = UnixStream::pair().unwrap();
        send_with(&raw, b"\x05\0\0\0he", &vec![&sent; count]);
        send_with(&raw, b"llo", &vec![&sent; count]);
        drop(sent);
        match stream.recv_message(&mut Vec::new(), soon()) {
            Ok(len) => assert_eq!(len, Some(5)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}"),
        }
        // With all copies closed, this is the end; with one left, it would hang.
        kept.set_read_timeout(Some(A_WHILE)).unwrap();
        assert_eq!(kept.read(&mut [0; 1]).unwrap(), 0, "{count} descriptors");
    }
    assert_listens(place.path(), &listener);
}

#[test]
fn e02_a_reset_counts_as_the_end_once_drained() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    send(&stream, b"never read");
    raw.write_all(b"\x04\0\0\0last").unwrap();
    drop(raw);
    assert_eq!(recv(&stream).unwrap(), b"last");
    assert_ended(&stream);
}

#[test]
fn e01_a_peer_that_shuts_down_its_sending_can_still_receive() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let mut raw = UnixStream::connect(place.path()).unwrap();
    let stream = listener.accept(soon()).unwrap();
    raw.write_all(b"\x04\0\0\0last").unwrap();
    raw.shutdown(Shutdown::Write).unwrap();
    assert_eq!(recv(&stream).unwrap(), b"last");
    assert_ended(&stream);
    send(&stream, b"bye");
    drop(stream);
    raw.set_read_timeout(Some(A_WHILE)).unwrap();
    let mut rest = Vec::new();
    raw.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"\x03\0\0\0bye");
}

#[test]
fn l09_running_out_of_descriptors_is_waited_out() {
    let _limit = limit(here!());
    let place = Place::new();
    let mut actor = Actor::start("out of descriptors", &[place.name()]);
    assert_eq!(actor.says(), "done");
}

/// Takes every descriptor that this process may still have.
pub(crate) fn hoard_descriptors() -> Vec<File> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(64);
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    hoard
}

/// The parts that only Unix has, in processes of their own: nobody else's descriptors are to run out.
pub(crate) fn platform_part(part: &str, args: &[&str]) {
    match (part, args) {
        ("out of descriptors", [name]) => out_of_descriptors(name),
        _ => panic!("there is no part {part:?} with {args:?}"),
    }
}

fn out_of_descriptors(name: &str) {
    let listener = LocalListener::bind(name).unwrap();
    for stop in [false, true] {
        // One client waits already, and the next cannot even begin.
        let waiting = LocalStream::connect(name).unwrap();
        let hoard = hoard_descriptors();
        promptly("failing", || LocalStream::connect(name).unwrap_err());
        // The one that waits cannot be accepted either, and that is waited out.
        assert_times_out("accepting without descriptors", |deadline| {
            listener.accept(deadline)
        });
        assert_eq!(kind(listener.accept(Deadline::NOW)), ErrorKind::TimedOut);
        thread::scope(|scope| {
            let accepting = scope.spawn(|| listener.accept(Deadline::NEVER));
            thread::sleep(A_MOMENT);
            assert!(!accepting.is_finished());
            if stop {
                promptly("stopping", || listener.stop());
                assert_eq!(ours(accepting.join().unwrap()), Error::Stopped);
            } else {
                drop(hoard);
                assert_works(&waiting, &accepting.join().unwrap().unwrap());
            }
        });
    }
    announce("done");
}
