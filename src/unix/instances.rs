//! The limit on connections that are open at once.

use parking_lot::{Mutex, MutexGuard};
use rustix::net::SocketAddrUnix;

use super::os;
use super::socket::Socket;
use crate::base::signal::Signal;

#[derive(Debug)]
pub(super) struct Instances {
    pub(super) limit: Option<usize>,
    pub(super) backlog: i32,
    /// Where to connect to the listener, if that stays its address wherever the process goes.
    pub(super) address: Option<SocketAddrUnix>,
    pub(super) counts: Mutex<Counts>,
    /// Given when there is one more to reserve, or the listener is stopped.
    pub(super) freed: Signal,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Held by a connection, or by somebody who waits for one.
    pub(super) reserved: usize,
    /// Held by a connection.
    pub(super) connected: usize,
    /// What keeps the backlog full while there is no instance to serve it.
    plugs: Vec<os::Plug>,
    /// The next of these, if there is a limit.
    spare: Option<os::Plug>,
}

impl Counts {
    pub(super) fn fill(&mut self, address: &SocketAddrUnix) {
        let Ok(plug) = self.spare.take().map_or_else(os::Plug::new, Ok) else {
            return;
        };
        match plug.fill(address) {
            Ok(true) => self.plugs.push(plug),
            Ok(false) => self.spare = Some(plug),
            // A listener that is being stopped needs none.
            Err(_) => {}
        }
    }
}

impl Instances {
    pub(super) fn new(
        limit: Option<usize>,
        backlog: i32,
        address: Option<SocketAddrUnix>,
    ) -> Instances {
        let spare = limit.and_then(|_| os::Plug::new().ok());
        Instances {
            limit,
            backlog,
            address,
            counts: Mutex::new(Counts {
                spare,
                ..Counts::default()
            }),
            freed: Signal::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }

    /// Of a listener that stops: there is nothing to wait for any more.
    pub(super) fn wake_all(&self) {
        let mut counts = self.counts.lock();
        counts.plugs.clear();
        counts.spare = None;
        drop(counts);
        self.freed.notify_all();
    }

    pub(super) fn is_plug(&self, accepted: &Socket) -> bool {
        let mut counts = self.counts.lock();
        let before = counts.plugs.len();
        counts.plugs.retain(|plug| !plug.is(accepted));
        let was_plug = counts.plugs.len() < before;
        if was_plug {
            // Of the descriptor that has just become free.
            counts.spare = os::Plug::new().ok();
        }
        was_plug
    }
}
