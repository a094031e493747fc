//! The bare system: a `UnixStream`, and messages of a size that both sides know.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

pub(crate) const WHAT: &str = "a bare `UnixStream`, `write_all` and `read_exact`";

/// Where a listener of either kind is.
pub(crate) fn address(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

pub(crate) struct Listener(UnixListener);

impl Listener {
    pub(crate) fn bind(path: &str) -> io::Result<Listener> {
        UnixListener::bind(path).map(Listener)
    }

    pub(crate) fn accept(self) -> io::Result<Stream> {
        Ok(Stream(self.0.accept()?.0))
    }
}

pub(crate) struct Stream(UnixStream);

impl Stream {
    pub(crate) fn connect(path: &str) -> io::Result<Stream> {
        UnixStream::connect(path).map(Stream)
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.write_all(message)
    }

    /// Fills `message`; `false` at the end.
    pub(crate) fn receive(&mut self, message: &mut [u8]) -> io::Result<bool> {
        match self.0.read_exact(message) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}
