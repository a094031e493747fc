//! Signals, which interrupt what waits.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use pipetalk::{ConnectOptions, Deadline, ListenOptions, Listener, Stream};

use super::fill_backlog;
use crate::harness::*;
use util::{Actor, announce};

pub(crate) fn d02_signals_give_no_call_more_time<T: Named>() {
    let place = Place::new();
    let mut actor = Actor::start("wait under signals", &[T::WORD, place.name()]);
    assert_eq!(actor.says(), "done");
}

/// The part of [`d02_signals_give_no_call_more_time`]: handlers of signals are the whole process's.
pub(super) fn wait_under_signals<T: Named>(name: &str) {
    ctrlc::set_handler(|| {}).unwrap();
    let listener = T::bind_with(&ListenOptions::new().backlog(1), name).unwrap();
    let connect = |deadline| T::connect_with(&ConnectOptions::new(), name, deadline);
    let pairs = [(); 3].map(|()| {
        let client = connect(soon()).unwrap();
        (client, listener.accept(soon()).unwrap())
    });
    let [(idle, asking), (sending, _other), (gathering, _another)] = &pairs;
    let message = content(1, HUGE);
    let (head, tail) = message.split_at(HUGE / 2);
    let pieces = [head, tail].map(IoSlice::new);
    under_signals(|| {
        assert_times_out("accept", |deadline| listener.accept(deadline));
        assert_times_out("recv", |deadline| idle.recv(&mut [0; 8], deadline));
        assert_times_out("recv_message", |deadline| {
            idle.recv_message(&mut Vec::new(), deadline)
        });
        assert_times_out("transact", |deadline| {
            asking.transact(b"anybody?", &mut [0; 8], deadline)
        });
        assert_times_out("send", |deadline| sending.send(&message, deadline));
        assert_times_out("send_vectored", |deadline| {
            gathering.send_vectored(&pieces, deadline)
        });
    });
    let _waiting = fill_backlog(|| connect(Deadline::NOW));
    under_signals(|| {
        assert_times_out("connect", connect);
    });
    announce("done");
}

/// Has this thread interrupted all the time.
fn under_signals(act: impl FnOnce()) {
    let this = pthread_self();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Where a signal gives more time, it does not give it for ever.
            let enough = Deadline::after(A_WHILE);
            while !over.load(Ordering::Relaxed) && !enough.has_passed() {
                pthread_kill(this, Signal::SIGHUP).unwrap();
                thread::sleep(Duration::from_micros(500));
            }
        });
        act();
        over.store(true, Ordering::Relaxed);
    });
}
