//! Two sessions against each other in every short order of messages, in long orders at random, and each against
//! what no well-behaved peer sends.

use std::collections::HashSet;

use super::*;
use crate::test_util::{Random, corpus};

#[path = "../../tests/fuzzing/session.rs"]
mod target;

use target::pair::Pair;
use target::scenario::{Outcome, Scenario};

// ---------------------------------------------------------------- every order

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

// ---------------------------------------------------------------- long orders, at random

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

/// A place is used more often than it can count.
#[test]
fn ids_are_used_again_when_they_have_run_out() {
    let mut client = ClientSession::default();
    let mut message = Vec::new();
    let mut first = None;
    for n in 0_u32..200_000 {
        let id = client.start(1).unwrap();
        assert_eq!(id == *first.get_or_insert(id), n % 0x1_0000 == 0, "{n}");
        if n % 3 == 0 {
            assert!(client.give_up(id));
        }
        message.clear();
        wire::reply(&mut message, id);
        let event = match n % 3 {
            0 => ClientEvent::Nothing,
            _ => ClientEvent::Reply { id, payload: b"" },
        };
        assert_eq!(client.receive(&message), Ok(event));
        // The answer of any earlier call but the one with the same id is known for what it is.
        assert!(client.receive(&message).is_err());
        assert_eq!(client.unanswered(), 0);
    }
}

// ---------------------------------------------------------------- what no well-behaved peer sends

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn reply_to(id: u32) -> Vec<u8> {
    written(|out| wire::reply(out, id))
}

fn request_with(id: u32, method: u32) -> Vec<u8> {
    written(|out| wire::request(out, id, method, None))
}

fn open_with(id: u32, credit: u32) -> Vec<u8> {
    written(|out| wire::open(out, id, 1, None, credit))
}

fn credit_of(id: u32, more: u32) -> Vec<u8> {
    written(|out| wire::credit(out, id, more))
}

/// An item whose message is so long.
fn item_of(id: u32, size: usize) -> Vec<u8> {
    written(|out| {
        wire::item(out, id);
        out.resize(size, 0);
    })
}

fn welcome_with(max_in_flight: u32) -> Vec<u8> {
    let identity = Identity {
        max_in_flight,
        ..Identity::default()
    };
    written(|out| wire::welcome(out, &identity))
}

fn refusal_with(code: Code) -> Vec<u8> {
    let failure = Failure::new(code, "why");
    written(|out| wire::refusal(out, &Identity::default(), &failure))
}

/// A server that a client has greeted, and this client's identity, which is the server's own.
fn greeted(max_in_flight: usize) -> ServerSession {
    let mut server = ServerSession::new(max_in_flight);
    let hello = written(|out| wire::hello(out, &Identity::default()));
    let event = server.receive(&Identity::default(), &hello);
    assert_eq!(event, Ok(ServerEvent::Hello));
    server
}

fn at(server: &mut ServerSession, message: &[u8]) -> Result<(), Malformed> {
    server.receive(&Identity::default(), message).map(drop)
}

#[test]
fn an_answer_to_no_request_is_refused() {
    let no_request = Err(Malformed("an answer to no request"));
    for id in [0, 1, 0x0001_0000, u32::MAX] {
        assert_eq!(ClientSession::default().receive(&reply_to(id)), no_request);
    }
    let mut client = ClientSession::default();
    let id = client.start(1).unwrap();
    for other in [id ^ 1, id ^ 0x0001_0000, id & 0xffff] {
        assert_eq!(client.receive(&reply_to(other)), no_request);
    }
    assert!(client.receive(&reply_to(id)).is_ok());
    assert_eq!(client.receive(&reply_to(id)), no_request);
}

#[test]
fn a_request_that_was_not_sent_cannot_be_answered() {
    let mut client = ClientSession::default();
    let id = client.start(1).unwrap();
    client.unsend(id);
    client.unsend(id);
    assert_eq!(client.unanswered(), 0);
    assert!(client.receive(&reply_to(id)).is_err());
    // Taking it back once more does not take back the call that has its place now.
    let next = client.start(1).unwrap();
    client.unsend(id);
    assert!(client.receive(&reply_to(next)).is_ok());
}

