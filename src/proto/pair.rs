//! Two sessions stepped against each other in memory, in any order and with a clock that moves when it is told to,
//! and each of them against a peer that sends anything: the fuzz targets find orders, and the unit tests go through
//! all the short ones.

mod hostile;
pub(crate) mod scenario;
pub(crate) mod stepped;

use super::wire::{self, Code, Message};
use scenario::Scenario;
use stepped::Pair;

/// A method of the service; the sessions do not care which.
const METHOD: u32 = 1;

/// A well-behaved pair in the order that the bytes choose, and each side alone with a peer that sends them.
pub(crate) fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    match how & 1 {
        0 => well_behaved(rest),
        _ => hostile::run(rest),
    }
}

fn well_behaved(data: &[u8]) {
    let Some((&[flags, in_flight], order)) = data.split_first_chunk() else {
        return;
    };
    let flag = |bit: u8| flags & 1 << bit != 0;
    let mut pair = Pair::new(Scenario {
        calls: u32::MAX,
        control_from: if flag(0) { 20 } else { u32::MAX },
        streams_from: if flag(7) { 2 } else { u32::MAX },
        window: u32::from(in_flight / 5 % 8) + 1,
        items: 9,
        in_flight: usize::from(in_flight % 5) + 1,
        compatible: !flag(1),
        give_up: flag(2),
        unsend: flag(3),
        deadlines: flag(4),
        going_away: flag(5),
        refusal: flag(6).then_some(Code::OverLimit),
    });
    for choice in order {
        let possible = pair.possible();
        let Some(count) = std::num::NonZero::new(possible.len()) else {
            break;
        };
        pair.step(possible[usize::from(*choice) % count]);
    }
    pair.settle();
}

/// The id of what an answer or an item answers, and whether it is the last that does.
fn answer_to(message: &Message<'_>) -> Option<(u32, bool)> {
    match message {
        Message::Item { id, .. } => Some((*id, false)),
        Message::Reply { id, .. } | Message::Error { id, .. } | Message::End { id } => {
            Some((*id, true))
        }
        _ => None,
    }
}

/// The id of a request, and what the codec made.
fn request_of(message: &[u8]) -> Option<(u32, &[u8])> {
    match wire::parse(message) {
        Ok(Message::Request { id, payload, .. } | Message::Open { id, payload, .. }) => {
            Some((id, payload))
        }
        _ => None,
    }
}
