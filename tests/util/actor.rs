//! Other processes: the test binary started again, to play a part.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// Says which part to play and with what, separated by `|`.
const PART: &str = "PIPETALK_TEST_PART";
/// Stands before what an actor announces, among whatever else it prints.
const MARK: &str = "@@ ";

/// A child process that plays a part. Dropping it ends it.
pub struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts the test binary so that it runs nothing but the test `actors::actor`, which calls [`play`].
    pub fn start(part: &str, args: &[&str]) -> Actor {
        let exe = env::current_exe().unwrap();
        Actor::start_with(Command::new(exe), part, args)
    }

    /// The same with a command that is prepared already: another user, another environment.
    pub fn start_with(mut command: Command, part: &str, args: &[&str]) -> Actor {
        let mut all = vec![part];
        all.extend_from_slice(args);
        let mut child = command
            .args([
                "--exact",
                "actors::actor",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PART, all.join("|"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Actor {
            child,
            stdin,
            stdout,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that it announces.
    pub fn says(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let n = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(n, 0, "the actor ended without a word");
            // The test harness prints the name of the test, without a line end, before it runs.
            if let Some((_, said)) = line.split_once(MARK) {
                return said.trim_end().to_owned();
            }
        }
    }

    /// Lets it go on from [`wait_for_release`].
    pub fn release(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) {
        assert!(self.status().success());
    }

    /// Waits until it has ended, and says how.
    pub fn status(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Ends it without warning, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Plays a part of its name with its arguments.
pub type Play = fn(&str, &[&str]);

/// In the actor: runs the part that it was started for, if it was. Parts are named `module:part`, after the modules of the
/// test binary that play some; in a binary where one module plays them all, by the part alone.
pub fn play(modules: &[(&str, Play)]) {
    let Ok(part) = env::var(PART) else { return };
    let mut words = part.split('|');
    let name = words.next().unwrap_or_default();
    let (module, part) = name.split_once(':').unwrap_or(("", name));
    let play = modules.iter().find(|(known, _)| *known == module);
    let (_, play) = play.unwrap_or_else(|| panic!("nobody plays {name:?}"));
    play(part, &words.collect::<Vec<_>>());
}

/// In the actor: says something to the test.
pub fn announce(what: &str) {
    let mut stdout = io::stdout();
    stdout
        .write_all(format!("{MARK}{what}\n").as_bytes())
        .unwrap();
    stdout.flush().unwrap();
}

/// In the actor: waits until the test releases it, or is gone.
pub fn wait_for_release() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
