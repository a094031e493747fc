//! The examples, run as the programs that they are.

// A helper of tests says what it expects by unwrapping, as a test does.

use std::path::Path;

use pipetalk::{Deadline, Listener, LocalListener, LocalStream, Name, Stream};
use tempfile::TempDir;

use util::{EXAMPLE_LIMIT as LIMIT, Running, is_wine, skip};

cfg_if::cfg_if! {
    if #[cfg(windows)] {
        use windows as sys;
    } else {
        use unix as sys;
    }
}

const ANSWER: &str = "default answer from server";
const NO_ARGS: &[&str] = &[];

#[test]
fn a_server_prints_messages_and_a_client_prints_the_reply() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    let server = place.server();
    let name = Name::new(&place.name).unwrap();
    assert_eq!(server.listening, format!("listening on {name}"));

    assert_eq!(place.client("hello from the test"), ANSWER);
    assert_eq!(server.process.line(), "hello from the test");
    assert_eq!(place.client(""), ANSWER);
    assert_eq!(server.process.line(), "");
    let long = "x".repeat(20_000);
    assert_eq!(place.client(&long), ANSWER);
    assert_eq!(server.process.line(), long);
}

#[test]
fn a_server_serves_two_clients_at_once() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    let server = place.server();
    // One that stays, on a thread of its own in the server, does not hold up the other.
    let staying = place.connect();
    let mut reply = Vec::new();
    for message in ["first\0", "second"] {
        staying.send(message.as_bytes(), soon()).unwrap();
        staying.recv_message(&mut reply, soon()).unwrap();
        assert_eq!(reply, b"default answer from server\0");
        assert_eq!(server.process.line(), message.trim_end_matches('\0'));
        assert_eq!(place.client("in between"), ANSWER);
        assert_eq!(server.process.line(), "in between");
    }
    let clients = [place.start_client("a"), place.start_client("b")];
    for client in clients {
        assert_eq!(client.expect_success(), [ANSWER]);
    }
    let mut lines = [server.process.line(), server.process.line()];
    lines.sort();
    assert_eq!(lines, ["a", "b"]);
}

#[test]
fn a_client_prints_a_reply_of_any_length() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    let listener = LocalListener::bind(&place.name).unwrap();
    for length in [0, 1, 511, 512, 513, 100_000, 17 << 20] {
        let client = place.start_client("how long?");
        let stream = listener.accept(soon()).unwrap();
        let mut message = Vec::new();
        stream.recv_message(&mut message, soon()).unwrap();
        assert_eq!(message, b"how long?\0");
        let mut reply = vec![b'r'; length];
        reply.push(0);
        stream.send(&reply, soon()).unwrap();
        let lines = client.expect_success();
        assert!(
            lines == ["r".repeat(length)],
            "{length}: {} lines of {:?}",
            lines.len(),
            lines.first().map(String::len)
        );
    }
}

#[test]
fn a_client_without_a_server_says_so_in_one_line() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    let client = place.start_client("anybody?");
    assert_eq!(
        client.expect_failure(),
        format!("pipe_client: nobody listens at {}", place.name)
    );
}

#[test]
fn a_client_whose_server_says_nothing_says_so_in_one_line() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    let listener = LocalListener::bind(&place.name).unwrap();
    let client = place.start_client("anybody?");
    let stream = listener.accept(soon()).unwrap();
    stream.recv_message(&mut Vec::new(), soon()).unwrap();
    drop(stream);
    assert_eq!(
        client.expect_failure(),
        format!(
            "pipe_client: {}: the server closed without a reply",
            place.name
        )
    );
}

