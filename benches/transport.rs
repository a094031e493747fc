//! How fast whole messages travel, as a ratio to the bare system.
//!
//! An echo between two processes: this one asks, and a copy of it answers. Measured are a bare `UnixStream` with
//! `write_all` and `read_exact` of a size that both sides know, or on Windows a bare overlapped message pipe; and
//! [`LocalStream`] with `send` and `recv_message` into a kept vector, once with [`Deadline::NEVER`] and once with a
//! deadline of 30 seconds for each call. Both processes run on one core, then on two.
//!
//! All are connected at once and take turns, so that whatever else the machine does meets all of them. A ratio is
//! the median of the ratios of the rounds.
//!
//! ```text
//! cargo bench --bench transport -- [--rounds N] [--seconds S] [--size BYTES]... [--quick]
//! ```
//!
//! `--seconds` is the time of each turn. `--quick` is a tiny run that only shows that it works; so is any run that
//! is not by `cargo bench`.
//!
//! Under Wine every operation goes through a third process, `wineserver`, which is not pinned with the two. For all
//! three on one core, pin the command while no `wineserver` runs: `taskset -c 0 cargo bench --target ...`.

#[cfg_attr(unix, path = "unix/bare.rs")]
#[cfg_attr(windows, path = "windows/bare.rs")]
mod bare;
#[cfg_attr(target_os = "linux", path = "pin/linux.rs")]
#[cfg_attr(windows, path = "windows/pin.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "pin/none.rs")]
mod pin;

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use pipetalk::{Deadline, Listener, LocalListener, LocalStream, Stream};

const USAGE: &str = "usage: cargo bench --bench transport -- \
    [--rounds N] [--seconds S] [--size BYTES]... [--quick]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", series, address, size, core] => serve(series, address, size, core),
        _ => match Options::parse(args) {
            Some(options) => run(&options),
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transport: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Options {
    rounds: usize,
    turn: Duration,
    sizes: Vec<usize>,
}

impl Options {
    fn parse(args: Vec<String>) -> Option<Options> {
        // Cargo says so when it is a benchmark that is wanted; otherwise the arguments may be for tests.
        let is_bench = args.iter().any(|arg| arg == "--bench");
        let quick = !is_bench || args.iter().any(|arg| arg == "--quick" || arg == "--test");
        let mut options = Options {
            rounds: if quick { 1 } else { 21 },
            turn: Duration::from_millis(if quick { 20 } else { 150 }),
            sizes: Vec::new(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rounds" => options.rounds = args.next()?.parse().ok().filter(|&n| n > 0)?,
                "--seconds" => {
                    let seconds = args.next()?.parse().ok()?;
                    options.turn = Duration::try_from_secs_f64(seconds).ok()?;
                }
                "--size" => options
                    .sizes
                    .push(args.next()?.parse().ok().filter(|&n| n > 0)?),
                "--bench" | "--quick" | "--test" => {}
                _ if is_bench => return None,
                _ => {}
            }
        }
        if options.sizes.is_empty() {
            options.sizes = vec![16, 1 << 10, 64 << 10, 1 << 20];
        }
        Some(options)
    }
}

/// Who carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Series {
    Bare,
    Never,
    Within30s,
}

impl Series {
    const ALL: [Series; 3] = [Series::Bare, Series::Never, Series::Within30s];

    /// As the server is told.
    fn word(self) -> &'static str {
        match self {
            Series::Bare => "bare",
            Series::Never => "never",
            Series::Within30s => "within30s",
        }
    }

    fn timeout(self) -> Option<Duration> {
        (self == Series::Within30s).then_some(Duration::from_secs(30))
    }
}

/// One end of a connection.
trait Connection {
    fn send(&mut self, message: &[u8]) -> io::Result<()>;
    /// Receives the next message into a vector that has its size already; `false` at the end.
    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<bool>;
}

impl Connection for bare::Stream {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        bare::Stream::send(self, message)
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<bool> {
        bare::Stream::receive(self, message)
    }
}

struct Ours {
    stream: LocalStream,
    timeout: Option<Duration>,
}

impl Ours {
    fn deadline(&self) -> Deadline {
        self.timeout.map_or(Deadline::NEVER, Deadline::after)
    }
}

impl Connection for Ours {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.send(message, self.deadline())
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<bool> {
        let size = self.stream.recv_message(message, self.deadline())?;
        Ok(size.is_some())
    }
}

