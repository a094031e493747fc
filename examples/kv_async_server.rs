//! A key-value store for `kv_client` and `kv_async_client`, on tokio, until Ctrl-C or until a client drains or stops it.
//!
//! ```text
//! cargo run --features tokio --example kv_async_server -- [NAME]
//! ```

mod kv_async;

use std::collections::HashMap;
use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_async::{AsyncKv, PutError};
use pipetalk::tokio::Server;
use pipetalk::{Blob, Call};

/// How long requests that are under way have when the server is to end.
const GRACE: Duration = Duration::from_secs(5);

const LONGEST_KEY: u32 = 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let name = env::args()
        .nth(1)
        .unwrap_or_else(|| kv_async::NAME.to_owned());
    match serve(&name).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv_async_server: cannot serve {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(name: &str) -> io::Result<()> {
    let server = Server::bind(name)?;
    let handle = server.handle();
    ctrlc::set_handler(move || handle.drain(GRACE)).map_err(io::Error::other)?;
    println!("listening on {}", server.listener().name());
    server.serve(Store::default().service()).await
}

#[derive(Default)]
struct Store(Mutex<HashMap<String, Blob>>);

impl Store {
    fn values(&self) -> MutexGuard<'_, HashMap<String, Blob>> {
        // No request leaves it half-done, so that it does not matter whether one has panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncKv for Store {
    async fn get(&self, _: &Call, key: String) -> Option<Blob> {
        self.values().get(&key).cloned()
    }

    async fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
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

    async fn touch(&self, _: &Call, key: String) {
        if !key.is_empty() && key.len() <= LONGEST_KEY as usize {
            self.values().entry(key).or_default();
        }
    }
}
