//! The bare system: an overlapped message pipe, and messages of a size that both sides know.

// The other benchmarks use all of it.
#[allow(dead_code)]
#[path = "../../../windows/bare.rs"]
mod pipe;

use std::io::{self, ErrorKind};

use super::{Echoes, Listening, Peer};
use crate::load::{Lane, Load, OneByOne, Threads};
use crate::message::{Requests, same_ends, wrong_reply};
use crate::scenario::Scenario;
use pipe::{Listener, Stream};

/// An overlapped message pipe.
#[derive(Debug)]
pub(crate) struct Bare;

/// Each connection has a pipe of its own.
fn address_of(address: &str, connection: usize) -> String {
    format!("{address}-{connection}")
}

fn lane(mut stream: Stream, size: usize) -> Box<dyn Lane> {
    let mut requests = Requests::<Vec<u8>>::new(size);
    let mut reply = vec![0; size];
    Box::new(OneByOne(move || {
        let request = requests.next();
        stream.send(request)?;
        match stream.receive(&mut reply)? {
            true if same_ends(&reply, request) => Ok(()),
            true => Err(wrong_reply()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }))
}

impl Peer for Bare {
    fn name(&self) -> &'static str {
        super::BARE
    }

    fn package(&self) -> Option<&'static str> {
        None
    }

    fn how(&self) -> &'static str {
        "an overlapped message pipe, one operation at a time, each waited for by an event; messages of a size that \
         both sides know"
    }

    fn unable(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.outstanding > 1).then_some("one at a time only")
    }

    fn one_client_only(&self) -> Option<&'static str> {
        Some("a pipe has one client")
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        let size = scenario.size;
        let listeners: Vec<_> = (0..scenario.connections)
            .map(|connection| Listener::bind(&address_of(address, connection)))
            .collect::<io::Result<_>>()?;
        listening.say(address)?;
        let mut echoes = Echoes::default();
        for listener in listeners {
            echoes.begin(move || {
                let mut stream = listener.accept()?;
                let mut message = vec![0; size];
                while stream.receive(&mut message)? {
                    stream.send(&message)?;
                }
                Ok(())
            })?;
        }
        echoes.finish()
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let lanes = (0..scenario.connections)
            .map(|connection| {
                let stream = Stream::connect(&address_of(address, connection))?;
                Ok(lane(stream, scenario.size))
            })
            .collect::<io::Result<_>>()?;
        Ok(Box::new(Threads(lanes)))
    }
}
