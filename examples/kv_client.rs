//! A client of `kv_server`.
//!
//! ```text
//! cargo run --example kv_client -- [--name NAME] COMMAND
//!
//!     get KEY          prints the value; if there is none, says `not found` and exits with 1
//!     put KEY VALUE    sets a value, and prints `ok`
//!     touch KEY        makes sure that there is a key, and prints `ok`
//!     watch PREFIX     prints `KEY=VALUE` for each change of a key that begins so, until it is interrupted
//!     info             prints who the server is
//!     drain            asks the server to finish what it has begun and to end, and prints `ok`
//!     stop             asks the server to end at once, and prints `ok`
//! ```
//!
//! It exits with 2 if something goes wrong, for example if there is no server.

mod kv;

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kv::{KvClient, PutError};
use pipetalk::{CallError, ClientOptions, Event};

/// How long the server has for what it is asked.
const TIMEOUT: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: kv_client [--name NAME] get KEY | put KEY VALUE | touch KEY | \
                     watch PREFIX | info | drain | stop";

fn main() -> ExitCode {
    let args: Result<Vec<String>, _> = env::args_os()
        .skip(1)
        .map(|arg| arg.into_string())
        .collect();
    let Ok(args) = args else {
        eprintln!("kv_client: an argument is not Unicode");
        return ExitCode::from(2);
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, command) = match &args[..] {
        ["--name", name, command @ ..] => (*name, command),
        command => (kv::NAME, command),
    };
    match run(name, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::NotFound) => {
            eprintln!("not found");
            ExitCode::from(1)
        }
        Err(Trouble::Usage) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(Trouble::Call(CallError::Unreachable {
            kind: io::ErrorKind::NotFound,
            ..
        })) => {
            eprintln!("kv_client: nobody listens at {name}");
            ExitCode::from(2)
        }
        Err(trouble) => {
            eprintln!("kv_client: {name}: {trouble}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str, command: &[&str]) -> Result<(), Trouble> {
    let connect = || KvClient::connect_with(name, ClientOptions::new().timeout(TIMEOUT));
    let mut out = io::stdout().lock();
    match *command {
        ["get", key] => {
            let value = connect()?.get(key)?.ok_or(Trouble::NotFound)?;
            out.write_all(&value)?;
            writeln!(out)?;
        }
        ["put", key, value] => {
            connect()?.put(key, &value.into())?.map_err(Trouble::Key)?;
            writeln!(out, "ok")?;
        }
        ["touch", key] => {
            kv::check_key(key).map_err(Trouble::Key)?;
            let client = connect()?;
            client.touch(key)?;
            // A notification has no answer: that the server has acted on it shows in what it does.
            let end = Instant::now() + TIMEOUT;
            while client.get(key)?.is_none() {
                if Instant::now() >= end {
                    return Err(Trouble::Untouched);
                }
            }
            writeln!(out, "ok")?;
        }
        ["watch", prefix] => {
            for event in connect()?.watch(prefix)? {
                match event? {
                    Event::Item(change) => {
                        write!(out, "{}=", change.key)?;
                        out.write_all(&change.value)?;
                        writeln!(out)?;
                    }
                    Event::Missed(count) => eprintln!("kv_client: missed {count} changes"),
                }
            }
        }
        ["info"] => {
            let info = connect()?.channel().info()?;
            writeln!(out, "service      {}", info.version.service)?;
            writeln!(out, "version      {}", info.version.version)?;
            writeln!(out, "fingerprint  {:016x}", info.version.fingerprint)?;
            writeln!(out, "codec        {}", info.version.codec)?;
            writeln!(out, "process      {}", info.pid)?;
            writeln!(out, "connections  {}", info.connections)?;
            writeln!(out, "requests     {}", info.in_flight)?;
            writeln!(out, "draining     {}", info.draining)?;
        }
        ["drain"] => {
            connect()?.channel().drain(TIMEOUT)?;
            writeln!(out, "ok")?;
        }
        ["stop"] => {
            connect()?.channel().stop()?;
            writeln!(out, "ok")?;
        }
        _ => return Err(Trouble::Usage),
    }
    Ok(())
}

/// Why there is no success.
enum Trouble {
    Usage,
    NotFound,
    Key(PutError),
    Untouched,
    Call(CallError),
    Output(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Usage => f.write_str(USAGE),
            Trouble::NotFound => f.write_str("not found"),
            Trouble::Key(PutError::EmptyKey) => f.write_str("a key cannot be empty"),
            Trouble::Key(PutError::LongKey { limit }) => {
                write!(f, "a key has at most {limit} bytes")
            }
            Trouble::Untouched => {
                write!(f, "the key does not exist {TIMEOUT:?} after it was touched")
            }
            Trouble::Call(error) => error.fmt(f),
            Trouble::Output(error) => write!(f, "cannot print: {error}"),
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Trouble::Call(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Output(error)
    }
}
