//! Servers that end by a signal.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Ending, ServerHandle};

impl ServerHandle {
    /// Has the server [drained](Self::drain) when the process is told to end, and [stopped](Self::stop) when it is
    /// told so again.
    ///
    /// On Unix that is by `SIGINT` or `SIGTERM`, on Windows by Ctrl-C or Ctrl-Break. (When its console is closed or
    /// the user logs off, Windows ends a process without waiting for what it still does.) The process itself goes
    /// on: [`serve`](super::Server::serve) returns, and `main` after it. Any number of servers can be drained so;
    /// once all of them have ended, a signal does again what it does by default.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let server = pipetalk::Server::bind("acme.length")?;
    /// server.handle().drain_on_signal(Duration::from_secs(5))?;
    /// server.serve(|text: String, _: &_| text.len())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the system, and on Windows `AlreadyExists` if the process has a handler by the crate `ctrlc` already:
    /// then call [`drain`](Self::drain) from that one.
    pub fn drain_on_signal(&self, timeout: Duration) -> io::Result<()> {
        let mut ends = ENDS.lock();
        if !ends.installed {
            install()?;
            ends.installed = true;
        }
        ends.servers.push(Entry {
            server: Arc::downgrade(&self.0),
            timeout,
        });
        Ok(())
    }
}

/// What a signal ends: there is one handler for all servers of the process.
static ENDS: Mutex<Ends> = Mutex::new(Ends {
    installed: false,
    servers: Vec::new(),
});

struct Ends {
    installed: bool,
    servers: Vec<Entry>,
}

struct Entry {
    server: Weak<Ending>,
    timeout: Duration,
}

/// Ends all servers; false if there is none any more.
fn end_servers() -> bool {
    let mut ends = ENDS.lock();
    ends.servers.retain(|entry| {
        let Some(server) = entry.server.upgrade().map(ServerHandle) else {
            return false;
        };
        if server.0.ended.load(Ordering::Acquire) {
            return false;
        }
        if server.is_draining() {
            server.stop();
        } else {
            server.drain(entry.timeout);
        }
        true
    });
    !ends.servers.is_empty()
}

#[cfg(unix)]
fn install() -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("pipetalk-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if !end_servers() {
                    // Does not fail for these signals, and ends the process.
                    let _ = emulate_default_handler(signal);
                }
            }
        })?;
    Ok(())
}

#[cfg(windows)]
fn install() -> io::Result<()> {
    /// With what the system ends a process by Ctrl-C: `STATUS_CONTROL_C_EXIT`.
    const CONTROL_C_EXIT: i32 = 0xC000_013A_u32 as i32;

    let handler = || {
        if !end_servers() {
            std::process::exit(CONTROL_C_EXIT);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| match error {
        ctrlc::Error::MultipleHandlers => io::ErrorKind::AlreadyExists.into(),
        ctrlc::Error::System(error) => error,
        error => io::Error::other(error),
    })
}
