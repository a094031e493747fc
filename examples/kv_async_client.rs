//! A client of `kv_async_server` and of `kv_server`, on tokio.
//!
//! ```text
//! cargo run --features tokio --example kv_async_client -- [--name NAME] COMMAND
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

mod kv_async;

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kv_async::{AsyncKvClient, PutError};
use pipetalk::{CallError, ClientOptions, Event};

/// How long the server has for what it is asked.
const TIMEOUT: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: kv_async_client [--name NAME] get KEY | put KEY VALUE | touch KEY | \
                     watch PREFIX | info | drain | stop";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Result<Vec<String>, _> = env::args_os()
        .skip(1)
        .map(|arg| arg.into_string())
        .collect();
    let Ok(args) = args else {
        eprintln!("kv_async_client: an argument is not Unicode");
        return ExitCode::from(2);
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, command) = match &args[..] {
        ["--name", name, command @ ..] => (*name, command),
        command => (kv_async::NAME, command),
    };
    match run(name, command).await {
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
            eprintln!("kv_async_client: nobody listens at {name}");
            ExitCode::from(2)
        }
        Err(trouble) => {
            eprintln!("kv_async_client: {name}: {trouble}");
            ExitCode::from(2)
        }
    }
}

async fn run(name: &str, command: &[&str]) -> Result<(), Trouble> {
    let options = ClientOptions::new().timeout(TIMEOUT);
    let connect = || AsyncKvClient::connect_with(name, options);
    let mut out = io::stdout().lock();
    match *command {
        ["get", key] => {
            let value = connect().await?.get(key).await?.ok_or(Trouble::NotFound)?;
            out.write_all(&value)?;
            writeln!(out)?;
        }
        ["put", key, value] => {
            let put = connect().await?.put(key, &value.into()).await?;
            put.map_err(Trouble::Key)?;
            writeln!(out, "ok")?;
        }
        ["touch", key] => {
            kv_async::check_key(key).map_err(Trouble::Key)?;
            let client = connect().await?;
            client.touch(key).await?;
            // A notification has no answer: that the server has acted on it shows in what it does.
            let end = Instant::now() + TIMEOUT;
            while client.get(key).await?.is_none() {
                if Instant::now() >= end {
                    return Err(Trouble::Untouched);
                }
            }
            writeln!(out, "ok")?;
        }
        ["watch", prefix] => {
            let mut events = connect().await?.watch(prefix).await?;
            while let Some(event) = events.next().await {
                match event? {
                    Event::Item(change) => {
                        write!(out, "{}=", change.key)?;
                        out.write_all(&change.value)?;
                        writeln!(out)?;
                    }
                    Event::Missed(count) => eprintln!("kv_async_client: missed {count} changes"),
                }
            }
        }
        ["info"] => {
            let info = connect().await?.channel().info().await?;
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
            let client = connect().await?;
            client.channel().drain(TIMEOUT).await?;
            writeln!(out, "ok")?;
        }
        ["stop"] => {
            connect().await?.channel().stop().await?;
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
