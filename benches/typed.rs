//! How fast typed calls are, as a ratio to the bare system.
//!
//! An echo between two processes: this one asks, and a copy of it answers. Measured are a [`Client`] and a [`Server`]
//! with their defaults, with no deadline for the calls, and with receives that spin, beside a bare `UnixStream` with
//! `write_all` and `read_exact` of a size that both sides know, or on Windows a bare overlapped message pipe. The request is a struct of 64 bytes, or for any other size a
//! [`Blob`]. Both processes run on one core, then on two. The bench `transport` has the same without types, and says
//! more of how it is measured.
//!
//! ```text
//! cargo bench --bench typed -- [--rounds N] [--seconds S] [--size BYTES]... [--quick]
//! ```

#[path = "rounds/messages.rs"]
mod messages;
mod rounds;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pipetalk::{
    Blob, Call, Client, ClientOptions, ConnectOptions, ListenOptions, ServerOptions, Spin,
};
use serde::de::DeserializeOwned;
use util::{Deserialize, Serialize};

use messages::{Messages, echo_all};
use rounds::{
    Echo, Options, Server, bare, core_as_word, measure, median, pin, pin_to_word, placements,
    ratios, say_listening, wrong_reply,
};

const USAGE: &str = "usage: cargo bench --bench typed -- \
    [--rounds N] [--seconds S] [--size BYTES]... [--quick]";

/// Longer than any reply takes here.
const SPIN: Spin = Spin::adaptive(Duration::from_micros(200));

/// The size of [`Small`].
const SMALL: usize = 64;

const SIZES: [usize; 3] = [SMALL, 64 << 10, 1 << 20];

/// A struct that is encoded in about as many bytes as it has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Small {
    number: u64,
    size: u64,
    place: [f64; 5],
    flags: (u16, u16),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", "bare", address, size, core] => serve_bare(address, size, core),
        ["--serve", "spinning", address, size, core] => {
            serve_typed(ListenOptions::new().spin(SPIN), address, size, core)
        }
        ["--serve", _, address, size, core] => {
            serve_typed(ListenOptions::new(), address, size, core)
        }
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
            eprintln!("typed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn size_of_word(size: &str) -> io::Result<usize> {
    size.parse().map_err(io::Error::other)
}

/// The other process: echoes to one client until it closes.
fn serve_bare(address: &str, size: &str, core: &str) -> io::Result<()> {
    pin_to_word(core)?;
    let listener = bare::Listener::bind(address)?;
    say_listening()?;
    echo_all(&mut listener.accept()?, size_of_word(size)?)
}

/// The other process: echoes until it is stopped.
fn serve_typed(listen: ListenOptions, address: &str, size: &str, core: &str) -> io::Result<()> {
    pin_to_word(core)?;
    let server = ServerOptions::new().listen_options(listen).bind(address)?;
    say_listening()?;
    if size_of_word(size)? == SMALL {
        server.serve(|small: Small, _: &Call| small)
    } else {
        server.serve(|blob: Blob, _: &Call| blob)
    }
}

/// The client's side.
struct Typed<T> {
    client: Client<T, T>,
    server: Server,
    size: usize,
    /// Asked in turn, so that no reply passes for the next.
    requests: Vec<T>,
    asked: usize,
    same: fn(&T, &T) -> bool,
}

impl<T: Serialize + DeserializeOwned> Echo for Typed<T> {
    fn size(&self) -> usize {
        self.size
    }

    fn ask(&mut self) -> io::Result<()> {
        self.asked += 1;
        let request = &self.requests[self.asked % self.requests.len()];
        let reply = self.client.call(request)?;
        if (self.same)(&reply, request) {
            Ok(())
        } else {
            Err(wrong_reply())
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.client.channel().stop()?;
        self.server.wait()
    }
}

fn start_bare(size: usize, core: &str, directory: &Path) -> io::Result<Box<dyn Echo>> {
    let name = format!("pipetalk-bench-{}-bare", std::process::id());
    let address = bare::address(directory, &name);
    let server = Server::start(&["bare", &address, &size.to_string(), core])?;
    let connection = bare::Stream::connect(&address)?;
    Ok(Box::new(Messages::new(Box::new(connection), server, size)))
}

fn start_typed(
    size: usize,
    core: &str,
    directory: &Path,
    options: ClientOptions,
    series: &str,
) -> io::Result<Box<dyn Echo>> {
    let name = format!("pipetalk-bench-{}-{series}", std::process::id());
    let address = bare::address(directory, &name);
    let server = Server::start(&[series, &address, &size.to_string(), core])?;
    if size == SMALL {
        let requests = (0..64).map(|number| Small {
            number: u64::MAX - number,
            size: u64::MAX,
            place: [1.5, -2.5, 3.5, 0.0, f64::MAX],
            flags: (u16::MAX, u16::MAX),
        });
        Ok(Box::new(Typed {
            client: options.connect(&address)?,
            server,
            size,
            requests: requests.collect(),
            asked: 0,
            same: |a, b| a == b,
        }))
    } else {
        let requests = (0..2).map(|number| Blob::from(vec![number; size]));
        Ok(Box::new(Typed {
            client: options.connect(&address)?,
            server,
            size,
            requests: requests.collect(),
            asked: 0,
            // Its ends, as with the bare ones: not to compare a whole megabyte.
            same: |a: &Blob, b: &Blob| {
                a.len() == b.len() && a.first() == b.first() && a.last() == b.last()
            },
        }))
    }
}

fn run(options: &Options) -> io::Result<()> {
    println!(
        "Typed echo between two processes, in requests per second: {} turns of {:?}",
        options.rounds, options.turn
    );
    println!(
        "for each. The ratio is to {}, the median of the rounds.\n",
        bare::WHAT
    );
    println!(
        "| bytes | what | cores | bare | pipetalk | ratio | without a deadline | ratio | spinning | ratio |"
    );
    println!("|--:|--|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (cores, placement) in placements()? {
        if let Some([client, _]) = placement {
            pin::to_core(client)?;
        }
        for &size in &options.sizes {
            // Removed with all that the sockets leave in it.
            let directory = tempfile::tempdir()?;
            let core = core_as_word(placement.map(|[_, server]| server));
            let echoes = [
                start_bare(size, &core, directory.path())?,
                start_typed(size, &core, directory.path(), ClientOptions::new(), "typed")?,
                start_typed(
                    size,
                    &core,
                    directory.path(),
                    ClientOptions::new().timeout(None),
                    "no-deadline",
                )?,
                start_typed(
                    size,
                    &core,
                    directory.path(),
                    ClientOptions::new().connect_options(ConnectOptions::new().spin(SPIN)),
                    "spinning",
                )?,
            ];
            let [bare, typed, without, spinning] = measure(options, echoes)?;
            let what = if size == SMALL { "struct" } else { "Blob" };
            println!(
                "| {size} | {what} | {cores} | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} | {:.2} |",
                median(bare.clone()),
                median(typed.clone()),
                median(ratios(&typed, &bare)),
                median(without.clone()),
                median(ratios(&without, &bare)),
                median(spinning.clone()),
                median(ratios(&spinning, &bare)),
            );
        }
    }
    Ok(())
}
