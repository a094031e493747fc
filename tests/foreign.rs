//! Foreign peers: a message client and a message server in C, on plain Win32 calls (`tests/c/`), against this crate
//! and against the examples `pipe_server` and `pipe_client`, in both roles.
//!
//! The C programs are compiled on the way, by `x86_64-w64-mingw32-gcc`, `gcc`, `clang` or `cl`, whichever is found
//! first; where the tests run under Wine, that is the mingw compiler of the system around it. If
//! `PIPETALK_C_PEERS` names a directory, `message_client.exe` and `message_server.exe` are taken from there
//! instead. Without any of these each test says aloud that it skips.
//!
//! The examples have to be built: `cargo test` does that, `cargo test --test foreign` alone does not.

// Also what is not a `#[test]` function itself is a test here.
#![allow(clippy::unwrap_used)]

use std::io::{self, Write};

/// Says on standard error that a test skips. Unlike `eprintln!`, it is not swallowed when the test passes.
fn skipped(why: &str) {
    let _ = io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

#[cfg(not(windows))]
#[test]
fn c_peers_need_windows() {
    skipped("tests/foreign.rs is about Windows pipes: run it with --target x86_64-pc-windows-gnu");
}

#[cfg(windows)]
mod on_windows {
    use std::fs;
    use std::io::{self, BufRead, BufReader, Read};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::sync::{Arc, Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
    use std::thread;
    use std::time::{Duration, Instant};

    use pipetalk::{
        Deadline, Error, ListenOptions, Listener, LocalListener, LocalStream, Part, Stream,
    };

    use super::skipped;

    /// How long a test may take, the compiler included.
    const LIMIT: Duration = Duration::from_secs(100);
    /// How long one call may wait: less, so that its error is what is seen.
    const PATIENCE: Duration = Duration::from_secs(40);

    /// The buffer of the C programs.
    const C_BUFFER: usize = 512;
    /// Replies around that buffer's size: shorter, as long, longer, and in many parts.
    const SIZES: [usize; 10] = [0, 1, 10, 511, 512, 513, 1024, 1025, 5_000, 100_000];
    const CLIENTS: usize = 8;

    const C_REPLY: &[u8] = b"answer from the server in C\0";
    const EXAMPLE_REPLY: &[u8] = b"default answer from server\0";

    fn soon() -> Deadline {
        Deadline::after(PATIENCE)
    }

    /// The answer of that many bytes, as `message_server` makes it; printable, and without a short period.
    fn pattern(size: usize) -> Vec<u8> {
        (b'!'..b'!' + 89).cycle().take(size).collect()
    }

    // The tests: a C client.

    #[test]
    fn a_c_client_is_served_by_our_listener() {
        with_c_peers("c-client", |case, c| {
            let listener = LocalListener::bind(&case.name).unwrap();
            serving(&listener, b"the reply\0", |received| {
                let output = case.run(&c.client, &[&case.pipe, "hello from C", "and once more"]);
                assert_eq!(output, b"the reply\0the reply\0");
                assert_eq!(
                    received(),
                    [&b"hello from C\0"[..], &b"and once more\0"[..]]
                );
            });
        });
    }

    #[test]
    fn a_c_client_gets_replies_of_any_size_from_our_listener() {
        with_c_peers("c-client-sizes", |case, c| {
            for size in SIZES {
                let listener = LocalListener::bind(&case.name).unwrap();
                serving(&listener, &pattern(size), |_| {
                    let output = case.run(&c.client, &[&case.pipe, "how long is it?"]);
                    assert!(
                        output == pattern(size),
                        "{size} bytes came as {}",
                        output.len()
                    );
                });
            }
        });
    }

    #[test]
    fn a_c_client_waits_for_a_busy_listener() {
        with_c_peers("c-client-busy", |case, c| {
            let listener = ListenOptions::new().instances(1).bind(&case.name).unwrap();
            serving(&listener, b"at last\0", |_| {
                let only = LocalStream::connect(&case.name).unwrap();
                let waiting = case.start(&c.client, &[&case.pipe, "let me in"]);
                // Time for the client to find the pipe busy; the test is true without it, but proves less.
                thread::sleep(Duration::from_millis(300));
                drop(only);
                assert_eq!(waiting.output(), b"at last\0");
            });
        });
    }

    #[test]
    fn several_c_clients_at_once_are_served_by_our_listener() {
        with_c_peers("c-clients", |case, c| {
            let listener = LocalListener::bind(&case.name).unwrap();
            // Nobody is answered before everybody is there.
            let all_are_here = Barrier::new(CLIENTS);
            thread::scope(|scope| {
                let _stop = StopOnDrop(&listener);
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        let stream = listener.accept(soon()).unwrap();
                        all_are_here.wait();
                        answer(&stream, |message| [b"you said ", message].concat());
                    });
                }
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|i| case.start(&c.client, &[&case.pipe, &format!("I am {i}")]))
                    .collect();
                for (i, client) in clients.into_iter().enumerate() {
                    assert_eq!(client.output(), format!("you said I am {i}\0").as_bytes());
                }
            });
        });
    }

    #[test]
    fn a_c_client_is_served_by_the_example() {
        with_c_peers("c-client-example", |case, c| {
            let _server = case.listen(&example("pipe_server"), &[&case.name]);
            let output = case.run(&c.client, &[&case.pipe, "hello from C"]);
            assert_eq!(output, EXAMPLE_REPLY);
        });
    }

    #[test]
    fn several_c_clients_at_once_are_served_by_the_example() {
        with_c_peers("c-clients-example", |case, c| {
            let mut server = case.listen(&example("pipe_server"), &[&case.name]);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|i| {
                    case.start(
                        &c.client,
                        &[&case.pipe, &format!("this is client {i} of C")],
                    )
                })
                .collect();
            for client in clients {
                assert_eq!(client.output(), EXAMPLE_REPLY);
            }
            // It prints every message, in whatever order, and perhaps lines of its own between them.
            let mut missing: Vec<_> = (0..CLIENTS)
                .map(|i| format!("this is client {i} of C"))
                .collect();
            while !missing.is_empty() {
                let line = server.line();
                missing.retain(|message| !line.contains(message));
            }
        });
    }

    // The tests: a C server.

    #[test]
    fn our_stream_is_served_by_a_c_server() {
        with_c_peers("c-server", |case, c| {
            let mut server = case.listen(&c.server, &[&case.pipe]);
            let stream = LocalStream::connect(&case.name).unwrap();
            for message in ["hello from Rust", "and once more"] {
                stream
                    .send(format!("{message}\0").as_bytes(), soon())
                    .unwrap();
                assert_eq!(receive(&stream).unwrap(), C_REPLY);
                assert_eq!(server.line(), message);
            }
        });
    }

    #[test]
    fn our_stream_gets_replies_of_any_size_from_a_c_server() {
        with_c_peers("c-server-sizes", |case, c| {
            for size in SIZES {
                let (name, pipe) = case.named(size);
                let _server = case.listen(&c.server, &[&pipe, &size.to_string()]);
                let stream = LocalStream::connect(&name).unwrap();

                stream.send(b"whole", soon()).unwrap();
                let reply = receive(&stream).unwrap();
                assert!(
                    reply == pattern(size),
                    "{size} bytes came as {}",
                    reply.len()
                );

                stream.send(b"in parts", soon()).unwrap();
                assert_parts(&pattern(size), |buf| stream.recv(buf, soon()));

                // Sends and receives in one system call.
                let mut first = [0; C_BUFFER];
                let part = stream.transact(b"transact", &mut first, soon()).unwrap();
                let mut transacted = part.map(|part| (first, part));
                assert_parts(&pattern(size), |buf| match transacted.take() {
                    None => stream.recv(buf, soon()),
                    Some((first, part)) => {
                        buf.copy_from_slice(&first);
                        Ok(Some(part))
                    }
                });
            }
        });
    }

    #[test]
    fn a_c_server_gets_messages_of_any_size_from_our_stream() {
        with_c_peers("c-server-messages", |case, c| {
            let mut server = case.listen(&c.server, &[&case.pipe]);
            let stream = LocalStream::connect(&case.name).unwrap();
            for size in SIZES {
                stream.send(&pattern(size), soon()).unwrap();
                let line = server.line();
                assert!(
                    line.as_bytes() == pattern(size),
                    "{size} bytes came as {}",
                    line.len()
                );
                assert_eq!(receive(&stream).unwrap(), C_REPLY);
            }
        });
    }

    #[test]
    fn a_c_server_that_flushes_and_disconnects_is_the_end() {
        with_c_peers("c-server-end", |case, c| {
            for size in SIZES {
                let (name, pipe) = case.named(size);
                let _server = case.listen(&c.server, &[&pipe, &size.to_string(), "1"]);
                let stream = LocalStream::connect(&name).unwrap();
                stream.send(b"the only message", soon()).unwrap();
                let reply = receive(&stream).unwrap();
                assert!(
                    reply == pattern(size),
                    "{size} bytes came as {}",
                    reply.len()
                );
                assert_eq!(receive(&stream), None);
                let error = stream.send(b"too late", soon()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
        });
    }

    #[test]
    fn a_killed_c_server_is_the_end() {
        with_c_peers("c-server-killed", |case, c| {
            let server = case.listen(&c.server, &[&case.pipe]);
            let stream = LocalStream::connect(&case.name).unwrap();
            stream.send(b"hello\0", soon()).unwrap();
            assert_eq!(receive(&stream).unwrap(), C_REPLY);
            server.kill();
            assert_eq!(receive(&stream), None);
            let error = stream.send(b"too late", soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn several_of_our_streams_at_once_are_served_by_a_c_server() {
        with_c_peers("c-server-streams", |case, c| {
            let _server = case.listen(&c.server, &[&case.pipe, "5000"]);
            let streams: Vec<_> = (0..CLIENTS)
                .map(|_| LocalStream::connect(&case.name).unwrap())
                .collect();
            for stream in &streams {
                stream.send(b"all of us at once", soon()).unwrap();
            }
            for stream in streams.iter().rev() {
                assert!(receive(stream).unwrap() == pattern(5000));
            }
        });
    }

    #[test]
    fn the_example_is_served_by_a_c_server() {
        with_c_peers("c-server-example", |case, c| {
            let mut server = case.listen(&c.server, &[&case.pipe]);
            let output = case.run(
                &example("pipe_client"),
                &["hello from the example", &case.name],
            );
            assert_printed(&output, C_REPLY);
            assert_eq!(server.line(), "hello from the example");
        });
    }

    #[test]
    fn the_example_gets_replies_of_any_size_from_a_c_server() {
        with_c_peers("c-server-example-sizes", |case, c| {
            for size in SIZES {
                let (name, pipe) = case.named(size);
                let _server = case.listen(&c.server, &[&pipe, &size.to_string()]);
                let output = case.run(&example("pipe_client"), &["how long is it?", &name]);
                assert_printed(&output, &pattern(size));
            }
        });
    }

    #[test]
    fn several_examples_at_once_are_served_by_a_c_server() {
        with_c_peers("c-server-examples", |case, c| {
            let mut server = case.listen(&c.server, &[&case.pipe]);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|i| case.start(&example("pipe_client"), &[&format!("I am {i}"), &case.name]))
                .collect();
            for client in clients {
                assert_printed(&client.output(), C_REPLY);
            }
            let mut lines: Vec<_> = (0..CLIENTS).map(|_| server.line()).collect();
            lines.sort_unstable();
            assert!(
                lines
                    .into_iter()
                    .eq((0..CLIENTS).map(|i| format!("I am {i}")))
            );
        });
    }

    // This crate's side of them.

    fn receive(stream: &LocalStream) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        let size = stream.recv_message(&mut message, soon()).unwrap()?;
        assert_eq!(size, message.len());
        Some(message)
    }

    /// Receives one message into the C programs' buffer, and checks how it comes in parts.
    fn assert_parts(expected: &[u8], mut recv: impl FnMut(&mut [u8]) -> io::Result<Option<Part>>) {
        let mut buf = [0; C_BUFFER];
        let mut rest = expected;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(C_BUFFER));
            let part = recv(&mut buf).unwrap().unwrap();
            let expected = Part {
                len: chunk.len(),
                last: after.is_empty(),
            };
            assert_eq!(part, expected, "with {} bytes to come", rest.len());
            assert!(
                buf[..part.len] == *chunk,
                "with {} bytes to come",
                rest.len()
            );
            if part.last {
                break;
            }
            rest = after;
        }
    }

    fn answer(stream: &LocalStream, reply: impl Fn(&[u8]) -> Vec<u8>) {
        let mut message = Vec::new();
        while stream.recv_message(&mut message, soon()).unwrap().is_some() {
            stream.send(&reply(&message), soon()).unwrap();
        }
    }

    /// Answers one client after the other while `act` runs, which can ask for the messages that came.
    fn serving(
        listener: &LocalListener,
        reply: &[u8],
        act: impl FnOnce(&dyn Fn() -> Vec<Vec<u8>>),
    ) {
        let received = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let _stop = StopOnDrop(listener);
            scope.spawn(|| {
                loop {
                    let stream = match listener.accept(soon()) {
                        Err(error) if Error::of(&error) == Some(&Error::Stopped) => break,
                        accepted => accepted.unwrap(),
                    };
                    answer(&stream, |message| {
                        received.lock().unwrap().push(message.to_owned());
                        reply.to_owned()
                    });
                }
            });
            act(&|| received.lock().unwrap().clone());
        });
    }

    /// Lets a scope end when its body panics.
    struct StopOnDrop<'a>(&'a LocalListener);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    /// The example prints the reply, without its closing NUL, as a line.
    fn assert_printed(output: &[u8], reply: &[u8]) {
        let text = reply.strip_suffix(b"\0").unwrap_or(reply);
        assert!(
            output == [text, b"\n"].concat(),
            "a reply of {} bytes was printed as {} bytes: {}",
            reply.len(),
            output.len(),
            String::from_utf8_lossy(&output[..output.len().min(200)])
        );
    }

    // Running programs.

    /// One test: its pipe name, and the programs that it started.
    struct Case {
        /// The portable name, and the same as a pipe path, for the C programs.
        name: String,
        pipe: String,
        children: Mutex<Vec<Arc<Mutex<Child>>>>,
    }

    /// Runs a test that needs the C programs, no longer than [`LIMIT`], and ends all that it started.
    fn with_c_peers(name: &'static str, test: impl FnOnce(&Case, &CPeers) + Send + 'static) {
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
                    Err(why) => skipped(&format!("{}: {why}", case.name)),
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

    const ERROR_INTERNAL_ERROR: i32 = 1359;

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Case {
        /// The names of one of several servers of this test.
        fn named(&self, size: usize) -> (String, String) {
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
            let mut child = (0..5)
                .find_map(|_| match command.spawn() {
                    // Wine, now and then, loses a process before it has begun, when the machine is very busy.
                    Err(error) if error.raw_os_error() == Some(ERROR_INTERNAL_ERROR) => {
                        eprintln!("{} did not start: {error}", program.display());
                        None
                    }
                    spawned => Some(spawned),
                })
                .unwrap_or_else(|| Err(io::ErrorKind::Other.into()))
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
        fn start(&self, program: &Path, args: &[&str]) -> Started {
            self.spawn(program, args, Stdio::piped())
        }

        /// Runs a client to its end, and returns what it prints.
        fn run(&self, program: &Path, args: &[&str]) -> Vec<u8> {
            self.start(program, args).output()
        }

        /// Starts a server, and returns when it has said that it listens.
        fn listen(&self, program: &Path, args: &[&str]) -> Started {
            let mut server = self.spawn(program, args, Stdio::inherit());
            while !server.line().contains("listening") {}
            server
        }
    }

    /// A program that was started.
    struct Started {
        command: String,
        child: Arc<Mutex<Child>>,
        stdout: BufReader<ChildStdout>,
        stderr: Option<ChildStderr>,
    }

    impl Started {
        /// The next line that it prints.
        fn line(&mut self) -> String {
            let mut line = String::new();
            let size = self.stdout.read_line(&mut line).unwrap();
            assert!(size > 0, "{} ended early", self.command);
            line.trim_end_matches(['\r', '\n']).to_owned()
        }

        /// Waits for its end, which has to be a success, and returns what it has printed.
        fn output(mut self) -> Vec<u8> {
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

        fn kill(self) {
            let mut child = lock(&self.child);
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// An example of this crate, where Cargo puts it.
    fn example(name: &str) -> PathBuf {
        let tests = std::env::current_exe().unwrap();
        let profile = tests.parent().and_then(Path::parent).unwrap();
        let path = profile.join("examples").join(name).with_extension("exe");
        assert!(
            path.exists(),
            "{} is missing: build the examples first",
            path.display()
        );
        path
    }

    // Getting at the C programs.

    struct CPeers {
        client: PathBuf,
        server: PathBuf,
    }

    /// The C programs, or why there are none.
    fn c_peers() -> Result<&'static CPeers, &'static str> {
        static C_PEERS: OnceLock<Result<CPeers, String>> = OnceLock::new();
        let c_peers = C_PEERS.get_or_init(|| {
            let given = std::env::var("PIPETALK_C_PEERS").ok();
            let program = |name: &str| match &given {
                Some(dir) => Ok(format!("{dir}/{name}.exe").into()),
                None => compiled(name),
            };
            Ok(CPeers {
                client: program("message_client")?,
                server: program("message_server")?,
            })
        });
        c_peers.as_ref().map_err(String::as_str)
    }

    /// The program that a C file makes; it is kept for the next time. All paths are written with slashes, which
    /// do for Windows as well as for what is around Wine.
    fn compiled(name: &str) -> Result<PathBuf, String> {
        const CRATE: &str = env!("CARGO_MANIFEST_DIR");
        const KEPT: &str = env!("CARGO_TARGET_TMPDIR");
        let source = format!("{CRATE}/tests/c/{name}.c");
        let program = format!("{KEPT}/{name}.exe");

        let modified = |path: &str| fs::metadata(path).and_then(|file| file.modified()).ok();
        let sources = [
            modified(&source),
            modified(&format!("{CRATE}/tests/foreign.rs")),
        ];
        if sources.iter().all(|source| modified(&program) > *source) {
            return Ok(program.into());
        }

        let new = format!("{KEPT}/{name}-{}.exe", std::process::id());
        let around_wine = CRATE.starts_with('/') && Path::new("/bin/sh").exists();
        if around_wine {
            compile_around_wine(&source, &new)?
        } else {
            compile(&source, &new)?
        }
        fs::rename(&new, &program).unwrap();
        Ok(program.into())
    }

    const GCC_FLAGS: [&str; 2] = ["-std=c99", "-O1"];

    fn compile(source: &str, program: &str) -> Result<(), String> {
        let gcc = [&GCC_FLAGS, &["-o", program, source][..]].concat();
        let (out, object) = (format!("-Fe{program}"), format!("-Fo{program}.obj"));
        let cl = vec!["-nologo", "-O1", source, &out, &object];
        for (compiler, args) in [
            ("x86_64-w64-mingw32-gcc", &gcc),
            ("gcc", &gcc),
            ("clang", &gcc),
            ("cl", &cl),
        ] {
            match Command::new(compiler).args(args).output() {
                Ok(output) => {
                    assert!(output.status.success(), "{compiler} {source}: {output:?}");
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => panic!("{compiler} does not start: {error}"),
            }
        }
        Err("no C compiler here: neither x86_64-w64-mingw32-gcc, gcc, clang nor cl".to_owned())
    }

    /// A process under Wine can start a program of the system around it, but it gets no handle to wait for it by:
    /// a shell puts the exit code into a file.
    fn compile_around_wine(source: &str, program: &str) -> Result<(), String> {
        const SCRIPT: &str = r#"
            program=$1; shift
            "$@" >"$program.log" 2>&1
            echo $? >"$program.code"
        "#;
        let (code, log) = (format!("{program}.code"), format!("{program}.log"));
        Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh", program, "x86_64-w64-mingw32-gcc"])
            .args(GCC_FLAGS)
            .args(["-o", program, source])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("no shell around Wine: {error}"))?;

        let started = Instant::now();
        let mut ended = String::new();
        while !ended.ends_with('\n') {
            assert!(started.elapsed() < PATIENCE, "the compiler does not end");
            thread::sleep(Duration::from_millis(10));
            ended = fs::read_to_string(&code).unwrap_or_default();
        }
        let output = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let _ = fs::remove_file(&code);
        match ended.trim() {
            "0" => Ok(()),
            "127" => Err(format!("no C compiler around Wine: {}", output.trim())),
            code => panic!("compiling {source} ended with {code}: {output}"),
        }
    }
}
