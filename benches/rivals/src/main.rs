//! How fast typed calls are beside what one would use instead, and beside the bare system.
//!
//! Each peer is measured by two processes, copies of this program: a server that echoes, and a client that asks in a
//! closed loop. All pairs of a scenario are connected at once and take turns, so that whatever else the machine does
//! meets all of them. What is reported is the median of the rounds.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- --help
//! ```

mod chart;
mod child;
mod load;
mod measure;
mod message;
mod options;
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

use measure::Outcome;
use options::Options;
use peers::Peer;
use scenario::Scenario;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        [
            "--serve",
            peer,
            address,
            size,
            outstanding,
            connections,
            cores,
        ] => part(peer, [size, outstanding, connections, cores])
            .and_then(|(peer, scenario)| child::serve(peer, &scenario, address)),
        [
            "--ask",
            peer,
            address,
            size,
            outstanding,
            connections,
            cores,
        ] => part(peer, [size, outstanding, connections, cores])
            .and_then(|(peer, scenario)| child::ask(peer, &scenario, address)),
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
fn part(peer: &str, words: [&str; 4]) -> io::Result<(&'static dyn Peer, Scenario)> {
    let peer = peers::find(peer).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((peer, Scenario::from_words(words)?))
}

fn run(options: &Options) -> io::Result<()> {
    let mut tables: Box<dyn Write> = match &options.markdown {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stdout()),
    };
    write!(tables, "{}", table::introduction(options))?;
    let cores = pin::cores()?.len();
    let mut measured = Vec::new();
    let mut failures = 0;
    for (number, scenario) in options.scenarios.iter().enumerate() {
        let all = options.scenarios.len();
        if let Some(why) = scenario.unmeasurable(cores) {
            eprintln!("{} of {all}: {scenario}: not measured: {why}", number + 1);
            continue;
        }
        eprintln!("{} of {all}: {scenario}", number + 1);
        let series = measure::measure(scenario, options);
        for series in &series {
            if let Outcome::Failed(error) = &series.outcome {
                eprintln!("{} has failed: {error}", series.peer.name());
                failures += 1;
            }
        }
        write!(tables, "{}", table::table(scenario, &series))?;
        tables.flush()?;
        measured.push((*scenario, series));
    }
    if let (Some(path), Some(chart)) = (&options.svg, chart::chart(&measured)) {
        fs::write(path, chart)?;
    }
    match failures {
        0 => Ok(()),
        some => Err(io::Error::other(format!("{some} have failed"))),
    }
}
