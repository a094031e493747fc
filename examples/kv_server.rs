//! A key-value store for `kv_client`, until Ctrl-C or until a client drains or stops it.
//!
//! ```text
//! cargo run --example kv_server -- [NAME]
//! ```

mod kv;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::{Change, Kv, PutError};
use pipetalk::{Blob, Broadcast, Call, Event, ItemSink, Server};

/// How long requests that are under way have when the server is to end.
const GRACE: Duration = Duration::from_secs(5);

/// How many changes wait for a client that watches and is slow.
const WAITING: usize = 1000;

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
    let store = Store {
        values: Mutex::default(),
        changes: Broadcast::new(WAITING),
    };
    server.serve(store.service())
}

struct Store {
    values: Mutex<HashMap<String, Blob>>,
    changes: Broadcast<Change>,
}

impl Store {
    fn values(&self) -> MutexGuard<'_, HashMap<String, Blob>> {
        // No request leaves it half-done, so that it does not matter whether one has panicked.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch. With the values locked, so that they learn of changes in their order; it waits for nobody.
    fn publish(&self, key: &str, value: &Blob) {
        let change = Change {
            key: key.to_owned(),
            value: value.clone(),
        };
        if let Err(error) = self.changes.publish(&change) {
            eprintln!("kv_server: a change of {key} is not told: {error}");
        }
    }
}

impl Kv for Store {
    fn get(&self, _: &Call, key: String) -> Option<Blob> {
        self.values().get(&key).cloned()
    }

    fn put(&self, _: &Call, key: String, value: Blob) -> Result<(), PutError> {
        kv::check_key(&key)?;
        // A copy, because the value as it came keeps the whole message in memory.
        let value = Blob::from(&value[..]);
        let mut values = self.values();
        self.publish(&key, &value);
        values.insert(key, value);
        Ok(())
    }

    fn touch(&self, _: &Call, key: String) {
        if kv::check_key(&key).is_err() {
            return;
        }
        let mut values = self.values();
        if let Entry::Vacant(place) = values.entry(key) {
            self.publish(place.key(), &Blob::new());
            place.insert(Blob::new());
        }
    }

    fn watch(&self, _: &Call, prefix: String, items: ItemSink<Event<Change>>) {
        self.changes
            .subscribe_to(items, move |change| change.key.starts_with(&prefix));
    }
}
