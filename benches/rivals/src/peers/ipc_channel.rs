//! ipc-channel: two channels for each connection, one for each direction.

use std::io;

use ::ipc_channel::IpcError;
use ::ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender,
};
use serde::{Deserialize, Serialize};

use super::{Echoes, Listening, Peer};
use crate::load::{Lane, Load, Threads, Window};
use crate::message::{Requests, Small, check};
use crate::scenario::Scenario;

/// The server's ends of a connection, which the client makes and sends.
#[derive(Serialize, Deserialize)]
enum Ends {
    Small(IpcReceiver<Small>, IpcSender<Small>),
    Bytes(IpcBytesReceiver, IpcBytesSender),
}

fn failed(error: IpcError) -> io::Error {
    match error {
        IpcError::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// `None` at the end.
fn received<T>(result: Result<T, IpcError>) -> io::Result<Option<T>> {
    match result {
        Ok(message) => Ok(Some(message)),
        Err(IpcError::Disconnected) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Ends {
    fn echo(self) -> io::Result<()> {
        match self {
            Ends::Small(requests, replies) => {
                while let Some(message) = received(requests.recv())? {
                    replies.send(message).map_err(failed)?;
                }
            }
            Ends::Bytes(requests, replies) => {
                while let Some(message) = received(requests.recv())? {
                    replies.send(&message)?;
                }
            }
        }
        Ok(())
    }
}

fn small_lane(scenario: &Scenario) -> io::Result<(Ends, Box<dyn Lane>)> {
    let (sender, theirs) = ipc::channel()?;
    let (their_replies, receiver) = ipc::channel()?;
    let mut requests = Requests::<Small>::new(scenario.size);
    let mut expected = requests.clone();
    let window = Window {
        send: move || sender.send(*requests.next()).map_err(failed),
        receive: move || check(&receiver.recv().map_err(failed)?, expected.next()),
        outstanding: scenario.outstanding,
        one_thread: scenario.fits_buffers(),
    };
    Ok((Ends::Small(theirs, their_replies), Box::new(window)))
}

fn bytes_lane(scenario: &Scenario) -> io::Result<(Ends, Box<dyn Lane>)> {
    let (sender, theirs) = ipc::bytes_channel()?;
    let (their_replies, receiver) = ipc::bytes_channel()?;
    let mut requests = Requests::<Vec<u8>>::new(scenario.size);
    let mut expected = requests.clone();
    let window = Window {
        send: move || sender.send(requests.next()),
        receive: move || check(&receiver.recv().map_err(failed)?, expected.next()),
        outstanding: scenario.outstanding,
        one_thread: scenario.fits_buffers(),
    };
    Ok((Ends::Bytes(theirs, their_replies), Box::new(window)))
}

/// ipc-channel.
#[derive(Debug)]
pub(crate) struct IpcChannel;

impl Peer for IpcChannel {
    fn name(&self) -> &'static str {
        "ipc-channel"
    }

    fn package(&self) -> Option<&'static str> {
        Some("ipc-channel")
    }

    fn how(&self) -> &'static str {
        "for each connection a channel in each direction, handed over through an `IpcOneShotServer`, and a thread of \
         the server; bytes go through a `bytes_channel`; outstanding requests as with `bare`"
    }

    fn one_client_only(&self) -> Option<&'static str> {
        Some("a server has one client")
    }

    fn serve(&self, scenario: &Scenario, _: &str, listening: Listening<'_>) -> io::Result<()> {
        let (server, address) = IpcOneShotServer::<Ends>::new()?;
        listening.say(&address)?;
        let (more, mut ends) = server.accept().map_err(failed)?;
        let mut echoes = Echoes::default();
        for connection in 1.. {
            echoes.begin(move || ends.echo())?;
            if connection == scenario.connections {
                break;
            }
            ends = more.recv().map_err(failed)?;
        }
        echoes.finish()
    }

    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>> {
        let server = IpcSender::<Ends>::connect(address.to_owned())?;
        let lane = match scenario.size {
            Scenario::SMALL => small_lane,
            _ => bytes_lane,
        };
        let lanes = (0..scenario.connections)
            .map(|_| {
                let (ends, lane) = lane(scenario)?;
                server.send(ends).map_err(failed)?;
                Ok(lane)
            })
            .collect::<io::Result<_>>()?;
        Ok(Box::new(Threads(lanes)))
    }
}
