//! Rounds in which all peers take turns, so that whatever else the machine does meets all of them.

use std::io;

use crate::options::Options;
use crate::outcome::Of;
use crate::pair::{Pair, Turn};
use crate::peers::Peer;
use crate::scenario::Scenario;
use crate::syscalls::{self, Syscalls};

/// What one peer has come to in one scenario.
pub(crate) type Series = Of<Turns>;

/// A turn of each round.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) turns: Vec<Turn>,
    pub(crate) syscalls: Option<Syscalls>,
}

/// One of the peers while it is measured.
struct Running {
    pair: Pair,
    measured: Turns,
}

fn start(peer: &dyn Peer, scenario: &Scenario, options: &Options) -> io::Result<Running> {
    let mut pair = Pair::start(peer, scenario)?;
    // What is warm stays warm.
    pair.turn(scenario.turn(options.turn) / 5)?;
    Ok(Running {
        pair,
        measured: Turns {
            turns: Vec::new(),
            syscalls: None,
        },
    })
}

/// Measures all peers in one scenario.
pub(crate) fn measure(scenario: &Scenario, options: &Options) -> Vec<Series> {
    let peers = options.peers.iter();
    let mut all: Vec<Of<Running>> = peers
        .map(|&peer| {
            Of::begin(peer, peer.unable(scenario), || {
                start(peer, scenario, options)
            })
        })
        .collect();
    let turn = scenario.turn(options.turn);
    let count = all.len();
    for round in 0..options.rounds {
        // Each gets its turn right after each of the others.
        for place in 0..count {
            all[(round + place) % count].step(|Running { pair, measured }| {
                measured.turns.push(pair.turn(turn)?);
                Ok(())
            });
        }
    }
    if options.count_syscalls && syscalls::counter().is_some() {
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
        .map(|running| running.finish(finish))
        .collect()
}
