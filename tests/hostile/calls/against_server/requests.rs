//! Requests under way: their ids, their order, their cancellation and their time.

use std::time::Duration;

use crate::calls::bytes::{self, *};
use super::super::driver;
use super::super::town::{Reply, Request, Town, echo, echoed, encoded};
use util::{A_MOMENT, here, limit, skip, until};

#[test]
fn an_id_in_use_is_refused() {
    let _limit = limit(here!());
    let town = Town::with_pool(2, |options| options);
    let guest = town.guest();
    let gate = bytes::request(7, FOR_EVER, &encoded(&Request::Gate));
    guest.says(&gate);
    guest.says(&gate);
    guest.assert_refused(MALFORMED, "an id that is in use");
    town.gate.open();
    town.assert_unharmed();
}

#[test]
fn an_id_may_be_used_again_once_it_is_answered() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        for number in 0..100 {
            guest.says(&echo(7, number));
            assert_eq!(guest.hears(), echoed(7, number));
        }
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn cancelling_what_is_not_there_is_nothing() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        guest.says(&cancel(1));
        guest.says(&cancel(u32::MAX));
        guest.says(&echo(1, 1));
        assert_eq!(guest.hears(), echoed(1, 1));
        guest.says(&cancel(1));
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_request_is_cancelled_among_others() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        guest.says(&bytes::request(
            1,
            FOR_EVER,
            &encoded(&Request::UntilCancelled),
        ));
        until("it runs", || town.gate.seen() == 1);
        guest.says(&cancel(2));
        guest.says(&cancel(1));
        guest.assert_fails(1, CANCELLED, "");
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// It was cancelled while it waited its turn behind another.
#[test]
fn a_request_is_cancelled_before_its_turn() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 1]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let waits = encoded(&Request::UntilCancelled);
        guest.says(&bytes::request(1, FOR_EVER, &waits));
        until("it runs", || town.gate.seen() == 1);
        guest.says(&bytes::request(2, FOR_EVER, &waits));
        guest.says(&cancel(2));
        guest.says(&cancel(1));
        if pool == 0 {
            guest.assert_fails(1, CANCELLED, "");
            guest.assert_fails(2, CANCELLED, "");
        } else {
            let mut failed = [guest.hears(), guest.hears()].map(|said| match said {
                Said::Error { id, failure } => (id, failure.code),
                other => panic!("{other:?}"),
            });
            failed.sort_unstable();
            assert_eq!(failed, [(1, CANCELLED), (2, CANCELLED)]);
        }
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn who_leaves_cancels_what_he_asked_for() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let waits = encoded(&Request::UntilCancelled);
        guest.says(&bytes::request(1, FOR_EVER, &waits));
        until("it runs", || town.gate.seen() == 1);
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_timeout_may_be_the_largest_there_is_or_none() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        for timeout in [u32::MAX, u32::MAX - 1, 1 << 31, 60_000] {
            guest.says(&bytes::request(1, timeout, &encoded(&Request::Echo(5))));
            assert_eq!(guest.hears(), echoed(1, 5));
        }
        let handled = town.gate.handled();
        guest.says(&bytes::request(1, 0, &encoded(&Request::UntilCancelled)));
        guest.assert_fails(1, CANCELLED, "");
        guest.says(&bytes::request(1, 20, &encoded(&Request::UntilCancelled)));
        guest.assert_fails(1, CANCELLED, "");
        assert!(town.gate.handled() > handled);
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn replies_of_a_pool_are_told_apart_in_any_order() {
    let _limit = limit(here!());
    let town = Town::with_pool(4, |options| options);
    let guest = town.guest();
    guest.says(&bytes::request(0, FOR_EVER, &encoded(&Request::Gate)));
    until("it waits", || town.gate.seen() == 1);
    for id in 1..=40 {
        guest.says(&echo(id, u64::from(id) * 3));
    }
    let mut seen = [false; 41];
    for _ in 1..=40 {
        match guest.hears() {
            Said::Reply { id, payload } => {
                assert_eq!(payload, encoded(&Reply::Echo(u64::from(id) * 3)));
                assert!(!std::mem::replace(&mut seen[id as usize], true));
            }
            other => panic!("{other:?}"),
        }
    }
    town.gate.open();
    assert!(matches!(guest.hears(), Said::Reply { id: 0, .. }));
    drop(guest);
    town.assert_unharmed();
}

#[test]
fn going_idle_with_a_request_under_way_costs_nothing() {
    let _limit = limit(here!());
    // So long the neighbour is never away, who calls all the time.
    let town = Town::with_pool(2, |options| options.idle_timeout(20 * A_MOMENT));
    let usual = processor_time_of(40 * A_MOMENT);
    let guest = town.guest();
    guest.says(&bytes::request(1, FOR_EVER, &encoded(&Request::Gate)));
    until("it waits", || town.gate.seen() == 1);
    let asleep = processor_time_of(40 * A_MOMENT);
    assert!(
        asleep < usual + 12 * A_MOMENT,
        "{asleep:?} of processor time, {usual:?} before"
    );
    town.gate.open();
    assert!(matches!(guest.hears(), Said::Reply { id: 1, .. }));
    drop(guest);
    town.assert_unharmed();
}

/// How long this process runs in so much time, all threads together; no time at all where nobody tells.
fn processor_time_of(wait: Duration) -> Duration {
    let now = || {
        if !cfg!(target_os = "linux") {
            skip("processor time", "only Linux tells it in a file");
            return None;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the name, which may hold anything, it is the 12th and the 13th number, in hundredths of a second.
        let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = numbers[11].parse::<u64>().ok()? + numbers[12].parse::<u64>().ok()?;
        Some(Duration::from_millis(10 * ticks))
    };
    let before = now().unwrap_or_default();
    std::thread::sleep(wait);
    now().unwrap_or_default() - before
}

#[test]
fn a_close_look_at_the_deadline_of_a_call() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    // Its time is over while it waits behind another: nobody is to carry it out any more.
    guest.says(&bytes::request(1, 150, &encoded(&Request::UntilCancelled)));
    until("it runs", || town.gate.seen() == 1);
    guest.says(&bytes::request(2, 0, &encoded(&Request::Gate)));
    for id in if driver::ONE_BY_ONE { [1, 2] } else { [2, 1] } {
        guest.assert_fails(id, CANCELLED, "");
    }
    assert_eq!(town.gate.seen(), 1);
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}
