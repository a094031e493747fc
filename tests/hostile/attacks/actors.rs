//! The parts that other processes play.

use crate::util::{limit, play};
use crate::{attack, target};

#[test]
fn actor() {
    play(|part, args| {
        let _limit = limit(part);
        match (part, args) {
            ("serve", [kind, name]) => target::serve(kind, name),
            ("attack", [attack, name]) => attack::run(attack, name),
            _ => panic!("nobody plays {part} with {args:?}"),
        }
    });
}
