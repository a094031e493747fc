//! What a server says to a client, and should not.

mod due;
mod limits;
mod streams;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{
    CallError, CallOptions, ClientOptions, ConnectOptions, Deadline, Listener, LocalListener,
    Stream,
};

use crate::ALLOCATOR;
use crate::calls::bytes::{self, *};
use super::driver::{self, Client};
use super::town::{PROMPT, Raw, Reply, Request, alone, encoded};
use util::{A_MOMENT, Place, here, limit, rounds_or, slowness, soon};

type TestClient = Client<Request, Reply>;

/// Runs a client against a server that is played by hand, one connection after the other.
fn play<R: Send>(
    options: ClientOptions,
    server: impl FnOnce(&dyn Fn() -> Raw) + Send,
    client: impl FnOnce(&TestClient) -> R + Send,
) -> R {
    let _alone = alone();
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(move || {
            server(&|| Raw(listener.accept(soon()).unwrap()));
        });
        let connected: TestClient = driver::connect(options, place.name()).unwrap();
        let result = client(&connected);
        // Whoever listens still hears the end.
        connected.channel().close();
        serving.join().unwrap();
        result
    })
}

/// The next request, and its id.
#[track_caller]
fn asked(raw: &Raw) -> u32 {
    loop {
        match raw.hears() {
            Said::Request { id, .. } | Said::Open { id, .. } => return id,
            Said::Hello | Said::Cancel { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Welcomes, and answers one request.
fn behave_once(raw: &Raw) {
    let id = asked(raw);
    raw.says(&welcome());
    raw.says(&reply(id, &encoded(&Reply::Echo(2))));
}

/// Welcomes and answers until the client has gone.
fn behave(raw: &Raw) {
    while let Some(said) = raw.hears_or_end() {
        let answers = match said {
            Said::Hello => vec![welcome()],
            Said::Request { id, payload, .. } => {
                let (index, number) = payload.split_at(1);
                assert_eq!(index, &encoded(&Request::Echo(0))[..1]);
                // An echo's number is encoded alike in both.
                let index = &encoded(&Reply::Echo(0))[..1];
                vec![reply(id, &[index, number].concat())]
            }
            _ => vec![],
        };
        for answer in answers {
            if raw.0.send(&answer, soon()).is_err() {
                // The client ends what it cannot make sense of.
                return;
            }
        }
    }
}

#[track_caller]
fn assert_protocol(called: Result<Reply, CallError>, words: &str) {
    match called {
        Err(CallError::Protocol(text)) => assert!(text.contains(words), "{text} for {words}"),
        other => panic!("{other:?} for {words}"),
    }
}

/// The ids of the first two calls of a connection; the upper half says how often its place was used.
const CALLS: [u32; 2] = [0x1_0000, 0x1_0001];

/// Every message that ends the conversation, and what the client says of it.
fn breaches() -> Vec<(Vec<u8>, &'static str)> {
    let payload = encoded(&Reply::Echo(1));
    let id = CALLS[0];
    vec![
        (reply(0x1_0002, &payload), "an answer to no request"),
        (reply(0x2_0000, &payload), "an answer to no request"),
        (reply(0, &payload), "an answer to no request"),
        (reply(u32::MAX, &payload), "an answer to no request"),
        (error(0x1_0002, 2, ""), "an answer to no request"),
        (welcome(), "a second welcome"),
        (hello(), "only a client sends"),
        (bytes::request(id, 1, &payload), "only a client sends"),
        (notification(&payload), "only a client sends"),
        (bytes::open(id, 1, 1, &payload), "only a client sends"),
        (credit(id, 1), "only a client sends"),
        (item(id, &payload), "an item of no stream"),
        (item(0x1_0002, &payload), "an item of no stream"),
        (end(id), "the end of what is no stream"),
        (end(0x1_0002), "an answer to no request"),
        (cancel(id), "only a client sends"),
        (message(0x24, 0, id, &[], &[], &payload), "unknown kind"),
        (message(0xff, 0, id, &[], &[], &[]), "unknown kind"),
        (opening(9, &[]), "unknown kind"),
        (Vec::new(), "ends too early"),
        (vec![REPLY], "ends too early"),
        (reply(id, &[])[..7].to_vec(), "ends too early"),
        (
            message(REPLY, 0, id, b"\x01\xff\xff", &[], &[]),
            "ends too early",
        ),
        (
            [error(id, 2, ""), vec![0]].concat(),
            "goes on where it should end",
        ),
        (
            [going_away(), vec![0]].concat(),
            "goes on where it should end",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "unknown kind"),
    ]
}

#[test]
fn a_breach_of_the_protocol_ends_every_call_and_a_new_connection_helps() {
    let _limit = limit(here!());
    for (breach, words) in &breaches() {
        for reconnect in [false, true] {
            let server = |accept: &dyn Fn() -> Raw| {
                let raw = accept();
                assert!(CALLS.contains(&asked(&raw)));
                raw.says(&welcome());
                assert!(CALLS.contains(&asked(&raw)));
                raw.says(breach);
                assert_eq!(raw.hears_or_end(), None, "{words}");
                if reconnect {
                    behave(&accept());
                }
            };
            let options = ClientOptions::new().reconnect(reconnect);
            play(options, server, |client| {
                thread::scope(|scope| {
                    for number in [1, 2] {
                        scope.spawn(move || {
                            assert_protocol(client.call(&Request::Echo(number)), words);
                        });
                    }
                });
                let again = client.call(&Request::Echo(3));
                if reconnect {
                    assert_eq!(again, Ok(Reply::Echo(3)));
                } else {
                    assert_protocol(again, words);
                    client.channel().close();
                }
            });
        }
    }
}

#[test]
fn an_answer_that_comes_twice_is_a_breach() {
    let _limit = limit(here!());
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        let id = asked(&raw);
        raw.says(&welcome());
        let answer = reply(id, &encoded(&Reply::Echo(1)));
        raw.says(&answer);
        raw.says(&answer);
        // Perhaps nobody reads the second until somebody calls.
        while raw.hears_or_end().is_some() {}
    };
    play(ClientOptions::new(), server, |client| {
        assert_eq!(client.call(&Request::Echo(1)), Ok(Reply::Echo(1)));
        assert_protocol(client.call(&Request::Echo(2)), "an answer to no request");
    });
}

#[test]
fn answers_may_come_in_any_order() {
    let _limit = limit(here!());
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        let mut asked = Vec::new();
        while asked.len() < 20 {
            match raw.hears() {
                Said::Hello => raw.says(&welcome()),
                Said::Request { id, payload, .. } => asked.push((id, payload[1..].to_vec())),
                other => panic!("{other:?}"),
            }
        }
        // Every second from behind, and then the others.
        let order = (0..20).rev().step_by(2).chain((0..20).step_by(2));
        for place in order {
            let (id, number) = &asked[place];
            let index = &encoded(&Reply::Echo(0))[..1];
            raw.says(&reply(*id, &[index, number].concat()));
        }
        assert_eq!(raw.hears_or_end(), None);
    };
    play(ClientOptions::new(), server, |client| {
        thread::scope(|scope| {
            for number in 0..20 {
                scope.spawn(move || {
                    assert_eq!(client.call(&Request::Echo(number)), Ok(Reply::Echo(number)));
                });
            }
        });
    });
}

#[test]
fn an_answer_that_comes_too_late_is_dropped() {
    let _limit = limit(here!());
    let (late, is_late) = mpsc::channel();
    let server = move |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        let id = asked(&raw);
        raw.says(&welcome());
        is_late.recv().unwrap();
        let next = asked(&raw);
        assert_ne!(next, id);
        raw.says(&reply(id, &encoded(&Reply::Echo(1))));
        raw.says(&reply(next, &encoded(&Reply::Echo(2))));
        behave(&raw);
    };
    play(ClientOptions::new(), server, move |client| {
        let moment = CallOptions::new().deadline(A_MOMENT);
        let error = client.call_with(&Request::Echo(1), moment).unwrap_err();
        assert_eq!(error, CallError::TimedOut { sent: true });
        late.send(()).unwrap();
        assert_eq!(client.call(&Request::Echo(2)), Ok(Reply::Echo(2)));
        assert_eq!(client.call(&Request::Echo(3)), Ok(Reply::Echo(3)));
    });
}

#[test]
fn a_server_that_says_nothing_costs_a_call_its_deadline() {
    let _limit = limit(here!());
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        raw.says(&welcome());
        while raw.hears_or_end().is_some() {}
    };
    play(ClientOptions::new(), server, |client| {
        for _ in 0..5 {
            let started = Instant::now();
            let moment = CallOptions::new().deadline(A_MOMENT);
            let error = client.call_with(&Request::Echo(1), moment).unwrap_err();
            assert_eq!(error, CallError::TimedOut { sent: true });
            let took = started.elapsed();
            assert!(took >= A_MOMENT && took < PROMPT, "{took:?}");
        }
    });
}

