//! A client meets a server that was built from an older version of the program: it is told so in words, asks who is
//! there, stops the old server, and takes its place.
//!
//! ```text
//! cargo run --example skew
//! ```

use std::io;
use std::thread;

use pipetalk::{Call, CallError, Server};

/// The program as it was.
mod v1 {
    pipetalk::service! {
        #[name = "notes"]
        #[version = "1.4.2"]
        pub trait Notes {
            fn read(page: u32) -> String;
        }
        pub struct NotesClient;
    }
}

/// The program as it is.
mod v2 {
    pipetalk::service! {
        #[name = "notes"]
        #[version = "2.0.0"]
        pub trait Notes {
            fn read(book: String, page: u32) -> String;
        }
        pub struct NotesClient;
    }
}

struct Old;

impl v1::Notes for Old {
    fn read(&self, _: &Call, page: u32) -> String {
        format!("page {page}")
    }
}

struct New;

impl v2::Notes for New {
    fn read(&self, _: &Call, book: String, page: u32) -> String {
        format!("page {page} of {book}")
    }
}

fn main() -> io::Result<()> {
    let name = format!("pipetalk-skew-{}", std::process::id());
    let name = name.as_str();
    let old = Server::bind(name)?;
    let serving = thread::spawn(move || old.serve(v1::Notes::service(Old)));

    println!("A client of the same version:");
    let client = v1::NotesClient::connect(name)?;
    println!("  {}", client.read(7)?);

    println!("A client of the next version:");
    let client = v2::NotesClient::connect(name)?;
    match client.read("diary", 7) {
        Err(CallError::Incompatible(parties)) => {
            println!("  this program has {}", parties.ours);
            println!("  the server has   {}", parties.theirs);
        }
        other => println!("  it should not get this: {other:?}"),
    }
    let info = client.channel().info()?;
    let same = info.pid == std::process::id();
    println!("  the server says it has version {}", info.version.version);
    println!(
        "  it runs in {} process",
        if same { "this" } else { "another" }
    );
    client.channel().stop()?;
    serving.join().unwrap_or(Ok(()))?;
    println!("  the server has stopped, as it was asked to");

    println!("The next version takes its place:");
    let new = Server::bind(name)?;
    let end = new.handle();
    let serving = thread::spawn(move || new.serve(v2::Notes::service(New)));
    let client = v2::NotesClient::connect(name)?;
    println!("  {}", client.read("diary", 7)?);
    end.stop();
    serving.join().unwrap_or(Ok(()))
}
