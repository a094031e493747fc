//! D1 to D4: both directions at once, deadlines, and closing under somebody who waits.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::thread;
use std::time::Duration;

use pipetalk::{Deadline, Error, Listener, Stream};

use crate::harness::*;

pub(crate) fn d01_a_blocked_receive_never_holds_up_a_send<T: Transport>() {
    let messages = rounds(5_000) as usize;
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            // Nothing comes back until all of it has gone.
            let receiving = scope.spawn(|| recv(&from));
            scope.spawn(|| {
                for n in 0..messages {
                    assert!(is_content(n, &recv(&to).unwrap()), "message {n}");
                }
                send(&to, b"all there");
            });
            for n in 0..messages {
                send(&from, &content(n, n % 300));
            }
            assert_eq!(receiving.join().unwrap().unwrap(), b"all there");
        });
    });
}

pub(crate) fn d01_a_blocked_send_never_holds_up_a_receive<T: Transport>() {
    let messages = rounds(2_000) as usize;
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            // Nobody takes this until the other direction is through.
            let sending = scope.spawn(|| send(&from, &content(1, HUGE)));
            scope.spawn(|| {
                for n in 0..messages {
                    send(&to, &content(n, n % 5_000));
                }
            });
            for n in 0..messages {
                assert!(is_content(n, &recv(&from).unwrap()), "message {n}");
            }
            assert!(!sending.is_finished());
            assert!(is_content(1, &recv(&to).unwrap()));
            sending.join().unwrap();
        });
    });
}

pub(crate) fn d01_both_ends_may_send_at_once_while_both_receive<T: Transport>() {
    let messages = rounds(30) as usize;
    let Pair { client, server, .. } = pair::<T>();
    thread::scope(|scope| {
        for (from, to) in [(&client, &server), (&server, &client)] {
            scope.spawn(move || (0..messages).for_each(|n| send(from, &content(n, 1 << 20))));
            scope.spawn(move || {
                for n in 0..messages {
                    assert!(is_content(n, &recv(to).unwrap()), "message {n}");
                }
            });
        }
    });
}

/// Each end has one thread, and sends more than the buffers hold before it receives anything: with plain sends
/// both would wait until the deadline.
pub(crate) fn d01_a_send_that_receives_meanwhile_is_never_waited_for_in_a_circle<T: Transport>() {
    const MESSAGES: usize = 20;
    both_ways::<T>(|receiving, plain| {
        thread::scope(|scope| {
            scope.spawn(move || {
                (0..MESSAGES).for_each(|n| send(&plain, &content(n, 1 << 20)));
                for n in 0..MESSAGES {
                    assert!(is_content(n, &recv(&plain).unwrap()), "message {n}");
                }
            });
            let received = Cell::new(0);
            let mut message = Vec::new();
            let mut take = |deadline| match receiving.recv_message(&mut message, deadline) {
                Ok(Some(_)) => {
                    assert!(
                        is_content(received.get(), &message),
                        "message {}",
                        received.get()
                    );
                    received.set(received.get() + 1);
                    true
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => false,
                // The other end has everything, and has closed, before this one knows that its send is done.
                Ok(None) if received.get() == MESSAGES => false,
                other => panic!("{other:?}"),
            };
            for n in 0..MESSAGES {
                receiving
                    .send_while_receiving(
                        &[IoSlice::new(&content(n, 1 << 20))],
                        soon(),
                        &mut || take(Deadline::NOW),
                    )
                    .unwrap();
            }
            while received.get() < MESSAGES {
                assert!(take(soon()), "message {} did not come", received.get());
            }
        });
    });
}

pub(crate) fn d01_a_send_that_receives_meanwhile_has_a_deadline<T: Transport>() {
    both_ways::<T>(|from, _to| {
        assert_times_out("send_while_receiving", |deadline| {
            let message = content(1, HUGE);
            let (head, tail) = message.split_at(5);
            let pieces = [head, tail].map(IoSlice::new);
            from.send_while_receiving(&pieces, deadline, &mut || false)
        });
    });
}

/// Sends what fits into no buffer, and calls `act` once while that waits.
fn call_back_once<S: Stream>(from: &S, act: &mut dyn FnMut()) -> io::Result<()> {
    let mut once = Some(act);
    // Something to receive, so that no transport has a reason to wait before it calls back.
    let received =
        from.send_while_receiving(&[IoSlice::new(&content(1, HUGE))], soon(), &mut || {
            if let Some(act) = once.take() {
                act();
            }
            false
        });
    assert!(once.is_none(), "it was not called back");
    received
}

/// The pipe is in use by the very thread that closes it.
pub(crate) fn d04_closing_within_a_send_that_calls_back_ends_it<T: Transport>() {
    for abort in [false, true] {
        both_ways::<T>(|from, to| {
            send(&to, b"something");
            let sent = call_back_once(&from, &mut || {
                if abort {
                    from.abort()
                } else {
                    from.close()
                }
                assert_eq!(ours(from.recv(&mut [0; 8], soon())), Error::Closed);
            });
            assert_eq!(ours(sent), Error::Closed);
            assert_eq!(ours(from.send(b"more", soon())), Error::Closed);
            // It is closed for the peer too, by now.
            let mut buf = vec![0; 1 << 20];
            loop {
                match to.recv(&mut buf, soon()) {
                    Ok(Some(part)) => assert!(!part.last),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
                        break;
                    }
                }
            }
            assert_ended(&to);
        });
    }
}