/// There is always something to read, so that reading alone never ends.
#[test]
fn a_server_that_never_stops_talking_costs_a_call_its_deadline() {
    let _limit = limit(here!());
    let chatter: [fn() -> Vec<u8>; 2] = [going_away, || {
        message(
            GOING_AWAY,
            0xff,
            9,
            &fields(&[(99, &[0; 900])]),
            &[0; 4],
            &[],
        )
    }];
    for chatter in chatter {
        let server = move |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            asked(&raw);
            let until = Deadline::after(2 * PROMPT);
            while !until.has_passed() && raw.0.send(&chatter(), until).is_ok() {}
        };
        let calling = |client: &TestClient| {
            let started = Instant::now();
            let moment = CallOptions::new().deadline(4 * A_MOMENT);
            let error = client.call_with(&Request::Echo(1), moment).unwrap_err();
            let took = started.elapsed();
            assert!(took < PROMPT, "{error:?} after {took:?}");
            assert!(error.was_sent(), "{error:?}");
        };
        play(ClientOptions::new(), server, calling);
    }
}

#[test]
fn a_server_that_does_not_read_costs_a_call_its_deadline() {
    let _limit = limit(here!());
    let (done, is_done) = mpsc::channel::<()>();
    let server = move |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        // It says that it would take it.
        raw.says(&fitting(WELCOME, &[(5, &(16_u32 << 20).to_le_bytes())]));
        let _ = is_done.recv();
    };
    play(ClientOptions::new(), server, move |client| {
        let large = Request::Text("x".repeat(4 << 20));
        let started = Instant::now();
        let moment = CallOptions::new().deadline(A_MOMENT);
        let error = client.call_with(&large, moment).unwrap_err();
        // The rest of it may still go out, and it be carried out.
        assert_eq!(error, CallError::TimedOut { sent: true });
        assert!(started.elapsed() < PROMPT);
        let error = client.call_with(&Request::Echo(1), moment).unwrap_err();
        assert!(!error.was_sent(), "{error:?}");
        drop(done);
    });
}

