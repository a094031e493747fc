//! What a server says on a stream, and should not.

use std::sync::mpsc;

use pipetalk::{CallError, CallOptions, ClientOptions, Stream};

use super::{asked, assert_protocol, behave, play};
use crate::ALLOCATOR;
use crate::calls::bytes::*;
use super::super::driver::Items;
use super::super::town::{Raw, Reply, Request, encoded};
use util::{here, limit, soon};

/// Every message that ends a conversation in which a stream of four credits is open, and what the client says of it.
fn breaches_of_a_stream(id: u32) -> Vec<(Vec<Vec<u8>>, &'static str)> {
    let payload = encoded(&Reply::Echo(1));
    let small = item(id, &payload);
    let large = item(id, &[0; 4 << 10]);
    vec![
        (
            vec![reply(id, &payload)],
            "a reply to the request for a stream",
        ),
        (vec![small.clone(); 5], "an item beyond its credit"),
        (vec![large, small.clone()], "an item beyond its credit"),
        (vec![end(id), small.clone()], "an item of no stream"),
        (vec![end(id), end(id)], "an answer to no request"),
        (vec![error(id, 1, ""), small], "an item of no stream"),
        (vec![item(id + 1, &payload)], "an item of no stream"),
        (
            vec![[end(id), vec![0]].concat()],
            "goes on where it should end",
        ),
        (vec![item(id, &payload)[..7].to_vec()], "ends too early"),
    ]
}

#[test]
fn a_breach_of_a_stream_ends_the_conversation() {
    let _limit = limit(here!());
    let options = CallOptions::new().window(4);
    for given_up in [false, true] {
        for (breach, words) in &breaches_of_a_stream(0x1_0000) {
            let (left, has_left) = mpsc::channel::<()>();
            let server = move |accept: &dyn Fn() -> Raw| {
                let raw = accept();
                assert_eq!(asked(&raw), 0x1_0000);
                raw.says(&welcome());
                assert_eq!(has_left.recv(), Ok(()));
                assert!(matches!(asked(&raw), 0x1_0001));
                for message in breach {
                    // It need not read them all.
                    let _ = raw.0.send(message, soon());
                }
                while raw.hears_or_end().is_some() {}
            };
            play(ClientOptions::new(), server, move |client| {
                let channel = client.channel();
                let items: Items<Reply> = channel.open(0, &Request::Gate, options).unwrap();
                let items = Some(items).filter(|_| !given_up);
                left.send(()).unwrap();
                // It has read the breach, whoever that concerns.
                assert_protocol(client.call(&Request::Echo(1)), words);
                let ends = items.into_iter().flatten().skip_while(|item| item.is_ok());
                for end in ends {
                    // The stream may have had its own end before.
                    let own = [CallError::Cancelled, CallError::Disconnected { sent: true }];
                    let protocol =
                        matches!(end, Err(CallError::Protocol(_) | CallError::Decode(_)));
                    assert!(
                        protocol || own.contains(&end.clone().unwrap_err()),
                        "{end:?}"
                    );
                }
                assert_protocol(client.call(&Request::Echo(1)), words);
            });
        }
    }
}

/// Of an item that costs all but the next credit, none is given back too many.
#[test]
fn a_consumer_gives_back_what_items_have_cost() {
    let _limit = limit(here!());
    let item_of = |id: u32, size: usize| {
        // The text makes up for what the rest takes.
        let rest = item(id, &encoded(&Reply::Text("x".repeat(300)))).len() - 300;
        let item = item(id, &encoded(&Reply::Text("x".repeat(size - rest))));
        assert_eq!(item.len(), size);
        item
    };
    for (size, cost) in [(1023, 1), (1024, 1), (1025, 2), (2048, 2), (2049, 3)] {
        // Each item takes all of it, and so is answered by itself.
        let window = cost;
        let server = |accept: &dyn Fn() -> Raw| {
            let raw = accept();
            let id = asked(&raw);
            raw.says(&welcome());
            for _ in 0..8 {
                raw.says(&item_of(id, size));
                assert_eq!(raw.hears(), Said::Credit { id, more: cost }, "{size}");
            }
            raw.says(&end(id));
            assert_eq!(raw.hears_or_end(), None);
        };
        play(ClientOptions::new(), server, |client| {
            let options = CallOptions::new().window(window);
            let items: Items<Reply> = client.channel().open(0, &Request::Gate, options).unwrap();
            assert_eq!(items.into_iter().map(Result::unwrap).count(), 8);
        });
    }
}

/// What the server may send is what the client keeps, whoever reads it.
#[test]
fn items_for_a_consumer_that_stays_away_cost_no_more_than_the_window() {
    let _limit = limit(here!());
    let window = 256;
    let text = encoded(&Reply::Text("x".repeat(1_000)));
    let server = |accept: &dyn Fn() -> Raw| {
        let raw = accept();
        let id = asked(&raw);
        raw.says(&welcome());
        let call = asked(&raw);
        for _ in 0..window {
            raw.says(&item(id, &text));
        }
        raw.says(&reply(call, &encoded(&Reply::Echo(1))));
        // Then it gives back all of it, in its own time.
        let mut credit = 0;
        while credit < window {
            match raw.hears() {
                Said::Credit { id: of, more } if of == id => credit += more,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(credit, window);
        raw.says(&end(id));
        behave(&raw);
    };
    play(ClientOptions::new(), server, |client| {
        let live = ALLOCATOR.live();
        ALLOCATOR.forget_peak();
        let options = CallOptions::new().window(window);
        let items = client.channel().open(0, &Request::Gate, options).unwrap();
        let mut items: Items<Reply> = items;
        assert_eq!(client.call(&Request::Echo(1)), Ok(Reply::Echo(1)));
        assert!(ALLOCATOR.peak() - live < 3 << 20);
        assert_eq!(items.by_ref().map(Result::unwrap).count(), window as usize);
        assert_eq!(client.call(&Request::Echo(2)), Ok(Reply::Echo(2)));
    });
}

#[test]
fn items_that_cannot_be_decoded_end_a_stream_and_no_more() {
    let _limit = limit(here!());
    let index = encoded(&Reply::Text(String::new()))[0];
    let payloads = [
        [&[index], &claim(u64::MAX)[..]].concat(),
        [&[index], &claim(1 << 30)[..]].concat(),
        [encoded(&Reply::Done), vec![0]].concat(),
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
            raw.says(&item(id, &encoded(&Reply::Done)));
            raw.says(&item(id, payload));
            // Nobody wants more.
            loop {
                match raw.hears() {
                    Said::Cancel { id: of } => break assert_eq!(of, id),
                    Said::Credit { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            raw.says(&error(id, 1, ""));
        }
        behave(&raw);
    };
    play(ClientOptions::new(), server, |client| {
        for _ in &payloads {
            let mut items: Items<Reply> = client
                .channel()
                .open(0, &Request::Gate, CallOptions::new())
                .unwrap();
            assert_eq!(items.next(), Some(Ok(Reply::Done)));
            let error = items.next().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Decode(_)), "{error:?}");
            assert_eq!(items.next(), None);
        }
        assert_eq!(client.call(&Request::Echo(2)), Ok(Reply::Echo(2)));
    });
}
