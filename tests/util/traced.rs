//! Processes whose system calls are counted, or made to fail, by strace.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Actor, skip};

/// Whether strace is here and may trace; says so if not.
pub fn can_trace(item: &str) -> bool {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    let can = traced.is_ok_and(|traced| traced.status.success());
    if !can {
        skip(item, "needs strace, and leave to trace");
    }
    can
}

/// An actor whose system calls are written to `trace`.
pub fn traced(part: &str, args: &[&str], trace: &Path) -> Actor {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(trace);
    strace.arg(env::current_exe().unwrap());
    Actor::start_with(strace, part, args)
}

/// An actor of whose system calls some fail, as strace has it: `SYSCALL:error=ERROR:when=WHICH`.
pub fn with_failures(part: &str, args: &[&str], failures: &str) -> Actor {
    let (call, _) = failures.split_once(':').unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]);
    strace.args(["-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={failures}")]);
    strace.arg(env::current_exe().unwrap());
    Actor::start_with(strace, part, args)
}

const MARK: &str = "/pipetalk-mark-in-the-trace";

/// In the actor: leaves a mark in the trace, a system call that is seen by what it asks for.
pub fn mark() {
    let _ = fs::metadata(MARK);
}

/// How often each system call was made between the first two marks.
pub fn counted(trace: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut marks = 0;
    for line in fs::read_to_string(trace).unwrap().lines() {
        // "12345 sendto(4, ...", and "12345 <... recvfrom resumed>" for the second half of one.
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if call.contains(MARK) {
            marks += 1;
        } else if let (1, Some((name, _))) = (marks, call.split_once('(')) {
            if !call.starts_with("<...") {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    assert!(marks >= 2, "the marks are missing");
    counts
}
