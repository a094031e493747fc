//! What a client owes its server besides requests, that calls were given up and credit, where it cannot be sent just
//! then: it is sent as soon as the connection can.

use std::sync::mpsc;
use std::thread;

use pipetalk::{CallError, CallOptions, ClientOptions, Stream};

use super::{asked, behave, play};
use crate::calls::bytes::*;
use super::super::driver::Items;
use super::super::town::{Raw, Reply, Request, encoded};
use util::{A_MOMENT, here, limit, slowness, until};

/// What a test's large message has: far more than any system holds.
const LARGE: usize = 8 << 20;

fn welcome_of(in_flight: u32) -> Vec<u8> {
    let limit = (16_u32 << 20).to_le_bytes();
    fitting(WELCOME, &[(5, &limit), (6, &in_flight.to_le_bytes())])
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Owes {
    /// A stream is dropped.
    Cancel,
    /// A call's time is over.
    Late,
    /// An item is taken.
    Credit,
}

/// One thread is in the middle of sending, and cannot go on because the server does not read; meanwhile another owes
/// the server something.
#[test]
fn what_is_due_while_another_sends_is_sent_behind_it() {
    let _limit = limit(here!());
    for owes in [Owes::Cancel, Owes::Late, Owes::Credit] {
        let (tell, told) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let server = move |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            let id = asked(&raw);
            raw.says(&welcome_of(64));
            if owes != Owes::Late {
                raw.says(&item(id, &encoded(&Reply::Echo(1))));
            }
            tell.send("asked").unwrap();
            until("the large one is on its way", || {
                let waiting = raw.0.peek().unwrap().unwrap();
                waiting.message.is_some()
            });
            tell.send("sending").unwrap();
            may_go_on.recv().unwrap();
            let expected = match owes {
                Owes::Credit => Said::Credit { id, more: 1 },
                Owes::Cancel | Owes::Late => Said::Cancel { id },
            };
            // A call that is late may have been so before.
            let mut heard = [raw.hears(), raw.hears()];
            if owes == Owes::Late && heard[0] == expected {
                heard.reverse();
            }
            assert_eq!(heard, [Said::Other(NOTIFY), expected], "{owes:?}");
            if owes != Owes::Credit {
                raw.says(&error(id, CANCELLED, ""));
            }
            behave(&raw);
        };
        play(ClientOptions::new(), server, move |client| {
            let large = || client.notify(&Request::Text("x".repeat(LARGE)));
            thread::scope(|scope| {
                let options = CallOptions::new();
                let (items, late) = if owes == Owes::Late {
                    let options = options.deadline(A_MOMENT * 10 * slowness());
                    let call = move || client.call_with(&Request::Gate, options);
                    (None, Some(scope.spawn(call)))
                } else {
                    let channel = client.channel();
                    // Each item is given back by itself.
                    let items = channel.open(0, &Request::Gate, options.window(2));
                    (Some(items.unwrap()), None)
                };
                assert_eq!(told.recv(), Ok("asked"));
                let sends = scope.spawn(large);
                assert_eq!(told.recv(), Ok("sending"));
                let mut items: Option<Items<Reply>> = items;
                if owes == Owes::Credit {
                    let item = items.as_mut().and_then(Iterator::next);
                    assert_eq!(item, Some(Ok(Reply::Echo(1))));
                } else {
                    drop(items.take());
                }
                if let Some(late) = late {
                    let error = late.join().unwrap().unwrap_err();
                    assert_eq!(error, CallError::TimedOut { sent: true });
                }
                go_on.send(()).unwrap();
                sends.join().unwrap().unwrap();
                // There is room for as many calls as before.
                for number in 0..100 {
                    assert_eq!(client.call(&Request::Echo(number)), Ok(Reply::Echo(number)));
                }
            });
        });
    }
}

/// The connection is full, and nobody is sending. What is due goes with whoever comes next: who waits for the very place
/// that the server is to give back, who sends, or who waits for an item.
#[test]
fn what_is_due_while_the_connection_is_full_is_sent_by_whoever_comes_next() {
    let _limit = limit(here!());
    for next in ["waits for the place", "calls", "notifies", "takes"] {
        let in_flight = if next == "waits for the place" { 1 } else { 64 };
        let (tell, told) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let server = move |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            let id = asked(&raw);
            raw.says(&welcome_of(in_flight));
            if next == "takes" {
                raw.says(&item(id, &encoded(&Reply::Echo(1))));
            }
            tell.send(()).unwrap();
            may_go_on.recv().unwrap();
            let mut others = Vec::new();
            loop {
                match raw.hears() {
                    Said::Other(NOTIFY) => {}
                    Said::Cancel { id: of } if of == id => {
                        break raw.says(&error(id, CANCELLED, ""));
                    }
                    Said::Credit { id: of, more: 1 } if of == id && next == "takes" => {
                        break raw.says(&item(id, &encoded(&Reply::Echo(2))));
                    }
                    // One that goes first.
                    Said::Request { id, payload, .. } => others.push((id, payload)),
                    other => panic!("{other:?}"),
                }
            }
            for (id, payload) in others {
                let index = &encoded(&Reply::Echo(0))[..1];
                raw.says(&reply(id, &[index, &payload[1..]].concat()));
            }
            behave(&raw);
        };
        play(ClientOptions::new(), server, move |client| {
            let channel = client.channel();
            let options = CallOptions::new();
            let items = channel.open(0, &Request::Gate, options.window(2));
            let mut items: Items<Reply> = items.unwrap();
            if next == "takes" {
                // It has come, so that the client knows what the server takes.
                told.recv().unwrap();
            } else {
                told.recv().unwrap();
                assert_eq!(items.next_by(A_MOMENT), Some(Err(LATE)));
            }
            let filling = Request::Text("x".repeat(2_000));
            let moment = options.deadline(A_MOMENT);
            let full = loop {
                if let Err(error) = channel.notify(0, &filling, moment) {
                    break error;
                }
            };
            assert!(matches!(full, CallError::TimedOut { .. }), "{full:?}");
            let mut left = Some(items);
            match (next, &mut left) {
                ("takes", Some(items)) => assert_eq!(items.next(), Some(Ok(Reply::Echo(1)))),
                _ => left = None,
            }
            go_on.send(()).unwrap();
            match (next, left) {
                ("takes", Some(mut items)) => assert_eq!(items.next(), Some(Ok(Reply::Echo(2)))),
                ("notifies", _) => channel.notify(0, &filling, options).unwrap(),
                _ => assert_eq!(client.call(&Request::Echo(7)), Ok(Reply::Echo(7))),
            }
            assert_eq!(client.call(&Request::Echo(8)), Ok(Reply::Echo(8)));
        });
    }
}

const LATE: CallError = CallError::TimedOut { sent: true };
