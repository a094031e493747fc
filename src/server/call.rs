//! [`Call`]: what a handler knows of the request that it handles.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};

use crate::transport::unless_it_panics;
use crate::{Deadline, Peer};

/// Who asks: what a [`Call`] knows of its connection, whichever driver serves it.
pub(crate) trait Caller: Send + Sync {
    fn peer(&self) -> &Peer;

    /// The version that the client said it has.
    fn client_version(&self) -> String;

    /// Receives what has come while the handler runs, where nobody else does.
    fn look_ahead(&self);

    /// Ready while the client has not so much to read already that no more is to be made of its requests. Only a server
    /// whose handlers wait for threads asks, and is woken.
    #[cfg(feature = "tokio")]
    fn poll_room(&self, _: Option<&mut Context<'_>>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Counts a reply of so many bytes that has been made elsewhere among what the client has to read, or that no more:
    /// false, and it is not counted, if that is too much.
    #[cfg(feature = "tokio")]
    fn count_reply(&self, _: usize) -> bool {
        true
    }

    #[cfg(feature = "tokio")]
    fn uncount_reply(&self, _: usize) {}
}

/// Who a client is, as far as the system has told. On Windows it tells the user only once something was received, which
/// is before any request is handled.
#[derive(Debug)]
pub(crate) struct KnownPeer {
    at_first: Peer,
    greeted: OnceLock<Peer>,
}

impl KnownPeer {
    pub(crate) fn new(at_first: Peer) -> KnownPeer {
        KnownPeer {
            at_first,
            greeted: OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> &Peer {
        self.greeted.get().unwrap_or(&self.at_first)
    }

    /// Asks again, once something was received, if the user was not known before.
    pub(crate) fn ask_again(&self, ask: impl FnOnce() -> io::Result<Peer>) {
        if self.at_first.user.is_none() {
            if let Ok(peer) = unless_it_panics(ask) {
                // A client greets once.
                let _ = self.greeted.set(peer);
            }
        }
    }
}

/// The request that is being handled: who asks, until when, and whether anybody still waits.
pub struct Call {
    pub(crate) caller: Arc<dyn Caller>,
    pub(crate) deadline: Deadline,
    pub(crate) cancelled: Arc<AtomicBool>,
    /// The connection's own thread runs the handler: then it does not receive meanwhile.
    pub(crate) inline: bool,
}

impl Call {
    /// Who asks, as far as the system says: the process and its user, as they were when the client said hello.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.caller.peer()
    }

    /// The version that the client said it has, for people to read.
    #[must_use]
    pub fn client_version(&self) -> String {
        self.caller.client_version()
    }

    /// Until when the client waits for the reply, which counts from when its request came. If it has waited for its turn
    /// behind a slow one, that is known to a fraction of a second.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Whether nobody waits for the reply any more: the client has cancelled the request or gone, the deadline has
    /// passed, or the server is ending and has waited long enough. A handler that takes long should look now and
    /// then, and return what it has: the reply is dropped.
    ///
    /// It costs a few system calls while the handler runs on the connection's own thread, which is the default, and takes
    /// no longer than a look at so much, whatever the client sends.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        if self.inline && !self.cancelled.load(Ordering::Acquire) {
            self.caller.look_ahead();
        }
        self.cancelled.load(Ordering::Acquire) || self.deadline.has_passed()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("peer", self.peer())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
