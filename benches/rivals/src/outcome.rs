//! What a peer has come to, or why there is nothing.

use std::fmt;
use std::io;

use crate::peers::Peer;

/// That of one peer: what is measured while it is, and then what was measured.
#[derive(Debug)]
pub(crate) struct Of<T> {
    pub(crate) peer: &'static dyn Peer,
    pub(crate) result: Result<T, Missing>,
}

/// Why there is nothing.
#[derive(Debug)]
pub(crate) enum Missing {
    /// It cannot do that, and why.
    Unable(&'static str),
    /// It should have, but has not.
    Failed(io::Error),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Unable(why) => f.write_str(why),
            Missing::Failed(_) => f.write_str("failed"),
        }
    }
}

impl<T> Of<T> {
    /// Begins with a peer that is able to.
    pub(crate) fn begin(
        peer: &'static dyn Peer,
        unable: Option<&'static str>,
        start: impl FnOnce() -> io::Result<T>,
    ) -> Of<T> {
        let result = match unable {
            Some(why) => Err(Missing::Unable(why)),
            None => start().map_err(Missing::Failed),
        };
        Of { peer, result }
    }

    /// Goes on with a peer that has not failed.
    pub(crate) fn step(&mut self, what: impl FnOnce(&mut T) -> io::Result<()>) {
        if let Ok(so_far) = &mut self.result
            && let Err(error) = what(so_far)
        {
            self.result = Err(Missing::Failed(error));
        }
    }

    /// Makes something else of what there is of a peer that has not failed.
    pub(crate) fn and_then<U>(self, what: impl FnOnce(T) -> io::Result<U>) -> Of<U> {
        Of {
            peer: self.peer,
            result: self
                .result
                .and_then(|so_far| what(so_far).map_err(Missing::Failed)),
        }
    }
}

/// That of the peer of this name.
pub(crate) fn find<'a, T>(all: &'a [Of<T>], name: &str) -> Option<&'a T> {
    let of = all.iter().find(|of| of.peer.name() == name)?;
    of.result.as_ref().ok()
}

/// How many have failed. Each is said, with what went wrong.
pub(crate) fn failures<T>(all: &[Of<T>]) -> usize {
    let failed = all.iter().filter(|of| match &of.result {
        Err(Missing::Failed(error)) => {
            eprintln!("{} has failed: {error}", of.peer.name());
            true
        }
        Err(Missing::Unable(_)) | Ok(_) => false,
    });
    failed.count()
}
