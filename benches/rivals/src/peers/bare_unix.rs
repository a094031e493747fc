//! The bare system: a socket, and messages of a size that both sides know.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::{Echoes, Listening, Peer};
use crate::load::{Lane, Load, Threads, Window};
use crate::message::{Requests, same_ends, wrong_reply};
use crate::scenario::Scenario;

/// One end of a connection.
pub(super) trait Socket: Sized + Send + 'static {
    fn try_clone(&self) -> io::Result<Self>;

    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// Fills `message`; `false` at the end.
    fn receive(&mut self, message: &mut [u8]) -> io::Result<bool>;

    /// Sends back what it receives, up to the end.
    fn echo(mut self, size: usize) -> io::Result<()> {
        let mut message = vec![0; size];
        while self.receive(&mut message)? {
            self.send(&message)?;
        }
        Ok(())
    }

    /// Sends requests, as many ahead as the scenario says, and receives their replies.
    fn lane(mut self, scenario: &Scenario) -> io::Result<Box<dyn Lane>> {
        let mut sender = self.try_clone()?;
        let mut requests = Requests::<Vec<u8>>::new(scenario.size);
        let mut expected = requests.clone();
        let mut reply = vec![0; scenario.size];
        Ok(Box::new(Window {
            send: move || sender.send(requests.next()),
            receive: move || match self.receive(&mut reply)? {
                true if same_ends(&reply, expected.next()) => Ok(()),
                true => Err(wrong_reply()),
                false => Err(ErrorKind::UnexpectedEof.into()),
            },
            outstanding: scenario.outstanding,
            one_thread: scenario.fits_buffers(),
        }))
    }
}

impl Socket for UnixStream {
    fn try_clone(&self) -> io::Result<Self> {
        UnixStream::try_clone(self)
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.write_all(message)
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<bool> {
        match self.read_exact(message) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

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
        let mut echoes = Echoes::default();
        for _ in 0..scenario.connections {
            let (stream, _) = listener.accept()?;
            echoes.begin(move || stream.echo(size))?;
        }
        echoes.finish()
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let lanes = (0..scenario.connections)
            .map(|_| UnixStream::connect(address)?.lane(scenario))
            .collect::<io::Result<_>>()?;
        Ok(Box::new(Threads(lanes)))
    }
}
