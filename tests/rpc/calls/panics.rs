//! Handlers, arguments, replies and services that panic, and what they panic with panics as well: the caller is told at
//! once, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pipetalk::{Call, CallError, CallOptions, ClientOptions, ItemSink, Peer, ServerOptions, memory};

use super::driver::{Channel, Client, Items, channel_over, on, over};
use util::bomb::raise;
use util::{A_WHILE, Deserialize, Serialize, here, limit, promptly, until};

const HANDLER: u32 = 1;
const ARGUMENT: u32 = 2;
const REPLY: u32 = 3;
const ENCODING: u32 = 4;
const DECODING: u32 = 5;
const ALL: [u32; 5] = [HANDLER, ARGUMENT, REPLY, ENCODING, DECODING];

/// Is a `u32` on the wire.
#[derive(Deserialize)]
#[serde(from = "u32")]
struct Argument(u32);

impl From<u32> for Argument {
    fn from(number: u32) -> Argument {
        if number == DECODING {
            raise();
        }
        Argument(number)
    }
}

impl Drop for Argument {
    fn drop(&mut self) {
        if self.0 == ARGUMENT {
            raise();
        }
    }
}

struct Reply(u32);

impl Serialize for Reply {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == ENCODING {
            raise();
        }
        self.0.serialize(serializer)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.0 == REPLY {
            raise();
        }
    }
}

fn handle(argument: Argument, _: &Call) -> Reply {
    if argument.0 == HANDLER {
        raise();
    }
    Reply(argument.0)
}

#[test]
fn a_panic_that_panics_again_is_told_at_once_and_leaves_nothing() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool).in_flight(4), listener);
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(self::handle));
        let connect = || -> Client<u32, u32> {
            let stream = connector.connect(util::soon()).unwrap();
            over(ClientOptions::new().timeout(A_WHILE), stream).unwrap()
        };
        let stays = connect();
        // More of each than there are threads of the pool, and than may be in flight.
        for _ in 0..5 {
            let client = connect();
            for what in ALL {
                let called = promptly("a panic", || client.call(&what));
                assert_eq!(called, Err(CallError::Panicked), "{what}");
                client.notify(&what).unwrap();
                assert_eq!(client.call(&7), Ok(7));
            }
            assert_eq!(stays.call(&7), Ok(7));
        }
        until("those who left are forgotten", || {
            let info = stays.channel().info().unwrap();
            // It is a request itself.
            (info.connections, info.in_flight) == (1, 1)
        });
        handle.drain(Duration::MAX);
        promptly("a drain", || serving.join().unwrap().unwrap());
    }
}

#[test]
fn a_stream_whose_handler_panics_so_leaves_nothing() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool).in_flight(2), listener);
        let handle = server.handle();
        let serving = thread::spawn(move || {
            server.serve(|argument: Argument, _: &Call, items: ItemSink<Reply>| {
                let _ = items.send(&Reply(7));
                if argument.0 == HANDLER {
                    raise();
                }
                // One that panics while it is encoded or dropped.
                let _ = items.send(&Reply(argument.0));
            })
        });
        let connect = || -> Channel {
            let stream = connector.connect(util::soon()).unwrap();
            channel_over(ClientOptions::new(), stream).unwrap()
        };
        let stays = connect();
        for _ in 0..3 {
            let channel = connect();
            for what in ALL {
                let mut items: Items<u32> = channel.open(0, &what, CallOptions::new()).unwrap();
                if what != DECODING {
                    assert_eq!(items.next(), Some(Ok(7)));
                }
                let end = promptly("a panic", || items.find(Result::is_err));
                // Of an item, or of an argument that was all that was left to drop, the stream may have its end before.
                let told = end == Some(Err(CallError::Panicked));
                assert!(told || (end.is_none() && what == ARGUMENT), "{what}: {end:?}");
                assert_eq!(items.next(), None);
            }
        }
        until("those who left are forgotten", || {
            let info = stays.info().unwrap();
            // It is a request itself.
            (info.connections, info.in_flight) == (1, 1)
        });
        handle.drain(Duration::MAX);
        promptly("a drain", || serving.join().unwrap().unwrap());
    }
}

#[test]
fn a_rule_that_panics_so_refuses_and_the_server_goes_on() {
    let _limit = limit(here!());
    let lets_in = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&lets_in);
    let admit = move |_: &Peer| asked.load(Ordering::SeqCst) || raise();
    let (listener, connector) = memory::listener();
    let options = ServerOptions::new().admit(admit).control(|_: &Peer| raise());
    let server = on(options, listener);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(self::handle));
    let call = || {
        let stream = connector.connect(util::soon()).unwrap();
        let client: Client<u32, u32> = over(ClientOptions::new(), stream)?;
        client.call(&7)?;
        client.channel().stop()
    };
    for admitted in [false, true] {
        lets_in.store(admitted, Ordering::SeqCst);
        for _ in 0..3 {
            let error = call().unwrap_err();
            assert!(matches!(error, CallError::Refused(_)), "{error:?}");
        }
    }
    handle.stop();
    serving.join().unwrap().unwrap();
}
