//! How many instructions a call costs each side: counted by Valgrind, so that no noise of the machine is in it.
//!
//! ```text
//! cargo test --release -p pipetalk-tests --features tokio --test instructions -- --nocapture
//! ```

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use pipetalk::tokio as asynchronous;
use pipetalk::{Blob, Call, Client, Server};
use tokio::runtime::{Builder, Runtime};

use util::{Actor, Deserialize, Place, Serialize, announce, here, limit, skip, wait_for_release};

/// 64 bytes, as the benches have them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Small {
    number: u64,
    size: u64,
    place: [f64; 5],
    flags: (u16, u16),
}

const SMALL: Small = Small {
    // Encoded at full length.
    number: u64::MAX,
    size: u64::MAX,
    place: [0.5; 5],
    flags: (u16::MAX, u16::MAX),
};

/// How many calls are made before those that are counted, and how many are counted.
const WARM: u64 = 1_000;
const CALLS: u64 = 10_000;

/// Whether instructions can be counted, and mean something; says so if not.
fn can_count(item: &str) -> bool {
    if cfg!(debug_assertions) {
        skip(item, "only what is optimised counts: needs --release");
        return false;
    }
    let valgrind = Command::new("valgrind").arg("--version").output();
    let can = valgrind.is_ok_and(|valgrind| valgrind.status.success());
    if !can {
        skip(item, "needs valgrind");
    }
    can
}

fn under_valgrind(part: &str, args: &[&str], log: &Path) -> Actor {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]);
    let mut log_file = std::ffi::OsString::from("--log-file=");
    log_file.push(log);
    valgrind.arg(log_file).arg(env::current_exe().unwrap());
    Actor::start_with(valgrind, part, args)
}

/// What Valgrind has counted: "==12345== I   refs:      1,234,567".
fn instructions(log: &Path) -> u64 {
    let log = fs::read_to_string(log).unwrap();
    let line = log.lines().find(|line| line.contains("refs:")).unwrap();
    let (_, number) = line.split_once("refs:").unwrap();
    number.trim().replace(',', "").parse().unwrap()
}

/// How many instructions so many calls cost one side, with all that comes before and after them.
fn count(counts_server: bool, driver: &str, calls: u64) -> u64 {
    let place = Place::new();
    let log = place.directory().join("log");
    let calls = calls.to_string();
    let serve = [driver, place.name()];
    let call = [driver, place.name(), &calls];
    let mut server = match counts_server {
        true => under_valgrind("serve", &serve, &log),
        false => Actor::start("serve", &serve),
    };
    assert_eq!(server.says(), "listening");
    let mut client = match counts_server {
        true => Actor::start("call", &call),
        false => under_valgrind("call", &call, &log),
    };
    assert_eq!(client.says(), "done");
    client.release();
    client.wait();
    server.wait();
    instructions(&log)
}

/// Asserts what a call costs a client and a server at the most: about a seventh more than when it was last looked at, for
/// a compiler of another version. Whoever makes it cost less sets it lower.
#[track_caller]
fn assert_cost(test: &str, driver: &str, most: [u64; 2]) {
    let _limit = limit(test);
    if !can_count(test) {
        return;
    }
    let cost = [false, true]
        .map(|server| (count(server, driver, WARM + CALLS) - count(server, driver, WARM)) / CALLS);
    println!("{driver}: {cost:?} instructions for a call on the client and on the server");
    // Less than this cannot be a call.
    assert!(cost.iter().all(|cost| *cost > 300), "{driver}: {cost:?}");
    assert!(
        cost[0] <= most[0] && cost[1] <= most[1],
        "{driver}: {cost:?}, and not {most:?}"
    );
}

#[test]
fn a_blocking_call() {
    assert_cost(here!(), "blocking", [2_700, 2_250]);
}

#[test]
fn a_blocking_call_with_a_blob_of_1_kib() {
    assert_cost(here!(), "blob", [2_550, 1_900]);
}

#[test]
fn a_call_of_a_task() {
    assert_cost(here!(), "1", [6_900, 6_050]);
}

#[test]
fn a_call_of_one_task_among_64() {
    assert_cost(here!(), "64", [4_600, 3_050]);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

mod actors {
    use super::*;

    #[test]
    fn actor() {
        util::play(&[("", play)]);
    }

    fn play(part: &str, args: &[&str]) {
        match (part, args) {
            ("serve", ["blocking", name]) => {
                let server = Server::bind(*name).unwrap();
                announce("listening");
                server.serve(|small: Small, _: &Call| small).unwrap();
            }
            ("serve", ["blob", name]) => {
                let server = Server::bind(*name).unwrap();
                announce("listening");
                server.serve(|blob: Blob, _: &Call| blob).unwrap();
            }
            ("serve", [_, name]) => runtime().block_on(async {
                let server = asynchronous::Server::bind(*name).unwrap();
                announce("listening");
                let echo = |small: Small, _| async move { small };
                server.serve(echo).await.unwrap();
            }),
            ("call", ["blocking", name, calls]) => {
                let client: Client<Small, Small> = Client::connect(*name).unwrap();
                for _ in 0..calls.parse().unwrap() {
                    assert_eq!(client.call(&SMALL).unwrap(), SMALL);
                }
                announce("done");
                wait_for_release();
                client.channel().stop().unwrap();
            }
            ("call", ["blob", name, calls]) => {
                let client: Client<Blob, Blob> = Client::connect(*name).unwrap();
                let blob = Blob::from(vec![7; 1 << 10]);
                for _ in 0..calls.parse().unwrap() {
                    assert_eq!(client.call(&blob).unwrap(), blob);
                }
                announce("done");
                wait_for_release();
                client.channel().stop().unwrap();
            }
            ("call", [tasks, name, calls]) => runtime().block_on(async {
                let client = asynchronous::Client::connect(*name).await.unwrap();
                let tasks: u64 = tasks.parse().unwrap();
                let calls: u64 = calls.parse().unwrap();
                let callers: Vec<_> = (0..tasks)
                    .map(|task| {
                        let client: asynchronous::Client<Small, Small> = client.clone();
                        let calls = calls / tasks + u64::from(task < calls % tasks);
                        tokio::spawn(async move {
                            for _ in 0..calls {
                                assert_eq!(client.call(&SMALL).await.unwrap(), SMALL);
                            }
                        })
                    })
                    .collect();
                for caller in callers {
                    caller.await.unwrap();
                }
                announce("done");
                wait_for_release();
                client.channel().stop().await.unwrap();
            }),
            _ => panic!("no such part: {part} {args:?}"),
        }
    }
}
