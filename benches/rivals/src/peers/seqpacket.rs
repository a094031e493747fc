//! The bare system again, with sockets that keep the boundaries of messages.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, accept, bind, connect, listen,
    recv, send, socket,
};

use super::bare::Socket;
use super::{Echoes, Listening, Peer};
use crate::load::{Load, Threads};
use crate::scenario::Scenario;

impl Socket for OwnedFd {
    fn try_clone(&self) -> io::Result<Self> {
        OwnedFd::try_clone(self)
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match send(&*self, message, SendFlags::NOSIGNAL)? {
            sent if sent == message.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<bool> {
        let size = message.len();
        match recv(&*self, message, RecvFlags::empty())?.0 {
            0 => Ok(false),
            received if received == size => Ok(true),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?)
}

/// A Unix socket of type `SOCK_SEQPACKET`.
#[derive(Debug)]
pub(crate) struct Seqpacket;

impl Peer for Seqpacket {
    fn name(&self) -> &'static str {
        "seqpacket"
    }

    fn package(&self) -> Option<&'static str> {
        None
    }

    fn how(&self) -> &'static str {
        "`SOCK_SEQPACKET` with `send` and `recv`; outstanding requests as with `bare`"
    }

    fn unable(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.size > 200 << 10).then_some("larger than the system's buffer")
    }

    fn serve(
        &self,
        scenario: &Scenario,
        address: &str,
        listening: Listening<'_>,
    ) -> io::Result<()> {
        let listener = new_socket()?;
        bind(&listener, &SocketAddrUnix::new(address)?)?;
        // As many as the standard library lets wait.
        listen(&listener, 128)?;
        listening.say(address)?;
        let size = scenario.size;
        let mut echoes = Echoes::default();
        for _ in 0..scenario.connections {
            let stream = accept(&listener)?;
            echoes.begin(move || stream.echo(size))?;
        }
        echoes.finish()
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let address = SocketAddrUnix::new(address)?;
        let lanes = (0..scenario.connections)
            .map(|_| {
                let stream = new_socket()?;
                connect(&stream, &address)?;
                stream.lane(scenario)
            })
            .collect::<io::Result<_>>()?;
        Ok(Box::new(Threads(lanes)))
    }
}
