//! How streams end: of themselves, by either side, and in time.

use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{
    Blob, CallError, CallOptions, ClientOptions, Codec, ConnectOptions, Deadline, DefaultCodec,
    ServerOptions,
};

use super::driver::Items;
use super::town::{all_of, each};
use crate::streams::service::Told;
use util::{A_MOMENT, here, limit, rounds_or, soon, slowness};

#[test]
fn an_error_in_words_ends_a_stream_behind_its_items() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        for count in [0, 1, 100] {
            let mut items = client.fails(count, "no more of these").unwrap();
            assert!(
                items
                    .by_ref()
                    .take(count as usize)
                    .map(Result::unwrap)
                    .eq(0..count)
            );
            let why = CallError::Failed("no more of these".to_owned());
            assert_eq!(items.next(), Some(Err(why)));
            assert_eq!(items.next(), None);
        }
    });
}

#[test]
fn a_panic_ends_a_stream_behind_its_items() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        for count in [0, 1, 100] {
            let mut items = client.panics(count).unwrap();
            assert!(
                items
                    .by_ref()
                    .take(count as usize)
                    .map(Result::unwrap)
                    .eq(0..count)
            );
            assert_eq!(items.next(), Some(Err(CallError::Panicked)));
            assert_eq!(items.next(), None);
        }
        // The handler has given the sink away, and panics all the same.
        let mut items = client.kept_and_panics().unwrap();
        let sink = town.kept();
        assert_eq!(items.next(), Some(Err(CallError::Panicked)));
        assert!(sink.wait_until_stopped(soon()));
        // Whoever has it panics.
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        let panics = thread::spawn(move || {
            sink.send(&1).unwrap();
            panic::resume_unwind(Box::new("as asked"));
        });
        assert!(panics.join().is_err());
        assert_eq!(items.next(), Some(Ok(1)));
        assert_eq!(items.next(), Some(Err(CallError::Panicked)));
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

#[test]
fn a_consumer_that_goes_stops_the_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        // It waits for credit; and it has not begun to.
        for taken in [0, 1, 100] {
            let mut items = client.count(0, u64::MAX).unwrap();
            assert!(items.by_ref().take(taken).all(|item| item.is_ok()));
            drop(items);
            town.have_noticed([Told::SendStopped]);
        }
        let mut items = client.silent().unwrap();
        items.cancel();
        assert!(items.is_over() && items.next().is_none());
        town.have_noticed([Told::Stopped]);
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

/// The place of a stream is free when its end has come: no more is needed for the next one.
#[test]
fn places_are_used_again() {
    let _limit = limit(here!());
    let rounds = u64::from(rounds_or(300, 30));
    each(
        || ServerOptions::new().in_flight(2),
        |town| {
            let client = town.client();
            for round in 0..rounds {
                let mut items = client.count(0, u64::MAX).unwrap();
                assert_eq!(items.next(), Some(Ok(0)));
                drop(items);
                assert_eq!(client.add(round, 1), Ok(round + 1));
                assert_eq!(all_of(client.count(0, 3).unwrap()), Ok(vec![0, 1, 2]));
            }
        },
    );
}

#[test]
fn a_stream_takes_a_place_until_it_ends() {
    let _limit = limit(here!());
    each(
        || ServerOptions::new().in_flight(1),
        |town| {
            let client = town.client();
            assert_eq!(client.add(1, 2), Ok(3));
            let items = client.silent().unwrap();
            let error = client.with_deadline(A_MOMENT).add(1, 2).unwrap_err();
            assert_eq!(error, CallError::TimedOut { sent: false });
            drop(items);
            assert_eq!(client.add(1, 2), Ok(3));
        },
    );
}