#[test]
fn replies_that_claim_too_much_cannot_be_decoded_and_no_more() {
    let _limit = limit(here!());
    let index = encoded(&Reply::Text(String::new()))[0];
    let payloads = [
        [&[index], &claim(u64::MAX)[..]].concat(),
        [&[index], &claim(1 << 40)[..]].concat(),
        [&[index], &claim(1 << 30)[..]].concat(),
        [encoded(&Reply::Done), vec![0]].concat(),
        [encoded(&Reply::Echo(0)), vec![0; 100_000]].concat(),
        vec![index, 3, b'a'],
        vec![index, 1, 0xff],
        vec![200],
        vec![],
    ];
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        for (place, payload) in payloads.iter().enumerate() {
            let id = asked(&raw);
            if place == 0 {
                raw.says(&welcome());
            }
            raw.says(&reply(id, payload));
        }
        behave(&raw);
    };
    play(ClientOptions::new(), server, |client| {
        let live = ALLOCATOR.live();
        ALLOCATOR.forget_peak();
        for _ in &payloads {
            let error = client.call(&Request::Echo(1)).unwrap_err();
            assert!(matches!(error, CallError::Decode(_)), "{error:?}");
            assert!(error.was_sent());
        }
        assert_eq!(client.call(&Request::Echo(2)), Ok(Reply::Echo(2)));
        assert!(ALLOCATOR.peak() - live < 4 << 20);
    });
}

