//! L1 to L11: creating an endpoint, listening, and stopping.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use pipetalk::{ConnectOptions, Deadline, Error, ListenOptions, Listener, Stream};

use crate::harness::*;
use util::{Actor, allow_many_descriptors, skipped_under_wine};

pub(crate) fn l01_a_name_in_use_is_addr_in_use<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    if skipped_under_wine("L1", "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored") {
        return;
    }
    for _ in 0..3 {
        assert_eq!(kind(T::bind(place.name())), ErrorKind::AddrInUse);
    }
    // Who tried has done the one who listens no harm.
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    assert_works(&client, &server);
    assert_eq!(kind(T::bind(place.name())), ErrorKind::AddrInUse);
}

pub(crate) fn l01_a_name_in_use_by_another_process_is_addr_in_use<T: Named>() {
    let place = Place::new();
    let mut other = Actor::start("listen", &[place.name()]);
    assert_eq!(other.says(), "listening");
    if skipped_under_wine("L1", "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored") {
        return;
    }
    assert_eq!(kind(T::bind(place.name())), ErrorKind::AddrInUse);
    let client = T::connect(place.name()).unwrap();
    assert_eq!(recv(&client).as_deref(), Some(b"welcome".as_slice()));
}

pub(crate) fn l02_the_name_of_a_crashed_process_is_taken_over<T: Named>() {
    let place = Place::new();
    let mut other = Actor::start("listen", &[place.name()]);
    assert_eq!(other.says(), "listening");
    other.kill();
    assert_eq!(kind(T::connect(place.name())), ErrorKind::NotFound);
    let listener = T::bind(place.name()).unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    assert_works(&client, &server);
}

pub(crate) fn l02_a_name_that_was_given_back_is_free<T: Named>() {
    let place = Place::new();
    for round in 0..rounds(100) {
        let listener = T::bind(place.name()).unwrap();
        let client = T::connect(place.name()).unwrap();
        let server = listener.accept(soon()).unwrap();
        assert_works(&client, &server);
        drop((client, server));
        if round % 2 == 0 {
            listener.stop();
            listener.stop();
        }
    }
}

pub(crate) fn l05_a_dial_after_an_accept_never_meets_a_gap<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    let mut streams = Vec::new();
    for round in 0..rounds(3_000) {
        let client = match dialer.dial(Deadline::NOW) {
            Ok(client) => client,
            Err(error) => panic!("round {round}: {error}"),
        };
        streams.push((client, listener.accept(soon()).unwrap()));
        if streams.len() > 10 {
            streams.clear();
        }
    }
}

pub(crate) fn l05_dials_at_once_never_meet_a_gap<T: Transport>() {
    const DIALERS: u32 = 4;
    let each = rounds(1_000);
    let (listener, dialer) = T::listen(&Setup::default());
    let mut rng = Rng::new();
    thread::scope(|scope| {
        for _ in 0..DIALERS {
            let (dialer, mut rng) = (dialer.clone(), rng.fork());
            scope.spawn(move || {
                for _ in 0..each {
                    // Anything but a connection, `NotFound` above all, is a gap.
                    let client = dialer.dial(soon()).unwrap();
                    send(&client, b"x");
                    rng.shake();
                }
            });
        }
        for _ in 0..DIALERS * each {
            let server = listener.accept(soon()).unwrap();
            rng.shake();
            assert_eq!(recv(&server).as_deref(), Some(b"x".as_slice()));
        }
    });
}

pub(crate) fn l06_there_is_no_limit_unless_one_is_set<T: Transport>() {
    allow_many_descriptors();
    let (listener, dialer) = T::listen(&Setup::default());
    // More than the 255 that would be a limit if it were not the word for none.
    let streams: Vec<_> = (0..300).map(|_| connect::<T>(&listener, &dialer)).collect();
    for (client, server) in &streams {
        assert_works(client, server);
    }
}

