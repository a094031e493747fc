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

#[path = "rounds/messages.rs"]
mod messages;
mod rounds;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pipetalk::{Deadline, Listener, LocalListener, LocalStream, Stream};

use messages::{Connection, Messages, echo_all};
use rounds::{
    Echo, Options, Server, bare, core_as_word, measure, median, pin, pin_to_word, placements,
    ratios, say_listening,
};

const USAGE: &str = "usage: cargo bench --bench transport -- \
    [--rounds N] [--seconds S] [--size BYTES]... [--quick]";

const SIZES: [usize; 4] = [16, 1 << 10, 64 << 10, 1 << 20];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", series, address, size, core] => serve(series, address, size, core),
        _ => match Options::parse(args, &SIZES) {
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
    pin_to_word(core)?;
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
    echo_all(&mut *connection, size)
}

/// The connection to a copy of this process.
fn start(
    series: Series,
    size: usize,
    core: Option<usize>,
    directory: &Path,
) -> io::Result<Box<dyn Echo>> {
    let name = format!("pipetalk-bench-{}-{}", std::process::id(), series.word());
    let address = bare::address(directory, &name);
    let core = core_as_word(core);
    let server = Server::start(&[series.word(), &address, &size.to_string(), &core])?;
    let connection: Box<dyn Connection> = match series {
        Series::Bare => Box::new(bare::Stream::connect(&address)?),
        Series::Never | Series::Within30s => Box::new(Ours {
            stream: LocalStream::connect(&address)?,
            timeout: series.timeout(),
        }),
    };
    Ok(Box::new(Messages::new(connection, server, size)))
}

fn run(options: &Options) -> io::Result<()> {
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
    for (cores, placement) in placements()? {
        if let Some([client, _]) = placement {
            pin::to_core(client)?;
        }
        for &size in &options.sizes {
            // Removed with all that the sockets leave in it.
            let directory = tempfile::tempdir()?;
            let core = placement.map(|[_, server]| server);
            let [one, two, three] =
                Series::ALL.map(|series| start(series, size, core, directory.path()));
            let [bare, never, timed] = measure(options, [one?, two?, three?])?;
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
