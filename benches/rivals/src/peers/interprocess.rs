//! What one would write by hand: a length, then bincode, over a local socket of interprocess.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::sync::Arc;

use ::interprocess::local_socket::prelude::*;
use ::interprocess::local_socket::{GenericFilePath, ListenerOptions, Stream};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Echoes, Listening, Peer};
use crate::load::{Lane, Load, Threads, Window};
use crate::message::{Message, Requests, Small, check};
use crate::scenario::Scenario;

/// One of two that share a stream, for a [`BufReader`].
struct Reading(Arc<Stream>);

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

/// Four bytes of length and bincode.
struct Sender {
    stream: Arc<Stream>,
    buffer: Vec<u8>,
}

impl Sender {
    fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 4]);
        let config = bincode::config::standard();
        let size = bincode::serde::encode_into_std_write(message, &mut self.buffer, config)
            .map_err(io::Error::other)?;
        let size = u32::try_from(size).map_err(io::Error::other)?;
        self.buffer[..4].copy_from_slice(&size.to_le_bytes());
        (&*self.stream).write_all(&self.buffer)
    }
}

/// No more than this is believed of a length.
const LIMIT: usize = 16 << 20;

struct Receiver {
    stream: BufReader<Reading>,
    buffer: Vec<u8>,
}

impl Receiver {
    /// `None` at the end.
    fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let mut size = [0; 4];
        match self.stream.read_exact(&mut size) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            // A pipe of Windows says so in its own way.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(None),
            read => read?,
        }
        let size = u32::from_le_bytes(size) as usize;
        if size > LIMIT {
            return Err(ErrorKind::InvalidData.into());
        }
        self.buffer.resize(size, 0);
        self.stream.read_exact(&mut self.buffer)?;
        let config = bincode::config::standard();
        let (message, _) =
            bincode::serde::decode_from_slice(&self.buffer, config).map_err(io::Error::other)?;
        Ok(Some(message))
    }
}

fn split(stream: Stream) -> (Sender, Receiver) {
    let stream = Arc::new(stream);
    (
        Sender {
            stream: stream.clone(),
            buffer: Vec::new(),
        },
        Receiver {
            stream: BufReader::new(Reading(stream)),
            buffer: Vec::new(),
        },
    )
}

fn echo<M: Message + Serialize + DeserializeOwned>(stream: Stream) -> io::Result<()> {
    let (mut sender, mut receiver) = split(stream);
    while let Some(message) = receiver.receive::<M>()? {
        sender.send(&message)?;
    }
    Ok(())
}

fn lane<M: Message + Serialize + DeserializeOwned>(
    stream: Stream,
    scenario: &Scenario,
) -> Box<dyn Lane> {
    let (mut sender, mut receiver) = split(stream);
    let mut requests = Requests::<M>::new(scenario.size);
    let mut expected = requests.clone();
    Box::new(Window {
        send: move || sender.send(requests.next()),
        receive: move || match receiver.receive()? {
            Some(reply) => check(&reply, expected.next()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        },
        outstanding: scenario.outstanding,
        one_thread: scenario.fits_buffers(),
    })
}

/// interprocess and bincode.
#[derive(Debug)]
pub(crate) struct ByHand;

impl Peer for ByHand {
    fn name(&self) -> &'static str {
        "interprocess"
    }

    fn package(&self) -> Option<&'static str> {
        Some("interprocess")
    }

    fn how(&self) -> &'static str {
        "`local_socket` with bincode 2 behind four bytes of length, written by hand: one write, a `BufReader`, buffers \
         that are kept, and a thread for each connection; bytes are `bytes::Bytes`; outstanding requests as with `bare`"
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        let name = address.to_fs_name::<GenericFilePath>()?;
        let listener = ListenerOptions::new().name(name).create_sync()?;
        listening.say(address)?;
        let echo = match scenario.size {
            Scenario::SMALL => echo::<Small>,
            _ => echo::<Bytes>,
        };
        let mut echoes = Echoes::default();
        for _ in 0..scenario.connections {
            let stream = listener.accept()?;
            echoes.begin(move || echo(stream))?;
        }
        echoes.finish()
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let lane = match scenario.size {
            Scenario::SMALL => lane::<Small>,
            _ => lane::<Bytes>,
        };
        let lanes = (0..scenario.connections)
            .map(|_| {
                let stream = Stream::connect(address.to_fs_name::<GenericFilePath>()?)?;
                Ok(lane(stream, scenario))
            })
            .collect::<io::Result<_>>()?;
        Ok(Box::new(Threads(lanes)))
    }
}
