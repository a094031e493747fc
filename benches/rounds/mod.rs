//! What the benchmarks share: echoes between two processes, measured in turns.
//!
//! All are connected at once and take turns, so that whatever else the machine does meets all of them. A ratio is
//! the median of the ratios of the rounds.

#[cfg_attr(unix, path = "../unix/bare.rs")]
#[cfg_attr(windows, path = "../windows/bare.rs")]
pub(crate) mod bare;
#[cfg_attr(target_os = "linux", path = "../pin/linux.rs")]
#[cfg_attr(windows, path = "../windows/pin.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "../pin/none.rs")]
pub(crate) mod pin;

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
    pub(crate) sizes: Vec<usize>,
}

impl Options {
    /// What the command line says; `None` if it makes no sense.
    pub(crate) fn parse(args: Vec<String>, sizes: &[usize]) -> Option<Options> {
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
            options.sizes = sizes.to_vec();
        }
        Some(options)
    }
}

/// One request and its reply, again and again.
pub(crate) trait Echo {
    /// The size of a request, in bytes.
    fn size(&self) -> usize;
    /// Asks once, and checks that the reply is the request.
    fn ask(&mut self) -> io::Result<()>;
    /// Closes, and waits for the server to have seen it.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

pub(crate) fn wrong_reply() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the reply is not the request")
}

/// A copy of this process, which answers, and ends with it.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it, and waits until it [listens](say_listening).
    pub(crate) fn start(args: &[&str]) -> io::Result<Server> {
        let mut server = Server(
            Command::new(std::env::current_exe()?)
                .arg("--serve")
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let mut line = String::new();
        if let Some(stdout) = server.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim_end() != "listening" {
            return Err(io::Error::other(format!("{args:?} does not listen")));
        }
        Ok(server)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        let status = self.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("a server ended with {status}")))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the other process: it can be connected to.
pub(crate) fn say_listening() -> io::Result<()> {
    writeln!(io::stdout(), "listening")
}

/// Where the two processes run: a word for it, and the cores of client and server.
pub(crate) fn placements() -> io::Result<Vec<(String, Option<[usize; 2]>)>> {
    let cores = pin::cores()?;
    Ok(match cores[..] {
        [] => vec![("any".to_owned(), None)],
        [one] => vec![("1".to_owned(), Some([one, one]))],
        [one, two, ..] => vec![
            ("1".to_owned(), Some([one, one])),
            ("2".to_owned(), Some([one, two])),
        ],
    })
}

/// A core as a server is told.
pub(crate) fn core_as_word(core: Option<usize>) -> String {
    core.map_or("any".to_owned(), |core| core.to_string())
}

/// Keeps a server on the core that it is told.
pub(crate) fn pin_to_word(core: &str) -> io::Result<()> {
    core.parse().map_or(Ok(()), pin::to_core)
}

/// Asks for that long, and returns the requests per second.
fn turn(echo: &mut dyn Echo, time: Duration) -> io::Result<f64> {
    // Looking at the clock must not cost anything.
    let batch = ((64 << 10) / echo.size()).clamp(1, 32);
    let started = Instant::now();
    let mut asked = 0_u32;
    loop {
        for _ in 0..batch {
            echo.ask()?;
            asked += 1;
        }
        let elapsed = started.elapsed();
        if elapsed >= time {
            return Ok(f64::from(asked) / elapsed.as_secs_f64());
        }
    }
}

/// The requests per second of each series in each round.
pub(crate) fn measure<const N: usize>(
    options: &Options,
    mut echoes: [Box<dyn Echo>; N],
) -> io::Result<[Vec<f64>; N]> {
    for echo in &mut echoes {
        turn(&mut **echo, options.turn / 10)?;
    }
    let mut rates = [const { Vec::new() }; N];
    for round in 0..options.rounds {
        // Each gets its turn right after each of the others.
        for place in 0..N {
            let series = (round + place) % N;
            rates[series].push(turn(&mut *echoes[series], options.turn)?);
        }
    }
    echoes.into_iter().try_for_each(Echo::finish)?;
    Ok(rates)
}

pub(crate) fn ratios(rates: &[f64], to: &[f64]) -> Vec<f64> {
    rates.iter().zip(to).map(|(rate, to)| rate / to).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