pub(crate) fn d04_a_pipe_that_was_closed_within_a_send_makes_room_for_another<T: Transport>() {
    let setup = Setup {
        instances: Some(1),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let (client, server) = connect::<T>(&listener, &dialer);
    send(&client, b"something");
    let sent = call_back_once(&server, &mut || server.close());
    assert_eq!(ours(sent), Error::Closed);
    drop(client);
    let (client, server) = connect::<T>(&listener, &dialer);
    assert_works(&client, &server);
}

/// No message begins in the middle of another; nobody waits for it either, since the send would wait for itself.
pub(crate) fn d01_a_send_within_a_send_that_calls_back_is_refused<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            send(&to, b"something");
            let refused = |sent: io::Result<()>| assert_eq!(ours(sent), Error::Busy);
            let to = &to;
            let sent = call_back_once(&from, &mut || {
                refused(from.send(b"another", Deadline::NEVER));
                let pieces = [&b"an"[..], b"other"].map(IoSlice::new);
                refused(from.send_vectored(&pieces, Deadline::NEVER));
                let nested = &mut || panic!("it has not begun");
                refused(from.send_while_receiving(&pieces, Deadline::NEVER, nested));
                let reply = from.transact(b"?", &mut [0; 8], Deadline::NEVER);
                assert_eq!(ours(reply), Error::Busy);
                // What it is for goes on.
                assert_eq!(from.peek().unwrap().unwrap().message, Some(9));
                assert_eq!(recv(&from).unwrap(), b"something");
                scope.spawn(move || {
                    assert!(is_content(1, &recv(to).unwrap()));
                    assert_eq!(recv(to).unwrap(), b"next");
                });
            });
            sent.unwrap();
            send(&from, b"next");
        });
        assert_works(&from, &to);
    });
}

