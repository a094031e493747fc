//! Ends and limits: what each call is told, whoever's fault it was.

use std::sync::mpsc;
use std::thread;

use pipetalk::{CallError, CallOptions, ClientOptions, Stream};

use super::{TestClient, asked, behave, play};
use crate::calls::bytes::*;
use super::super::town::{PROMPT, Raw, Reply, Request};
use util::{A_MOMENT, here, limit, soon};

/// A refusal, of a message of so many bytes where that is the reason.
fn refusal(code: u16) -> Vec<u8> {
    let [limit, size] = [1_000_u64, 5_000].map(u64::to_le_bytes);
    let why = [(16, &code.to_le_bytes()[..]), (17, b"because")];
    let how_much = [(18, &limit[..]), (19, &size[..])];
    fitting(REFUSAL, &[why, how_much].concat())
}

/// Every code but the one with which the conversation goes on.
fn codes() -> impl Iterator<Item = u16> {
    (0..14).chain([999]).filter(|code| *code != INCOMPATIBLE)
}

/// An error that says nothing of one call, but of the conversation.
fn protocol(error: &CallError) -> bool {
    matches!(error, CallError::Protocol(_))
}

/// Whatever the server has against the conversation, the requests that it had may have been carried out.
#[test]
fn whatever_ends_a_conversation_says_of_each_call_whether_it_was_sent() {
    let _limit = limit(here!());
    for code in codes() {
        let server = move |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            asked(&raw);
            raw.says(&welcome());
            // And a stream, and another call.
            for _ in 0..2 {
                asked(&raw);
            }
            // It has carried them out, and then it does not like a notification.
            raw.says(&refusal(code));
            raw.0.close();
        };
        play(ClientOptions::new(), server, move |client| {
            thread::scope(|scope| {
                let calls = [1, 2].map(|n| scope.spawn(move || client.call(&Request::Echo(n))));
                let items =
                    client
                        .channel()
                        .open::<_, Reply>(0, &Request::Gate, CallOptions::new());
                // It may be over before anybody looks whether it has been sent.
                let end = items.map(|items| items.last().unwrap().unwrap_err());
                let end = end.unwrap_or_else(|error| error);
                assert!(end.was_sent(), "{code}: {end:?}");
                for call in calls {
                    let error = call.join().unwrap().unwrap_err();
                    assert!(error.was_sent(), "{code}: {error:?}");
                }
            });
            assert_not_sent(client, code);
        });
    }
}

/// What is refused instead of welcomed was not carried out, and can be tried again.
#[test]
fn what_is_refused_without_a_welcome_was_not_carried_out() {
    let _limit = limit(here!());
    for code in codes() {
        let server = move |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            asked(&raw);
            raw.says(&refusal(code));
            raw.0.close();
        };
        play(ClientOptions::new(), server, move |client| {
            let error = client.call(&Request::Echo(1)).unwrap_err();
            assert!(!error.was_sent() || protocol(&error), "{code}: {error:?}");
            assert_not_sent(client, code);
        });
    }
}

/// A call that begins when the conversation has ended is told so, and not of what was another's.
fn assert_not_sent(client: &TestClient, code: u16) {
    for _ in 0..2 {
        let error = client.call(&Request::Echo(3)).unwrap_err();
        assert!(!error.was_sent() || protocol(&error), "{code}: {error:?}");
        assert!(
            !matches!(error, CallError::TooLarge { .. }),
            "{code}: {error:?}"
        );
    }
}

