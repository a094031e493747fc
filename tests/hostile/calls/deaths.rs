//! Peers that die in the middle of a conversation: at every byte of it on a socket, where bytes can be counted, and
//! at every message on any transport.

use std::thread;

use pipetalk::{CallError, Listener, LocalListener, Stream};

use crate::calls::bytes::{self, *};
use super::driver::{self, Client};
use super::town::{Raw, Reply, Request, Town, alone, echo, echoed, encoded};
use util::{Place, here, limit, soon};

/// What a client says in a conversation that has everything.
fn clients_part() -> Vec<Vec<u8>> {
    vec![
        hello(),
        echo(1, 1),
        // Long enough for the cancellation, if that comes.
        bytes::request(2, 300, &encoded(&Request::UntilCancelled)),
        cancel(2),
        notification(&encoded(&Request::Text("note".to_owned()))),
        bytes::request(3, FOR_EVER, &encoded(&Request::Text("x".repeat(300)))),
        echo(4, 4),
    ]
}

#[test]
fn a_client_may_die_after_every_message() {
    let _limit = limit(here!());
    for pool in driver::pools([0, 2]) {
        let town = Town::with_pool(pool, |options| options);
        let conversation = clients_part();
        for length in 0..=conversation.len() {
            for listens in [false, true] {
                let client = town.stranger();
                for message in &conversation[..length] {
                    client.says(message);
                }
                if listens && length >= 2 {
                    assert_eq!(client.hears(), Said::Welcome);
                    // With a pool the others may be answered first.
                    let mut heard = client.hears();
                    while pool > 0
                        && matches!(
                            heard,
                            Said::Reply { id: 2.., .. } | Said::Error { id: 2.., .. }
                        )
                    {
                        heard = client.hears();
                    }
                    assert_eq!(heard, echoed(1, 1));
                }
            }
        }
        town.assert_unharmed();
    }
}

/// What a server says to one call of [`Request::Echo`], and then some.
fn servers_part(id: u32) -> Vec<Vec<u8>> {
    vec![
        welcome(),
        reply(id, &encoded(&Reply::Echo(5))),
        going_away(),
    ]
}

/// What became of a call to a server that died, where `answered` says whether it had answered.
#[track_caller]
fn assert_truthful(called: Result<Reply, CallError>, answered: bool) {
    match called {
        Ok(reply) => assert!(answered && reply == Reply::Echo(5), "{reply:?}"),
        Err(error) => {
            assert!(!answered, "{error:?}");
            assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
        }
    }
}

#[test]
fn a_server_may_die_after_every_message() {
    let _limit = limit(here!());
    let _alone = alone();
    // How many messages the server reads, and how many it sends.
    for reads in 0..=2 {
        for sends in 0..=servers_part(0).len() {
            let place = Place::new();
            let listener = LocalListener::bind(place.name()).unwrap();
            thread::scope(|scope| {
                let server = scope.spawn(|| {
                    let raw = Raw(listener.accept(soon()).unwrap());
                    let mut id = None;
                    for _ in 0..reads {
                        if let Said::Request { id: asked, .. } = raw.hears() {
                            id = Some(asked);
                        }
                    }
                    for message in servers_part(id.unwrap_or(0)).iter().take(sends) {
                        // The client may have heard enough.
                        let _ = raw.0.send(message, soon());
                    }
                    raw.0.close();
                });
                let called = Client::<Request, Reply>::connect(place.name())
                    .and_then(|client| client.call(&Request::Echo(5)));
                server.join().unwrap();
                match (reads, sends) {
                    (2, 2..) => assert_truthful(called, true),
                    // It answers what nobody has asked.
                    (_, 2..) => assert!(called.is_err(), "{called:?}"),
                    _ => assert_truthful(called, false),
                }
            });
        }
    }
}

#[cfg(unix)]
mod on_a_socket {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use util::A_WHILE;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        messages
            .iter()
            .flat_map(|message| [&(message.len() as u32).to_le_bytes(), &message[..]].concat())
            .collect()
    }

    #[test]
    fn a_client_may_die_at_every_byte() {
        let _limit = limit(here!());
        for pool in driver::pools([0, 2]) {
            let town = Town::with_pool(pool, |options| options);
            let conversation = framed(&clients_part());
            for length in 0..=conversation.len() {
                let mut raw = UnixStream::connect(town.place.path()).unwrap();
                raw.set_write_timeout(Some(A_WHILE)).unwrap();
                raw.write_all(&conversation[..length]).unwrap();
                if length % 3 == 0 {
                    // It listens to the end, but will not speak again.
                    raw.shutdown(std::net::Shutdown::Write).unwrap();
                    raw.set_read_timeout(Some(A_WHILE)).unwrap();
                    raw.read_to_end(&mut Vec::new()).unwrap();
                }
            }
            town.assert_unharmed();
        }
    }

    #[test]
    fn a_server_may_die_at_every_byte() {
        let _limit = limit(here!());
        let _alone = alone();
        let place = Place::new();
        let listener = UnixListener::bind(place.path()).unwrap();
        // The first call of a connection has this id, wherever it stands.
        let first = 1 << 16;
        let conversation = framed(&servers_part(first));
        let whole = framed(&servers_part(first)[..2]).len();
        for length in 0..=conversation.len() {
            thread::scope(|scope| {
                let (conversation, listener) = (&conversation, &listener);
                let server = scope.spawn(move || {
                    let (mut raw, _) = listener.accept().unwrap();
                    raw.set_read_timeout(Some(A_WHILE)).unwrap();
                    // All that the client says, so that the answer is one.
                    let mut header = [0; 4];
                    for _ in 0..2 {
                        raw.read_exact(&mut header).unwrap();
                        let mut message = vec![0; u32::from_le_bytes(header) as usize];
                        raw.read_exact(&mut message).unwrap();
                        if let Said::Request { id, .. } = bytes::read(&message) {
                            assert_eq!(id, first);
                        }
                    }
                    raw.write_all(&conversation[..length]).unwrap();
                });
                let client = Client::<Request, Reply>::connect(place.name()).unwrap();
                let called = client.call(&Request::Echo(5));
                server.join().unwrap();
                if let Err(error) = &called {
                    assert!(error.was_sent(), "{error:?}");
                }
                assert_truthful(called, length >= whole);
                let again = client.call(&Request::Echo(6)).unwrap_err();
                assert!(
                    matches!(
                        again,
                        CallError::Disconnected { sent: _ } | CallError::Unavailable
                    ),
                    "{again:?}"
                );
            });
        }
    }
}