pub(crate) fn l06_the_dial_over_the_limit_is_busy<T: Transport>() {
    let setup = Setup {
        instances: Some(2),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let first = connect::<T>(&listener, &dialer);
    let second = connect::<T>(&listener, &dialer);
    if T::LIMIT_IS_BUSY {
        assert_eq!(ours(dialer.dial(Deadline::NOW)), Error::Busy);
        assert_eq!(ours(dialer.dial(Deadline::NOW)), Error::Busy);
    }
    assert_works(&first.0, &first.1);
    assert_works(&second.0, &second.1);
    drop(first);
    let third = connect::<T>(&listener, &dialer);
    assert_works(&third.0, &third.1);
    assert_works(&second.0, &second.1);
    if T::LIMIT_IS_BUSY {
        assert_eq!(ours(dialer.dial(Deadline::NOW)), Error::Busy);
    }
}

pub(crate) fn l06_the_limit_holds_and_serves_everybody_in_the_end<T: Transport>() {
    const LIMIT: usize = 3;
    const CLIENTS: u32 = 8;
    let open = &AtomicUsize::new(0);
    let each = rounds(60);
    let setup = Setup {
        instances: Some(LIMIT),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let mut rng = Rng::new();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (dialer, mut rng) = (dialer.clone(), rng.fork());
            scope.spawn(move || {
                for _ in 0..each {
                    let client = dialer.dial(soon()).unwrap();
                    send(&client, b"x");
                    rng.shake();
                    assert_eq!(recv(&client).as_deref(), Some(b"y".as_slice()));
                }
            });
        }
        for _ in 0..CLIENTS * each {
            let server = listener.accept(soon()).unwrap();
            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(now <= LIMIT, "{now} are open");
            let mut rng = rng.fork();
            scope.spawn(move || {
                assert_eq!(recv(&server).as_deref(), Some(b"x".as_slice()));
                send(&server, b"y");
                rng.shake();
                open.fetch_sub(1, Ordering::SeqCst);
                if rng.one_in(2) {
                    server.close();
                }
            });
        }
    });
}

pub(crate) fn l07_a_dialer_that_leaves_before_accept_is_accepted_and_read<T: Transport>() {
    let dials = rounds(5_000) as usize;
    let (listener, dialer) = T::listen(&Setup::default());
    let mut rng = Rng::new();
    // How far the dialer may be ahead: less than any system's backlog.
    let (ahead, accepted) = mpsc::sync_channel(50);
    thread::scope(|scope| {
        let mut dialer_rng = rng.fork();
        scope.spawn(move || {
            for dial in 0..dials {
                ahead.send(()).unwrap();
                let client = dialer.dial(soon()).unwrap();
                dialer_rng.shake();
                for part in 0..dial % 4 {
                    send(&client, format!("{dial} {part}").as_bytes());
                    dialer_rng.shake();
                }
            }
        });
        // Gone with this thread if it panics, so that the dialer does not wait for it for ever.
        let accepted = accepted;
        let mut parts_of = BTreeMap::new();
        for _ in 0..dials {
            rng.shake();
            let server = listener.accept(soon()).unwrap();
            accepted.recv().unwrap();
            rng.shake();
            let mut parts = 0;
            while let Some(message) = recv(&server) {
                let text = String::from_utf8(message).unwrap();
                let (dial, part) = text.split_once(' ').unwrap();
                assert_eq!(part, parts.to_string(), "of dial {dial}");
                parts += 1;
                parts_of.insert(dial.parse::<usize>().unwrap(), parts);
            }
        }
        for dial in 0..dials {
            let parts = parts_of.get(&dial).copied().unwrap_or_default();
            assert_eq!(parts, dial % 4, "of dial {dial}");
        }
        // And nobody is handed out who did not come.
        assert_eq!(kind(listener.accept(Deadline::NOW)), ErrorKind::TimedOut);
    });
}

/// Asserts that a dial failed because nobody listens any more; streams of the old listener may still be open.
fn assert_gone<T: Transport>(error: &io::Error, streams: bool) {
    match error.kind() {
        ErrorKind::NotFound => {}
        ErrorKind::ResourceBusy | ErrorKind::TimedOut if streams && T::STREAMS_KEEP_THE_NAME => {}
        _ => panic!("{error:?}"),
    }
}

pub(crate) fn l08_stopping_wakes_accept_and_swallows_no_later_client<T: Transport>() {
    let mut rng = Rng::new();
    for round in 0..rounds_or(2_000, 1_000) {
        let (listener, dialer) = T::listen(&Setup::default());
        let listener = Arc::new(listener);
        let clients = round % 3;
        thread::scope(|scope| {
            let acceptors: Vec<_> = (0..1 + round % 2)
                .map(|_| {
                    let (listener, mut rng) = (Arc::clone(&listener), rng.fork());
                    scope.spawn(move || {
                        rng.shake();
                        let mut accepted = 0;
                        for stream in listener.incoming() {
                            drop(stream.unwrap());
                            accepted += 1;
                        }
                        accepted
                    })
                })
                .collect();
            let dialers: Vec<_> = (0..clients)
                .map(|_| {
                    let (dialer, mut rng) = (dialer.clone(), rng.fork());
                    scope.spawn(move || {
                        rng.shake();
                        match dialer.dial(Deadline::after(A_MOMENT)) {
                            // Served, or turned away at the door: either way it is told.
                            Ok(client) => {
                                let ended = client.recv(&mut [0; 8], soon());
                                assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
                                if let Err(error) = ended {
                                    assert_ne!(error.kind(), ErrorKind::TimedOut);
                                }
                            }
                            Err(error) => assert_gone::<T>(&error, true),
                        }
                    })
                })
                .collect();
            rng.shake();
            promptly("stopping", || listener.stop());
            assert_gone::<T>(&dialer.dial(Deadline::NOW).unwrap_err(), clients > 0);
            assert_eq!(ours(listener.accept(Deadline::NEVER)), Error::Stopped);
            let accepted: u32 = acceptors.into_iter().map(|a| a.join().unwrap()).sum();
            assert!(accepted <= clients, "{accepted} accepted of {clients}");
            dialers
                .into_iter()
                .for_each(|dialer| dialer.join().unwrap());
        });
        assert_eq!(kind(dialer.dial(Deadline::NOW)), ErrorKind::NotFound);
    }
}

