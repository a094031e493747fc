//! What a call costs does not depend on how many others wait, and neither does it to give one up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use pipetalk::tokio::{Client, Stream, memory};
use pipetalk::{CallError, CallOptions, ClientOptions};

use util::tasks::one_thread;
use util::{here, is_quick, limit, soon};

/// How much time this thread has had: nobody else's counts, and neither do waits.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

type Calls<'a> = Vec<Pin<Box<dyn Future<Output = Result<u32, CallError>> + 'a>>>;

/// The time for which so many calls wait that have one.
fn patience(count: usize) -> Duration {
    Duration::from_millis(500) + Duration::from_micros(100) * count as u32
}

/// What becomes of calls.
type Fate = fn(Calls<'_>);

/// The time that it costs to begin so many calls to a server that says how many it takes, but no more, and to end them in
/// some way.
fn cost(count: usize, in_flight: u32, fate: Option<Fate>) -> Duration {
    one_thread().block_on(async {
        let (near, far) = memory::pair();
        let client: Client<u32, u32> = ClientOptions::new().over_tokio(near).unwrap();
        let limit = [&b"PTLK\x02\x01\x06\x04\x00"[..], &in_flight.to_le_bytes()].concat();
        let codec = <pipetalk::DefaultCodec as pipetalk::Codec>::NAME;
        let codec = [&[1, codec.len() as u8, 0], codec.as_bytes()].concat();
        let mut message = Vec::new();
        // Its first call has begun when the welcome comes.
        let mut nobody = Context::from_waker(Waker::noop());
        let options = CallOptions::new().deadline(soon());
        let mut first = Box::pin(client.call_with(&0, options));
        assert!(first.as_mut().poll(&mut nobody).is_pending());
        far.recv_message(&mut message, soon()).await.unwrap();
        far.send(&[limit, codec].concat(), soon()).await.unwrap();
        while client.channel().server().is_none() {
            tokio::task::yield_now().await;
        }

        let before = worked();
        let options = CallOptions::new().deadline(match fate {
            None => patience(count).into(),
            Some(_) => soon(),
        });
        let mut calls: Calls<'_> = Vec::new();
        for _ in 0..count {
            calls.push(Box::pin(client.call_with(&1, options)));
        }
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut nobody).is_pending());
        }
        match fate {
            Some(fate) => fate(calls),
            None => {
                for call in calls {
                    let error = call.await.unwrap_err();
                    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
                }
            }
        }
        worked() - before
    })
}

/// Four times as many cost four times as much, or somewhat more, but not sixteen times as much.
#[track_caller]
fn assert_linear(what: &str, cost: impl Fn(usize) -> Duration) {
    let few_calls = if is_quick() { 2_000 } else { 10_000 };
    let mut seen = Vec::new();
    // Something else may get in between now and then.
    for _ in 0..3 {
        let (few, many) = (cost(few_calls), cost(4 * few_calls));
        let times = many.as_secs_f64() / few.as_secs_f64();
        println!("{what}: {few:?}, and {many:?} for four times as many");
        if times < 8.0 {
            return;
        }
        seen.push(times);
    }
    panic!("{what}: four times as many cost {seen:?} times as much");
}

const FATES: [(&str, Option<Fate>); 3] = [
    ("run out of time", None),
    (
        "are dropped",
        Some(|calls| calls.into_iter().for_each(drop)),
    ),
    (
        "are dropped, the last first",
        Some(|mut calls| while calls.pop().is_some() {}),
    ),
];

#[test]
fn calls_that_wait_for_room_cost_the_same_however_many_they_are() {
    let _limit = limit(here!());
    for (how, fate) in FATES {
        let what = format!("calls that wait for room and {how}");
        assert_linear(&what, |count| cost(count, 1, fate));
    }
}

#[test]
fn calls_that_wait_to_be_sent_cost_the_same_however_many_they_are() {
    let _limit = limit(here!());
    for (how, fate) in FATES {
        let what = format!("calls that wait to be sent and {how}");
        assert_linear(&what, |count| cost(count, 50_000, fate));
    }
}
