use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use super::*;
use crate::server::unsent::{Room, Unsent};

const MIB: usize = 1 << 20;

/// A peer that is another process.
fn process(number: u32) -> Peer {
    Peer {
        pid: Some(std::process::id() + number),
        user: None,
    }
}

fn budget(most: usize, most_of_one: usize) -> Arc<Budget> {
    Arc::new(Budget::new(most, most_of_one))
}

fn poll(wanted: &mut Wanted<'_>) -> Option<Lease> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(wanted).poll(&mut cx) {
        Poll::Ready(lease) => Some(lease),
        Poll::Pending => None,
    }
}

/// What is granted at once.
fn take(holder: &Holder, bytes: usize) -> Option<Lease> {
    poll(&mut holder.lease(bytes))
}

#[test]
fn no_more_is_held_than_may_be() {
    let budget = budget(64 * MIB, 64 * MIB);
    let holders: Vec<_> = (1..4)
        .map(|n| budget.join(&process(n), 9).unwrap())
        .collect();
    let first = take(&holders[0], 30 * MIB).unwrap();
    let second = take(&holders[1], 30 * MIB).unwrap();
    assert!(take(&holders[2], 5 * MIB).is_none());
    let third = take(&holders[2], 4 * MIB).unwrap();
    drop((first, second, third));
    // Whoever gave up is not waited for.
    assert!(!budget.is_wanted());
    assert_eq!(budget.received.lock().held, 0);
    assert!(budget.received.lock().connections.is_empty());
    drop(holders);
    assert!(budget.received.lock().peers.is_empty());
}

#[test]
fn one_message_is_taken_whatever_its_size() {
    let budget = budget(MIB, MIB);
    let holder = budget.join(&process(1), 9).unwrap();
    let large = take(&holder, 100 * MIB).unwrap();
    assert!(take(&holder, 1).is_none());
    drop(large);
    assert!(take(&holder, 1).is_some());
}

#[test]
fn a_process_has_half_and_a_connection_its_own_limit() {
    let budget = budget(64 * MIB, 16 * MIB);
    let one: Vec<_> = (0..4)
        .map(|_| budget.join(&process(1), 9).unwrap())
        .collect();
    let other = budget.join(&process(2), 9).unwrap();
    let _first = take(&one[0], 16 * MIB).unwrap();
    assert!(take(&one[0], 1).is_none(), "that connection has its share");
    let _second = take(&one[1], 16 * MIB).unwrap();
    assert!(take(&one[2], 1).is_none(), "that process has its share");
    assert!(take(&other, 16 * MIB).is_some());
}

#[test]
fn clients_in_the_same_process_have_no_share_together() {
    let budget = budget(64 * MIB, 16 * MIB);
    let holders: Vec<_> = (0..5)
        .map(|_| budget.join(&process(0), 1).unwrap())
        .collect();
    let leases: Vec<_> = holders
        .iter()
        .filter_map(|holder| take(holder, 16 * MIB))
        .collect();
    assert_eq!(leases.len(), 4);
}

#[test]
fn users_count_where_the_process_is_not_known() {
    let budget = budget(MIB, MIB);
    let somebody = Peer {
        pid: None,
        user: Some(UserId::Uid(7)),
    };
    let _first = budget.join(&somebody, 2).unwrap();
    let second = budget.join(&somebody, 2).unwrap();
    assert!(budget.join(&somebody, 2).is_none());
    assert_eq!(second.siblings(), 2);
    drop(second);
    assert!(budget.join(&somebody, 2).is_some());
    // Nothing is known of these.
    let nobodies: Vec<_> = (0..5).map(|_| budget.join(&Peer::default(), 1)).collect();
    assert!(nobodies.iter().all(Option::is_some));
}

#[test]
fn it_is_the_turn_of_the_peer_that_holds_least() {
    let budget = budget(32 * MIB, 16 * MIB);
    let greedy: Vec<_> = (0..3)
        .map(|_| budget.join(&process(1), 9).unwrap())
        .collect();
    let (second, third) = (
        budget.join(&process(2), 9).unwrap(),
        budget.join(&process(3), 9).unwrap(),
    );
    let own = take(&greedy[0], 8 * MIB).unwrap();
    let others = take(&second, 16 * MIB).unwrap();
    // They come first, and want no more than there is for them; but there is less than that.
    let mut more: Vec<_> = greedy[1..]
        .iter()
        .map(|holder| holder.lease(8 * MIB))
        .collect();
    let _second = poll(&mut more[0]).unwrap();
    assert!(poll(&mut more[1]).is_none());
    let mut last = third.lease(16 * MIB);
    assert!(poll(&mut last).is_none());
    drop((own, others));
    assert!(poll(&mut last).is_some());
}

#[test]
fn a_large_message_is_not_overtaken_for_ever() {
    let budget = budget(16 * MIB, 16 * MIB);
    let holders: Vec<_> = (1..4)
        .map(|n| budget.join(&process(n), 9).unwrap())
        .collect();
    let held = take(&holders[0], MIB).unwrap();
    let mut large = holders[1].lease(16 * MIB);
    assert!(poll(&mut large).is_none());
    // There would be room for this one.
    let mut small = holders[2].lease(MIB);
    assert!(poll(&mut small).is_none());
    drop(held);
    let large = poll(&mut large).unwrap();
    assert!(poll(&mut small).is_none());
    drop(large);
    assert!(poll(&mut small).is_some());
}

#[test]
fn a_grant_that_nobody_takes_is_the_next_ones() {
    let budget = budget(MIB, MIB);
    let holders: Vec<_> = (1..4)
        .map(|n| budget.join(&process(n), 9).unwrap())
        .collect();
    let held = take(&holders[0], MIB).unwrap();
    let mut gives_up = holders[1].lease(MIB);
    let mut next = holders[2].lease(MIB);
    assert!(poll(&mut gives_up).is_none() && poll(&mut next).is_none());
    drop(held);
    drop(gives_up);
    assert!(poll(&mut next).is_some());
}

