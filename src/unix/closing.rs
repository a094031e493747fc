//! Descriptors whose closing may wait, closed on threads of their own.
//!
//! A peer may send descriptors along with a message (`SCM_RIGHTS`). Nobody asked for them, so that they are closed; but
//! the peer chooses what they are, and closing may wait: for minutes with a TCP socket that lingers (`SO_LINGER`), for
//! ever with a file of a file system that the peer itself provides. Whatever thread drops the last reference waits, be
//! it by close(2), by a receive without room for them, or by closing a socket that has some in its queue. So no thread
//! that works for somebody else does any of these.
//!
//! Linux 6.16 can refuse them before they come (`SO_PASSRIGHTS`), but there is no way to ask for that without unsafe
//! code.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use rustix::net::sockopt;
use rustix::process::{Pid, Resource, getpid, getrlimit};

use super::receiving::empty;

/// As many threads at once. One is enough where closing does not wait.
const THREADS: usize = 4;

/// Never more than this may wait to be closed.
const MOST: usize = 1024;

#[derive(Debug)]
struct Closing {
    waiting: VecDeque<Doomed>,
    /// How many wait or are being closed.
    open: usize,
    /// How many threads close.
    threads: usize,
    /// Whose threads they are: a child that was forked has none of them.
    process: Option<Pid>,
}

/// What is to be closed.
#[derive(Debug)]
pub(super) enum Doomed {
    /// What a peer has sent, or a socket with something unread.
    Whole(OwnedFd),
    /// A socket that has been shut down, so that what is in it is nobody's any more.
    Shut(OwnedFd),
}

static CLOSING: Mutex<Closing> = Mutex::new(Closing {
    waiting: VecDeque::new(),
    open: 0,
    threads: 0,
    process: None,
});

/// Whether so many wait that no more may be taken from a peer.
static CROWDED: AtomicBool = AtomicBool::new(false);

#[inline]
pub(super) fn is_crowded() -> bool {
    CROWDED.load(Ordering::Relaxed)
}

/// Closes something without waiting for it.
///
/// Where too many wait already they are closed here: then this thread may have to wait, but the process keeps the
/// descriptors that it needs for everybody else.
pub(super) fn hand_over(doomed: impl IntoIterator<Item = Doomed>) {
    let most = most();
    let mut rest = doomed.into_iter();
    let mut closing = CLOSING.lock();
    if closing.process != Some(getpid()) {
        closing.process = Some(getpid());
        closing.threads = 0;
        closing.open = closing.waiting.len();
    }
    while closing.open < most {
        let Some(next) = rest.next() else { break };
        closing.waiting.push_back(next);
        closing.open += 1;
    }
    closing.tell(most);
    let starts = closing.threads < THREADS && !closing.waiting.is_empty();
    closing.threads += usize::from(starts);
    drop(closing);
    if starts && !start() {
        let left = CLOSING.lock().give_up(most);
        left.into_iter().for_each(close);
    }
    rest.for_each(close);
}

/// Half of the descriptors that the process may have are always left to others.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 2).map_or(MOST, |half| half.min(MOST))
}

fn start() -> bool {
    let thread = thread::Builder::new().name("pipetalk-close".to_owned());
    thread.spawn(run).is_ok()
}

/// Closes until nothing waits any more.
fn run() {
    let most = most();
    loop {
        let mut closing = CLOSING.lock();
        let Some(next) = closing.waiting.pop_front() else {
            closing.threads -= 1;
            return;
        };
        drop(closing);
        close(next);
        let mut closing = CLOSING.lock();
        closing.open -= 1;
        closing.tell(most);
    }
}

impl Closing {
    fn tell(&self, most: usize) {
        CROWDED.store(self.open > most / 2, Ordering::Relaxed);
    }

    /// What a thread that could not be started would have closed, if there is no other.
    fn give_up(&mut self, most: usize) -> VecDeque<Doomed> {
        self.threads -= 1;
        if self.threads > 0 {
            return VecDeque::new();
        }
        let left = std::mem::take(&mut self.waiting);
        self.open -= left.len();
        self.tell(most);
        left
    }
}

fn close(doomed: Doomed) {
    match doomed {
        Doomed::Whole(descriptor) => close_at_once(descriptor),
        Doomed::Shut(socket) => {
            empty(&socket, close_at_once);
            close_at_once(socket);
        }
    }
}

/// Closes a descriptor, if possible without waiting.
///
/// Whoever sent it can undo that, and there is more that waits than sockets: nothing depends on it. But as long as nobody
/// does, one thread is enough for any number.
fn close_at_once(descriptor: OwnedFd) {
    let _ = sockopt::set_socket_linger(&descriptor, None);
    drop(descriptor);
}