#[test]
fn a_second_server_says_in_one_line_that_the_name_is_taken() {
    let _limit = util::limit(util::here!());
    if is_wine() {
        skip(
            "a second server",
            "Wine does not keep a second server from a name that is in use",
        );
        return;
    }
    let place = Place::new();
    let first = place.server();
    let second = Running::start("pipe_server", &[&place.name]);
    let line = second.expect_failure();
    assert!(
        line.starts_with(&format!("pipe_server: cannot serve {}: ", place.name)),
        "{line}"
    );
    assert_eq!(place.client("still there?"), ANSWER);
    assert_eq!(first.process.line(), "still there?");
}

#[test]
fn a_client_that_dies_ends_only_its_own_thread() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    let server = place.server();
    let staying = place.connect();
    for _ in 0..10 {
        let dying = place.connect();
        dying.send(b"goodbye", soon()).unwrap();
        dying.abort();
    }
    staying.send(b"hello", soon()).unwrap();
    staying.recv_message(&mut Vec::new(), soon()).unwrap();
    assert_eq!(place.client("hello"), ANSWER);
    let mut hellos = 0;
    while hellos < 2 {
        hellos += usize::from(server.process.line() == "hello");
    }
}

#[test]
fn a_server_that_was_killed_leaves_a_name_that_the_next_one_takes() {
    let _limit = util::limit(util::here!());
    let place = Place::new();
    drop(place.server());
    let next = place.server();
    assert_eq!(place.client("hello"), ANSWER);
    assert_eq!(next.process.line(), "hello");
}

