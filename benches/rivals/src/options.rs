//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::peers::{self, Peer};
use crate::scenario::{Cores, Scenario};

pub(crate) const USAGE: &str = "\
usage: cargo run --release -- [OPTION]...

Measures everything, which takes the better part of an hour, unless it is told what.

  --quick                   a tiny run that only shows that it works
  --peers NAME,...          only these, of: PEERS
  --against NAME            to whom the ratios are, besides bare; pipetalk unless given
  --sizes BYTES,...         64,1024,65536,1048576 unless given
  --outstanding N,...       1,8,64 unless given: requests at once on each connection
  --connections N,...       1,8,64,1000 unless given
  --cores 1,2,any           all of these unless given: both processes on one core, each on its own, not pinned
  --rounds N                7 unless given
  --seconds S               of each turn; 0.2 unless given
  --parts echoes,first,idle all of these unless given: the tables of echoes, the first call of a new process,
                            and the cost of as many connections as there are when nobody uses them
  --no-syscalls             not to count system calls
  --markdown FILE           where the tables go, instead of to the standard output
  --svg FILE                where the chart goes";

/// What there is to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Echoes,
    /// The first call of a new process.
    First,
    /// Connections that nobody uses.
    Idle,
}

impl Part {
    fn from_word(word: &str) -> Option<Part> {
        match word {
            "echoes" => Some(Part::Echoes),
            "first" => Some(Part::First),
            "idle" => Some(Part::Idle),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) peers: Vec<&'static dyn Peer>,
    /// To whom the ratios are, besides the bare system.
    pub(crate) against: &'static dyn Peer,
    parts: Vec<Part>,
    sizes: Vec<usize>,
    outstanding: Vec<usize>,
    pub(crate) connections: Vec<usize>,
    pub(crate) cores: Vec<Cores>,
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
    pub(crate) count_syscalls: bool,
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
}

/// The elements of a list such as `1,8,64`.
fn list<T>(text: &str, element: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    text.split(',')
        .map(|word| element(word).ok_or_else(|| format!("cannot be: {word}")))
        .collect()
}

fn positive<T: FromStr + PartialOrd + From<u8>>(word: &str) -> Option<T> {
    word.parse().ok().filter(|number| *number > T::from(0))
}

impl Options {
    /// What the command line says, or what is wrong with it.
    pub(crate) fn parse(args: &[String]) -> Result<Options, String> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Options {
            peers: peers::ALL.to_vec(),
            against: peers::find(peers::OURS).ok_or("there is no peer of ours")?,
            parts: vec![Part::Echoes, Part::First, Part::Idle],
            sizes: vec![Scenario::SMALL, 1 << 10, 64 << 10, 1 << 20],
            outstanding: vec![1, 8, 64],
            connections: vec![1, 8, 64, 1000],
            cores: Cores::ALL.to_vec(),
            rounds: if quick { 1 } else { 7 },
            turn: Duration::from_millis(if quick { 20 } else { 200 }),
            count_syscalls: true,
            markdown: None,
            svg: None,
        };
        if quick {
            options.sizes = vec![Scenario::SMALL, 64 << 10];
            options.outstanding = vec![1, 64];
            options.connections = vec![1];
        }
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .map(String::as_str)
                    .ok_or("something is missing")
            };
            match arg.as_str() {
                "--quick" => {}
                "--peers" => options.peers = list(value()?, peers::find)?,
                "--against" => options.against = peers::find(value()?).ok_or("no such peer")?,
                "--sizes" => options.sizes = list(value()?, positive)?,
                "--outstanding" => options.outstanding = list(value()?, positive)?,
                "--connections" => options.connections = list(value()?, positive)?,
                "--cores" => options.cores = list(value()?, Cores::from_word)?,
                "--parts" => options.parts = list(value()?, Part::from_word)?,
                "--rounds" => {
                    options.rounds = positive(value()?).ok_or("no such number of rounds")?
                }
                "--seconds" => {
                    options.turn = positive(value()?)
                        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                        .ok_or("no such time")?;
                }
                "--no-syscalls" => options.count_syscalls = false,
                "--markdown" => options.markdown = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                other => return Err(format!("unknown: {other}")),
            }
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// All that are asked for, whether or not they can be measured.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let mut scenarios = Vec::new();
        for &cores in &self.cores {
            for &connections in &self.connections {
                for &outstanding in &self.outstanding {
                    scenarios.extend(self.sizes.iter().map(|&size| Scenario {
                        size,
                        outstanding,
                        connections,
                        cores,
                    }));
                }
            }
        }
        scenarios
    }
}

/// What there is to say on the command line.
pub(crate) fn usage() -> String {
    let names: Vec<_> = peers::ALL.iter().map(|peer| peer.name()).collect();
    USAGE.replace("PEERS", &names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn lists_make_all_their_combinations() {
        let options = parse("--sizes 64,128 --outstanding 1,8 --connections 3 --cores any");
        let scenarios = options.unwrap().scenarios();
        assert_eq!(scenarios.len(), 4);
        let last = Scenario {
            size: 128,
            outstanding: 8,
            connections: 3,
            cores: Cores::Any,
        };
        assert_eq!(scenarios.last(), Some(&last));
    }

    #[test]
    fn what_is_given_goes_before_what_is_quick() {
        let options = parse("--connections 5 --rounds 3 --quick --parts idle").unwrap();
        assert_eq!(options.connections, [5]);
        assert_eq!(options.rounds, 3);
        assert!(options.wants(Part::Idle) && !options.wants(Part::Echoes));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--sizes 0",
            "--peers nobody",
            "--against nobody",
            "--cores 3",
            "--rounds",
            "--rounds 0",
            "--seconds -1",
            "--fast",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
