//! A server that prints every message and answers it, with a thread for each client, until Ctrl-C.
//!
//! ```text
//! cargo run --example pipe_server -- [NAME]
//! ```

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use pipetalk::{Deadline, Error, Listener, LocalListener, LocalStream, Stream};

const ANSWER: &[u8] = b"default answer from server\0";

fn main() -> ExitCode {
    let name = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "mynamedpipe".to_owned());
    match run(&name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipe_server: cannot serve {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> io::Result<()> {
    let listener = Arc::new(LocalListener::bind(name)?);
    let stopper = Arc::clone(&listener);
    ctrlc::set_handler(move || stopper.stop()).map_err(io::Error::other)?;
    writeln!(io::stdout(), "listening on {}", listener.name())?;

    let mut clients: Vec<Weak<LocalStream>> = Vec::new();
    thread::scope(|scope| {
        // Ends when the listener is stopped.
        let ended = listener.incoming().try_for_each(|stream| {
            let stream = Arc::new(stream?);
            clients.retain(|client| client.strong_count() > 0);
            clients.push(Arc::downgrade(&stream));
            let serving = thread::Builder::new().spawn_scoped(scope, move || serve(&stream));
            if let Err(error) = serving {
                eprintln!("pipe_server: no thread for a client: {error}");
            }
            Ok(())
        });
        // Whoever waits for a message now gets `Error::Closed`, so that the scope can end.
        clients
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|client| client.close());
        ended
    })
}

/// What goes wrong with one client is no business of the others.
fn serve(client: &LocalStream) {
    match answer(client) {
        Err(error) if Error::of(&error) != Some(&Error::Closed) => {
            eprintln!("pipe_server: lost a client: {error}");
        }
        _ => {}
    }
}

fn answer(client: &LocalStream) -> io::Result<()> {
    let mut message = Vec::new();
    while client
        .recv_message(&mut message, Deadline::NEVER)?
        .is_some()
    {
        let text = message.strip_suffix(b"\0").unwrap_or(&message);
        writeln!(io::stdout(), "{}", String::from_utf8_lossy(text))?;
        client.send(ANSWER, Deadline::after(Duration::from_secs(20)))?;
    }
    Ok(())
}