/// The kernel may still have the buffer while the closure runs: the send has to end before the panic goes on.
pub(crate) fn d03_a_panic_while_a_send_waits_ends_the_send_first<T: Transport>() {
    both_ways::<T>(|from, to| {
        // Something has come, so that there is a reason to receive.
        send(&to, b"something");
        let message = content(1, HUGE);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let message = [IoSlice::new(&message)];
            from.send_while_receiving(&message, soon(), &mut || util::panic_as_asked())
        }));
        assert!(panicked.is_err());
        drop(message);
        // Whatever had gone of it, what is sent now is not taken for its rest.
        let (sent, received) = thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                let (mut all, mut message) = (Vec::new(), Vec::new());
                loop {
                    match to.recv_message(&mut message, soon()) {
                        Ok(Some(_)) => all.push(message.clone()),
                        Ok(None) => break all,
                        Err(error) => {
                            assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
                            break all;
                        }
                    }
                }
            });
            let sent = from.send(b"next", soon());
            from.close();
            (sent, receiving.join().unwrap())
        });
        assert_eq!(received.iter().any(|it| it == b"next"), sent.is_ok());
        let is_whole = |it: &Vec<u8>| it == b"next" || it.len() == HUGE && is_content(1, it);
        assert!(received.iter().all(is_whole));
        assert_ended(&to);
    });
}

pub(crate) fn d02_every_call_that_waits_gives_up_at_its_deadline<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    assert_times_out("accept", |deadline| listener.accept(deadline));
    for forth in [true, false] {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (one, other) = if forth {
            (client, server)
        } else {
            (server, client)
        };
        assert_times_out("recv", |deadline| one.recv(&mut [0; 8], deadline));
        assert_times_out("recv_message", |deadline| {
            one.recv_message(&mut Vec::new(), deadline)
        });
        assert_works(&one, &other);
        send(&one, b"something before it");
        assert_times_out("send", |deadline| one.send(&content(1, HUGE), deadline));
        let (client, server) = connect::<T>(&listener, &dialer);
        let (one, other) = if forth {
            (client, server)
        } else {
            (server, client)
        };
        assert_times_out("transact", |deadline| {
            one.transact(b"?", &mut [0; 8], deadline)
        });
        drop(other);
    }
}

pub(crate) fn d02_what_was_sent_before_the_buffers_were_full_arrives<T: Transport>() {
    for size in [60, 700, 10_000] {
        both_ways::<T>(|from, to| {
            let sent = fill(&from, size);
            assert!(sent > 0);
            from.close();
            for n in 0..sent {
                assert_eq!(
                    recv(&to).expect("a message, not the end"),
                    content(0, size),
                    "{n}"
                );
            }
            // The one that timed out is not there: not at all, or not in whole.
            if let Err(error) = to.recv_message(&mut Vec::new(), soon()) {
                assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
            }
            assert_ended(&to);
        });
    }
}

pub(crate) fn d02_a_deadline_that_has_passed_still_does_what_needs_no_waiting<T: Transport>() {
    let (listener, dialer) = T::listen(&Setup::default());
    assert_eq!(kind(listener.accept(Deadline::NOW)), ErrorKind::TimedOut);
    let client = dialer.dial(Deadline::NOW).unwrap();
    let mut server = None;
    // It may still be under way; but it does come without anybody waiting for it.
    until("it is accepted", || match listener.accept(Deadline::NOW) {
        Ok(stream) => server.insert(stream).peek().is_ok(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            false
        }
    });
    let server = server.unwrap();
    for (from, to) in [(&client, &server), (&server, &client)] {
        let none = promptly("not waiting", || to.recv(&mut [0; 8], Deadline::NOW));
        assert_eq!(kind(none), ErrorKind::TimedOut);
        let none = promptly("not waiting", || {
            to.recv_message(&mut Vec::new(), Deadline::NOW)
        });
        assert_eq!(kind(none), ErrorKind::TimedOut);
        from.send(b"at once", Deadline::NOW).unwrap();
        let mut message = Vec::new();
        until("it arrives", || {
            match to.recv_message(&mut message, Deadline::NOW) {
                Ok(received) => received == Some(7),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    false
                }
            }
        });
        assert_eq!(message, b"at once");
    }
}

