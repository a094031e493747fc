//! What a hostile or careless client does to its neighbours: a server with default limits, an attacker and a
//! well-behaved client, each in a process of its own. While the attack goes on, none of the neighbour's calls may run
//! out of its second, and the server's memory stays within what a laptop bears.
//!
//! What each peer is answered is in `calls`; this is about everybody else.

mod attack;
mod target;

use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{Client, ClientOptions};

use util::{Actor, Place, here, is_quick, is_wine, limit, shout, slowness};

use crate::alone::alone;
use target::{Reply, Request};

/// How long each call of the neighbour may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most memory that the server may hold.
const MEMORY: u64 = 300 << 20;

/// How long an attack goes on at least; in a quick run a fifth of it.
const ATTACK: Duration = Duration::from_millis(500);

/// Runs an attack against every kind of server.
fn withstand(attack: &str) {
    let _alone = alone();
    let attack_time = if is_quick() { ATTACK / 5 } else { ATTACK };
    if is_wine() {
        shout(&format!(
            "{attack}: a crowd is {} under Wine, 300 elsewhere",
            attack::crowd_size()
        ));
    }
    for server in target::KINDS {
        let place = Place::new();
        let mut serving = Actor::start("attacks:serve", &[server, place.name()]);
        assert_eq!(serving.says(), "serving");
        let neighbour: Client<Request, Reply> = ClientOptions::new()
            .timeout(PATIENCE * slowness())
            .connect(place.name())
            .unwrap();
        // It is there before the attacker is.
        assert_eq!(neighbour.call(&Request::Echo(0)), Ok(Reply::Echo(0)));
        let mut attacker = Actor::start("attacks:attack", &[attack, place.name()]);
        assert_eq!(attacker.says(), "attacking", "{attack} of {server}");
        let begun = Instant::now();
        let (done, everything) = mpsc::channel();
        let attacking = thread::spawn(move || {
            assert_eq!(attacker.says(), "done");
            done.send(()).unwrap();
            attacker
        });
        let mut slowest = Duration::ZERO;
        let mut calls = 0_u32;
        while begun.elapsed() < attack_time || everything.try_recv() == Err(TryRecvError::Empty) {
            let start = Instant::now();
            let called = neighbour.call(&Request::Echo(calls.into()));
            let took = start.elapsed();
            slowest = slowest.max(took);
            assert_eq!(
                called,
                Ok(Reply::Echo(calls.into())),
                "{attack} of {server}: call {calls} after {took:?}"
            );
            calls += 1;
        }
        let held = peak(&neighbour, &serving);
        attacking.join().unwrap().kill();
        // Others can connect, and find nothing left of the attacker.
        util::until("only the neighbour is connected", || {
            neighbour.channel().info().unwrap().connections == 1
        });
        let newcomer: Client<Request, Reply> = ClientOptions::new().connect(place.name()).unwrap();
        assert_eq!(newcomer.call(&Request::Echo(1)), Ok(Reply::Echo(1)));
        shout(&format!(
            "{attack} of {server}: {calls} calls, the slowest took {slowest:?}; {} MiB",
            held >> 20
        ));
        assert!(held < MEMORY, "{attack} of {server}: {held} bytes");
        drop((neighbour, newcomer));
        serving.release();
        serving.wait();
    }
}

/// The most memory that the server has held, by its own account and by the system's.
fn peak(neighbour: &Client<Request, Reply>, serving: &Actor) -> u64 {
    let allocated = match neighbour.call(&Request::Peak) {
        Ok(Reply::Echo(bytes)) => bytes,
        other => panic!("{other:?}"),
    };
    allocated.max(resident(serving.id()).unwrap_or(0))
}

/// The most memory of the machine that the process has had at once, where the system tells.
fn resident(process: u32) -> Option<u64> {
    if !cfg!(target_os = "linux") {
        // Under Wine there is such a file as well, of whichever process has that number outside.
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}

/// The parts that other processes play.
pub(crate) fn play(part: &str, args: &[&str]) {
    let _limit = limit(part);
    match (part, args) {
        ("serve", [kind, name]) => target::serve(kind, name),
        ("attack", [attack, name]) => attack::run(attack, name),
        _ => panic!("nobody plays {part} with {args:?}"),
    }
}

macro_rules! attacks {
    ($($(#[$meta:meta])* $test:ident: $attack:literal;)+) => {$(
        #[test]
        $(#[$meta])*
        fn $test() {
            let _limit = limit(here!());
            withstand($attack);
        }
    )+};
}

attacks! {
    connections_that_say_hello_and_no_more: "greeted";
    connections_that_say_nothing: "silent";
    connections_that_come_and_go: "churn";
    #[cfg(unix)]
    half_of_a_large_message_on_many_connections: "halves";
    large_requests_without_end: "large requests";
    large_notifications_without_end: "large notifications";
    replies_that_nobody_reads: "unread replies";
    streams_without_credit: "opens";
    streams_that_nobody_reads: "unread items";
    subscribers_that_do_not_read: "subscribers";
    cancels_without_end: "cancels";
    slow_requests_of_one_client: "slow";
    panics_whose_payload_panics: "bombs";
    elements_that_cost_nothing_to_send: "units";
    elements_that_grow_when_decoded: "wide";
    #[cfg(unix)]
    bytes_one_by_one: "dribble";
    #[cfg(unix)]
    the_end_of_writing_and_no_reading: "half-closed";
    #[cfg(target_os = "linux")]
    descriptors_whose_closing_lingers: "descriptors";
}

/// The neighbour itself has no part in what is told of the attack: without one, it is served.
#[test]
fn nothing_at_all() {
    let _limit = limit(here!());
    withstand("nothing");
}
