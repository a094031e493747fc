//! Those that are compared.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::load::Load;
use crate::scenario::Scenario;

#[cfg_attr(unix, path = "peers/bare_unix.rs")]
#[cfg_attr(windows, path = "peers/bare_windows.rs")]
mod bare;
#[cfg(unix)]
mod bare_tokio;
mod interprocess;
mod ipc_channel;
mod pipetalk;
#[cfg(feature = "async")]
mod pipetalk_async;
#[cfg(unix)]
mod seqpacket;
#[cfg(unix)]
mod tarpc;
#[cfg(unix)]
mod tonic;
#[cfg(unix)]
mod zbus;

/// All, in the order of the tables.
pub(crate) static ALL: &[&dyn Peer] = &[
    &bare::Bare,
    #[cfg(unix)]
    &seqpacket::Seqpacket,
    #[cfg(unix)]
    &bare_tokio::Tokio,
    &pipetalk::Blocking,
    &pipetalk::Spinning,
    #[cfg(feature = "async")]
    &pipetalk_async::Async,
    &interprocess::ByHand,
    &ipc_channel::IpcChannel,
    #[cfg(unix)]
    &tarpc::Tarpc,
    #[cfg(unix)]
    &tonic::Tonic,
    #[cfg(unix)]
    &zbus::Zbus,
];

/// To whom everybody's figures are a ratio.
pub(crate) const BARE: &str = "bare";
pub(crate) const OURS: &str = "pipetalk";

pub(crate) fn find(name: &str) -> Option<&'static dyn Peer> {
    ALL.iter().find(|peer| peer.name() == name).copied()
}

/// One of those that are compared: an echo over local sockets or pipes.
pub(crate) trait Peer: Sync {
    /// As it is asked for, and as it stands in the tables.
    fn name(&self) -> &'static str;

    /// The package, whose version stands in the tables; `None` for what the system has.
    fn package(&self) -> Option<&'static str>;

    /// How it is used, for people to read.
    fn how(&self) -> &'static str;

    /// Why it is not measured there.
    fn unable(&self, _: &Scenario) -> Option<&'static str> {
        None
    }

    /// Why its server cannot have one client after the other.
    fn one_client_only(&self) -> Option<&'static str> {
        None
    }

    /// In the server's process: listens, says so, and echoes to as many connections as the scenario has.
    fn serve(&self, scenario: &Scenario, address: &str, listening: Listening<'_>)
    -> io::Result<()>;

    /// In the client's process.
    fn connect(&self, scenario: &Scenario, address: &str) -> io::Result<Box<dyn Load>>;
}

impl fmt::Debug for dyn Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// To be told at what address there is a listener now.
#[derive(Clone, Copy)]
pub(crate) struct Listening<'a>(pub(crate) &'a dyn Fn(&str) -> io::Result<()>);

impl Listening<'_> {
    pub(crate) fn say(self, address: &str) -> io::Result<()> {
        (self.0)(address)
    }
}

/// Where a peer is to listen: in the directory, or on Windows, where pipes are in none, at a name like it.
pub(crate) fn address(directory: &Path, name: &str) -> String {
    if cfg!(windows) {
        format!(r"\\.\pipe\pipetalk-rivals-{}-{name}", std::process::id())
    } else {
        directory.join(name).display().to_string()
    }
}

/// A thread for each connection.
#[derive(Default)]
struct Echoes(Vec<JoinHandle<io::Result<()>>>);

impl Echoes {
    fn begin(&mut self, echo: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        self.0.push(thread::Builder::new().spawn(echo)?);
        Ok(())
    }

    /// Waits for all; the first failure is the failure.
    fn finish(self) -> io::Result<()> {
        self.0.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
        })
    }
}