/// The other process: echoes to one client until it closes.
fn serve(series: &str, address: &str, size: &str, core: &str) -> io::Result<()> {
    let series = Series::ALL.into_iter().find(|known| known.word() == series);
    let (Some(series), Ok(size)) = (series, size.parse()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if let Ok(core) = core.parse() {
        pin::to_core(core)?;
    }
    let mut connection: Box<dyn Connection> = match series {
        Series::Bare => {
            let listener = bare::Listener::bind(address)?;
            say_listening()?;
            Box::new(listener.accept()?)
        }
        Series::Never | Series::Within30s => {
            let listener = LocalListener::bind(address)?;
            say_listening()?;
            let stream = listener.accept(Deadline::after(Duration::from_secs(30)))?;
            Box::new(Ours {
                stream,
                timeout: series.timeout(),
            })
        }
    };
    let mut message = vec![0; size];
    while connection.receive(&mut message)? {
        connection.send(&message)?;
    }
    Ok(())
}

fn say_listening() -> io::Result<()> {
    writeln!(io::stdout(), "listening")
}

/// The connection to a copy of this process, which ends with it.
struct Echo {
    connection: Box<dyn Connection>,
    server: Server,
    request: Vec<u8>,
    reply: Vec<u8>,
    asked: u64,
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Echo {
    fn start(
        series: Series,
        size: usize,
        core: Option<usize>,
        directory: &Path,
    ) -> io::Result<Echo> {
        let name = format!("pipetalk-bench-{}-{}", std::process::id(), series.word());
        let address = bare::address(directory, &name);
        let core = core.map_or("any".to_owned(), |core| core.to_string());
        let mut server = Server(
            Command::new(std::env::current_exe()?)
                .args(["--serve", series.word(), &address, &size.to_string(), &core])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let mut line = String::new();
        if let Some(stdout) = server.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim_end() != "listening" {
            return Err(io::Error::other(format!(
                "the {series:?} server does not listen"
            )));
        }
        let connection: Box<dyn Connection> = match series {
            Series::Bare => Box::new(bare::Stream::connect(&address)?),
            Series::Never | Series::Within30s => Box::new(Ours {
                stream: LocalStream::connect(&address)?,
                timeout: series.timeout(),
            }),
        };
        let (request, reply) = (vec![0x5a; size], vec![0; size]);
        Ok(Echo {
            connection,
            server,
            request,
            reply,
            asked: 0,
        })
    }

    /// One request and its reply, which has to be the same: both ends of it are numbered.
    fn ask(&mut self) -> io::Result<()> {
        self.asked += 1;
        let number = self.asked.to_le_bytes();
        let size = self.request.len();
        let ends = size.min(number.len());
        self.request[..ends].copy_from_slice(&number[..ends]);
        self.request[size - ends..].copy_from_slice(&number[..ends]);

        self.connection.send(&self.request)?;
        if !self.connection.receive(&mut self.reply)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reply = &self.reply;
        if reply.len() != size
            || reply[..ends] != number[..ends]
            || reply[size - ends..] != number[..ends]
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the reply is not the request",
            ));
        }
        Ok(())
    }

    /// Asks for that long, and returns the requests per second.
    fn turn(&mut self, time: Duration) -> io::Result<f64> {
        // Looking at the clock must not cost anything.
        let batch = ((64 << 10) / self.request.len()).clamp(1, 32);
        let started = Instant::now();
        let mut asked = 0_u32;
        loop {
            for _ in 0..batch {
                self.ask()?;
                asked += 1;
            }
            let elapsed = started.elapsed();
            if elapsed >= time {
                return Ok(f64::from(asked) / elapsed.as_secs_f64());
            }
        }
    }

    /// Closes, and waits for the server to have seen it.
    fn finish(self) -> io::Result<()> {
        let Echo {
            connection,
            mut server,
            ..
        } = self;
        drop(connection);
        let status = server.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("a server ended with {status}")))
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let cores = pin::cores()?;
    let placements: Vec<(String, Option<[usize; 2]>)> = match cores[..] {
        [] => vec![("any".to_owned(), None)],
        [one] => vec![("1".to_owned(), Some([one, one]))],
        [one, two, ..] => vec![
            ("1".to_owned(), Some([one, one])),
            ("2".to_owned(), Some([one, two])),
        ],
    };

    println!(
        "Echo between two processes, in requests per second: {} turns of {:?}",
        options.rounds, options.turn
    );
    println!(
        "for each. Ratios are to {}, each the median of the rounds.\n",
        bare::WHAT
    );
    println!("| bytes | cores | bare | pipetalk | ratio | with a deadline of 30 s | ratio |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for (cores, placement) in placements {
        if let Some([client, _]) = placement {
            pin::to_core(client)?;
        }
        for &size in &options.sizes {
            let [bare, never, timed] = measure(options, size, placement.map(|[_, server]| server))?;
            println!(
                "| {size} | {cores} | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} |",
                median(bare.clone()),
                median(never.clone()),
                median(ratios(&never, &bare)),
                median(timed.clone()),
                median(ratios(&timed, &bare)),
            );
        }
    }
    Ok(())
}

/// The requests per second of each series in each round.
fn measure(options: &Options, size: usize, core: Option<usize>) -> io::Result<[Vec<f64>; 3]> {
    // Removed with all that the sockets leave in it.
    let directory = tempfile::tempdir()?;
    let mut echoes = Vec::new();
    for series in Series::ALL {
        let mut echo = Echo::start(series, size, core, directory.path())?;
        echo.turn(options.turn / 10)?;
        echoes.push(echo);
    }
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..options.rounds {
        // Each gets its turn right after each of the others.
        for turn in 0..echoes.len() {
            let series = (round + turn) % echoes.len();
            rates[series].push(echoes[series].turn(options.turn)?);
        }
    }
    echoes.into_iter().try_for_each(Echo::finish)?;
    Ok(rates)
}

fn ratios(rates: &[f64], to: &[f64]) -> Vec<f64> {
    rates.iter().zip(to).map(|(rate, to)| rate / to).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
