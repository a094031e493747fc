//! What only Linux has or shows.

pub(crate) mod failing;
pub(crate) mod forks;
pub(crate) mod lingering;
pub(crate) mod namespaces;
pub(crate) mod signals;
mod swaps;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use pipetalk::{
    Access, ConnectOptions, Deadline, Error, ListenOptions, Listener, LocalListener, LocalStream,
    Stream, UserId,
};

use crate::harness::*;
#[cfg(feature = "tokio")]
use crate::on_tokio::AsyncLocal;
use crate::unix::descriptors::hoard_descriptors;
use util::{Actor, PortableName, STRANGER, Stranger, announce, here, limit};

/// Fills the backlog of a listener that does not accept; the clients that got into it.
fn fill_backlog<S>(dial: impl Fn() -> std::io::Result<S>) -> Vec<S> {
    let mut waiting = Vec::new();
    let busy = loop {
        match dial() {
            Ok(client) => waiting.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(Error::of(&busy), Some(&Error::Busy), "{busy:?}");
    waiting
}

pub(crate) fn c02_a_full_backlog_is_busy_and_never_success<T: Named>() {
    let place = Place::new();
    let listener = T::bind_with(&ListenOptions::new().backlog(3), place.name()).unwrap();
    let dial = || T::connect_with(&ConnectOptions::new(), place.name(), Deadline::NOW);
    let waiting = fill_backlog(dial);
    assert!(
        (3..=4).contains(&waiting.len()),
        "{} in a backlog of 3",
        waiting.len()
    );
    assert_times_out("dialing past a full backlog", |deadline| {
        T::connect_with(&ConnectOptions::new(), place.name(), deadline)
    });
    // Whoever was told that it is connected is.
    for (n, client) in waiting.iter().enumerate() {
        send(client, &content(n, 100));
    }
    for (n, client) in waiting.iter().enumerate() {
        let server = listener.accept(soon()).unwrap();
        assert_eq!(recv(&server).unwrap(), content(n, 100));
        send(&server, b"served");
        assert_eq!(recv(client).unwrap(), b"served");
    }
    assert_eq!(kind(listener.accept(Deadline::NOW)), ErrorKind::TimedOut);
}

pub(crate) fn c02_a_full_backlog_is_waited_for<T: Named>() {
    let place = Place::new();
    let listener = T::bind_with(&ListenOptions::new().backlog(1), place.name()).unwrap();
    let waiting =
        fill_backlog(|| T::connect_with(&ConnectOptions::new(), place.name(), Deadline::NOW));
    thread::scope(|scope| {
        let dialing: Vec<_> = [soon(), Deadline::NEVER]
            .map(|deadline| {
                let name = place.name();
                scope
                    .spawn(move || T::connect_with(&ConnectOptions::new(), name, deadline).unwrap())
            })
            .into();
        let accepted: Vec<_> = (0..waiting.len() + 2)
            .map(|_| listener.accept(soon()).unwrap())
            .collect();
        for dialing in dialing {
            send(&dialing.join().unwrap(), b"made it");
        }
        let mut made_it = 0;
        drop(waiting);
        for server in accepted {
            made_it += usize::from(recv(&server).is_some());
        }
        assert_eq!(made_it, 2);
    });
}

pub(crate) fn c04_a_thousand_connects_leave_no_descriptor_behind<T: Named>() {
    let place = Place::new();
    let mut actor = Actor::start("count descriptors", &[T::WORD, place.name()]);
    assert_eq!(actor.says(), "as many as before");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The part of [`c04_a_thousand_connects_leave_no_descriptor_behind`].
pub(crate) fn count_descriptors<T: Named>(name: &str) {
    // Whatever is kept for all times.
    drop(T::bind(name).unwrap());
    let before = descriptors();
    for round in 0..10 {
        let options = ListenOptions::new().instances(1 + round);
        let listener = T::bind_with(&options, name).unwrap();
        for n in 0..100 {
            let client = T::connect(name).unwrap();
            match n % 3 {
                0 => client.close(),
                1 => send(&client, b"x"),
                _ => {}
            }
            let server = listener.accept(soon()).unwrap();
            if n % 2 == 0 {
                server.close();
            }
        }
        // Both ways of not getting a connection.
        let refused = ConnectOptions::new().trust(pipetalk::Trust::User(UserId::Uid(54_321)));
        assert!(T::connect_with(&refused, name, soon()).is_err());
        listener.stop();
        T::connect(name).unwrap_err();
    }
    let after = descriptors();
    announce(&if after == before {
        "as many as before".to_owned()
    } else {
        format!("{before} before, {after} after")
    });
}

pub(crate) fn l09_waiting_for_descriptors_costs_no_processor_time<T: Named>() {
    let place = Place::new();
    let mut actor = Actor::start("wait for descriptors", &[T::WORD, place.name()]);
    assert_eq!(actor.says(), "done");
}

/// The part of [`l09_waiting_for_descriptors_costs_no_processor_time`].
pub(crate) fn wait_for_descriptors<T: Named>(name: &str) {
    let listener = T::bind(name).unwrap();
    let _waiting = T::connect(name).unwrap();
    let mut stat = File::open("/proc/thread-self/stat").unwrap();
    let _hoard = hoard_descriptors();
    let before = processor_time(&mut stat);
    let waited = listener.accept(Deadline::after(Duration::from_secs(1)));
    assert_eq!(kind(waited), ErrorKind::TimedOut);
    let used = processor_time(&mut stat) - before;
    assert!(used < 30, "{used} hundredths of a second of one second");
    announce("done");
}

/// The processor time of this thread, in hundredths of a second: proc(5).
fn processor_time(stat: &mut File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    // Behind the name, which may hold anything, come the fields from the third on; 14 and 15 are the times.
    let (_, rest) = text.rsplit_once(')').unwrap();
    let times = rest.split_whitespace().skip(14 - 3).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}

/// The parts that only Linux has, in processes of their own.
pub(crate) fn platform_part(part: &str, args: &[&str]) {
    match (part, args) {
        ("count descriptors", ["blocking", name]) => count_descriptors::<Local>(name),
        ("wait for descriptors", ["blocking", name]) => wait_for_descriptors::<Local>(name),
        ("fork and go on", ["blocking", how, name]) => forks::fork_and_go_on::<Local>(how, name),
        ("fork and leave", [name]) => forks::fork_and_leave(name),
        ("fork with a connection", [name]) => forks::fork_with_a_connection(name),
        ("fork and stop", [name]) => forks::fork_and_stop(name),
        #[cfg(feature = "tokio")]
        ("fork and go on", ["async", how, name]) => forks::fork_and_go_on::<AsyncLocal>(how, name),
        #[cfg(feature = "tokio")]
        ("count descriptors", ["async", name]) => count_descriptors::<AsyncLocal>(name),
        #[cfg(feature = "tokio")]
        ("wait for descriptors", ["async", name]) => wait_for_descriptors::<AsyncLocal>(name),
        ("send what lingers", [name]) => lingering::send_what_lingers(name),
        (part, ["blocking", name]) if driven_part::<Local>(part, name) => {}
        #[cfg(feature = "tokio")]
        (part, ["async", name]) if driven_part::<AsyncLocal>(part, name) => {}
        _ => crate::unix::platform_part(part, args),
    }
}

/// The parts that a driver plays at a name; false if it is none of these.
fn driven_part<T: Named>(part: &str, name: &str) -> bool {
    match part {
        "serve with few descriptors" => lingering::serve_with_few_descriptors::<T>(name),
        "who serves" => namespaces::who_serves::<T>(name),
        "who comes" => namespaces::who_comes::<T>(name),
        "who is anyone" => namespaces::who_is_anyone::<T>(name),
        "send past a failure" => failing::send_past_a_failure::<T>(name),
        "ask past a failure" => failing::ask_past_a_failure::<T>(name),
        "echo" => failing::echo::<T>(name),
        "wait under signals" => signals::wait_under_signals::<T>(name),
        _ => return false,
    }
    true
}

#[test]
fn l10_a_child_has_none_of_our_sockets() {
    let _limit = limit(here!());
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let client = LocalStream::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    let mut child = Actor::start("idle", &[]);
    assert_eq!(child.says(), "idle");
    let mut inherited = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(target) = fs::read_link(&path) {
            inherited.push((path, target));
        }
    }
    assert!(inherited.len() >= 3, "{inherited:?}");
    for (path, target) in &inherited {
        let target = target.to_string_lossy();
        let standard = ["0", "1", "2"].iter().any(|n| path.ends_with(n));
        let ours = target.starts_with("socket:") || target.ends_with(".lock");
        assert!(standard || !ours, "{path:?} is {target}");
    }
    assert_works(&client, &server);
}

#[test]
fn l02_who_holds_the_lock_is_told() {
    let _limit = limit(here!());
    let place = Place::new();
    let mut other = Actor::start("listen", &[place.name()]);
    assert_eq!(other.says(), "listening");
    let error = LocalListener::bind(place.name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.contains(&format!("{}.lock", place.name())), "{text}");
    // Some file systems have another number than the list of locks has.
    let listed = fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = fs::metadata(format!("{}.lock", place.name()))
        .unwrap()
        .ino();
    let device = fs::metadata(place.directory()).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if listed.contains(&format!(" {major:02x}:{minor:02x}:{inode} ")) {
        assert!(text.contains(&format!("process {}", other.id())), "{text}");
    }
}

fn is_pending(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let pending = status
        .lines()
        .find_map(|line| line.strip_prefix("SigPnd:"))
        .unwrap();
    let pending = u64::from_str_radix(pending.trim(), 16).unwrap();
    pending & (1 << (signal as u32 - 1)) != 0
}

#[test]
fn e03_no_signal_is_raised() {
    let _limit = limit(here!());
    let Pair { client, server, .. } = pair::<Local>();
    drop(server);
    thread::spawn(move || {
        // Rust programs ignore the signal; what is blocked as well stays to be seen.
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGPIPE);
        blocked.thread_block().unwrap();
        for size in [0, 10, 100_000] {
            let sent = client.send(&content(0, size), soon());
            assert_eq!(kind(sent), ErrorKind::BrokenPipe);
        }
        assert!(!is_pending(Signal::SIGPIPE));
        // This would have shown it.
        let (raw, peer) = UnixStream::pair().unwrap();
        drop(peer);
        rustix::net::send(&raw, b"x", rustix::net::SendFlags::empty()).unwrap_err();
        assert!(is_pending(Signal::SIGPIPE));
    })
    .join()
    .unwrap();
}

#[test]
fn i06_an_abstract_name_works_and_is_in_use() {
    let _limit = limit(here!());
    let name = format!("@{}", &*PortableName::new());
    assert_eq!(kind(LocalStream::connect(&name)), ErrorKind::NotFound);
    let listener = LocalListener::bind(&name).unwrap();
    assert_eq!(listener.name().to_string(), name);
    assert_eq!(kind(LocalListener::bind(&name)), ErrorKind::AddrInUse);
    let client = LocalStream::connect(&name).unwrap();
    assert_works(&client, &listener.accept(soon()).unwrap());
    assert!(!listener.access().unwrap().is_empty());
    listener.stop();
    assert_eq!(kind(LocalStream::connect(&name)), ErrorKind::NotFound);
    // A child that another test starts has all descriptors for the moment between fork and exec, and with them
    // the name, which goes with the last of them.
    until("the name is free", || LocalListener::bind(&name).is_ok());
    // It is the same to whoever knows it by another way.
    let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let mut foreign = None;
    until("the name is free again", || {
        foreign = UnixListener::bind_addr(&address).ok();
        foreign.is_some()
    });
    assert_eq!(kind(LocalListener::bind(&name)), ErrorKind::AddrInUse);
    let _client = LocalStream::connect(&name).unwrap();
    foreign.unwrap().accept().unwrap();
}

#[test]
fn i06_an_abstract_name_has_no_mode_and_no_group() {
    let _limit = limit(here!());
    let name = format!("@{}", &*PortableName::new());
    for access in [Access::Group("0".into()), Access::Mode(0o666)] {
        let bound = ListenOptions::new().access(access).bind(&name);
        assert_eq!(kind(bound), ErrorKind::Unsupported);
    }
    ListenOptions::new()
        .access(Access::Everyone)
        .bind(&name)
        .unwrap();
    let too_long = format!("@{}", "x".repeat(108));
    assert_eq!(
        kind(LocalListener::bind(&too_long)),
        ErrorKind::InvalidInput
    );
}

#[test]
fn i06_the_uid_of_an_abstract_names_peer_is_always_checked() {
    let _limit = limit(here!());
    let Some(stranger) = Stranger::new("I6") else {
        return;
    };
    // A stranger as the client.
    let name = format!("@{}", &*PortableName::new());
    let listener = LocalListener::bind(&name).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let stream = listener.accept(soon()).unwrap();
            assert_eq!(recv(&stream).unwrap(), b"hello");
            send(&stream, b"you");
        });
        let mut client = Actor::start_with(stranger.command(), "greet anyone", &[&name]);
        let said = client.says();
        assert!(matches!(&*said, "end" | "BrokenPipe"), "{said}");
        let mut client = Actor::start("greet", &[&name]);
        assert_eq!(client.says(), "reply you");
        accepting.join().unwrap();
    });
    // A stranger as the server.
    let name = format!("@{}", &*PortableName::new());
    let mut server = Actor::start_with(stranger.command(), "listen", &[&name]);
    assert_eq!(server.says(), "listening");
    assert_eq!(
        kind(LocalStream::connect(&name)),
        ErrorKind::PermissionDenied
    );
    // Who lets everyone in is told who it is.
    let name = format!("@{}", &*PortableName::new());
    let listener = ListenOptions::new()
        .access(Access::Everyone)
        .bind(&name)
        .unwrap();
    let mut client = Actor::start_with(stranger.command(), "greet", &[&name]);
    let stream = listener.accept(soon()).unwrap();
    assert_eq!(stream.peer().unwrap().user, Some(UserId::Uid(STRANGER)));
    send(&stream, b"you");
    assert_eq!(client.says(), "reply you");
}