/// A large request waits until the server has said how much it takes: then it is sent, or that call fails alone.
#[test]
fn a_large_request_waits_for_the_welcome() {
    let _limit = limit(here!());
    for notifies in [false, true] {
        for takes in [1_000, 1 << 20] {
            let (tell, told) = mpsc::channel();
            let server = move |accept: &dyn Fn() -> Raw| {
                let raw = accept();
                assert_eq!(raw.hears(), Said::Hello);
                let nothing = raw.0.recv_message(&mut Vec::new(), A_MOMENT.into());
                assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
                raw.says(&fitting(WELCOME, &[(5, &u32::to_le_bytes(takes))]));
                if takes > 1_000 {
                    match raw.hears() {
                        Said::Request { id, .. } if !notifies => raw.says(&error(id, 2, "")),
                        Said::Other(NOTIFY) if notifies => {}
                        other => panic!("{other:?}"),
                    }
                }
                tell.send(()).unwrap();
                behave(&raw);
            };
            play(ClientOptions::new(), server, move |client| {
                let large = Request::Text("x".repeat(200_000));
                let result = match notifies {
                    true => client.notify(&large),
                    false => client.call(&large).map(|reply| panic!("{reply:?}")),
                };
                told.recv().unwrap();
                match (takes, result) {
                    (1_000, Err(CallError::TooLarge { limit, size, reply })) => {
                        assert!(limit == 1_000 && size > 200_000 && !reply);
                    }
                    (1_000, other) => panic!("{other:?}"),
                    (_, result) if notifies => assert_eq!(result, Ok(())),
                    (_, result) => assert_eq!(result, Err(CallError::Panicked)),
                }
                assert_eq!(client.call(&Request::Echo(7)), Ok(Reply::Echo(7)));
            });
        }
    }
}

/// It waits by its deadline, and leaves its place to others.
#[test]
fn a_large_request_is_not_sent_where_no_welcome_comes() {
    let _limit = limit(here!());
    let (late, is_late) = mpsc::channel();
    let server = move |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        assert_eq!(raw.hears(), Said::Hello);
        is_late.recv().unwrap();
        raw.says(&welcome());
        behave(&raw);
    };
    play(ClientOptions::new(), server, move |client| {
        let large = Request::Text("x".repeat(200_000));
        let moment = CallOptions::new().deadline(A_MOMENT);
        let started = std::time::Instant::now();
        for _ in 0..3 {
            let error = client.call_with(&large, moment).unwrap_err();
            assert_eq!(error, CallError::TimedOut { sent: false });
            let error = client.channel().notify(0, &large, moment).unwrap_err();
            assert_eq!(error, CallError::TimedOut { sent: false });
        }
        assert!(started.elapsed() < PROMPT);
        thread::scope(|scope| {
            // One that is sent at once, and one that waits for its place.
            let calls = [1, 2].map(|n| scope.spawn(move || client.call(&Request::Echo(n))));
            late.send(()).unwrap();
            for call in calls {
                assert!(matches!(call.join().unwrap(), Ok(Reply::Echo(_))));
            }
        });
    });
}

/// One that is small enough to be sent without asking may still be too large. It ends the conversation, and so it is
/// told of to its own call, and another connection helps.
#[test]
fn a_small_request_that_is_too_large_fails_alone_as_well() {
    let _limit = limit(here!());
    for reconnect in [false, true] {
        let server = move |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            asked(&raw);
            raw.says(&fitting(WELCOME, &[(5, &1_000_u32.to_le_bytes())]));
            let [limit, size] = [1_000_u64, 2_100].map(u64::to_le_bytes);
            let why = [
                (16, &TOO_LARGE.to_le_bytes()[..]),
                (18, &limit),
                (19, &size),
            ];
            let _ = raw.0.send(&fitting(REFUSAL, &why), soon());
            raw.0.close();
            if reconnect {
                behave(&accept());
            }
        };
        let options = ClientOptions::new().reconnect(reconnect);
        play(options, server, move |client| {
            let called = client.call(&Request::Text("x".repeat(2_000)));
            match called {
                Err(CallError::TooLarge {
                    limit: 1_000,
                    size,
                    reply: false,
                }) => assert!(size > 2_000),
                other => panic!("{other:?}"),
            }
            let again = client.call(&Request::Echo(7));
            match reconnect {
                true => assert_eq!(again, Ok(Reply::Echo(7))),
                false => assert_eq!(again, Err(CallError::Disconnected { sent: false })),
            }
        });
    }
}
