//! How often, and with how much, a test does what it does: as a rule quickly, and thoroughly where that is asked for.
//!
//! `PIPETALK_THOROUGH=1` is for CI, and a larger number for a night. Cases and assertions are the same.

use std::thread;

use crate::{is_wine, shout, slowness, variable};

/// A quick run has so small a part of the rounds.
const QUICK: u32 = 10;

/// And no fewer than this, where a thorough run has as many.
const FEWEST: u32 = 3;

/// How many times as many rounds as usual a thorough run has; `None` in a quick one.
pub(crate) fn thoroughness() -> Option<u32> {
    variable("PIPETALK_THOROUGH").filter(|times| *times > 0)
}

/// Whether this is a quick run.
pub fn is_quick() -> bool {
    thoroughness().is_none()
}

/// How often a test about a race repeats it.
pub fn rounds(usual: u32) -> u32 {
    match thoroughness() {
        Some(times) => (usual * times / slowness()).max(1),
        None => (usual / QUICK / slowness()).max(usual.min(FEWEST)),
    }
}

/// The same with fewer under Wine, where each round costs many times as much; that is said.
pub fn rounds_or(usual: u32, under_wine: u32) -> u32 {
    if !is_wine() {
        return rounds(usual);
    }
    let test = thread::current();
    let test = test.name().unwrap_or_default();
    let rounds = rounds(under_wine);
    shout(&format!(
        "{test}: {rounds} rounds under Wine, {usual} elsewhere"
    ));
    rounds
}

/// How many calls or messages a test under stress makes: `PIPETALK_STRESS`, or as many rounds.
pub fn many(usual: u32) -> u64 {
    variable("PIPETALK_STRESS").unwrap_or_else(|| u64::from(rounds(usual)))
}
