//! The bare system: a `UnixStream`, and messages of a size that both sides know.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use super::{Listening, Peer};
use crate::load::{Lane, Load, Threads, Window};
use crate::message::{number_ends, numbered_bytes, same_ends, wrong_reply};
use crate::scenario::Scenario;

/// A `UnixStream`.
#[derive(Debug)]
pub(crate) struct Bare;

impl Peer for Bare {
    fn name(&self) -> &'static str {
        super::BARE
    }

    fn package(&self) -> Option<&'static str> {
        None
    }

    fn how(&self) -> &'static str {
        "`UnixStream` with `write_all` and `read_exact` of a size that both sides know; outstanding requests are sent \
         ahead, by the thread that receives as long as they fit into the system's buffers, else by another"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        let listener = UnixListener::bind(address)?;
        listening.say(address)?;
        let size = scenario.size;
        let mut threads = Vec::new();
        for _ in 0..scenario.connections {
            let (mut stream, _) = listener.accept()?;
            let echo = move || -> io::Result<()> {
                let mut message = vec![0; size];
                loop {
                    match stream.read_exact(&mut message) {
                        Ok(()) => stream.write_all(&message)?,
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            };
            threads.push(thread::Builder::new().spawn(echo)?);
        }
        super::join_all(threads)
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
        for _ in 0..scenario.connections {
            let mut receiver = UnixStream::connect(address)?;
            let mut sender = receiver.try_clone()?;
            let (mut sent, mut received) = (0, 0);
            let mut message = numbered_bytes(sent, scenario.size);
            let mut expected = message.clone();
            let mut reply = message.clone();
            lanes.push(Box::new(Window {
                send: move || {
                    sent += 1;
                    number_ends(&mut message, sent);
                    sender.write_all(&message)
                },
                receive: move || {
                    received += 1;
                    number_ends(&mut expected, received);
                    receiver.read_exact(&mut reply)?;
                    if same_ends(&reply, &expected) {
                        Ok(())
                    } else {
                        Err(wrong_reply())
                    }
                },
                outstanding: scenario.outstanding,
                one_thread: scenario.fits_buffers(),
            }));
        }
        Ok(Box::new(Threads(lanes)))
    }
}