#[test]
fn a_place_is_kept_until_the_late_answer_has_come() {
    let mut client = ClientSession::default();
    let id = client.start(1).unwrap();
    assert!(client.give_up(id));
    assert_eq!(client.start(1), Err(NotNow::Full));
    assert_eq!(client.receive(&reply_to(id)), Ok(ClientEvent::Nothing));
    assert!(!client.give_up(id));
    assert!(client.start(1).is_ok());
}

#[test]
fn the_room_is_what_the_server_says() {
    let mut client = ClientSession::default();
    assert!(client.start(1).is_ok());
    assert_eq!(client.start(1), Err(NotNow::Full));
    assert_eq!(client.receive(&welcome_with(3)), Ok(ClientEvent::Welcome));
    assert_eq!(client.server().unwrap().max_in_flight, 3);
    assert!(client.start(1).is_ok());
    assert!(client.start(1).is_ok());
    assert_eq!(client.start(1), Err(NotNow::Full));
}

#[test]
fn a_server_that_takes_nothing_is_sent_one_request_at_a_time() {
    let mut client = ClientSession::default();
    client.receive(&welcome_with(0)).unwrap();
    assert!(client.start(1).is_ok());
    assert_eq!(client.start(1), Err(NotNow::Full));
}

#[test]
fn somebody_who_does_not_say_takes_a_message_of_any_size() {
    let of = |max_message| Party {
        max_message,
        ..Party::default()
    };
    let sizes = [0, 1, 16 << 20].map(|max_message| of(max_message).takes());
    assert_eq!(sizes, [u32::MAX, 1, 16 << 20]);
}

#[test]
fn a_client_never_has_more_calls_than_there_are_places() {
    let mut client = ClientSession::default();
    client.receive(&welcome_with(u32::MAX)).unwrap();
    let ids: HashSet<u32> = (0..MAX_IN_FLIGHT)
        .map(|_| client.start(1).unwrap())
        .collect();
    assert_eq!(ids.len(), MAX_IN_FLIGHT);
    assert_eq!(client.start(1), Err(NotNow::Full));
    assert!(
        client
            .receive(&reply_to(*ids.iter().next().unwrap()))
            .is_ok()
    );
    assert!(client.start(1).is_ok());
}

#[test]
fn a_second_welcome_is_refused() {
    let second = Err(Malformed("a second welcome"));
    for first in [welcome_with(1), refusal_with(Code::Incompatible)] {
        for again in [welcome_with(1), refusal_with(Code::Incompatible)] {
            let mut client = ClientSession::default();
            assert_eq!(client.receive(&first), Ok(ClientEvent::Welcome));
            assert_eq!(client.receive(&again), second);
        }
    }
}

/// A limit may be reached, or the protocol broken, at any time after the welcome.
#[test]
fn a_refusal_after_the_welcome_says_why() {
    for first in [welcome_with(1), refusal_with(Code::Incompatible)] {
        let mut client = ClientSession::default();
        client.receive(&first).unwrap();
        let why = Failure::new(Code::OverLimit, "why");
        assert_eq!(
            client.receive(&refusal_with(Code::OverLimit)),
            Ok(ClientEvent::Refused(why))
        );
        let refused = Err(NotNow::Refused(Code::OverLimit));
        assert_eq!(client.start(1), refused);
        assert_eq!(client.start(control::INFO), refused);
    }
}

