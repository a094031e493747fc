//! Running the programs, no longer than a test may take.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pipetalk::Deadline;

use crate::c_peers::{CPeers, c_peers};
use util::{skip, spawn};

/// How long a test may take, the compiler included.
const LIMIT: Duration = Duration::from_secs(100);
/// How long one call may wait: less, so that its error is what is seen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const CLIENTS: usize = 8;

pub(crate) fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// One test: its pipe name, and the programs that it started.
pub(crate) struct Case {
    /// The portable name, and the same as a pipe path, for the C programs.
    pub(crate) name: String,
    pub(crate) pipe: String,
    children: Mutex<Vec<Arc<Mutex<Child>>>>,
}

/// Runs a test that needs the C programs, no longer than [`LIMIT`], and ends all that it started.
pub(crate) fn with_c_peers(name: &'static str, test: impl FnOnce(&Case, &CPeers) + Send + 'static) {
    let name = format!("pipetalk-foreign-{}-{name}", std::process::id());
    let case = Arc::new(Case {
        pipe: format!(r"\\.\pipe\{name}"),
        children: Mutex::default(),
        name,
    });
    let (done, wait) = mpsc::channel::<()>();
    let body = thread::Builder::new().name(case.name.clone()).spawn({
        let case = Arc::clone(&case);
        move || {
            // Dropped at the end, also by a panic.
            let _done = done;
            match c_peers() {
                Ok(c) => test(&case, c),
                Err(why) => skip(&case.name, why),
            }
        }
    });
    let body = body.unwrap();
    let ended = wait.recv_timeout(LIMIT) != Err(RecvTimeoutError::Timeout);
    for child in lock(&case.children).iter() {
        // Only a child that has nearly ended is being waited for, with the lock held.
        if let Ok(mut child) = child.try_lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
    assert!(ended, "{} took longer than {LIMIT:?}", case.name);
    if let Err(panic) = body.join() {
        std::panic::resume_unwind(panic);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Case {
    /// The names of one of several servers of this test.
    pub(crate) fn named(&self, size: usize) -> (String, String) {
        (
            format!("{}-{size}", self.name),
            format!("{}-{size}", self.pipe),
        )
    }

    fn spawn(&self, program: &Path, args: &[&str], stderr: Stdio) -> Started {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = spawn(&mut command)
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take();
        let child = Arc::new(Mutex::new(child));
        lock(&self.children).push(Arc::clone(&child));
        Started {
            command: format!("{command:?}"),
            child,
            stdout: BufReader::new(stdout),
            stderr,
        }
    }

    /// Starts a client.
    pub(crate) fn start(&self, program: &Path, args: &[&str]) -> Started {
        self.spawn(program, args, Stdio::piped())
    }

    /// Runs a client to its end, and returns what it prints.
    pub(crate) fn run(&self, program: &Path, args: &[&str]) -> Vec<u8> {
        self.start(program, args).output()
    }

    /// Starts a server, and returns when it has said that it listens.
    pub(crate) fn listen(&self, program: &Path, args: &[&str]) -> Started {
        let mut server = self.spawn(program, args, Stdio::inherit());
        while !server.line().contains("listening") {}
        server
    }
}

/// A program that was started.
pub(crate) struct Started {
    command: String,
    child: Arc<Mutex<Child>>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Started {
    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let size = self.stdout.read_line(&mut line).unwrap();
        assert!(size > 0, "{} ended early", self.command);
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Waits for its end, which has to be a success, and returns what it has printed.
    pub(crate) fn output(mut self) -> Vec<u8> {
        let stderr = self.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut text = String::new();
                stderr.read_to_string(&mut text).map(|_| text)
            })
        });
        let mut output = Vec::new();
        self.stdout.read_to_end(&mut output).unwrap();
        let status = lock(&self.child).wait().unwrap();
        let stderr = stderr
            .map(|reader| reader.join().unwrap().unwrap())
            .unwrap_or_default();
        assert!(
            status.success(),
            "{} ended with {status}: {stderr}",
            self.command
        );
        output
    }

    pub(crate) fn kill(self) {
        let mut child = lock(&self.child);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
