//! A key-value store for `kv_client`, until Ctrl-C or until a client drains or stops it.
//!
//! ```text
//! cargo run --example kv_server -- [NAME]
//! ```

mod kv;

use std::collections::HashMap;
use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::{Kv, PutError};
use pipetalk::{Blob, Call, Server};

/// How long requests that are under way have when the server is to end.
const GRACE: Duration = Duration::from_secs(5);

const LONGEST_KEY: u32 = 1024;

fn main() -> ExitCode {
    let name = env::args().nth(1).unwrap_or_else(|| kv::NAME.to_owned());
    match serve(&name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv_server: cannot serve {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str) -> io::Result<()> {
    let server = Server::bind(name)?;
    let handle = server.handle();
    ctrlc::set_handler(move || handle.drain(GRACE)).map_err(io::Error::other)?;
    println!("listening on {}", server.listener().name());
    server.serve(Store::default().service())
}

#[derive(Default)]
struct Store(Mutex<HashMap<String, Blob>>);

impl Store {
    fn values(&self) -> MutexGuard<'_, HashMap<String, Blob>> {
        // No request leaves it half-done, so that it does not matter whether one has panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kv for Store {
    fn get(&self, _: &Call, key: String) -> Option<Blob> {
        self.values().get(&key).cloned()
    }

    fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
        if key.is_empty() {
            return Err(PutError::EmptyKey);
        }
        if key.len() > LONGEST_KEY as usize {
            return Err(PutError::LongKey { limit: LONGEST_KEY });
        }
        // A copy, because the value as it came keeps the whole message in memory.
        self.values().insert(key, Blob::from(&value[..]));
        Ok(())
    }

    fn touch(&self, _: &Call, key: String) {
        if !key.is_empty() && key.len() <= LONGEST_KEY as usize {
            self.values().entry(key).or_default();
        }
    }
}