#[test]
fn the_deadline_of_a_stream_ends_it_as_a_whole() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let late = Some(Err(CallError::TimedOut { sent: true }));
        let started = Instant::now();
        let mut items = client.with_deadline(A_MOMENT).silent().unwrap();
        assert_eq!(items.next(), late);
        assert!(started.elapsed() >= A_MOMENT);
        assert_eq!(items.next(), None);
        town.have_noticed([Told::Stopped]);

        // Items come all the time, and the consumer is slow.
        let mut items = client.with_deadline(A_MOMENT).count(0, u64::MAX).unwrap();
        let end = items.find(|item| {
            thread::sleep(Duration::from_micros(100));
            item.is_err()
        });
        assert_eq!(end, late);
        assert_eq!(items.next(), None);
        town.have_noticed([Told::SendStopped]);

        // One that has passed before it begins.
        let error = client.with_deadline(Deadline::NOW).silent().map(drop);
        match error {
            Err(error) => assert_eq!(error, CallError::TimedOut { sent: false }),
            Ok(()) => town.have_noticed([Told::Stopped]),
        }
    });
}

#[test]
fn the_time_of_an_item_ends_a_stream_that_is_iterated_over() {
    let _limit = limit(here!());
    // Those that come have it as well.
    let time = A_MOMENT * slowness();
    each(ServerOptions::new, |town| {
        let client = town.client();
        let options = CallOptions::new().item_timeout(time);
        let mut items = client.with(options).kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        for number in 0..5 {
            sink.send(&number).unwrap();
            assert_eq!(items.next(), Some(Ok(number)));
        }
        let started = Instant::now();
        assert_eq!(items.next(), Some(Err(CallError::TimedOut { sent: true })));
        assert!(started.elapsed() >= time);
        assert_eq!(items.next(), None);
        assert!(sink.wait_until_stopped(soon()));
    });
}

#[test]
fn waiting_by_a_deadline_does_not_end_a_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let mut items = client.kept(&[1, 2, 3]).unwrap();
        let sink = town.kept();
        for number in 0..5 {
            let late = Some(Err(CallError::TimedOut { sent: true }));
            assert_eq!(items.next_by(A_MOMENT / 4), late);
            assert!(!items.is_over() && !sink.is_stopped());
            sink.send(&number).unwrap();
            assert_eq!(items.next_by(soon()), Some(Ok(number)));
        }
        drop(sink);
        assert_eq!(items.next_by(soon()), None);
    });
}

#[test]
fn an_item_over_the_limit_ends_a_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let connect = ConnectOptions::new().max_message(10_000);
        let client = (town.connect)(ClientOptions::new().connect_options(connect));
        let mut items = client.sized(&[9_900, 10_000, 5]).unwrap();
        assert_eq!(items.next().unwrap().unwrap().len(), 9_900);
        // With the header, and what the codec adds.
        let mut encoded = vec![0; 8];
        DefaultCodec::encode(&Blob::from(vec![1; 10_000]), &mut encoded).unwrap();
        let size = encoded.len() as u64;
        let too_large = CallError::TooLarge {
            limit: 10_000,
            size,
            reply: true,
        };
        assert_eq!(items.next(), Some(Err(too_large)));
        assert_eq!(items.next().map(drop), None);
        let limit = 10_000;
        assert_eq!(town.told(), Told::TooLarge { limit, size });
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

#[test]
fn an_item_that_cannot_be_decoded_ends_a_stream() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        // The first method, whose items are of another type.
        let mut items: Items<String> = client
            .channel()
            .open(0, &(1_u64, u64::MAX), CallOptions::new())
            .unwrap();
        let error = items.next().unwrap().unwrap_err();
        assert!(matches!(error, CallError::Decode(_)), "{error:?}");
        assert_eq!(items.next(), None);
        town.have_noticed([Told::SendStopped]);
    });
}

#[test]
fn a_call_is_no_stream_and_a_stream_is_no_call() {
    let _limit = limit(here!());
    each(ServerOptions::new, |town| {
        let client = town.client();
        let channel = client.channel();
        let options = CallOptions::new();
        let add = 8;
        assert_eq!(channel.call(add, &(1_u64, 2_u64), options), Ok(3_u64));
        for method in [add, 99, u32::MAX] {
            let mut items: Items<u64> =
                channel.open(method, &(1_u64, 2_u64), options).unwrap();
            let error = items.next().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
            assert_eq!(items.next(), None);
        }
        let error = channel
            .call::<_, u64>(0, &(1_u64, 2_u64), options)
            .unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
        // Arguments that are none.
        let mut items: Items<u64> = channel.open(0, &"no", options).unwrap();
        let error = items.next().unwrap().unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
        assert_eq!(client.add(1, 2), Ok(3));
    });
}