#[test]
fn a_thread_waits_until_there_is_room_or_it_is_told_to_stop() {
    let budget = budget(MIB, MIB);
    let holder = budget.join(&process(1), 9).unwrap();
    let other = budget.join(&process(2), 9).unwrap();
    let held = take(&holder, MIB).unwrap();
    let stop = AtomicBool::new(false);
    let (told, tells) = mpsc::channel();
    thread::scope(|scope| {
        let waits = || {
            told.send(()).unwrap();
            let is_over = || stop.load(Ordering::SeqCst);
            other.lease(MIB).wait(Deadline::NEVER, is_over)
        };
        let waiting = scope.spawn(waits);
        tells.recv().unwrap();
        stop.store(true, Ordering::SeqCst);
        while !waiting.is_finished() {
            budget.wake_all();
            thread::yield_now();
        }
        assert!(waiting.join().unwrap().is_none());
        stop.store(false, Ordering::SeqCst);
        let waiting = scope.spawn(waits);
        tells.recv().unwrap();
        drop(held);
        assert!(waiting.join().unwrap().is_some());
    });
    let soon = Deadline::after(Duration::from_millis(5));
    let _held = take(&holder, MIB).unwrap();
    assert!(other.lease(MIB).wait(soon, || false).is_none());
}

#[test]
fn handlers_of_streams_have_places() {
    let budget = budget(MIB, MIB);
    let one = budget.join(&process(1), 9).unwrap();
    let other = budget.join(&process(2), 9).unwrap();
    let own = budget.join(&process(0), 9).unwrap();
    let begin = |holder: &Holder| -> Vec<_> {
        let places = (0..9).filter_map(|_| holder.begin_stream(8, false));
        places.collect()
    };
    let of_one = begin(&one);
    assert_eq!(of_one.len(), 4, "one process has a half");
    let of_other = begin(&other);
    assert_eq!(of_other.len(), 4);
    assert!(own.begin_stream(8, false).is_none());
    let first = own.begin_stream(8, true);
    assert!(first.is_some());
    assert!(one.begin_stream(8, true).is_none());
    drop((of_one, first));
    assert_eq!(begin(&own).len(), 4);
    drop(of_other);
    assert_eq!(budget.received.lock().streams, 0);
    // Each of its connections has one.
    let many: Vec<_> = (0..6)
        .map(|_| budget.join(&process(1), 9).unwrap())
        .collect();
    let places: Vec<_> = many
        .iter()
        .filter_map(|holder| holder.begin_stream(8, true))
        .collect();
    assert_eq!(places.len(), 6);
}

#[test]
fn what_is_to_be_sent_counts_beyond_a_little() {
    let budget = budget(MIB, MIB);
    let mut one = Unsent::new(Arc::clone(&budget));
    let mut other = Unsent::new(Arc::clone(&budget));
    one.add(SMALL);
    assert!(one.has_room() && !one.is_large() && budget.unsent.load(Ordering::SeqCst) == 0);
    one.add(QUEUED);
    assert!(!one.has_room() && one.is_large());
    assert_eq!(budget.unsent.load(Ordering::SeqCst), QUEUED);
    assert!(!budget.is_short());
    other.add(SMALL + 1);
    assert!(budget.is_short());
    // Who has little to read is asked for more.
    assert!(!other.has_room());
    other.remove(1);
    assert!(other.has_room() && !budget.is_short());
    assert!(budget.count(MIB).is_some() && budget.count(MIB + 1).is_none());
    one.clear();
    assert!(budget.count(3 * MIB).is_some() && one.has_room());
    drop((one, other));
    assert_eq!(budget.unsent.load(Ordering::SeqCst), 0);
}

/// However many ask at once, no more is counted than may be.
#[test]
fn what_is_asked_for_at_once_is_counted_one_after_the_other() {
    const THREADS: usize = 8;
    let budget = budget(MIB, MIB);
    let all_have = std::sync::Barrier::new(THREADS);
    let counted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    all_have.wait();
                    let counted: Vec<_> =
                        (0..THREADS).filter_map(|_| budget.count(MIB / 4)).collect();
                    all_have.wait();
                    counted.len()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(counted, 8, "twice as much as may be");
    assert_eq!(budget.unsent.load(Ordering::SeqCst), 0);
}

#[test]
fn an_item_waits_for_those_before_it_and_a_large_one_for_all() {
    struct Woken(AtomicBool);

    impl streams::Wake for Woken {
        fn wake(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let budget = budget(MIB, MIB);
    let mut one = Unsent::new(Arc::clone(&budget));
    let mut other = Unsent::new(Arc::clone(&budget));
    assert_eq!(
        one.room_for(0, 10 * MIB),
        Room::Here,
        "one, whatever its size"
    );
    one.add(10 * MIB);
    assert_eq!(one.room_for(0, 1), Room::Later);
    assert_eq!(other.room_for(0, SMALL), Room::Here);
    assert_eq!(other.room_for(0, SMALL + 1), Room::Elsewhere);
    other.add(1);
    assert_eq!(other.room_for(0, SMALL), Room::Later);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    for _ in 0..3 {
        assert!(budget.hold_up(Arc::clone(&woken) as _));
    }
    assert!(budget.relieved().is_empty());
    one.clear();
    assert_eq!(budget.relieved().len(), 1, "once for each");
    assert!(!budget.hold_up(Arc::clone(&woken) as _));
    assert!(budget.relieved().is_empty());
}
