//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::peers::{self, Peer};
use crate::scenario::{Cores, Scenario};

pub(crate) const USAGE: &str = "\
usage: cargo run --release -- [OPTION]...

  --quick                   a tiny run that only shows that it works
  --peers NAME,...          only these, of: PEERS
  --sizes BYTES,...         64,1024,65536,1048576 unless given
  --outstanding N,...       1,8,64 unless given: requests at once on each connection
  --connections N,...       1,8,64,1000 unless given
  --cores 1,2,any           all of these unless given: both processes on one core, each on its own, not pinned
  --rounds N                7 unless given
  --seconds S               of each turn; 0.2 unless given
  --no-syscalls             not to count system calls
  --markdown FILE           where the tables go, instead of to the standard output
  --svg FILE                where the chart goes";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) peers: Vec<&'static dyn Peer>,
    pub(crate) scenarios: Vec<Scenario>,
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
            scenarios: Vec::new(),
            rounds: if quick { 1 } else { 7 },
            turn: Duration::from_millis(if quick { 20 } else { 200 }),
            count_syscalls: true,
            markdown: None,
            svg: None,
        };
        let mut sizes = vec![Scenario::SMALL, 1 << 10, 64 << 10, 1 << 20];
        let mut outstanding = vec![1, 8, 64];
        let mut connections = vec![1, 8, 64, 1000];
        let mut cores = Cores::ALL.to_vec();
        if quick {
            (sizes, outstanding, connections) =
                (vec![Scenario::SMALL, 64 << 10], vec![1, 64], vec![1]);
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
                "--sizes" => sizes = list(value()?, positive)?,
                "--outstanding" => outstanding = list(value()?, positive)?,
                "--connections" => connections = list(value()?, positive)?,
                "--cores" => cores = list(value()?, Cores::from_word)?,
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
        for &cores in &cores {
            for &connections in &connections {
                for &outstanding in &outstanding {
                    options.scenarios.extend(sizes.iter().map(|&size| Scenario {
                        size,
                        outstanding,
                        connections,
                        cores,
                    }));
                }
            }
        }
        Ok(options)
    }
}

/// What there is to say on the command line.
pub(crate) fn usage() -> String {
    let names: Vec<_> = peers::ALL.iter().map(|peer| peer.name()).collect();
    USAGE.replace("PEERS", &names.join(", "))
}