#[test]
fn each_side_refuses_the_messages_of_its_own() {
    let failure = Failure::new(Code::Panicked, "");
    let of_a_client = [
        written(|out| wire::hello(out, &Identity::default())),
        request_with(1, 1),
        written(|out| wire::notify(out, 1)),
        written(|out| wire::cancel(out, 1)),
        open_with(1, 1),
        written(|out| wire::credit(out, 1, 1)),
    ];
    for message in of_a_client {
        assert_eq!(
            ClientSession::default().receive(&message),
            Err(Malformed("a message that only a client sends"))
        );
    }
    let of_a_server = [
        welcome_with(1),
        refusal_with(Code::Denied),
        reply_to(1),
        written(|out| wire::error(out, 1, &failure)),
        item_of(1, 8),
        written(|out| wire::end(out, 1)),
        written(|out| wire::going_away(out, None)),
        written(wire::goodbye),
    ];
    for message in of_a_server {
        assert_eq!(
            at(&mut greeted(1), &message),
            Err(Malformed("a message that only a server sends"))
        );
    }
}

#[test]
fn nothing_comes_before_the_hello_and_it_comes_once() {
    let before = Err(Malformed("a message before the hello"));
    for message in [
        request_with(1, control::INFO),
        written(|out| wire::notify(out, 1)),
        written(|out| wire::cancel(out, 1)),
        welcome_with(1),
    ] {
        let mut server = ServerSession::new(1);
        assert_eq!(at(&mut server, &message), before);
        assert!(server.client().is_none());
    }
    let hello = written(|out| wire::hello(out, &Identity::default()));
    assert_eq!(
        at(&mut greeted(1), &hello),
        Err(Malformed("a second hello"))
    );
}

#[test]
fn an_id_that_is_in_use_is_refused_and_may_be_used_once_answered() {
    let mut server = greeted(2);
    let request = request_with(7, 1);
    assert!(at(&mut server, &request).is_ok());
    assert!(server.answer(7));
    assert!(at(&mut server, &request).is_ok());
    assert_eq!(server.in_flight(), 2, "an answer is still being sent");
    server.answered();
    assert_eq!(server.in_flight(), 1);
    assert_eq!(
        at(&mut server, &request),
        Err(Malformed("an id that is in use"))
    );
}

#[test]
fn a_request_over_the_limit_is_answered_with_the_name_of_the_limit() {
    let mut server = greeted(1);
    at(&mut server, &request_with(1, 1)).unwrap();
    let over = request_with(2, control::INFO);
    for _ in 0..3 {
        let event = server.receive(&Identity::default(), &over);
        let failure = Failure::new(Code::OverLimit, "requests in flight");
        assert_eq!(event, Ok(ServerEvent::Reject { id: 2, failure }));
        assert_eq!(server.in_flight(), 1);
    }
    assert!(!server.answer(2));
    assert!(server.answer(1));
    assert!(at(&mut server, &over).is_ok());
}

#[test]
fn a_cancellation_counts_once_for_each_request_and_never_without_one() {
    let mut server = greeted(2);
    let cancel = written(|out| wire::cancel(out, 1));
    let ours = Identity::default();
    assert_eq!(server.receive(&ours, &cancel), Ok(ServerEvent::Nothing));
    at(&mut server, &request_with(1, 1)).unwrap();
    let event = Ok(ServerEvent::Cancel { id: 1 });
    assert_eq!(server.receive(&ours, &cancel), event);
    assert_eq!(server.in_flight(), 1, "it is to be answered all the same");
    assert!(server.answer(1));
    assert_eq!(server.receive(&ours, &cancel), Ok(ServerEvent::Nothing));
}

#[test]
fn an_item_of_no_stream_is_refused() {
    let no_stream = Err(Malformed("an item of no stream"));
    let mut client = ClientSession::default();
    client.receive(&welcome_with(9)).unwrap();
    assert_eq!(client.receive(&item_of(0x1_0000, 8)), no_stream);
    let call = client.start(1).unwrap();
    assert_eq!(client.receive(&item_of(call, 8)), no_stream);
    assert!(client.give_up(call));
    assert_eq!(client.receive(&item_of(call, 8)), no_stream);
    let (id, _) = client.open(1, 9).unwrap();
    assert_eq!(client.receive(&item_of(id ^ 0x1_0000, 8)), no_stream);
    let end = written(|out| wire::end(out, id));
    assert_eq!(client.receive(&end), Ok(ClientEvent::Ended { id }));
    assert_eq!(client.receive(&item_of(id, 8)), no_stream);
    let no_request = Err(Malformed("an answer to no request"));
    assert_eq!(client.receive(&end), no_request);
}

