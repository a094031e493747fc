//! Two sessions against each other in every short order of messages.

use std::collections::HashSet;

use crate::proto::client::NotNow;
use crate::proto::pair::scenario::{Outcome, Scenario};
use crate::proto::pair::stepped::Pair;
use crate::proto::wire::Code;

/// Goes through everything that can happen, in every order, and says how the calls can end. Orders that lead to
/// the same state go on as one.
fn explore(scenario: Scenario) -> HashSet<Vec<Outcome>> {
    let mut seen = HashSet::new();
    let mut ends = HashSet::new();
    let mut open = vec![Pair::new(scenario)];
    while let Some(pair) = open.pop() {
        if pair.is_settled() {
            pair.check_settled();
            let outcomes = pair.calls.iter().map(|call| call.outcome.unwrap());
            let outcomes: Vec<Outcome> = outcomes.collect();
            if outcomes.len() == scenario.calls as usize || pair.closed {
                ends.insert(outcomes);
            }
        }
        for step in pair.possible() {
            let mut next = pair.clone();
            next.step(step);
            if seen.insert(format!("{next:?}")) {
                open.push(next);
            }
        }
    }
    assert!(!ends.is_empty());
    ends
}

/// All ways in which so many calls can end, each in one of these.
fn all_of(calls: usize, each: &[Outcome]) -> HashSet<Vec<Outcome>> {
    (0..calls).fold(HashSet::from([Vec::new()]), |ends, _| {
        ends.iter()
            .flat_map(|end| each.iter().map(|outcome| [end, &[*outcome][..]].concat()))
            .collect()
    })
}

const PANICKED: Outcome = Outcome::Failed(Code::Panicked);
const CANCELLED: Outcome = Outcome::Failed(Code::Cancelled);
const UNAVAILABLE: Outcome = Outcome::Failed(Code::Unavailable);
const INCOMPATIBLE: Outcome = Outcome::Failed(Code::Incompatible);

#[test]
fn replies_overtake_one_another() {
    let ends = explore(Scenario::new(3, 3));
    assert_eq!(ends, all_of(3, &[Outcome::Reply, PANICKED]));
}

/// The room for calls is used again and again.
#[test]
fn a_client_waits_for_room_and_is_never_over_the_limit() {
    for in_flight in 1..=2 {
        let ends = explore(Scenario::new(4, in_flight));
        assert_eq!(ends, all_of(4, &[Outcome::Reply, PANICKED]));
    }
}

#[test]
fn a_call_is_given_up_while_its_answer_is_on_the_way() {
    let scenario = Scenario {
        give_up: true,
        ..Scenario::new(3, 2)
    };
    let ends = explore(scenario);
    assert_eq!(
        ends,
        all_of(3, &[Outcome::Reply, PANICKED, Outcome::GivenUp])
    );
}

#[test]
fn a_request_that_is_not_sent_leaves_its_place_to_others() {
    let scenario = Scenario {
        give_up: true,
        unsend: true,
        ..Scenario::new(3, 1)
    };
    let each = [Outcome::Reply, PANICKED, Outcome::GivenUp, Outcome::Unsent];
    assert_eq!(explore(scenario), all_of(3, &each));
}

#[test]
fn a_deadline_passes_on_both_sides_in_any_order_with_the_answer() {
    let scenario = Scenario {
        deadlines: true,
        ..Scenario::new(2, 2)
    };
    let ends = explore(scenario);
    // The server's answer to what is late by its clock finds nobody who waits for it.
    assert!(ends.iter().flatten().all(|outcome| *outcome != CANCELLED));
    assert_eq!(
        ends,
        all_of(2, &[Outcome::Reply, PANICKED, Outcome::GivenUp])
    );
}

#[test]
fn going_away_crosses_requests() {
    let scenario = Scenario {
        going_away: true,
        give_up: true,
        ..Scenario::new(3, 2)
    };
    let ends = explore(scenario);
    let not_begun = Outcome::NotBegun(NotNow::GoingAway);
    for end in [
        [Outcome::Reply, PANICKED, Outcome::Reply],
        [Outcome::Reply, UNAVAILABLE, not_begun],
        [UNAVAILABLE, UNAVAILABLE, not_begun],
        [Outcome::GivenUp, UNAVAILABLE, not_begun],
        [Outcome::Reply, Outcome::GivenUp, not_begun],
        [not_begun, not_begun, not_begun],
        // With the goodbye that crosses it.
        [Outcome::Reply, Outcome::Ended, not_begun],
        [Outcome::Ended, Outcome::Ended, not_begun],
    ] {
        assert!(ends.contains(&end[..]), "{end:?}");
    }
    for end in ends {
        // Once the client knows, it begins nothing; what the server knew first, it knows for all that follows.
        let from = |outcome| {
            let first = end.iter().position(|other| *other == outcome);
            &end[first.unwrap_or(end.len())..]
        };
        let after_client = from(not_begun);
        assert!(after_client.iter().all(|outcome| *outcome == not_begun));
        let after_server = from(UNAVAILABLE);
        assert!(!after_server.contains(&Outcome::Reply) && !after_server.contains(&PANICKED));
    }
}

