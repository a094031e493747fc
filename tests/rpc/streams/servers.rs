//! Streams at the ends of connections and servers, and those who do not read.

use std::sync::atomic::Ordering;
use std::thread;

use pipetalk::{CallError, ClientOptions, ServerOptions, SinkError, memory};

use super::driver::{POOLS, READS_AHEAD};
use super::town::{Town, all_of, each, window};
use crate::streams::service::Told;
use util::{A_MOMENT, A_WHILE, here, limit, promptly, soon, until};

#[test]
fn what_has_come_before_a_connection_breaks_is_taken_and_then_the_error() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let mut items = client.count(0, u64::MAX).unwrap();
        assert_eq!(items.next(), Some(Ok(0)));
        client.channel().close();
        let end = items.find(|item| item.is_err());
        assert_eq!(end, Some(Err(CallError::Disconnected { sent: true })));
        assert_eq!(items.next(), None);
        town.have_noticed([Told::SendStopped]);
        let error = client.count(0, 1).unwrap_err();
        assert_eq!(error, CallError::Disconnected { sent: false });
    });
}

#[test]
fn a_client_that_reconnects_opens_the_next_stream_and_not_the_same_again() {
    let _limit = limit(here!());
    let town = Town::local(ServerOptions::new());
    let client = (town.connect)(ClientOptions::new().reconnect(true));
    let mut items = client.silent().unwrap();
    client.channel().close();
    let broken = CallError::Disconnected { sent: true };
    assert_eq!(items.next(), Some(Err(broken)));
    assert_eq!(items.next(), None);
    town.have_noticed([Told::Stopped]);
    assert_eq!(all_of(client.count(0, 3).unwrap()), Ok(vec![0, 1, 2]));
    town.finish();
}

#[test]
fn a_client_that_leaves_stops_its_streams() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        for _ in 0..3 {
            let client = town.client();
            let items = client.silent().unwrap();
            let more = client.count(0, u64::MAX).unwrap();
            // The connection ends with the last of what uses it.
            drop(client);
            thread::spawn(move || drop((items, more))).join().unwrap();
            town.have_noticed([Told::Stopped, Told::SendStopped]);
        }
    });
}

#[test]
fn a_drain_lets_streams_end_and_cancels_them_at_its_deadline() {
    let _limit = limit(here!());
    for &pool in POOLS {
        let serve =
            || Town::in_memory(ServerOptions::new().pool(pool), memory::Options::new());
        // It ends in time.
        let mut town = serve();
        let client = town.client();
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        assert!(!sink.is_draining());
        town.handle.drain(A_WHILE);
        assert!(sink.is_draining() && !sink.is_stopped());
        for number in 0..200 {
            sink.send(&number).unwrap();
            assert_eq!(items.next(), Some(Ok(number)));
        }
        let error = client.silent().and_then(|mut items| items.next().unwrap());
        assert_eq!(error, Err(CallError::Unavailable));
        drop(sink);
        assert_eq!(items.next(), None);
        town.ends();

        // It does not.
        let mut town = serve();
        let client = town.client();
        let mut items = client.silent().unwrap();
        let mut kept = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        town.handle.drain(A_MOMENT);
        assert!(sink.wait_until_stopped(soon()));
        assert_eq!(sink.send(&1), Err(SinkError::Stopped));
        town.have_noticed([Told::Stopped]);
        for items in [&mut items, &mut kept] {
            let error = items.next().unwrap().unwrap_err();
            let ended = matches!(
                error,
                CallError::Cancelled | CallError::Disconnected { sent: true }
            );
            assert!(ended, "{error:?}");
            assert_eq!(items.next(), None);
        }
        town.ends();
    }
}

#[test]
fn stopping_a_server_stops_its_streams() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let clients: Vec<_> = (0..4).map(|_| town.client()).collect();
        let mut streams: Vec<_> = clients
            .iter()
            .flat_map(|client| [client.silent().unwrap(), client.count(0, u64::MAX).unwrap()])
            .collect();
        clients
            .iter()
            .for_each(|client| assert_eq!(client.add(1, 2), Ok(3)));
        town.handle.stop();
        let [stopped, sends] = [|| Told::Stopped, || Told::SendStopped];
        let told = [stopped, stopped, stopped, stopped, sends, sends, sends, sends];
        town.have_noticed(told.map(|told| told()));
        for items in &mut streams {
            let error = items.find_map(Result::err).unwrap();
            assert!(
                matches!(
                    error,
                    CallError::Cancelled | CallError::Disconnected { .. } | CallError::Unavailable
                ),
                "{error:?}"
            );
        }
    });
}

// ---------------------------------------------------------------- those who do not read

/// As little room as there can be between the two: every message waits for its receiver.
#[test]
fn no_pair_waits_for_ever_where_every_message_waits_for_its_receiver() {
    let _limit = limit(here!());
    for &pool in POOLS {
        let tight = memory::Options::new().buffer_size(0);
        let town = Town::in_memory(ServerOptions::new().pool(pool), tight);
        let client = town.client();
        let mut away = client.count(0, u64::MAX).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let items = client.with(window(3)).count(0, 300).unwrap();
                    assert!(all_of(items).unwrap().into_iter().eq(0..300));
                });
                scope.spawn(|| {
                    (0..300).for_each(|number| assert_eq!(client.add(number, 1), Ok(number + 1)));
                });
            }
        });
        assert!(away.by_ref().take(100).map(Result::unwrap).eq(0..100));
        drop(away);
        town.have_noticed([Told::SendStopped]);
        // Nobody would read what is still to come.
        drop(client);
        town.finish();
    }
}

/// The patience with a client that does not read is for replies.
#[test]
fn a_client_may_stay_away_from_a_stream_for_longer_than_a_reply_may_take() {
    let _limit = limit(here!());
    let patience = A_MOMENT;
    each(
        || ServerOptions::new().send_timeout(patience),
        |town| {
            let client = town.client();
            // Far more than any buffer of the system holds.
            let mut items = client.with(window(100_000)).sized(&[60_000; 100]).unwrap();
            assert_eq!(items.next().unwrap().unwrap().len(), 60_000);
            thread::sleep(patience * 4);
            assert_eq!(items.by_ref().map(Result::unwrap).count(), 99);
            assert_eq!(client.add(1, 2), Ok(3));
        },
    );
}

/// Nobody reads, everything between the two is full, and the server ends at once all the same.
#[test]
fn a_server_with_a_client_that_reads_nothing_ends_at_once() {
    if READS_AHEAD {
        // There are none such: all of a window is read, whoever waits for it.
        return;
    }
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let wide = client.with(window(100_000));
        let _streams: Vec<_> = (0..5)
            .map(|_| wide.sized(&[60_000; 100]).unwrap())
            .collect();
        until("all are there", || town.books.opened.load(Ordering::SeqCst) == 5);
        until("some has been sent", || {
            town.sent() > 5
        });
        promptly("stopping", || town.handle.stop());
        town.have_noticed([(); 5].map(|()| Told::SendStopped));
    });
}
