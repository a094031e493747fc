//! Peers in other namespaces: of processes, where they have other ids or none, and of users, where others have no number.

use std::env;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Command;

use pipetalk::{ConnectOptions, Deadline, Listener, Stream, Trust, UserId};

use crate::harness::*;
use util::{Actor, PortableName, announce, skip, wait_for_release};

/// Starts the test binary in namespaces of its own; `None`, and a line that says so, where that cannot be.
fn apart(item: &str, args: &[&str]) -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(args);
        command
    };
    let tried = unshare().arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        skip(
            item,
            &format!("needs unshare({}), and leave to", args.join(" ")),
        );
        return None;
    }
    let mut command = unshare();
    command.arg(env::current_exe().unwrap());
    Some(command)
}

const OTHER_PROCESSES: [&str; 3] = ["--pid", "--fork", "--kill-child"];

const OTHER_USERS: [&str; 1] = ["--user"];

fn me() -> Option<UserId> {
    Some(UserId::current().unwrap())
}

pub(crate) fn i01_a_server_without_a_process_id_is_known_by_its_user<T: Named>() {
    let place = Place::new();
    let Some(command) = apart("I1", &OTHER_PROCESSES) else {
        return;
    };
    let listener = T::bind(place.name()).unwrap();
    let mut client = Actor::start_with(command, "who serves", &[T::WORD, place.name()]);
    let stream = listener.accept(soon()).unwrap();
    let peer = stream.peer().unwrap();
    assert!(peer.pid.is_some());
    assert_eq!(peer.user, me());
    assert_eq!(client.says(), format!("{:?} {:?}", None::<u32>, me()));
    send(&stream, b"welcome");
    assert_eq!(client.says(), "welcome");
}

/// The part of a client that connects to whom it trusts by default.
pub(super) fn who_serves<T: Named>(name: &str) {
    match T::connect(name) {
        Ok(stream) => {
            let peer = stream.peer().unwrap();
            announce(&format!("{:?} {:?}", peer.pid, peer.user));
            announce(&String::from_utf8(recv(&stream).unwrap()).unwrap());
        }
        Err(error) => announce(&format!("{:?}", error.kind())),
    }
}

pub(crate) fn i01_a_client_without_a_process_id_is_known_by_its_user<T: Named>() {
    let place = Place::new();
    let Some(command) = apart("I1", &OTHER_PROCESSES) else {
        return;
    };
    let mut server = Actor::start_with(command, "who comes", &[T::WORD, place.name()]);
    assert_eq!(server.says(), "listening");
    let stream = T::connect(place.name()).unwrap();
    assert!(stream.peer().unwrap().pid.is_some());
    server.release();
    assert_eq!(server.says(), format!("{:?} {:?}", None::<u32>, me()));
    assert_eq!(recv(&stream).as_deref(), Some(b"welcome".as_slice()));
}

/// The part of a server that takes clients of its own user.
pub(super) fn who_comes<T: Named>(name: &str) {
    let listener = T::bind(name).unwrap();
    announce("listening");
    wait_for_release();
    match listener.accept(Deadline::after(A_MOMENT)) {
        Ok(stream) => {
            let peer = stream.peer().unwrap();
            announce(&format!("{:?} {:?}", peer.pid, peer.user));
            send(&stream, b"welcome");
        }
        Err(error) => announce(&format!("{:?}", error.kind())),
    }
}

/// All users without a number look alike there, this one's own included.
pub(crate) fn i03_a_server_whose_user_has_no_number_is_not_trusted<T: Named>() {
    let name = format!("@{}", &*PortableName::new());
    let Some(command) = apart("I3", &OTHER_USERS) else {
        return;
    };
    let listener = T::bind(&name).unwrap();
    let mut client = Actor::start_with(command, "who serves", &[T::WORD, &name]);
    assert_eq!(client.says(), format!("{:?}", ErrorKind::PermissionDenied));
    drop(listener);
}

pub(crate) fn i06_a_client_whose_user_has_no_number_is_not_let_in<T: Named>() {
    let name = format!("@{}", &*PortableName::new());
    let Some(command) = apart("I6", &OTHER_USERS) else {
        return;
    };
    let mut server = Actor::start_with(command, "who comes", &[T::WORD, &name]);
    assert_eq!(server.says(), "listening");
    let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let client = UnixStream::connect_addr(&address).unwrap();
    server.release();
    assert_eq!(server.says(), format!("{:?}", ErrorKind::TimedOut));
    drop(client);
}

pub(crate) fn i03_whoever_trusts_anyone_is_told_no_user_where_it_has_no_number<T: Named>() {
    let name = format!("@{}", &*PortableName::new());
    let Some(command) = apart("I3", &OTHER_USERS) else {
        return;
    };
    let _listener = T::bind(&name).unwrap();
    let mut client = Actor::start_with(command, "who is anyone", &[T::WORD, &name]);
    assert_eq!(client.says(), "None");
}

/// The part of [`i03_whoever_trusts_anyone_is_told_no_user_where_it_has_no_number`].
pub(super) fn who_is_anyone<T: Named>(name: &str) {
    let trusting = ConnectOptions::new().trust(Trust::Anyone);
    let stream = T::connect_with(&trusting, name, soon()).unwrap();
    announce(&format!("{:?}", stream.peer().unwrap().user));
}