#[test]
fn a_reply_over_the_limit_is_a_breach() {
    let _limit = limit(here!());
    let options = ClientOptions::new().connect_options(ConnectOptions::new().max_message(10_000));
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        let id = asked(&raw);
        raw.says(&welcome());
        let _ = raw.0.send(&reply(id, &[0; 10_000]), soon());
        assert_eq!(raw.hears_or_end(), None);
    };
    play(options, server, |client| {
        assert_protocol(client.call(&Request::Echo(1)), "the limit is 10000");
    });
}

#[test]
fn failures_that_a_server_tells_are_told_on() {
    let _limit = limit(here!());
    let long = "a long story ".repeat(70);
    let codes: Vec<(u16, &str)> = (0..20)
        .map(|code| (code, "why"))
        .chain([(9_999, &*long)])
        .collect();
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        for (place, (code, text)) in codes.iter().enumerate() {
            let id = asked(&raw);
            if place == 0 {
                raw.says(&welcome());
            }
            raw.says(&error(id, *code, text));
        }
        behave(&raw);
    };
    play(ClientOptions::new(), server, |client| {
        for (code, _) in &codes {
            let error = client.call(&Request::Echo(1)).unwrap_err();
            match code {
                1 => assert_eq!(error, CallError::Cancelled),
                2 => assert_eq!(error, CallError::Panicked),
                3 => assert!(matches!(error, CallError::TooLarge { .. }), "{error:?}"),
                4 | 9 => assert!(matches!(error, CallError::Refused(_)), "{error:?}"),
                5 => assert!(matches!(error, CallError::Incompatible(_)), "{error:?}"),
                6 => assert_eq!(error, CallError::Unavailable),
                10 => assert_eq!(error, CallError::Failed("why".to_owned())),
                _ => assert!(matches!(error, CallError::Protocol(_)), "{code}: {error:?}"),
            }
        }
        assert_eq!(client.call(&Request::Echo(2)), Ok(Reply::Echo(2)));
    });
}

#[test]
fn a_refusal_is_told_on_whenever_it_comes() {
    let _limit = limit(here!());
    let _alone = alone();
    let refusal = |code: u16| fitting(REFUSAL, &[(16, &code.to_le_bytes()), (17, b"because")]);
    for reads in 0..3 {
        for _ in 0..rounds_or(20, 3) {
            let server = move |accept: &dyn Fn() -> Raw| {
                let raw = accept();
                for _ in 0..reads {
                    raw.hears();
                }
                raw.says(&refusal(DENIED));
                raw.0.close();
            };
            let place = Place::new();
            let listener = LocalListener::bind(place.name()).unwrap();
            thread::scope(|scope| {
                let serving =
                    scope.spawn(move || server(&|| Raw(listener.accept(soon()).unwrap())));
                let called = TestClient::connect(place.name())
                    .and_then(|client| client.call(&Request::Echo(1)));
                serving.join().unwrap();
                match called {
                    Err(CallError::Refused(text)) => assert!(text.contains("because"), "{text}"),
                    other => panic!("after {reads} messages: {other:?}"),
                }
            });
        }
    }
}

