//! Many at once: connected and silent, or never accepted.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use pipetalk::{ConnectOptions, Deadline, ListenOptions, Listener, Stream};

use crate::messages::town::{Kind, Town, assert_ended, recv};
use util::{Place, allow_many_descriptors, promptly, soon};

pub(crate) fn many_that_connect_and_say_nothing_hold_nobody_up<K: Kind>() {
    allow_many_descriptors();
    let town = Town::<K>::new();
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut raw = UnixStream::connect(town.place.path()).unwrap();
        match n % 4 {
            0 => {}
            1 => raw.write_all(b"\x05\0").unwrap(),
            2 => raw.write_all(&u32::MAX.to_le_bytes()).unwrap(),
            _ => drop(raw.shutdown(Shutdown::Both)),
        }
        silent.push((raw, town.listener.accept(soon()).unwrap()));
        if n % 50 == 0 {
            town.assert_unharmed();
        }
    }
    promptly("closing them all", || drop(silent));
    town.assert_unharmed();
}

pub(crate) fn a_listener_is_not_its_clients_hostage<K: Kind>() {
    // Clients that fill the backlog and never come: whoever comes then is told, and can come later.
    let place = Place::new();
    let listener = K::bind(&ListenOptions::new().backlog(4), place.name()).unwrap();
    let mut waiting = Vec::new();
    while waiting.len() < 1_000 {
        match K::connect(&ConnectOptions::new(), place.name(), Deadline::NOW) {
            Ok(client) => waiting.push(client),
            Err(error) => {
                assert!(matches!(
                    error.kind(),
                    ErrorKind::ResourceBusy | ErrorKind::NotFound
                ));
                break;
            }
        }
    }
    let count = waiting.len();
    assert!(count < 1_000, "the backlog has no end");
    drop(waiting);
    for _ in 0..count {
        let stream = listener.accept(soon()).unwrap();
        assert_ended(&stream);
    }
    let client = K::connect(&ConnectOptions::new(), place.name(), soon()).unwrap();
    let server = listener.accept(soon()).unwrap();
    client.send(b"at last", soon()).unwrap();
    assert_eq!(recv(&server).unwrap(), b"at last");
}
