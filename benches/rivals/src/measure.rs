//! Rounds in which all peers take turns, so that whatever else the machine does meets all of them.

use crate::options::Options;
use crate::outcome::Of;
use crate::pair::{Pair, Turn};
use crate::scenario::Scenario;
use crate::syscalls::{self, Syscalls};

/// What one peer has come to in one scenario.
pub(crate) type Series = Of<Turns>;

/// A turn of each round.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    pub(crate) turns: Vec<Turn>,
    pub(crate) syscalls: Option<Syscalls>,
}

/// One of the peers while it is measured.
struct Running {
    pair: Pair,
    measured: Turns,
}

/// Measures all peers in one scenario.
///
/// Each round has processes of its own. Where their memory lies decides what they have to wait for the caches, which with
/// large messages is more than the peers differ: it must not be the same luck in all rounds.
pub(crate) fn measure(scenario: &Scenario, options: &Options) -> Vec<Series> {
    let peers = options.peers.iter();
    let mut all: Vec<Series> = peers
        .map(|&peer| Of::begin(peer, peer.unable(scenario), || Ok(Turns::default())))
        .collect();
    for round in 0..options.rounds {
        all = measure_round(round, all, scenario, options);
    }
    all
}

fn measure_round(
    round: usize,
    all: Vec<Series>,
    scenario: &Scenario,
    options: &Options,
) -> Vec<Series> {
    let turn = scenario.turn(options.turn);
    let start = |series: Series| {
        let peer = series.peer;
        series.and_then(|measured| {
            let mut pair = Pair::start(peer, scenario)?;
            // What is warm stays warm.
            pair.turn(turn / 5)?;
            Ok(Running { pair, measured })
        })
    };
    let mut all: Vec<Of<Running>> = all.into_iter().map(start).collect();
    let count = all.len();
    // Each gets its turn right after each of the others.
    for place in 0..count {
        all[(round + place) % count].step(|Running { pair, measured }| {
            measured.turns.push(pair.turn(turn)?);
            Ok(())
        });
    }
    let last = round + 1 == options.rounds;
    if last && options.count_syscalls && syscalls::counter().is_some() {
        for running in &mut all {
            running.step(|Running { pair, measured }| {
                let count = syscalls::count(pair.processes(), || Ok(pair.turn(turn)?.requests))?;
                measured.syscalls = Some(count);
                Ok(())
            });
        }
    }
    let finish = |Running { pair, measured }| pair.finish().map(|()| measured);
    all.into_iter()
        .map(|running| running.and_then(finish))
        .collect()
}
