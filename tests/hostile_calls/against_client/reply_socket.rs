//! Whatever is said to a client that asks for a socket of their own for the replies.

use pipetalk::{CallError, ClientOptions};

use super::{UNKNOWN_METHOD, assert_protocol, play, serve_but};
use crate::bytes::*;
use crate::town::{Reply, Request};
use crate::util::{here, limit};

/// What a server says to who asks for a socket for the replies.
type Says = fn(u32) -> Vec<Vec<u8>>;

/// Makes calls until one fails, or three hundred, and says how often the server was asked for a socket for the replies.
fn calls_beyond_a_reply_socket(says: Says) -> (usize, Result<Reply, CallError>) {
    let mut asked = 0;
    let last = play(
        ClientOptions::new(),
        |accept| {
            serve_but(&accept(), |id| {
                asked += 1;
                says(id)
            });
        },
        |client| {
            let mut called = Ok(Reply::Done);
            for number in 0..300 {
                called = client.call(&Request::Echo(number));
                if called != Ok(Reply::Echo(number)) {
                    break;
                }
            }
            called
        },
    );
    (asked, last)
}

#[test]
fn whatever_a_server_says_of_a_reply_socket_the_calls_go_on() {
    let _limit = limit(here!());
    let all: [Says; 5] = [
        |id| vec![error(id, UNKNOWN_METHOD, "no")],
        |id| vec![error(id, DENIED, "")],
        // Without a socket.
        |id| vec![reply(id, &[])],
        |id| vec![reply(id, &[1; 1000])],
        // Nothing at all.
        |_| vec![],
    ];
    for says in all {
        let (asked, last) = calls_beyond_a_reply_socket(says);
        assert_eq!(last, Ok(Reply::Echo(299)));
        assert!(asked <= 1, "asked {asked} times");
    }
}

#[test]
fn two_answers_about_a_reply_socket_end_the_conversation() {
    let _limit = limit(here!());
    let all: [Says; 2] = [
        |id| vec![reply(id, &[]), reply(id, &[])],
        |id| vec![error(id, UNKNOWN_METHOD, ""), reply(id, &[])],
    ];
    for says in all {
        match calls_beyond_a_reply_socket(says) {
            // Not every client asks.
            (0, last) => assert_eq!(last, Ok(Reply::Echo(299))),
            (_, last) => assert_protocol(last, "an answer to no request"),
        }
    }
}