pub(crate) fn d02_a_second_thread_that_waits_its_turn_has_a_deadline_too<T: Transport>() {
    both_ways::<T>(|one, other| {
        thread::scope(|scope| {
            let receiving = scope.spawn(|| recv(&one));
            assert_times_out("another recv", |deadline| one.recv(&mut [0; 8], deadline));
            assert_times_out("another recv_message", |deadline| {
                one.recv_message(&mut Vec::new(), deadline)
            });
            send(&other, b"for the first");
            assert_eq!(receiving.join().unwrap().unwrap(), b"for the first");
        });
        assert_works(&one, &other);
    });
}

/// A little room again and again is no reason to go on.
pub(crate) fn d02_a_peer_that_reads_slowly_gives_no_send_more_time<T: Transport>() {
    both_ways::<T>(|from, to| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buf = vec![0; 32 << 10];
                while let Ok(Some(_)) = to.recv(&mut buf, soon()) {
                    thread::sleep(Duration::from_millis(50));
                }
            });
            assert_times_out("a send", |deadline| from.send(&content(1, HUGE), deadline));
            from.close();
        });
    });
}

pub(crate) fn d02_one_deadline_covers_several_calls<T: Transport>() {
    both_ways::<T>(|one, _other| {
        assert_times_out("all of them", |deadline| {
            for _ in 0..100 {
                assert_eq!(kind(one.recv(&mut [0; 8], deadline)), ErrorKind::TimedOut);
            }
            one.recv(&mut [0; 8], deadline)
        });
    });
}

/// An operation that was given up must not write into its buffer later: the buffer is watched for a while.
pub(crate) fn d03_the_buffer_of_a_cancelled_receive_stays_untouched<T: Transport>() {
    const CANARY: u8 = 0xa5;
    let messages = rounds(4_000) as usize;
    both_ways::<T>(|from, to| {
        let mut rng = Rng::new();
        thread::scope(|scope| {
            let (mut sender_rng, from) = (rng.fork(), &from);
            scope.spawn(move || {
                for n in 0..messages {
                    sender_rng.dawdle();
                    send(from, &content(n, 1 + n % 700));
                }
            });
            let mut received = 0;
            let give_up = soon();
            while received < messages {
                assert!(!give_up.has_passed(), "message {received} never came");
                let mut buf = vec![0; 1_000];
                let timeout = Duration::from_micros(rng.in_range(0..120) as u64);
                match to.recv(&mut buf, Deadline::after(timeout)) {
                    Ok(part) => {
                        let part = part.expect("a part, not the end");
                        assert!(part.last && part.len == 1 + received % 700);
                        assert!(is_content(received, &buf[..part.len]), "message {received}");
                        received += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut);
                        buf.fill(CANARY);
                        rng.shake();
                        assert!(
                            buf.iter().all(|&byte| byte == CANARY),
                            "written to afterwards"
                        );
                    }
                }
            }
        });
    });
}

/// The same for what is sent: changing the buffer after the call must not change what arrives.
pub(crate) fn d03_the_buffer_of_a_send_is_the_callers_again_afterwards<T: Transport>() {
    let setup = Setup {
        buffer_size: Some(64 << 10),
        ..Setup::default()
    };
    let (listener, dialer) = T::listen(&setup);
    let mut rng = Rng::new();
    for round in 0..rounds(1_500) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (from, to) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let mut sender_rng = rng.fork();
            scope.spawn(move || {
                for _ in 0..6 {
                    let mut message = vec![1; sender_rng.size(300_000)];
                    let timeout = Duration::from_micros(sender_rng.in_range(0..500) as u64);
                    let sent = from.send(&message, Deadline::after(timeout));
                    message.fill(2);
                    sender_rng.shake();
                    if sent.is_err() {
                        break;
                    }
                }
            });
            let mut buf = vec![0; 10_000];
            loop {
                rng.shake();
                match to.recv(&mut buf, soon()) {
                    Ok(Some(part)) => assert!(buf[..part.len].iter().all(|&byte| byte == 1)),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(Error::of(&error), Some(&Error::Truncated), "{error:?}");
                        break;
                    }
                }
            }
        });
    }
}

