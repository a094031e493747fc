//! How fast typed calls are beside what one would use instead, and beside the bare system.
//!
//! Each peer is measured by two processes, copies of this program: a server that echoes, and a client that asks in a
//! closed loop. All pairs of a round are connected at once and take turns, so that whatever else the machine does meets
//! all of them, and each round has new ones. What is reported is the median of the rounds.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- --help
//! ```
//!
//! On a machine that does other things too, look at processor time and system calls rather than at requests per second.
//!
//! Under Wine every operation goes through a third process, `wineserver`, which is not pinned with the two. For all
//! three on one core, pin the command while no `wineserver` runs: `taskset -c 0 wine pipetalk-rivals.exe --cores any`.

mod chart;
mod child;
mod first;
mod idle;
mod load;
mod measure;
mod message;
mod options;
mod outcome;
mod pair;
mod peers;
#[cfg_attr(target_os = "linux", path = "../../pin/linux.rs")]
#[cfg_attr(windows, path = "../../windows/pin.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "../../pin/none.rs")]
mod pin;
mod scenario;
mod statistics;
mod syscalls;
mod table;

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;

use child::Role;
use options::{Options, Part};
use scenario::Scenario;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        [role, peer, address, ref scenario @ ..] if Role::from_word(role).is_some() => {
            play(role, peer, address, scenario)
        }
        ["--help"] => writeln!(io::stdout(), "{}", options::usage()),
        _ => match Options::parse(&args) {
            Ok(options) => run(&options),
            Err(wrong) => {
                eprintln!("{wrong}\n{}", options::usage());
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {}: {error}", words.get(1).unwrap_or(&""));
            ExitCode::FAILURE
        }
    }
}

/// The part that a copy of this process has.
fn play(role: &str, peer: &str, address: &str, scenario: &[&str]) -> io::Result<()> {
    match (
        Role::from_word(role),
        peers::find(peer),
        scenario.try_into(),
    ) {
        (Some(role), Some(peer), Ok(scenario)) => {
            role.play(peer, &Scenario::from_words(scenario)?, address)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn run(options: &Options) -> io::Result<()> {
    let mut tables: Box<dyn Write> = match &options.markdown {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stdout()),
    };
    write!(tables, "{}", table::introduction(options))?;
    let mut failures = 0;
    if options.wants(Part::Echoes) {
        let mut measured = Vec::new();
        for scenario in measurable(options.scenarios())? {
            let all = measure::measure(&scenario, options);
            failures += outcome::failures(&all);
            write!(tables, "{}", table::table(&scenario, &all, options))?;
            tables.flush()?;
            measured.push((scenario, all));
        }
        if let (Some(path), Some(chart)) = (&options.svg, chart::chart(&measured)) {
            fs::write(path, chart)?;
        }
    }
    if options.wants(Part::First) {
        for scenario in measurable(first::scenarios(options))? {
            let all = first::measure(scenario, options);
            failures += outcome::failures(&all);
            write!(tables, "{}", first::table(&scenario, &all, options))?;
            tables.flush()?;
        }
    }
    if options.wants(Part::Idle) {
        for scenario in measurable(idle::scenarios(options))? {
            let all = idle::measure(&scenario, options);
            failures += outcome::failures(&all);
            write!(tables, "{}", idle::table(&scenario, &all))?;
            tables.flush()?;
        }
    }
    match failures {
        0 => Ok(()),
        some => Err(io::Error::other(format!("{some} have failed"))),
    }
}

/// Says which is next, and passes over those that cannot be measured, saying why.
fn measurable(scenarios: Vec<Scenario>) -> io::Result<impl Iterator<Item = Scenario>> {
    let cores = pin::cores()?.len();
    let all = scenarios.len();
    let numbered = (1..).zip(scenarios);
    Ok(numbered.filter_map(move |(number, scenario)| {
        let why = scenario.unmeasurable(cores);
        let why_not = why.map_or(String::new(), |why| format!(": not measured: {why}"));
        eprintln!("{number} of {all}: {scenario}{why_not}");
        why.is_none().then_some(scenario)
    }))
}
