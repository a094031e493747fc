//! Rounds in which all peers take turns, so that whatever else the machine does meets all of them.

use std::io;

use crate::options::Options;
use crate::pair::{Pair, Turn};
use crate::peers::Peer;
use crate::scenario::Scenario;
use crate::syscalls::{self, Syscalls};

/// What one peer has come to in one scenario.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) peer: &'static dyn Peer,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// A turn of each round.
    Measured {
        turns: Vec<Turn>,
        syscalls: Option<Syscalls>,
    },
    /// It cannot do that, and why.
    Unable(&'static str),
    /// It should have, but has not.
    Failed(io::Error),
}

impl Series {
    pub(crate) fn turns(&self) -> Option<&[Turn]> {
        match &self.outcome {
            Outcome::Measured { turns, .. } => Some(turns),
            Outcome::Unable(_) | Outcome::Failed(_) => None,
        }
    }
}

/// One of the peers while it is measured.
struct Running {
    pair: Pair,
    turns: Vec<Turn>,
    syscalls: Option<Syscalls>,
}

fn start(peer: &dyn Peer, scenario: &Scenario, options: &Options) -> io::Result<Running> {
    let mut pair = Pair::start(peer, scenario)?;
    // What is warm stays warm.
    pair.turn(scenario.turn(options.turn) / 5)?;
    Ok(Running {
        pair,
        turns: Vec::new(),
        syscalls: None,
    })
}

/// Measures all peers in one scenario.
pub(crate) fn measure(scenario: &Scenario, options: &Options) -> Vec<Series> {
    let mut all: Vec<(&'static dyn Peer, Result<Running, Outcome>)> = options
        .peers
        .iter()
        .map(|&peer| {
            let running = match peer.unable(scenario) {
                Some(why) => Err(Outcome::Unable(why)),
                None => start(peer, scenario, options).map_err(Outcome::Failed),
            };
            (peer, running)
        })
        .collect();
    let turn = scenario.turn(options.turn);
    let count = all.len();
    for round in 0..options.rounds {
        // Each gets its turn right after each of the others.
        for place in 0..count {
            step(&mut all[(round + place) % count].1, |running| {
                running.turns.push(running.pair.turn(turn)?);
                Ok(())
            });
        }
    }
    if options.count_syscalls && syscalls::counter().is_some() {
        for (_, running) in &mut all {
            step(running, |running| {
                let pair = &mut running.pair;
                let count = syscalls::count(pair.processes(), || Ok(pair.turn(turn)?.requests))?;
                running.syscalls = Some(count);
                Ok(())
            });
        }
    }
    all.into_iter()
        .map(|(peer, running)| Series {
            peer,
            outcome: running.map_or_else(|outcome| outcome, finish),
        })
        .collect()
}

/// Does something with a peer that has not failed.
fn step(running: &mut Result<Running, Outcome>, what: impl FnOnce(&mut Running) -> io::Result<()>) {
    if let Ok(so_far) = running
        && let Err(error) = what(so_far)
    {
        *running = Err(Outcome::Failed(error));
    }
}

fn finish(running: Running) -> Outcome {
    match running.pair.finish() {
        Ok(()) => Outcome::Measured {
            turns: running.turns,
            syscalls: running.syscalls,
        },
        Err(error) => Outcome::Failed(error),
    }
}
