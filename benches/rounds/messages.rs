//! Echoes of messages of a size that both sides know.

use std::io;

use crate::rounds::{Echo, Server, bare, wrong_reply};

/// One end of a connection.
pub(crate) trait Connection {
    fn send(&mut self, message: &[u8]) -> io::Result<()>;
    /// Receives the next message into a vector that has its size already; `false` at the end.
    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<bool>;
}

impl Connection for bare::Stream {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        bare::Stream::send(self, message)
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<bool> {
        bare::Stream::receive(self, message)
    }
}

/// In the other process: echoes to one client until it closes.
pub(crate) fn echo_all(connection: &mut dyn Connection, size: usize) -> io::Result<()> {
    let mut message = vec![0; size];
    while connection.receive(&mut message)? {
        connection.send(&message)?;
    }
    Ok(())
}

/// The client's side.
pub(crate) struct Messages {
    connection: Box<dyn Connection>,
    server: Server,
    request: Vec<u8>,
    reply: Vec<u8>,
    asked: u64,
}

impl Messages {
    pub(crate) fn new(connection: Box<dyn Connection>, server: Server, size: usize) -> Messages {
        Messages {
            connection,
            server,
            request: vec![0x5a; size],
            reply: vec![0; size],
            asked: 0,
        }
    }
}

impl Echo for Messages {
    fn size(&self) -> usize {
        self.request.len()
    }

    /// Both ends of a request are numbered.
    fn ask(&mut self) -> io::Result<()> {
        self.asked += 1;
        let number = self.asked.to_le_bytes();
        let size = self.request.len();
        let ends = size.min(number.len());
        self.request[..ends].copy_from_slice(&number[..ends]);
        self.request[size - ends..].copy_from_slice(&number[..ends]);

        self.connection.send(&self.request)?;
        if !self.connection.receive(&mut self.reply)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reply = &self.reply;
        if reply.len() != size
            || reply[..ends] != number[..ends]
            || reply[size - ends..] != number[..ends]
        {
            return Err(wrong_reply());
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let Messages {
            connection, server, ..
        } = *self;
        drop(connection);
        server.wait()
    }
}
