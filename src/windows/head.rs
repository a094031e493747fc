//! Where a receiver stands: at the head of a message, or inside of one.

use std::io;
use std::mem;

use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED};

use super::overlapped::Done;
use crate::transport::Announced;
use crate::{Error, ReadMode, Waiting};

/// The message at the head, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The last read stopped within a message.
    pub(super) inside: bool,
    /// The message has been read to its end, which is that of the stash, and has not been handed out. An empty one has no
    /// more than this to be known by.
    pub(super) whole: bool,
    /// The message was too large, and what is left of it is to be dropped.
    pub(super) discarding: bool,
    /// What has been read of the message, and not been handed out yet.
    pub(super) stash: Vec<u8>,
    /// Larger messages are [asked about](crate::Stream::ask_before).
    pub(super) without_asking: Option<usize>,
    /// The message at the head has been asked about.
    asked: bool,
}

impl Head {
    /// What the end of a read means: `None` is the end of the connection.
    pub(super) fn after_read(
        &mut self,
        mode: ReadMode,
        result: Result<Done, u32>,
    ) -> io::Result<Option<Done>> {
        match result {
            Ok(mut done) => {
                // Byte mode has no messages to be inside of.
                done.more &= mode == ReadMode::Message;
                self.inside = done.more;
                self.asked &= done.more;
                Ok(Some(done))
            }
            Err(code) => self.after_failed_read(code),
        }
    }

    pub(super) fn after_failed_read<T>(&mut self, code: u32) -> io::Result<Option<T>> {
        match code {
            ERROR_BROKEN_PIPE | ERROR_PIPE_NOT_CONNECTED => {
                let in_message = mem::take(&mut self.inside);
                self.discarding = false;
                self.stash = Vec::new();
                if in_message {
                    Err(Error::Truncated.into())
                } else {
                    Ok(None)
                }
            }
            code => Err(io::Error::from_raw_os_error(code as i32)),
        }
    }

    /// What waits, when so much is in the pipe besides what is held here.
    pub(super) fn waiting(&self, (bytes, left): (usize, usize), held: usize) -> Waiting {
        let (bytes, left) = if self.whole {
            (bytes + held, held)
        } else {
            (bytes + held, left + held)
        };
        let message = (left > 0 || bytes > 0 || self.inside || self.whole).then_some(left);
        Waiting { bytes, message }
    }

    /// Whether something of a message is here, or is still to be dropped.
    pub(super) fn holds_something(&self) -> bool {
        self.inside || self.discarding || self.whole || !self.stash.is_empty()
    }

    /// Whether the message, of which so much has come and so much is left in the pipe, is over the limit: if it is,
    /// what is left of it is to be dropped.
    pub(super) fn check_size(&mut self, come: usize, left: usize, limit: usize) -> io::Result<()> {
        let size = come.saturating_add(left);
        if size > limit {
            self.discarding = self.inside;
            return Err(Error::TooLarge { limit, size }.into());
        }
        Ok(())
    }

    /// Asks about a message of which a part is still in the pipe.
    pub(super) fn ask(&mut self, come: usize, left: usize) -> io::Result<()> {
        match self.without_asking {
            Some(most) if self.inside => {
                Announced::check(come.saturating_add(left), most, &mut self.asked)
            }
            _ => Ok(()),
        }
    }
}