pub(crate) fn d04_closing_wakes_a_blocked_receive<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    for round in 0..rounds(4_000) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (one, other) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let mut receiver_rng = rng.fork();
            let one = &one;
            let receiving = scope.spawn(move || {
                receiver_rng.shake();
                if round % 4 < 2 {
                    one.recv(&mut [0; 8], Deadline::NEVER).map(drop)
                } else {
                    one.recv_message(&mut Vec::new(), Deadline::NEVER).map(drop)
                }
            });
            rng.shake();
            promptly("closing", || one.close());
            assert_eq!(ours(receiving.join().unwrap()), Error::Closed);
        });
        // Closed is closed, however often, and the peer knows.
        one.close();
        assert_eq!(ours(one.recv(&mut [0; 8], Deadline::NEVER)), Error::Closed);
        assert_eq!(
            ours(one.recv_message(&mut Vec::new(), Deadline::NEVER)),
            Error::Closed
        );
        assert_eq!(ours(one.send(b"more", Deadline::NEVER)), Error::Closed);
        assert_eq!(
            ours(one.transact(b"more", &mut [0; 8], Deadline::NEVER)),
            Error::Closed
        );
        assert_ended(&other);
    }
}

pub(crate) fn d04_closing_wakes_a_blocked_send<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    let message = content(4, HUGE);
    for round in 0..rounds(500) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (one, other) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let mut sender_rng = rng.fork();
            let (one, message) = (&one, &message);
            let sending = scope.spawn(move || {
                sender_rng.shake();
                one.send(message, Deadline::NEVER)
            });
            rng.shake();
            promptly("closing", || one.close());
            let closed = kind(sending.join().unwrap());
            assert!(
                matches!(closed, ErrorKind::NotConnected | ErrorKind::BrokenPipe),
                "{closed:?}"
            );
        });
        assert_eq!(
            kind(one.recv(&mut [0; 8], Deadline::NEVER)),
            ErrorKind::NotConnected
        );
        drop(other);
    }
}

pub(crate) fn d04_closing_wakes_everybody_who_waits<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    let message = content(4, HUGE);
    for _ in 0..rounds_or(200, 60) {
        let (one, _other) = connect::<T>(&listener, &dialer);
        thread::scope(|scope| {
            let (one, message) = (&one, &message);
            let mut waiting = Vec::new();
            for n in 0..6 {
                let mut rng = rng.fork();
                waiting.push(scope.spawn(move || {
                    rng.shake();
                    match n % 3 {
                        0 => one.send(message, Deadline::NEVER),
                        1 => one.recv(&mut [0; 8], Deadline::NEVER).map(drop),
                        _ => one.recv_message(&mut Vec::new(), soon()).map(drop),
                    }
                }));
            }
            rng.shake();
            one.close();
            for waiting in waiting {
                let closed = kind(waiting.join().unwrap());
                assert!(
                    matches!(closed, ErrorKind::NotConnected | ErrorKind::BrokenPipe),
                    "{closed:?}"
                );
            }
        });
    }
}

pub(crate) fn d04_the_peer_closing_wakes_a_blocked_receive<T: Transport>() {
    let mut rng = Rng::new();
    let (listener, dialer) = T::listen(&Setup::default());
    for round in 0..rounds(2_000) {
        let (client, server) = connect::<T>(&listener, &dialer);
        let (one, other) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        thread::scope(|scope| {
            let mut receiver_rng = rng.fork();
            let receiving = scope.spawn(move || {
                receiver_rng.shake();
                assert_eq!(one.recv(&mut [0; 8], Deadline::NEVER).unwrap(), None);
                assert_ended(&one);
            });
            rng.shake();
            if round % 4 < 2 {
                other.close();
            } else {
                drop(other);
            }
            receiving.join().unwrap();
        });
    }
}
