//! What is measured: one size of message, so many requests at once, so many connections, on so many cores.

use std::fmt;
use std::io;
use std::time::Duration;

/// Where the two processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Both on the same one.
    One,
    /// Each on one of its own.
    Two,
    /// Wherever the system puts them.
    Any,
}

impl Cores {
    pub(crate) const ALL: [Cores; 3] = [Cores::One, Cores::Two, Cores::Any];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Cores::One => "1",
            Cores::Two => "2",
            Cores::Any => "any",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Cores> {
        Cores::ALL.into_iter().find(|cores| cores.word() == word)
    }
}

/// One row of the matrix, for all peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The size of a request and of its reply, in bytes. [`Scenario::SMALL`] is a struct, any other is bytes.
    pub(crate) size: usize,
    /// How many requests are unanswered at any time, on each connection.
    pub(crate) outstanding: usize,
    pub(crate) connections: usize,
    pub(crate) cores: Cores,
}

impl Scenario {
    /// The size of [`Small`](crate::message::Small).
    pub(crate) const SMALL: usize = 64;

    /// More requests at once than this are not measured: they are threads, where a peer blocks.
    const MOST_REQUESTS: usize = 1024;
    /// More bytes at once than this are not measured: they are memory, of two processes for each peer.
    const MOST_BYTES: usize = 64 << 20;

    /// Why no peer is measured, where processes can be kept on so many cores.
    pub(crate) fn unmeasurable(&self, cores: usize) -> Option<&'static str> {
        let requests = self.outstanding * self.connections;
        let needed = match self.cores {
            Cores::One => 1,
            Cores::Two => 2,
            Cores::Any => 0,
        };
        if cores < needed {
            Some("there are not the cores to keep them on")
        } else if requests > Self::MOST_REQUESTS {
            Some("over 1024 requests at once")
        } else if requests * self.size > Self::MOST_BYTES {
            Some("over 64 MiB in flight")
        } else {
            None
        }
    }

    /// How long a turn takes: longer where so much is done at once that it takes a while until all are at it.
    pub(crate) fn turn(&self, usual: Duration) -> Duration {
        let requests = self.outstanding * self.connections;
        usual * (1 + (requests / 200) as u32)
    }

    /// What surely fits into the system's buffers. On Windows they are as large as whoever makes the pipe wants.
    const BUFFERED: Option<usize> = if cfg!(windows) { None } else { Some(64 << 10) };

    /// Whether what is unanswered fits into the system's buffers, so that one thread can send it all before it
    /// receives. Otherwise both sides could wait for the other to make room.
    pub(crate) fn fits_buffers(&self) -> bool {
        Self::BUFFERED.is_some_and(|buffered| self.size * self.outstanding <= buffered)
    }

    /// Where the processes run, for people to read.
    pub(crate) fn place(&self) -> &'static str {
        match self.cores {
            Cores::One => "both processes on one core",
            Cores::Two => "each process on a core of its own",
            Cores::Any => "not pinned",
        }
    }

    /// As a copy of this process is told.
    pub(crate) fn words(&self) -> [String; 4] {
        [
            self.size.to_string(),
            self.outstanding.to_string(),
            self.connections.to_string(),
            self.cores.word().to_owned(),
        ]
    }

    pub(crate) fn from_words(words: [&str; 4]) -> io::Result<Scenario> {
        let number = |word: &str| word.parse::<usize>().map_err(io::Error::other);
        let [size, outstanding, connections, cores] = words;
        Ok(Scenario {
            size: number(size)?,
            outstanding: number(outstanding)?,
            connections: number(connections)?,
            cores: Cores::from_word(cores).ok_or(io::ErrorKind::InvalidInput)?,
        })
    }
}

/// A size as it is read.
pub(crate) fn size_in_words(size: usize) -> String {
    match size {
        _ if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", size_in_words(self.size))?;
        match self.outstanding {
            1 => write!(f, "one at a time")?,
            many => write!(f, "{many} outstanding")?,
        }
        match self.connections {
            1 => write!(f, ", one connection")?,
            many => write!(f, ", {many} connections")?,
        }
        write!(f, ", {}", self.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_the_same_scenario_again() {
        for cores in Cores::ALL {
            let scenario = Scenario {
                size: 64,
                outstanding: 8,
                connections: 1000,
                cores,
            };
            let words = scenario.words();
            let words = words.each_ref().map(String::as_str);
            assert_eq!(Scenario::from_words(words).unwrap(), scenario);
        }
    }
}
