//! A client that sends one message and prints the reply.
//!
//! ```text
//! cargo run --example pipe_client -- [MESSAGE] [NAME]
//! ```

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use pipetalk::{ConnectOptions, Deadline, MAX_MESSAGE, Stream};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let message = args
        .next()
        .unwrap_or_else(|| "Default message from client.".to_owned());
    let name = args.next().unwrap_or_else(|| "mynamedpipe".to_owned());
    match ask(&name, &message).and_then(|reply| writeln!(io::stdout(), "{reply}")) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("pipe_client: nobody listens at {name}");
        }
        Err(error) => eprintln!("pipe_client: {name}: {error}"),
    }
    ExitCode::FAILURE
}

fn ask(name: &str, message: &str) -> io::Result<String> {
    let twenty_seconds = || Deadline::after(Duration::from_secs(20));
    // A busy server is waited for; where there is none, this fails at once.
    let stream = ConnectOptions::new()
        .max_message(MAX_MESSAGE)
        .connect(name, twenty_seconds())?;

    let deadline = twenty_seconds();
    stream.send(format!("{message}\0").as_bytes(), deadline)?;
    let mut reply = Vec::new();
    if stream.recv_message(&mut reply, deadline)?.is_none() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed without a reply",
        ));
    }
    let text = reply.strip_suffix(b"\0").unwrap_or(&reply);
    Ok(String::from_utf8_lossy(text).into_owned())
}
