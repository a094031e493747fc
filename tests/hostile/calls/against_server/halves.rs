//! Clients that shut down their sending side, and wait for what they have asked for.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::calls::bytes::{self, *};
use super::super::driver;
use super::super::town::{Reply, Request, Town, echo, echoed, encoded};
use util::{A_WHILE, here, limit, until};

/// Somebody whose socket is in hand.
struct Half(UnixStream);

impl Half {
    /// A guest that has said this as well, and will say no more.
    fn of(town: &Town, says: &[Vec<u8>]) -> Half {
        let half = Half::open(town, says);
        half.says_no_more();
        half
    }

    fn open(town: &Town, says: &[Vec<u8>]) -> Half {
        let mut socket = UnixStream::connect(town.place.name()).unwrap();
        socket.set_read_timeout(Some(A_WHILE)).unwrap();
        for message in [hello()].iter().chain(says) {
            let length = u32::try_from(message.len()).unwrap();
            socket.write_all(&length.to_le_bytes()).unwrap();
            socket.write_all(message).unwrap();
        }
        let half = Half(socket);
        assert_eq!(half.hears(), Some(Said::Welcome));
        half
    }

    fn says_no_more(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn hears(&self) -> Option<Said> {
        let mut length = [0; 4];
        match (&self.0).read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            read => read.unwrap(),
        }
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        (&self.0).read_exact(&mut message).unwrap();
        Some(bytes::read(&message))
    }

    /// These in any order, and then the end.
    fn assert_hears(&self, expected: Vec<Said>) {
        let heard: Vec<_> = std::iter::from_fn(|| self.hears()).collect();
        assert_eq!(heard.len(), expected.len(), "{heard:?}");
        for said in expected {
            assert!(heard.contains(&said), "{said:?} is not among {heard:?}");
        }
    }
}

fn done(id: u32) -> Said {
    Said::Reply {
        id,
        payload: encoded(&Reply::Done),
    }
}

#[test]
fn what_a_client_has_asked_for_is_answered_when_it_sends_no_more() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let all: Vec<_> = (0..20).map(|id| echo(id, id.into())).collect();
        let half = Half::of(&town, &all);
        half.assert_hears((0..20).map(|id| echoed(id, id.into())).collect());
        let gate = bytes::request(30, FOR_EVER, &encoded(&Request::Gate));
        let half = Half::of(&town, &[gate, echo(31, 5)]);
        until("one waits", || town.gate.seen() == 1);
        town.gate.open();
        half.assert_hears(vec![done(30), echoed(31, 5)]);
        drop(half);
        town.assert_unharmed();
    }
}

#[test]
fn a_stream_goes_on_as_far_as_its_credit_when_its_client_sends_no_more() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let opened = open(1, FOR_EVER, 10, &encoded(&Request::Echo(3)));
        let half = Half::of(&town, &[opened]);
        let item = |number| Said::Item {
            id: 1,
            payload: encoded(&Reply::Echo(number)),
        };
        half.assert_hears(vec![item(0), item(1), item(2), Said::End { id: 1 }]);
        let opened = open(2, FOR_EVER, 10, &encoded(&Request::Gate));
        let half = Half::of(&town, &[opened]);
        until("its handler waits", || town.gate.seen() == 1);
        town.gate.open();
        half.assert_hears(vec![Said::End { id: 2 }]);
        drop(half);
        town.assert_unharmed();
    }
}

/// That it has gone altogether is noticed all the same.
#[test]
fn a_client_that_leaves_after_it_has_sent_all_is_not_waited_for() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let asked = bytes::request(1, FOR_EVER, &encoded(&Request::UntilCancelled));
        let opened = open(2, FOR_EVER, 0, &encoded(&Request::UntilCancelled));
        for (number, says) in [opened, asked].into_iter().enumerate() {
            let half = Half::open(&town, &[says]);
            until("it runs", || town.gate.seen() == number as u64 + 1);
            half.says_no_more();
            until("nothing has ended", || town.connections() == 2);
            drop(half);
            until("it has been noticed", || town.connections() == 1);
        }
        town.assert_unharmed();
    }
}

/// It reads nothing, and has all the time in the world.
#[test]
fn a_client_that_neither_sends_nor_reads_is_cut_off() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| {
            options.send_timeout(Duration::from_millis(100))
        });
        let large = |id| bytes::request(id, FOR_EVER, &encoded(&Request::Large(1 << 19)));
        let half = Half::of(&town, &[large(1), large(2), large(3)]);
        until("it is cut off", || town.connections() == 1);
        drop(half);
        town.assert_unharmed();
    }
}
