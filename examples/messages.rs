//! What message mode means, shown by a server and a client in one program.
//!
//! ```text
//! cargo run --example messages
//! ```

use std::io;
use std::time::Duration;

use pipetalk::{Deadline, ListenOptions, Listener, LocalStream, Stream};

fn main() -> io::Result<()> {
    let name = format!("pipetalk-messages-{}", std::process::id());
    let listener = ListenOptions::new().max_message(32).bind(&name)?;
    let client = LocalStream::connect(&name)?;
    let server = listener.accept(soon())?;

    println!("Boundaries: what is sent as one message is received as one.");
    send(&client, "one")?;
    send(&client, "two, a longer one")?;
    receive(&server)?;
    receive(&server)?;

    println!("An empty message is a message.");
    send(&client, "")?;
    receive(&server)?;

    println!("A message can be received in parts.");
    send(&client, "a message in parts")?;
    let mut buf = [0; 8];
    while let Some(part) = server.recv(&mut buf, soon())? {
        let text = String::from_utf8_lossy(&buf[..part.len]);
        println!(
            "  server receives {text:?}, {}",
            if part.last {
                "the last part"
            } else {
                "and more follows"
            }
        );
        if part.last {
            break;
        }
    }

    println!("A deadline that expires loses nothing.");
    match server.recv_message(&mut Vec::new(), Deadline::after(Duration::from_millis(20))) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            println!("  server waits 20 ms: timed out")
        }
        other => println!("  server receives {other:?}, which nobody sent"),
    }
    send(&client, "late")?;
    receive(&server)?;

    println!("A message over the receiver's limit costs only itself.");
    send(&client, "forty bytes, and the server takes but 32")?;
    receive(&server)?;
    send(&client, "the next one")?;
    receive(&server)?;

    println!("The end comes after everything that was sent.");
    send(&client, "goodbye")?;
    println!("  client closes");
    client.close();
    receive(&server)?;
    receive(&server)
}

fn send(client: &LocalStream, message: &str) -> io::Result<()> {
    println!("  client sends    {message:?}");
    client.send(message.as_bytes(), soon())
}

fn receive(server: &LocalStream) -> io::Result<()> {
    let mut message = Vec::new();
    match server.recv_message(&mut message, soon()) {
        Ok(Some(_)) => println!("  server receives {:?}", String::from_utf8_lossy(&message)),
        Ok(None) => println!("  server receives the end"),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            println!("  server is told: {error}")
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Every call that can wait says until when.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}
