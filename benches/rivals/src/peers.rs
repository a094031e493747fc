//! Those that are compared.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread::JoinHandle;

use crate::load::Load;
use crate::scenario::Scenario;

#[cfg_attr(unix, path = "peers/bare_unix.rs")]
#[cfg_attr(windows, path = "peers/bare_windows.rs")]
mod bare;
mod pipetalk;
#[cfg(unix)]
mod tarpc;

/// All, in the order of the tables.
pub(crate) static ALL: &[&dyn Peer] = &[
    &bare::Bare,
    &pipetalk::Blocking,
    #[cfg(unix)]
    &tarpc::Tarpc,
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

/// Of a multi-threaded runtime's kind, unless there is but one core, as each crate's own documentation has it.
#[cfg(unix)]
fn runtime(scenario: &Scenario) -> io::Result<tokio::runtime::Runtime> {
    use crate::scenario::Cores;
    use tokio::runtime::Builder;

    match scenario.cores {
        Cores::One => Builder::new_current_thread(),
        Cores::Two | Cores::Any => Builder::new_multi_thread(),
    }
    .enable_all()
    .build()
}

/// For each connection as many lanes as it has requests outstanding.
#[cfg(unix)]
fn lanes<C: Clone, M: crate::message::Message, L>(
    scenario: &Scenario,
    clients: &[C],
    lane: impl Fn(C, crate::message::Requests<M>) -> L,
) -> Vec<L> {
    let requests = crate::message::Requests::new(scenario.size);
    clients
        .iter()
        .flat_map(|client| (0..scenario.outstanding).map(move |place| (client, place)))
        .map(|(client, place)| lane(client.clone(), requests.beginning_at(place)))
        .collect()
}

/// Waits for all; the first failure is the failure.
fn join_all(threads: Vec<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    threads.into_iter().try_for_each(|thread| {
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
    })
}
