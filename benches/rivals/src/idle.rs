//! What connections cost that nobody uses.

use std::fmt::Write;
use std::time::Duration;

use crate::options::Options;
use crate::outcome::Of;
use crate::pair::Pair;
use crate::scenario::{Cores, Scenario};
use crate::table::{Short, microseconds};

/// The processor time of client and server, and in how much time.
#[derive(Debug)]
pub(crate) struct Idle {
    used: [Duration; 2],
    during: Duration,
}

/// As many connections as there ever are.
pub(crate) fn scenarios(options: &Options) -> Vec<Scenario> {
    let connections = options.connections.iter().max();
    let scenario = |&connections| Scenario {
        size: Scenario::SMALL,
        outstanding: 1,
        connections,
        cores: Cores::Any,
    };
    connections.map(scenario).into_iter().collect()
}

/// Leaves the connections of one peer after the other alone, once each has made calls.
pub(crate) fn measure(scenario: &Scenario, options: &Options) -> Vec<Of<Idle>> {
    let during = options.turn * 5;
    let peers = options.peers.iter();
    peers
        .map(|&peer| {
            Of::begin(peer, peer.unable(scenario), || {
                let mut pair = Pair::start(peer, scenario)?;
                pair.turn(scenario.turn(options.turn))?;
                let used = pair.idle(during)?;
                pair.finish()?;
                Ok(Idle { used, during })
            })
        })
        .collect()
}

/// The table of one scenario.
pub(crate) fn table(scenario: &Scenario, all: &[Of<Idle>]) -> String {
    let mut text = format!(
        "\n### Idle connections: {}\n\n\
         Each has made calls. Asking the processes for the time that they have used is a part of it.\n\n\
         | | processor µs of each second, client + server |\n|---|--:|\n",
        scenario.connections,
    );
    for of in all {
        let used = match &of.result {
            Ok(Idle { used, during }) => {
                let [client, server] = used.map(|used| microseconds(used) / during.as_secs_f64());
                format!("{} + {}", Short(client), Short(server))
            }
            Err(missing) => missing.to_string(),
        };
        let _ = writeln!(text, "| {} | {used} |", of.peer.name());
    }
    text
}
