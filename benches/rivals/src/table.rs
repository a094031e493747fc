//! The tables, in Markdown.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::measure::{Series, Turns};
use crate::options::Options;
use crate::outcome::find;
use crate::pair::Turn;
use crate::peers::{self, Peer};
use crate::scenario::Scenario;
use crate::statistics::{median, ratio};
use crate::syscalls;

/// What was measured, and how.
pub(crate) fn introduction(options: &Options) -> String {
    let counted = match syscalls::counter() {
        _ if !options.count_syscalls => "not counted".to_owned(),
        Some(counter) => format!("counted by `{counter}`, in a turn of their own"),
        None => "not counted: neither `perf` nor `strace` can do it here".to_owned(),
    };
    let mut text = format!(
        "Echoes between two processes: medians of {} rounds of new processes, in which all take turns of {:?}.\n\
         Ratios are of requests per second, where more is better, and of processor time, where less is; each is the \
         median of the rounds' ratios.\n\
         Processor time is of the client + the server, for each request.\n\
         System calls are of the client + the server, for each request; they are {counted}.\n\
         {} bytes are a struct, any other size is bytes.\n\n\
         {}.\n\n\
         | | how it is used |\n|---|---|\n",
        options.rounds,
        options.turn,
        Scenario::SMALL,
        machine(),
    );
    for peer in &options.peers {
        let _ = writeln!(text, "| {} | {} |", title(*peer), peer.how());
    }
    text
}

/// A peer's name and version.
pub(crate) fn title(peer: &dyn Peer) -> String {
    match peer.package().map(|package| (package, version(package))) {
        Some((package, Some(version))) if package == peer.name() => format!("{package} {version}"),
        Some((package, Some(version))) => format!("{} ({package} {version})", peer.name()),
        _ => peer.name().to_owned(),
    }
}

/// That of a package in this program.
fn version(package: &str) -> Option<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let name = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&name)?.1.split('"').next()
}

/// The machine, as far as it says what it is.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |name| name.trim_start_matches([' ', '\t', ':']));
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    [
        std::env::consts::OS,
        system.trim(),
        std::env::consts::ARCH,
        model,
        &format!("{cores} cores"),
    ]
    .into_iter()
    .filter(|word| !word.is_empty())
    .collect::<Vec<_>>()
    .join(", ")
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A number of microseconds or of calls with as many digits as mean something.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0 {
            under if under < 10.0 => 2,
            under if under < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digits$}", self.0)
    }
}

/// The table of one scenario.
pub(crate) fn table(scenario: &Scenario, all: &[Series], options: &Options) -> String {
    let against = options.against.name();
    let bases = [find(all, peers::BARE), find(all, against)];
    let mut text = format!(
        "\n### {scenario}\n\n\
         | | requests/s | to bare | to {against} | p50 µs | p99 µs \
         | processor µs | to bare | to {against} | system calls |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for series in all {
        let row = match &series.result {
            Ok(measured) => row(measured, bases),
            Err(missing) => format!("{missing} | | | | | | | |"),
        };
        let _ = writeln!(text, "| {} | {row} |", series.peer.name());
    }
    text
}

fn row(measured: &Turns, bases: [Option<&Turns>; 2]) -> String {
    let ratios = |value: fn(&Turn) -> f64| {
        let ratios = bases.map(|base| {
            // Where the system counts processor time coarsely, there may be none.
            let ratio = base.map(|base| ratio(measured, base, value));
            let ratio = ratio.filter(|ratio| ratio.is_normal());
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
        });
        ratios.join(" | ")
    };
    let value = |value: fn(&Turn) -> f64| median(measured.turns.iter().map(value));
    let cpu = |cpu: fn(&Turn) -> Duration| {
        let of_each = |turn| microseconds(cpu(turn)) / turn.requests as f64;
        Short(median(measured.turns.iter().map(of_each)))
    };
    let syscalls = measured
        .syscalls
        .map(|calls| format!("{} + {}", Short(calls.client), Short(calls.server)));
    format!(
        "{:.0} | {} | {} | {} | {} + {} | {} | {}",
        value(Turn::rate),
        ratios(Turn::rate),
        Short(value(|turn| microseconds(turn.p50))),
        Short(value(|turn| microseconds(turn.p99))),
        cpu(|turn| turn.client_cpu),
        cpu(|turn| turn.server_cpu),
        ratios(Turn::cpu),
        syscalls.unwrap_or_default(),
    )
}