#[test]
fn a_call_is_answered_by_a_reply_and_a_stream_by_its_end() {
    for given_up in [false, true] {
        let mut client = ClientSession::default();
        let id = client.start(1).unwrap();
        if given_up {
            assert!(client.give_up(id));
        }
        let end = written(|out| wire::end(out, id));
        let wrong = Err(Malformed("the end of what is no stream"));
        assert_eq!(client.receive(&end), wrong);

        let mut client = ClientSession::default();
        let (id, _) = client.open(1, 9).unwrap();
        if given_up {
            assert!(client.give_up(id));
        }
        let wrong = Err(Malformed("a reply to the request for a stream"));
        assert_eq!(client.receive(&reply_to(id)), wrong);
    }
}

#[test]
fn a_server_that_exceeds_the_window_breaks_the_protocol() {
    let beyond = Err(Malformed("an item beyond its credit"));
    for given_up in [false, true] {
        let mut client = ClientSession::default();
        let (id, credit) = client.open(1, 4).unwrap();
        assert_eq!(credit, 4);
        if given_up {
            assert!(client.give_up(id));
        }
        assert!(client.receive(&item_of(id, 3 << 10)).is_ok());
        // The last credit pays for a large item too.
        assert!(client.receive(&item_of(id, 9 << 10)).is_ok());
        assert_eq!(client.receive(&item_of(id, 8)), beyond);
    }
    let mut client = ClientSession::default();
    let (id, _) = client.open(1, 4).unwrap();
    for _ in 0..2 {
        assert!(client.receive(&item_of(id, 4 << 10)).is_ok());
        client.take(id, 4 << 10);
        assert_eq!(client.credit_due(id), Some(4));
    }
    assert!(client.receive(&item_of(id, 4 << 10)).is_ok());
    assert_eq!(client.receive(&item_of(id, 8)), beyond);
}

#[test]
fn a_server_pays_for_each_item_and_waits_for_credit() {
    let mut server = greeted(2);
    let ours = Identity::default();
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let event = ServerEvent::Open {
        id: 1,
        method: 1,
        timeout: None,
        payload: b"",
    };
    assert_eq!(server.receive(&ours, &open_with(1, 0)), Ok(event));
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let credit = Ok(ServerEvent::Credit { id: 1 });
    assert_eq!(server.receive(&ours, &credit_of(1, 2)), credit);
    assert!(
        server.pay(1, 1024).is_some()
            && server.pay(1, 5000).is_some()
            && server.pay(1, 8).is_none()
    );
    assert_eq!(server.receive(&ours, &credit_of(1, 4)), credit);
    assert!(!server.may_send(1));
    assert_eq!(server.receive(&ours, &credit_of(1, 1)), credit);
    assert!(server.may_send(1));
    // What comes after the end is late.
    assert!(server.answer(1));
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let nothing = Ok(ServerEvent::Nothing);
    assert_eq!(server.receive(&ours, &credit_of(1, u32::MAX)), nothing);
    // Of a call there are no items.
    at(&mut server, &request_with(1, 1)).unwrap();
    assert!(!server.may_send(1) && server.pay(1, 8).is_none());
    let wrong = Err(Malformed("credit for what is no stream"));
    assert_eq!(server.receive(&ours, &credit_of(1, 1)), wrong);
}

#[test]
fn more_credit_than_there_can_be_is_refused() {
    let over = Err(Malformed("more credit than there can be"));
    let most = i32::MAX as u32;
    for credit in [most + 1, u32::MAX] {
        assert_eq!(at(&mut greeted(1), &open_with(1, credit)), over);
    }
    for (credit, more) in [(most, 1), (1, most), (0, most + 1), (5, u32::MAX)] {
        let mut server = greeted(1);
        at(&mut server, &open_with(1, credit)).unwrap();
        assert_eq!(at(&mut server, &credit_of(1, more)), over);
    }
}

