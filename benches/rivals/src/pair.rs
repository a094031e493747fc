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
    /// Starts one, and returns at what address it is.
    fn start(
        role: Role,
        peer: &dyn Peer,
        scenario: &Scenario,
        address: &str,
    ) -> io::Result<(Process, String)> {
        let role = match role {
            Role::Server => "--serve",
            Role::Client => "--ask",
        };
        let mut child = Command::new(std::env::current_exe()?)
            .args([role, peer.name(), address])
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
        let address = process.answer("ready", PATIENCE)?;
        Ok((process, address))
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

    fn server_cpu(&mut self) -> io::Result<Duration> {
        self.server.tell("cpu")?;
        let used = self.server.answer("cpu", PATIENCE)?;
        Ok(Duration::from_nanos(
            used.parse().map_err(io::Error::other)?,
        ))
    }

    /// Has the client ask for that long.
    pub(crate) fn turn(&mut self, time: Duration) -> io::Result<Turn> {
        let before = self.server_cpu()?;
        self.client.tell(&format!("turn {}", time.as_nanos()))?;
        let answer = self.client.answer("turn", time + PATIENCE)?;
        let numbers: Result<Vec<u64>, _> = answer.split(' ').map(str::parse).collect();
        let Ok([requests, elapsed, cpu, p50, p99]) = numbers.as_deref() else {
            return Err(io::Error::other(format!("it said: {answer}")));
        };
        let after = self.server_cpu()?;
        Ok(Turn {
            requests: *requests,
            elapsed: Duration::from_nanos(*elapsed),
            p50: Duration::from_nanos(*p50),
            p99: Duration::from_nanos(*p99),
            client_cpu: Duration::from_nanos(*cpu),
            server_cpu: after.saturating_sub(before),
        })
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        let Pair { client, server, .. } = self;
        client.finish()?;
        server.finish()
    }
}
