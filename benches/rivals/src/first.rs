//! The first call of a new process: from nothing to the reply.

use std::fmt::Write;
use std::time::Duration;

use crate::options::Options;
use crate::outcome::{Of, find};
use crate::pair::Host;
use crate::peers;
use crate::scenario::Scenario;
use crate::statistics::median;
use crate::table::{Short, microseconds};

/// How long each process took.
pub(crate) type Firsts = Of<Vec<Duration>>;

/// Small messages, wherever processes may run.
pub(crate) fn scenarios(options: &Options) -> Vec<Scenario> {
    let scenario = |&cores| Scenario {
        size: Scenario::SMALL,
        outstanding: 1,
        connections: 1,
        cores,
    };
    options.cores.iter().map(scenario).collect()
}

fn clients(options: &Options) -> usize {
    options.rounds * 10
}

/// Starts clients of all peers in turn.
pub(crate) fn measure(scenario: Scenario, options: &Options) -> Vec<Firsts> {
    // The very first of each is not counted, as the server is new too.
    let clients = clients(options) + 1;
    let peers = options.peers.iter();
    let mut all: Vec<_> = peers
        .map(|&peer| {
            let unable = peer.unable(&scenario).or(peer.one_client_only());
            Of::begin(peer, unable, || {
                Ok((Host::start(peer, scenario, clients)?, Vec::new()))
            })
        })
        .collect();
    let count = all.len();
    for round in 0..clients {
        for place in 0..count {
            all[(round + place) % count].step(|(host, firsts)| {
                let first = host.first_call()?;
                if round > 0 {
                    firsts.push(first);
                }
                Ok(())
            });
        }
    }
    let finish = |(host, firsts): (Host, _)| host.finish().map(|()| firsts);
    all.into_iter().map(|of| of.and_then(finish)).collect()
}

fn median_of(firsts: &[Duration]) -> f64 {
    median(firsts.iter().copied().map(microseconds))
}

/// The table of one scenario.
pub(crate) fn table(scenario: &Scenario, all: &[Firsts], options: &Options) -> String {
    let bare = find(all, peers::BARE).map(|firsts| median_of(firsts));
    let mut text = format!(
        "\n### The first call of a new process, {}\n\n\
         From before it connects, and before it has a runtime, to the reply: the median of {} processes.\n\n\
         | | µs | to bare |\n|---|--:|--:|\n",
        scenario.place(),
        clients(options),
    );
    for of in all {
        let (took, ratio) = match &of.result {
            Ok(firsts) => {
                let took = median_of(firsts);
                let ratio = bare.map(|bare| format!("{:.2}", took / bare));
                (Short(took).to_string(), ratio.unwrap_or_default())
            }
            Err(missing) => (missing.to_string(), String::new()),
        };
        let _ = writeln!(text, "| {} | {took} | {ratio} |", of.peer.name());
    }
    text
}
