//! Long orders and bytes from anywhere, at random and from the corpus.

use crate::proto::pair;
use crate::proto::pair::scenario::Scenario;
use crate::proto::pair::stepped::Pair;
use crate::proto::wire::Code;
use crate::test_util::{Random, corpus};

#[test]
fn long_conversations_at_random() {
    let mut random = Random(0x5851_f42d_4c95_7f2d);
    for round in 0..60 {
        let mut pair = Pair::new(Scenario {
            calls: 400,
            control_from: if random.below(4) == 0 { 300 } else { u32::MAX },
            streams_from: if random.below(2) == 0 { 10 } else { u32::MAX },
            window: 1 + random.below(9) as u32,
            items: 20,
            in_flight: 1 + random.below(70),
            compatible: random.below(8) != 0,
            give_up: random.below(2) == 0,
            unsend: random.below(4) == 0,
            deadlines: random.below(2) == 0,
            going_away: random.below(10) == 0,
            refusal: (random.below(20) == 0).then_some(Code::TooLarge),
        });
        for _ in 0..2_000 {
            let possible = pair.possible();
            if possible.is_empty() {
                break;
            }
            pair.step(possible[random.below(possible.len())]);
        }
        pair.settle();
        assert!(pair.closed || pair.calls.len() > 20, "round {round}");
    }
}

#[test]
fn the_corpus_is_harmless() {
    for case in corpus("session") {
        pair::run(&case);
    }
}

#[test]
fn orders_and_messages_at_random_are_harmless() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..1_500 {
        let length = random.below(300);
        let mut case: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        pair::run(&case);
        // Most bytes are small, and so are most choices.
        case.iter_mut().for_each(|byte| *byte = random.next() as u8);
        pair::run(&case);
    }
}