#[test]
fn a_refusal_crosses_the_hello_the_first_request_and_replies() {
    let scenario = Scenario {
        refusal: Some(Code::OverLimit),
        ..Scenario::new(2, 2)
    };
    let ends = explore(scenario);
    let refused = Outcome::Refused(Code::OverLimit);
    for end in [
        &[][..],
        &[refused],
        &[refused, refused],
        &[Outcome::Reply, refused],
        &[PANICKED, Outcome::Reply],
    ] {
        assert!(ends.contains(end), "{end:?}");
    }
}

#[test]
fn a_refusal_crosses_going_away_and_calls_that_are_given_up() {
    let scenario = Scenario {
        refusal: Some(Code::Malformed),
        going_away: true,
        give_up: true,
        ..Scenario::new(2, 1)
    };
    let ends = explore(scenario);
    assert!(ends.contains(&vec![
        Outcome::GivenUp,
        Outcome::NotBegun(NotNow::GoingAway)
    ]));
}

#[test]
fn an_incompatible_client_may_send_control_requests() {
    let scenario = Scenario {
        compatible: false,
        control_from: 2,
        ..Scenario::new(4, 2)
    };
    let ends = explore(scenario);
    let refused = Outcome::NotBegun(NotNow::Refused(Code::Incompatible));
    // The first call is answered with a failure, unless the client knows before it begins.
    let expected =
        [INCOMPATIBLE, refused].map(|first| vec![first, refused, Outcome::Reply, Outcome::Reply]);
    assert_eq!(ends, HashSet::from(expected));
}

#[test]
fn control_requests_are_answered_before_and_after_the_welcome() {
    let scenario = Scenario {
        control_from: 0,
        give_up: true,
        ..Scenario::new(3, 2)
    };
    let ends = explore(scenario);
    assert_eq!(ends, all_of(3, &[Outcome::Reply, Outcome::GivenUp]));
}

#[test]
fn streams_take_turns_with_calls_within_their_windows() {
    for window in 1..=2 {
        let scenario = Scenario {
            streams_from: 1,
            window,
            items: 3,
            ..Scenario::new(2, 2)
        };
        let streams = [0, 1, 2, 3].map(Outcome::Items).into_iter();
        let streams = streams.chain([PANICKED]);
        let expected = streams.flat_map(|end| [[Outcome::Reply, end], [PANICKED, end]]);
        let expected: HashSet<Vec<Outcome>> = expected.map(Vec::from).collect();
        assert_eq!(explore(scenario), expected);
    }
}

#[test]
fn a_stream_is_given_up_while_items_and_credit_are_on_the_way() {
    for window in [1, 4] {
        let scenario = Scenario {
            streams_from: 0,
            window,
            items: 3,
            give_up: true,
            unsend: true,
            ..Scenario::new(1, 1)
        };
        let ends = explore(scenario);
        for end in [
            Outcome::GivenUp,
            Outcome::Unsent,
            PANICKED,
            Outcome::Items(3),
        ] {
            assert!(ends.contains(&vec![end]), "{end:?}");
        }
        // A second one takes its place.
        let scenario = Scenario {
            items: 2,
            unsend: false,
            calls: 2,
            ..scenario
        };
        let ends = explore(scenario);
        for end in [Outcome::GivenUp, Outcome::Items(2)] {
            assert!(ends.contains(&vec![Outcome::GivenUp, end]), "{end:?}");
        }
    }
}

#[test]
fn going_away_and_deadlines_cross_the_items_of_a_stream() {
    let scenario = Scenario {
        streams_from: 0,
        window: 2,
        items: 2,
        going_away: true,
        deadlines: true,
        ..Scenario::new(1, 1)
    };
    let ends = explore(scenario);
    for end in [UNAVAILABLE, Outcome::GivenUp, Outcome::Items(2)] {
        assert!(ends.contains(&vec![end]), "{end:?}");
    }
}