/// On Windows the client's own end would keep the name from the server that it waits for.
#[test]
fn a_client_that_looks_for_the_next_server_has_let_go_of_the_last() {
    let _limit = limit(here!());
    let _alone = alone();
    let place = Place::new();
    let bind = || LocalListener::bind(place.name()).unwrap();
    let listener = bind();
    let options = ClientOptions::new()
        .reconnect(true)
        .timeout(None)
        .connect_options(ConnectOptions::new().wait_for_server(true));
    let client: TestClient = driver::connect(options, place.name()).unwrap();
    let old = Raw(listener.accept(soon()).unwrap());
    drop(listener);
    thread::scope(|scope| {
        let calls = || [1, 2].map(|n| client.call(&Request::Echo(n)));
        let calling = scope.spawn(calls);
        let id = asked(&old);
        old.says(&welcome());
        // It ends, but its own end of the connection stays open.
        old.says(&going_away());
        old.says(&reply(id, &encoded(&Reply::Echo(1))));
        assert_eq!(old.hears_or_end(), None);
        let new = Raw(bind().accept(soon()).unwrap());
        behave_once(&new);
        let [first, second] = calling.join().unwrap();
        assert_eq!(first, Ok(Reply::Echo(1)));
        assert_eq!(second, Ok(Reply::Echo(2)));
    });
    assert!(client.channel().server().is_some());
}

/// The same where it does not look for another one.
#[test]
fn a_client_that_was_told_goodbye_has_let_go() {
    let _limit = limit(here!());
    let goodbye = message(0x31, 0, 0, &[], &[], &[]);
    for last in [goodbye, fitting(REFUSAL, &[(16, &DENIED.to_le_bytes())])] {
        let (tell, told) = mpsc::channel();
        let server = |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            let id = asked(&raw);
            raw.says(&welcome());
            raw.says(&reply(id, &encoded(&Reply::Echo(1))));
            raw.says(&last);
            while let Some(said) = raw.hears_or_end() {
                assert!(matches!(said, Said::Request { .. }), "{said:?}");
            }
            tell.send(()).unwrap();
        };
        let call = move |client: &TestClient| {
            client.call(&Request::Echo(1)).unwrap();
            client.call(&Request::Echo(2)).unwrap_err();
            // It is still there, and could be asked to call again.
            told.recv_timeout(PROMPT * slowness()).unwrap();
        };
        play(ClientOptions::new(), server, call);
    }
}

/// Both ends send more than fits in between, and neither reads before it has sent.
#[test]
fn nobody_waits_for_ever_when_both_send() {
    let _limit = limit(here!());
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        let id = asked(&raw);
        raw.says(&fitting(WELCOME, &[(5, &(16_u32 << 20).to_le_bytes())]));
        // The caller gives up meanwhile, and comes back with a large request.
        let large = encoded(&Reply::Text("y".repeat(8 << 20)));
        raw.says(&reply(id, &large));
        let next = asked(&raw);
        raw.says(&reply(next, &encoded(&Reply::Done)));
        assert_eq!(raw.hears_or_end(), None);
    };
    play(ClientOptions::new(), server, |client| {
        let moment = CallOptions::new().deadline(A_MOMENT);
        let _ = client.call_with(&Request::Echo(1), moment);
        let large = Request::Text("x".repeat(8 << 20));
        let started = Instant::now();
        let called = client.call(&large);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert_eq!(called, Ok(Reply::Done));
    });
}

#[test]
fn a_place_that_is_used_a_hundred_thousand_times_gives_no_wrong_answers() {
    let _limit = limit(here!());
    let calls = rounds_or(100_000, 2_000);
    play(
        ClientOptions::new(),
        |accept| behave(&accept()),
        |client| {
            for number in 0..u64::from(calls) {
                assert_eq!(client.call(&Request::Echo(number)), Ok(Reply::Echo(number)));
            }
        },
    );
}