pub(crate) fn l08_the_next_listener_at_the_name_gets_the_later_client<T: Named>() {
    let mut rng = Rng::new();
    let place = Place::new();
    for _ in 0..rounds(1_000) {
        let old = T::bind(place.name()).unwrap();
        thread::scope(|scope| {
            let mut acceptor_rng = rng.fork();
            let old = &old;
            let acceptor = scope.spawn(move || {
                acceptor_rng.shake();
                old.accept(Deadline::NEVER).map(drop)
            });
            rng.shake();
            old.stop();
            let new = T::bind(place.name()).unwrap();
            let client = T::connect(place.name()).unwrap();
            let server = new.accept(soon()).unwrap();
            assert_works(&client, &server);
            assert_eq!(ours(acceptor.join().unwrap()), Error::Stopped);
        });
    }
}

pub(crate) fn l08_streams_that_were_accepted_go_on<T: Transport>() {
    let Pair {
        client,
        server,
        listener,
        dialer,
    } = pair::<T>();
    listener.stop();
    assert_gone::<T>(&dialer.dial(Deadline::NOW).unwrap_err(), true);
    assert_works(&client, &server);
    assert!(listener.incoming().next().is_none());
    drop(listener);
    assert_works(&client, &server);
    drop((client, server));
    assert_eq!(kind(dialer.dial(Deadline::NOW)), ErrorKind::NotFound);
}

pub(crate) fn l08_dropping_a_listener_stops_it<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    drop(listener);
    assert_eq!(kind(dialer.dial(Deadline::NOW)), ErrorKind::NotFound);
}

/// The platforms' own ways are in `unix/descriptors.rs` and `windows.rs`; this is the one that all share.
pub(crate) fn l09_running_out_of_instances_does_not_end_the_accept_loop<T: Transport>() {
    let setup = Setup {
        instances: Some(1),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let acceptor = scope.spawn(|| {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                while let Some(message) = recv(&stream) {
                    send(&stream, &message);
                }
            }
            assert!(stopped.load(Ordering::SeqCst), "the loop ended by itself");
        });
        for _ in 0..rounds(200) {
            let client = dialer.dial(soon()).unwrap();
            send(&client, b"to and fro");
            assert_eq!(recv(&client).as_deref(), Some(b"to and fro".as_slice()));
        }
        stopped.store(true, Ordering::SeqCst);
        listener.stop();
        acceptor.join().unwrap();
    });
}

pub(crate) fn l10_a_child_process_inherits_nothing<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    // A child that is started with pipes inherits what can be inherited, on Windows as well.
    let mut child = Actor::start("idle", &[]);
    assert_eq!(child.says(), "idle");
    drop(client);
    assert_ended(&server);
    drop((server, listener));
    // Nothing in the child keeps the name alive.
    assert_eq!(
        kind(T::connect_with(
            &ConnectOptions::new(),
            place.name(),
            Deadline::NOW
        )),
        ErrorKind::NotFound
    );
    let listener = T::bind(place.name()).unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    assert_works(&client, &server);
    child.release();
}

/// A listener may be told what it makes no use of here, as long as that is harmless.
pub(crate) fn l06_options_that_cannot_be_are_refused<T: Named>() {
    let place = Place::new();
    let none = T::bind_with(&ListenOptions::new().instances(0), place.name());
    assert_eq!(kind(none), ErrorKind::InvalidInput);
    let huge = T::bind_with(
        &ListenOptions::new().max_message(pipetalk::MAX_MESSAGE + 1),
        place.name(),
    );
    assert_eq!(kind(huge), ErrorKind::InvalidInput);
    let huge = T::connect_with(
        &ConnectOptions::new().max_message(usize::MAX),
        place.name(),
        Deadline::NOW,
    );
    assert_eq!(kind(huge), ErrorKind::InvalidInput);
    let listener = T::bind_with(
        &ListenOptions::new()
            .instances(3)
            .backlog(7)
            .buffer_size(100_000)
            .max_message(0)
            .write_through(true),
        place.name(),
    )
    .unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    send(&client, b"");
    assert_eq!(recv(&server).as_deref(), Some(b"".as_slice()));
    send(&client, b"1");
    let too_large = server.recv_message(&mut Vec::new(), soon());
    assert_eq!(ours(too_large), Error::TooLarge { limit: 0, size: 1 });
}
