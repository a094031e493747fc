//! A pair of processes, a server and its client, as seen by the one that has started them.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::child::Role;
use crate::peers::{self, Peer};
use crate::scenario::Scenario;

/// How long a process may take beyond what was asked of it, before it is thought to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy of this program.
struct Process {
    child: Child,
    /// Closed to have it end.
    commands: Option<ChildStdin>,
    answers: Receiver<io::Result<String>>,
}

impl Process {
    /// Starts one, and returns what it says when it is ready.
    fn start(
        role: Role,
        peer: &dyn Peer,
        scenario: &Scenario,
        address: &str,
    ) -> io::Result<(Process, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([role.word(), peer.name(), address])
            .args(scenario.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take();
        let (line, answers) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // It ends with the process, or when nobody wants to hear more.
            thread::Builder::new().spawn(move || {
                for read in BufReader::new(stdout).lines() {
                    if line.send(read).is_err() {
                        break;
                    }
                }
            })?;
        }
        let mut process = Process {
            child,
            commands,
            answers,
        };
        let ready = process.answer("ready", PATIENCE)?;
        Ok((process, ready))
    }

    /// The processor time that it has used.
    fn cpu(&mut self) -> io::Result<Duration> {
        self.tell("cpu")?;
        nanoseconds(&self.answer("cpu", PATIENCE)?)
    }

    fn tell(&mut self, command: &str) -> io::Result<()> {
        match &mut self.commands {
            Some(commands) => writeln!(commands, "{command}"),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// What follows the word in the next answer.
    fn answer(&mut self, word: &str, patience: Duration) -> io::Result<String> {
        let line = match self.answers.recv_timeout(patience) {
            Ok(line) => line?,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it hangs"));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("it has ended"));
            }
        };
        match line.split_once(' ') {
            Some((first, rest)) if first == word => Ok(rest.to_owned()),
            _ => Err(io::Error::other(format!("it said: {line}"))),
        }
    }

    /// Has it end, and waits until it has.
    fn finish(mut self) -> io::Result<()> {
        self.commands = None;
        match self.answers.recv_timeout(PATIENCE) {
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
            }
            Ok(line) => return Err(io::Error::other(format!("it said: {}", line?))),
        }
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("it ended with {status}")))
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nanoseconds(word: &str) -> io::Result<Duration> {
    word.parse()
        .map(Duration::from_nanos)
        .map_err(io::Error::other)
}

/// What a turn has come to, in both processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) server_cpu: Duration,
}

impl Turn {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The processor time of both for each request, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        (self.client_cpu + self.server_cpu).as_secs_f64() / self.requests as f64
    }
}

/// A peer's server and client.
pub(crate) struct Pair {
    client: Process,
    server: Process,
    /// Removed with all that the sockets leave in it, when both have ended.
    _directory: TempDir,
}

impl Pair {
    pub(crate) fn start(peer: &dyn Peer, scenario: &Scenario) -> io::Result<Pair> {
        let directory = tempfile::tempdir()?;
        let address = peers::address(directory.path(), peer.name());
        let (server, address) = Process::start(Role::Server, peer, scenario, &address)?;
        let (client, _) = Process::start(Role::Client, peer, scenario, &address)?;
        Ok(Pair {
            client,
            server,
            _directory: directory,
        })
    }

    /// The ids of client and server.
    pub(crate) fn processes(&self) -> [u32; 2] {
        [self.client.child.id(), self.server.child.id()]
    }

    /// Has the client ask for that long.
    pub(crate) fn turn(&mut self, time: Duration) -> io::Result<Turn> {
        let before = self.server.cpu()?;
        self.client.tell(&format!("turn {}", time.as_nanos()))?;
        let answer = self.client.answer("turn", time + PATIENCE)?;
        let numbers: Result<Vec<u64>, _> = answer.split(' ').map(str::parse).collect();
        let Ok([requests, elapsed, cpu, p50, p99]) = numbers.as_deref() else {
            return Err(io::Error::other(format!("it said: {answer}")));
        };
        let after = self.server.cpu()?;
        Ok(Turn {
            requests: *requests,
            elapsed: Duration::from_nanos(*elapsed),
            p50: Duration::from_nanos(*p50),
            p99: Duration::from_nanos(*p99),
            client_cpu: Duration::from_nanos(*cpu),
            server_cpu: after.saturating_sub(before),
        })
    }

    /// Leaves both alone for that long, and returns the processor time that they use meanwhile.
    pub(crate) fn idle(&mut self, time: Duration) -> io::Result<[Duration; 2]> {
        let before = [self.client.cpu()?, self.server.cpu()?];
        thread::sleep(time);
        let after = [self.client.cpu()?, self.server.cpu()?];
        Ok([after[0] - before[0], after[1] - before[1]])
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        let Pair { client, server, .. } = self;
        client.finish()?;
        server.finish()
    }
}

/// A peer's server, to which new processes connect.
pub(crate) struct Host {
    peer: &'static dyn Peer,
    scenario: Scenario,
    server: Process,
    address: String,
    _directory: TempDir,
}

impl Host {
    /// One for so many clients, one after the other.
    pub(crate) fn start(
        peer: &'static dyn Peer,
        scenario: Scenario,
        clients: usize,
    ) -> io::Result<Host> {
        let directory = tempfile::tempdir()?;
        let address = peers::address(directory.path(), peer.name());
        let all = Scenario {
            connections: clients,
            ..scenario
        };
        let (server, address) = Process::start(Role::Server, peer, &all, &address)?;
        Ok(Host {
            peer,
            scenario,
            server,
            address,
            _directory: directory,
        })
    }

    /// How long a new process takes to connect and to ask once.
    pub(crate) fn first_call(&self) -> io::Result<Duration> {
        let (client, took) =
            Process::start(Role::FirstCall, self.peer, &self.scenario, &self.address)?;
        client.finish()?;
        nanoseconds(&took)
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        self.server.finish()
    }
}
