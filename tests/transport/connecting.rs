//! C1 to C6: finding a server, and waiting for one.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{ConnectOptions, Deadline, Error, Listener, Stream};

use crate::harness::*;
use util::skip;

pub(crate) fn c01_nobody_listens_is_not_found_at_once<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    drop(listener);
    for deadline in [Deadline::NOW, soon(), Deadline::NEVER] {
        let dialed = promptly("finding nobody", || dialer.dial(deadline));
        assert_eq!(kind(dialed), ErrorKind::NotFound);
    }
}

pub(crate) fn c01_a_name_that_never_was_is_not_found<T: Named>() {
    let place = Place::new();
    let dialed = promptly("finding nobody", || T::connect(place.name()));
    let error = dialed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nobody listens"), "{error}");
}

pub(crate) fn c02_all_busy_is_waited_for_until_the_deadline<T: Transport>() {
    if !T::LIMIT_IS_BUSY {
        return skip(
            "C2",
            "this system does not tell a client that a listener is busy",
        );
    }
    let setup = Setup {
        instances: Some(1),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let (client, server) = connect::<T>(&listener, &dialer);
    assert_times_out("dialing a busy listener", |deadline| dialer.dial(deadline));
    let busy = promptly("not waiting", || dialer.dial(Deadline::NOW));
    assert_eq!(ours(busy), Error::Busy);
    // A deadline that has passed is one that expired, unless it is the word for not waiting.
    let late = dialer.dial(Deadline::at(Instant::now()));
    assert!(matches!(
        kind(late),
        ErrorKind::TimedOut | ErrorKind::ResourceBusy
    ));
    assert_works(&client, &server);
}

pub(crate) fn c02_a_busy_server_is_reached_once_it_has_room<T: Transport>() {
    let setup = Setup {
        instances: Some(1),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let mut rng = Rng::new();
    for round in 0..rounds(300) {
        let (client, server) = connect::<T>(&listener, &dialer);
        thread::scope(|scope| {
            let mut waiting_rng = rng.fork();
            let dialer = &dialer;
            let waiting = scope.spawn(move || {
                waiting_rng.shake();
                dialer.dial(soon()).unwrap()
            });
            rng.shake();
            if round % 2 == 0 {
                drop((client, server));
            } else {
                server.close();
            }
            let server = listener.accept(soon()).unwrap();
            assert_works(&waiting.join().unwrap(), &server);
        });
    }
}

pub(crate) fn c03_a_server_that_is_still_starting_is_waited_for<T: Named>() {
    let mut rng = Rng::new();
    for round in 0..rounds(60) {
        let place = Place::new();
        thread::scope(|scope| {
            let dialing = scope.spawn(|| {
                let patient = ConnectOptions::new().wait_for_server(true);
                let client = T::connect_with(&patient, place.name(), soon()).unwrap();
                send(&client, b"at last");
            });
            rng.shake();
            if round % 8 == 0 {
                // Long enough for the dialer to have found nobody several times.
                thread::sleep(Duration::from_millis(30));
            }
            let listener = T::bind(place.name()).unwrap();
            let server = listener.accept(soon()).unwrap();
            assert_eq!(recv(&server).as_deref(), Some(b"at last".as_slice()));
            dialing.join().unwrap();
        });
    }
}

pub(crate) fn c03_a_server_that_does_not_start_is_waited_for_until_the_deadline<T: Named>() {
    let place = Place::new();
    let patient = ConnectOptions::new().wait_for_server(true);
    assert_times_out("waiting for a server", |deadline| {
        T::connect_with(&patient, place.name(), deadline)
    });
    let dialed = promptly("not waiting", || {
        T::connect_with(&patient, place.name(), Deadline::NOW)
    });
    assert!(matches!(
        kind(dialed),
        ErrorKind::TimedOut | ErrorKind::NotFound
    ));
}

pub(crate) fn c04_a_thousand_connects_and_closes<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    thread::scope(|scope| {
        let listener = &listener;
        scope.spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if let Some(message) = recv(&stream) {
                    send(&stream, &message);
                }
            }
        });
        for n in 0..1_000 {
            let client = dialer.dial(soon()).unwrap();
            if n % 2 == 0 {
                send(&client, b"hello");
                assert_eq!(recv(&client).as_deref(), Some(b"hello".as_slice()));
            }
            client.close();
        }
        listener.stop();
    });
}
