//! System calls for each request: counted from outside, in a turn of its own, because counting takes time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Syscalls;

const EVENT: &str = "raw_syscalls:sys_enter";

/// How long a tool may take to attach itself to a process.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Who can count here; `None` if nobody can.
pub(crate) fn counter() -> Option<&'static str> {
    static COUNTER: OnceLock<Option<&str>> = OnceLock::new();
    *COUNTER.get_or_init(|| {
        let works = |tool: &str, args: &[&str]| {
            let mut command = Command::new(tool);
            command
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if works("perf", &["stat", "-e", EVENT, "true"]) {
            Some("perf")
        } else if works("strace", &["-f", "-c", "true"]) {
            Some("strace")
        } else {
            None
        }
    })
}

/// Counts in client and server during a turn, which says how many requests it has made.
pub(crate) fn count(
    [client, server]: [u32; 2],
    turn: impl FnOnce() -> io::Result<u64>,
) -> io::Result<Syscalls> {
    let start = match counter() {
        Some("perf") => Counter::perf,
        Some(_) => Counter::strace,
        None => return Err(io::ErrorKind::Unsupported.into()),
    };
    let (client, server) = (start(client)?, start(server)?);
    let requests = turn()? as f64;
    Ok(Syscalls {
        client: client.finish()? / requests,
        server: server.finish()? / requests,
    })
}

/// A tool that is attached to one process, with all its threads, and counts.
struct Counter {
    tool: Child,
    directory: TempDir,
    /// Finds the number in what the tool has written.
    parse: fn(&str) -> Option<f64>,
}

/// The file in which a tool leaves its count.
const OUTPUT: &str = "count";

/// The first field of the line about the event.
fn perf_count(written: &str) -> Option<f64> {
    let line = written.lines().find(|line| line.contains(EVENT))?;
    line.split(',').next()?.parse().ok()
}

/// The fourth column of the last line.
fn strace_count(written: &str) -> Option<f64> {
    let line = written.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

impl Counter {
    fn perf(process: u32) -> io::Result<Counter> {
        let directory = tempfile::tempdir()?;
        let fifo = |name: &str| -> io::Result<(String, File)> {
            let path = directory.path().join(name);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            // For both, so that opening waits for nobody.
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            Ok((path.display().to_string(), file))
        };
        let (commands_path, mut commands) = fifo("commands")?;
        let (answers_path, mut answers) = fifo("answers")?;
        // It begins when it is told, and says that it has.
        let tool = Command::new("perf")
            .args(["stat", "-x", ",", "-e", EVENT, "-D", "-1"])
            .args(["-p", &process.to_string(), "--control"])
            .arg(format!("fifo:{commands_path},{answers_path}"))
            .arg("-o")
            .arg(directory.path().join(OUTPUT))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let counter = Counter {
            tool,
            directory,
            parse: perf_count,
        };
        commands.write_all(b"enable\n")?;
        let mut ready = [PollFd::new(&answers, PollFlags::IN)];
        if poll(&mut ready, Some(&PATIENCE))? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "perf does not begin",
            ));
        }
        let mut answer = [0; 16];
        if answers.read(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(counter)
    }

    fn strace(process: u32) -> io::Result<Counter> {
        let directory = tempfile::tempdir()?;
        let tool = Command::new("strace")
            .args(["-f", "-c", "-p", &process.to_string(), "-o"])
            .arg(directory.path().join(OUTPUT))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut counter = Counter {
            tool,
            directory,
            parse: strace_count,
        };
        // It says that it is attached, or what is wrong. What it says later, of threads, is left unread, so the pipe
        // stays open until it has ended.
        let stderr = counter
            .tool
            .stderr
            .as_mut()
            .ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        if line.contains("attached") {
            Ok(counter)
        } else {
            Err(io::Error::other(line.trim_end().to_owned()))
        }
    }

    /// How many there were.
    fn finish(mut self) -> io::Result<f64> {
        if let Some(pid) = i32::try_from(self.tool.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT)?;
        }
        self.tool.wait()?;
        let path: &Path = self.directory.path();
        let written = fs::read_to_string(path.join(OUTPUT))?;
        (self.parse)(&written).ok_or_else(|| io::Error::other(format!("no count in: {written}")))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.tool.kill();
        let _ = self.tool.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_what_the_tools_write() {
        let perf = "# started on Tue\n\n4711,,raw_syscalls:sys_enter,200,100.00,,\n";
        assert_eq!(perf_count(perf), Some(4711.0));
        let unsupported = "<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n";
        assert_eq!(perf_count(unsupported), None);
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      \x20100.00    0.000000           0        29           read\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      100.00    0.000000           0        30         1 total\n";
        assert_eq!(strace_count(strace), Some(30.0));
        assert_eq!(strace_count(""), None);
    }
}
