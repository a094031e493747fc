//! The examples, run as the programs that they are.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{is_wine, shout};

/// How long a test waits for an example to do anything; Wine on a busy machine is slow.
pub const EXAMPLE_LIMIT: Duration = Duration::from_secs(60);

/// An example that runs: killed when this is dropped, and given up after the limit.
pub struct Running {
    example: &'static str,
    pub child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub fn start(example: &'static str, args: &[impl AsRef<OsStr>]) -> Running {
        let program = self::example(example);
        let mut command = Command::new(&program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(&mut command)
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        let out = lines_of(child.stdout.take().unwrap());
        let err = lines_of(child.stderr.take().unwrap());
        Running {
            example,
            child,
            out,
            err,
        }
    }

    /// Waits for the next line on standard output.
    pub fn line(&self) -> String {
        self.out.recv_timeout(EXAMPLE_LIMIT).unwrap_or_else(|error| {
            let complaints: Vec<_> = self.err.try_iter().collect();
            panic!(
                "no further line from {} within {EXAMPLE_LIMIT:?} ({error}); it says {complaints:#?}",
                self.example
            )
        })
    }

    /// The next line on standard output, if there is one soon.
    pub fn line_if_any(&self) -> Option<String> {
        self.out.recv_timeout(Duration::from_millis(20)).ok()
    }

    /// Waits for the end; the lines are those not yet received, of standard output and of standard error.
    pub fn finish(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let end = Instant::now() + EXAMPLE_LIMIT;
        let [out, err] = [&self.out, &self.err].map(|lines| {
            let mut all = Vec::new();
            loop {
                match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(line) => all.push(line),
                    Err(RecvTimeoutError::Disconnected) => return all,
                    Err(RecvTimeoutError::Timeout) => {
                        panic!(
                            "{} did not end within {EXAMPLE_LIMIT:?} after {all:#?}",
                            self.example
                        )
                    }
                }
            }
        });
        // It has closed its output, so that its end is near.
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, out, err);
            }
            assert!(
                Instant::now() < end,
                "{} did not end within {EXAMPLE_LIMIT:?}",
                self.example
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn expect_success(self) -> Vec<String> {
        let (status, out, err) = self.finish();
        assert!(status.success() && err.is_empty(), "{status}: {err:#?}");
        out
    }

    /// Exit code 1, nothing on standard output, and one line on standard error, which is returned.
    pub fn expect_failure(self) -> String {
        self.expect_exit(1)
    }

    /// The same with another exit code.
    pub fn expect_exit(self, code: i32) -> String {
        let (status, out, mut err) = self.finish();
        assert_eq!(status.code(), Some(code), "{err:#?}");
        assert_eq!((out.len(), err.len()), (0, 1), "{out:#?} {err:#?}");
        err.remove(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example of this crate, where Cargo puts it.
pub fn example(name: &str) -> PathBuf {
    // The test is in `deps` of the profile's directory, beside `examples`.
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile
        .join("examples")
        .join(name)
        .with_extension(env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "there is no {}: `cargo build --examples` makes it (as plain `cargo test` does)",
        program.display()
    );
    program
}

/// Starts a program, again where Wine loses it.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    const ERROR_INTERNAL_ERROR: i32 = 1359;
    for _ in 0..4 {
        match command.spawn() {
            // Wine, now and then, loses a process before it has begun, when the machine is very busy.
            Err(error) if is_wine() && error.raw_os_error() == Some(ERROR_INTERNAL_ERROR) => {
                shout(&format!("{command:?} did not start: {error}"));
            }
            spawned => return spawned,
        }
    }
    command.spawn()
}

fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    receiver
}
