//! A server and a client in one program.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use std::io;
use std::thread;

use pipetalk::{Call, CallError, Client, Server};

fn main() -> io::Result<()> {
    let name = format!("pipetalk-quickstart-{}", std::process::id());

    // The server: a name, and what to do with a request. Here it has a thread, elsewhere it is a program.
    let server = Server::bind(&name)?;
    let end = server.handle();
    let serving = thread::spawn(move || {
        server.serve(|name: String, call: &Call| match call.peer().pid {
            Some(pid) => format!("Hello, {name} of process {pid}!"),
            None => format!("Hello, {name}!"),
        })
    });

    greet(&name)?;

    end.stop();
    serving.join().unwrap_or(Ok(()))
}

/// The client.
fn greet(server: &str) -> Result<(), CallError> {
    let client = Client::<String, String>::connect(server)?;
    println!("{}", client.call(&"world".to_owned())?);
    Ok(())
}
