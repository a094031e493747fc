//! I1, I3 to I5: who is at the other end, and who may be.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

use pipetalk::{ConnectOptions, Deadline, ListenOptions, Listener, Peer, Stream, Trust, UserId};

use crate::harness::*;
use util::{Actor, PEER_HAS_PID, skipped_under_wine};

fn assert_is_this_process(peer: &Peer) {
    if PEER_HAS_PID {
        assert_eq!(peer.pid, Some(process::id()));
    }
    if !skipped_under_wine("I1", "the user of a client's token is Wine's own") {
        assert_eq!(peer.user, Some(UserId::current().unwrap()));
    }
}

pub(crate) fn i01_both_ends_know_the_others_process_and_user<T: Transport>() {
    let Pair { client, server, .. } = pair::<T>();
    // On Windows a client is known to the server once something of it has been read.
    send(&client, b"who am I?");
    assert_eq!(recv(&server).unwrap(), b"who am I?");
    assert_is_this_process(&server.peer().unwrap());
    assert_is_this_process(&client.peer().unwrap());
}

pub(crate) fn i01_another_process_is_known_by_its_id<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut child = Actor::start("greet", &[place.name()]);
    let stream = listener.accept(soon()).unwrap();
    assert_eq!(recv(&stream).unwrap(), b"hello");
    let peer = stream.peer().unwrap();
    send(&stream, b"you");
    assert_eq!(child.says(), "reply you");
    if PEER_HAS_PID {
        assert_eq!(peer.pid, Some(child.id()));
    }
    child.release();

    let place = Place::new();
    let mut child = Actor::start("listen", &[place.name()]);
    assert_eq!(child.says(), "listening");
    let client = T::connect(place.name()).unwrap();
    assert_eq!(recv(&client).unwrap(), b"welcome");
    if PEER_HAS_PID {
        assert_eq!(client.peer().unwrap().pid, Some(child.id()));
    }
}

pub(crate) fn i03_a_client_talks_to_whom_it_trusts<T: Named>() {
    let me = UserId::current().unwrap();
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    for trust in [Trust::default(), Trust::User(me), Trust::Anyone] {
        let options = ConnectOptions::new().trust(trust.clone());
        let client = match T::connect_with(&options, place.name(), soon()) {
            Ok(client) => client,
            Err(error) => panic!("{trust:?}: {error}"),
        };
        assert_works(&client, &listener.accept(soon()).unwrap());
    }
}

pub(crate) fn i03_a_server_of_another_user_is_not_trusted<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    for stranger in [
        UserId::Uid(54_321),
        UserId::Sid("S-1-5-21-1-2-3-1001".into()),
    ] {
        let error = T::connect_with(
            &ConnectOptions::new().trust(Trust::User(stranger)),
            place.name(),
            soon(),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("trust"), "{error}");
        // It left before it said anything.
        let stream = listener.accept(soon()).unwrap();
        assert_ended(&stream);
    }
}

pub(crate) fn i04_a_stopped_listener_shows_no_access<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    assert!(!T::access(&listener).unwrap().is_empty());
    listener.stop();
    assert_eq!(kind(T::access(&listener)), ErrorKind::ConnectionAborted);
}

/// Where impersonation is not possible, what was to be done as the client is not done.
pub(crate) fn i05_a_failed_impersonation_never_runs_the_closure<T: Named>() {
    let place = Place::new();
    let listener = T::bind_with(&ListenOptions::new(), place.name()).unwrap();
    let options = ConnectOptions::new().allow_impersonation(true);
    let client = T::connect_with(&options, place.name(), Deadline::NEVER).unwrap();
    let server = listener.accept(soon()).unwrap();
    send(&client, b"hello");
    assert_eq!(recv(&server).unwrap(), b"hello");
    // A client cannot act as the server anywhere.
    let mut ran = false;
    let refused = T::impersonate(&client, || ran = true);
    assert_eq!(kind(refused), ErrorKind::Unsupported);
    assert!(!ran);
    // And a server as its client only on Windows; either the closure ran, or there was an error.
    let me = UserId::current().unwrap();
    let result = T::impersonate(&server, || ran = true);
    assert_eq!(result.is_ok(), ran, "{result:?}");
    assert_eq!(UserId::current().unwrap(), me);
    // A panic in it does not leave this thread as somebody else.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = T::impersonate(&server, || {
            std::panic::resume_unwind(Box::new("as the client"))
        });
    }));
    assert_eq!(panicked.is_err(), ran);
    assert_eq!(UserId::current().unwrap(), me);
}