#[test]
fn a_stream_is_a_request_in_flight() {
    let mut server = greeted(1);
    let ours = Identity::default();
    at(&mut server, &open_with(1, 1)).unwrap();
    assert_eq!(server.in_flight(), 1);
    let in_use = Err(Malformed("an id that is in use"));
    assert_eq!(at(&mut server, &open_with(1, 1)), in_use);
    let failure = Failure::new(Code::OverLimit, "requests in flight");
    let over = Ok(ServerEvent::Reject { id: 2, failure });
    assert_eq!(server.receive(&ours, &open_with(2, 1)), over);
    let cancel = written(|out| wire::cancel(out, 1));
    assert_eq!(
        server.receive(&ours, &cancel),
        Ok(ServerEvent::Cancel { id: 1 })
    );
    assert!(server.answer(1));
    server.answered();
    let control = written(|out| wire::open(out, 3, control::INFO, None, 1));
    let failure = Failure::new(Code::UnknownMethod, "no control request is a stream");
    let rejected = Ok(ServerEvent::Reject { id: 3, failure });
    assert_eq!(server.receive(&ours, &control), rejected);
    assert_eq!(server.in_flight(), 0);
}

#[test]
fn a_notification_counts_only_where_it_can_be_understood() {
    let notify = |method| written(|out| wire::notify(out, method));
    let ours = Identity::default();
    let mut server = greeted(1);
    let event = ServerEvent::Notify {
        method: 1,
        payload: b"",
    };
    assert_eq!(server.receive(&ours, &notify(1)), Ok(event));
    // Nobody would learn what became of it.
    assert_eq!(
        server.receive(&ours, &notify(control::STOP)),
        Ok(ServerEvent::Nothing)
    );
    let other = Identity {
        service: "other",
        ..ours
    };
    let mut server = ServerSession::new(1);
    let hello = written(|out| wire::hello(out, &other));
    server.receive(&ours, &hello).unwrap();
    assert_eq!(server.receive(&ours, &notify(1)), Ok(ServerEvent::Nothing));
}

#[test]
fn who_understands_whom() {
    let of = |codec, service, fingerprint| Identity {
        codec,
        service,
        fingerprint,
        ..Identity::default()
    };
    let ours = of("c", "s", 5);
    assert!(compatible(&ours, &of("c", "s", 5)));
    assert!(compatible(&ours, &of("c", "s", 0)));
    assert!(compatible(&of("c", "s", 0), &ours));
    assert!(!compatible(&ours, &of("c", "s", 6)));
    assert!(!compatible(&ours, &of("c", "t", 5)));
    assert!(!compatible(&ours, &of("d", "s", 5)));
    // Versions are for people to read, limits for each to keep.
    let other = Identity {
        version: "2",
        max_message: 1,
        max_in_flight: 1,
        features: u64::MAX,
        ..ours
    };
    assert!(compatible(&ours, &other));
}

#[test]
fn what_is_malformed_is_refused_by_both() {
    for message in [&b""[..], b"\x10", b"PTLK", b"PTLK\x01\x02", &[0x7f; 20]] {
        assert!(ClientSession::default().receive(message).is_err());
        assert!(at(&mut greeted(1), message).is_err());
        assert!(at(&mut ServerSession::new(1), message).is_err());
    }
}

// ---------------------------------------------------------------- bytes from anywhere

#[test]
fn the_corpus_is_harmless() {
    for case in corpus("session") {
        target::run(&case);
    }
}

#[test]
fn orders_and_messages_at_random_are_harmless() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..1_500 {
        let length = random.below(300);
        let mut case: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        target::run(&case);
        // Most bytes are small, and so are most choices.
        case.iter_mut().for_each(|byte| *byte = random.next() as u8);
        target::run(&case);
    }
}
