//! The two processes of a pair, as seen by themselves: each is a copy of this program, and does what the lines on its
//! standard input say, until there are no more.

use std::io::{self, BufRead, Write};
use std::process;
use std::thread;
use std::time::Duration;

use cpu_time::ProcessTime;

use crate::load::Tally;
use crate::peers::{Listening, Peer};
use crate::pin;
use crate::scenario::{Cores, Scenario};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// Before this process has other threads, and on the core that the pair's cores give it.
fn prepare(role: Role, scenario: &Scenario) -> io::Result<()> {
    let core = match (scenario.cores, role, &pin::cores()?[..]) {
        (Cores::One, _, [first, ..]) => Some(*first),
        (Cores::Two, Role::Client, [first, _, ..]) => Some(*first),
        (Cores::Two, Role::Server, [_, second, ..]) => Some(*second),
        (Cores::Any, ..) => None,
        _ => return Err(io::Error::other("there are not the cores to be kept on")),
    };
    core.map_or(Ok(()), pin::to_core)?;
    allow_descriptors();
    Ok(())
}

/// As many as the system lets us have: a thousand connections take more than the usual limit.
#[cfg(unix)]
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, connecting says what is missing.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

#[cfg(windows)]
fn allow_descriptors() {}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Serves, says at what address, and then how much processor time it has used, whenever it is asked.
pub(crate) fn serve(peer: &dyn Peer, scenario: &Scenario, address: &str) -> io::Result<()> {
    prepare(Role::Server, scenario)?;
    thread::Builder::new().spawn(|| {
        for line in io::stdin().lock().lines() {
            let used = ProcessTime::try_now().map(|now| now.as_duration().as_nanos());
            let said = match (line.as_deref(), used) {
                (Ok("cpu"), Ok(used)) => say(&format!("cpu {used}")),
                _ => Err(io::ErrorKind::InvalidInput.into()),
            };
            if said.is_err() {
                process::exit(1);
            }
        }
        process::exit(0);
    })?;
    peer.serve(
        scenario,
        address,
        Listening(&|address| say(&format!("ready {address}"))),
    )
}

/// Connects, and then asks for as long as each line says.
pub(crate) fn ask(peer: &dyn Peer, scenario: &Scenario, address: &str) -> io::Result<()> {
    prepare(Role::Client, scenario)?;
    let mut load = peer.connect(scenario, address)?;
    say("ready -")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let time = match line.split_once(' ') {
            Some(("turn", time)) => Duration::from_nanos(time.parse().map_err(io::Error::other)?),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let Tally {
            mut latencies,
            elapsed,
            cpu,
        } = load.turn(time)?;
        latencies.sort_unstable();
        let percentile =
            |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
        say(&format!(
            "turn {} {} {} {} {}",
            latencies.len(),
            elapsed.as_nanos(),
            cpu.as_nanos(),
            percentile(50),
            percentile(99),
        ))?;
    }
    // Some peers never end by themselves.
    process::exit(0);
}
