//! The two processes of a pair, as seen by themselves: each is a copy of this program, and does what the lines on its
//! standard input say, until there are no more.

use std::io::{self, BufRead, Write};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

use crate::load::Tally;
use crate::peers::{Listening, Peer};
use crate::pin;
use crate::scenario::{Cores, Scenario};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    /// It asks for as long as it is told.
    Client,
    /// It asks once.
    FirstCall,
}

impl Role {
    const ALL: [Role; 3] = [Role::Server, Role::Client, Role::FirstCall];

    /// As a copy of this program is told.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Server => "--serve",
            Role::Client => "--ask",
            Role::FirstCall => "--ask-once",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }

    /// Does all that there is to do.
    pub(crate) fn play(
        self,
        peer: &dyn Peer,
        scenario: &Scenario,
        address: &str,
    ) -> io::Result<()> {
        prepare(self, scenario)?;
        match self {
            Role::Server => serve(peer, scenario, address),
            Role::Client => ask(peer, scenario, address),
            Role::FirstCall => ask_once(peer, scenario, address),
        }
    }
}

/// Before this process has other threads, and on the core that the pair's cores give it.
fn prepare(role: Role, scenario: &Scenario) -> io::Result<()> {
    let core = match (scenario.cores, role, &pin::cores()?[..]) {
        (Cores::One, _, [first, ..]) => Some(*first),
        (Cores::Two, Role::Server, [_, second, ..]) => Some(*second),
        (Cores::Two, Role::Client | Role::FirstCall, [first, _, ..]) => Some(*first),
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

/// Says how much processor time this process has used.
fn say_cpu() -> io::Result<()> {
    let used = ProcessTime::try_now()?.as_duration();
    say(&format!("cpu {}", used.as_nanos()))
}

/// Serves, says at what address, and then how much processor time it has used, whenever it is asked.
fn serve(peer: &dyn Peer, scenario: &Scenario, address: &str) -> io::Result<()> {
    thread::Builder::new().spawn(|| {
        for line in io::stdin().lock().lines() {
            let said = match line.as_deref() {
                Ok("cpu") => say_cpu(),
                _ => Err(io::ErrorKind::InvalidInput.into()),
            };
            if let Err(error) = said {
                eprintln!("rivals: a server: {error}");
                process::exit(1);
            }
        }
        // Some peers never end by themselves.
        process::exit(0);
    })?;
    peer.serve(
        scenario,
        address,
        Listening(&|address| say(&format!("ready {address}"))),
    )
}

/// Connects, and then does what each line says.
fn ask(peer: &dyn Peer, scenario: &Scenario, address: &str) -> io::Result<()> {
    let mut load = peer.connect(scenario, address)?;
    say("ready -")?;
    for line in io::stdin().lock().lines() {
        match line?.split_once(' ') {
            None => say_cpu()?,
            Some((_, time)) => {
                let time = Duration::from_nanos(time.parse().map_err(io::Error::other)?);
                say_tally(load.turn(time)?)?;
            }
        }
    }
    // Some peers never end by themselves.
    process::exit(0);
}

fn say_tally(tally: Tally) -> io::Result<()> {
    let Tally {
        mut latencies,
        elapsed,
        cpu,
    } = tally;
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        let place = latencies.len() * percent / 100;
        latencies.get(place).or(latencies.last()).copied()
    };
    say(&format!(
        "turn {} {} {} {} {}",
        latencies.len(),
        elapsed.as_nanos(),
        cpu.as_nanos(),
        percentile(50).unwrap_or_default(),
        percentile(99).unwrap_or_default(),
    ))
}

/// Connects and asks once, and says how long that took.
fn ask_once(peer: &dyn Peer, scenario: &Scenario, address: &str) -> io::Result<()> {
    let began = Instant::now();
    peer.connect(scenario, address)?.turn(Duration::ZERO)?;
    say(&format!("ready {}", began.elapsed().as_nanos()))?;
    // Some peers never end by themselves.
    process::exit(0);
}
