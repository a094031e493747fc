//! Who may connect, and to whom: the mode of the socket, and the user at its other end.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pipetalk::{
    Access, ConnectOptions, ListenOptions, Listener, LocalListener, LocalStream, Stream, Trust,
    UserId,
};

use super::{assert_listens, mode};
use crate::harness::*;
use util::{Actor, PortableName, STRANGER, Stranger, here, limit, skip};

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