#[test]
fn messages_shows_what_message_mode_means() {
    let _limit = util::limit(util::here!());
    let lines = Running::start("messages", NO_ARGS).expect_success();
    let expected = [
        "Boundaries: what is sent as one message is received as one.",
        "  client sends    \"one\"",
        "  client sends    \"two, a longer one\"",
        "  server receives \"one\"",
        "  server receives \"two, a longer one\"",
        "An empty message is a message.",
        "  client sends    \"\"",
        "  server receives \"\"",
        "A message can be received in parts.",
        "  client sends    \"a message in parts\"",
        "  server receives \"a messag\", and more follows",
        "  server receives \"e in par\", and more follows",
        "  server receives \"ts\", the last part",
        "A deadline that expires loses nothing.",
        "  server waits 20 ms: timed out",
        "  client sends    \"late\"",
        "  server receives \"late\"",
        "A message over the receiver's limit costs only itself.",
        "  client sends    \"forty bytes, and the server takes but 32\"",
        "  server is told: a message of 40 bytes is over the limit of 32",
        "  client sends    \"the next one\"",
        "  server receives \"the next one\"",
        "The end comes after everything that was sent.",
        "  client sends    \"goodbye\"",
        "  client closes",
        "  server receives \"goodbye\"",
        "  server receives the end",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn messages_runs_twice_at_once() {
    let _limit = util::limit(util::here!());
    let both = [(); 2].map(|()| Running::start("messages", NO_ARGS));
    for one in both {
        assert_eq!(one.expect_success().len(), 27);
    }
}

#[test]
fn custom_transport_echoes_over_each_transport() {
    let _limit = util::limit(util::here!());
    let lines = Running::start("custom_transport", NO_ARGS).expect_success();
    for title in [
        "The platform's own transport:",
        "The same, traced:",
        "Queues between the threads of a process:",
    ] {
        assert_eq!(
            lines.iter().filter(|line| *line == title).count(),
            1,
            "{lines:#?}"
        );
    }
    for message in ["hello", "", "goodbye"] {
        let echo = format!("  {message:?} came back as {message:?}");
        assert_eq!(
            lines.iter().filter(|line| **line == echo).count(),
            3,
            "{lines:#?}"
        );
    }
    assert!(
        lines
            .iter()
            .any(|line| line == "    server: received Ok(None)"),
        "{lines:#?}"
    );
}

/// A name that nobody else uses.
struct Place {
    name: String,
    _directory: TempDir,
}

/// A `pipe_server` that listens.
struct Server {
    process: Running,
    listening: String,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        Place {
            name: sys::name_in(directory.path()),
            _directory: directory,
        }
    }

    fn server(&self) -> Server {
        let process = Running::start("pipe_server", &[&self.name]);
        let listening = process.line();
        Server { process, listening }
    }

    fn start_client(&self, message: &str) -> Running {
        Running::start("pipe_client", &[message, &self.name])
    }

    /// Runs a client to its end and returns the one line that it prints.
    fn client(&self, message: &str) -> String {
        let mut lines = self.start_client(message).expect_success();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.remove(0)
    }

    fn connect(&self) -> LocalStream {
        LocalStream::connect(&self.name).unwrap()
    }
}

fn soon() -> Deadline {
    Deadline::after(LIMIT)
}

#[cfg(unix)]
mod unix {
    use std::time::Duration;

    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    pub(super) fn name_in(directory: &Path) -> String {
        directory.join("server.sock").to_str().unwrap().to_owned()
    }

    fn interrupt(server: &Server) {
        kill_process(Pid::from_child(&server.process.child), Signal::INT).unwrap();
    }

    #[test]
    fn ctrl_c_ends_a_server_and_gives_the_name_back() {
        let _limit = util::limit(util::here!());
        for clients in [0, 1, 3] {
            let place = Place::new();
            let server = place.server();
            let clients: Vec<_> = (0..clients).map(|_| place.connect()).collect();
            let mut message = Vec::new();
            for client in &clients {
                client.send(b"hello", soon()).unwrap();
                client.recv_message(&mut message, soon()).unwrap();
                assert_eq!(server.process.line(), "hello");
            }
            interrupt(&server);
            assert_eq!(server.process.expect_success(), [""; 0]);
            for client in &clients {
                assert_eq!(client.recv_message(&mut message, soon()).unwrap(), None);
            }
            assert!(
                !Path::new(&place.name).exists(),
                "the socket is still there"
            );
            LocalListener::bind(&place.name).unwrap();
        }
    }

    #[test]
    fn ctrl_c_ends_a_server_that_waits_for_a_client_to_read() {
        let _limit = util::limit(util::here!());
        let place = Place::new();
        let server = place.server();
        let client = place.connect();
        let message = [b'm'; 1000];
        // Until both directions are full.
        while let Ok(()) = client.send(&message, Deadline::after(Duration::from_millis(300))) {}
        interrupt(&server);
        let began = Instant::now();
        let (status, ..) = server.process.finish();
        assert!(status.success(), "{status}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it waited for the client"
        );
    }

    #[test]
    fn a_client_that_sends_garbage_ends_only_its_own_thread() {
        let _limit = util::limit(util::here!());
        let place = Place::new();
        let server = place.server();
        for garbage in [
            &[0xff; 4][..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[5, 0],
            &[5, 0, 0, 0, b'h'],
        ] {
            let mut client = UnixStream::connect(&place.name).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.write_all(garbage).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            match client.read(&mut [0; 16]) {
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                other => panic!("after {garbage:?}: {other:?}"),
            }
        }
        assert_eq!(place.client("hello"), ANSWER);
        assert_eq!(server.process.line(), "hello");
        interrupt(&server);
        let (status, out, err) = server.process.finish();
        assert!(status.success(), "{status}");
        assert_eq!((out.len(), err.len()), (0, 4), "{out:#?} {err:#?}");
        assert!(
            err.iter()
                .all(|line| line.starts_with("pipe_server: lost a client: ")),
            "{err:#?}"
        );
    }
}

#[cfg(windows)]
mod windows {
    use super::*;

    pub(super) fn name_in(directory: &Path) -> String {
        format!(
            "pipetalk-{}",
            directory.file_name().unwrap().to_str().unwrap()
        )
    }

    #[test]
    fn ctrl_c_ends_a_server_and_gives_the_name_back() {
        let _limit = util::limit(util::here!());
        skip(
            "Ctrl-C",
            "it reaches every program of a console, so that it would end the tests too",
        );
    }
}
