//! The limit on connections that are open at once.

use std::io;
use std::process;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustix::net::SocketAddrUnix;

use super::endpoint::Endpoint;
use super::os;
use super::socket::Socket;
use crate::base::signal::Signal;

#[derive(Debug)]
pub(super) struct Instances {
    limit: Option<usize>,
    backlog: i32,
    /// Where to connect to the listener, if that stays its address wherever the process goes.
    address: Option<SocketAddrUnix>,
    counts: Mutex<Counts>,
    /// Given when there is one more to reserve, or the listener is stopped.
    pub(super) freed: Signal,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Held by a connection, or by somebody who waits for one.
    reserved: usize,
    /// Held by a connection.
    connected: usize,
    /// What keeps the backlog full while there is no instance to serve it.
    plugs: Vec<os::Plug>,
    /// The next of these, if there is a limit.
    spare: Option<os::Plug>,
}

impl Counts {
    fn fill(&mut self, address: &SocketAddrUnix) {
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

/// One of the connections that a listener may have open. Dropping it makes room for the next.
#[derive(Debug)]
pub(super) struct Instance {
    endpoint: Option<Arc<Endpoint>>,
    connected: bool,
    /// The process that it counts in. A copy that was forked is dropped without a change to the backlog, which is both's.
    process: Option<u32>,
}

impl Instance {
    /// Takes one, if there is one left. The counts are those of the endpoint.
    pub(super) fn reserve(
        endpoint: &Arc<Endpoint>,
        counts: &mut Counts,
    ) -> io::Result<Option<Instance>> {
        endpoint.check_open()?;
        let limit = endpoint.instances.limit;
        if limit.is_some_and(|limit| counts.reserved >= limit) {
            return Ok(None);
        }
        let endpoint = limit.map(|_| Arc::clone(endpoint));
        let process = endpoint.as_ref().map(|_| process::id());
        counts.reserved += usize::from(endpoint.is_some());
        Ok(Some(Instance {
            endpoint,
            connected: false,
            process,
        }))
    }

    /// Counts the connection; if it is the last that may be open, the next client is to find the listener busy.
    pub(super) fn connected(mut self) -> Instance {
        if let Some(endpoint) = &self.endpoint {
            self.connected = true;
            let mut counts = endpoint.instances.counts.lock();
            counts.connected += 1;
            if endpoint.instances.limit == Some(counts.connected) {
                endpoint.set_backlog(0);
                if let Some(address) = &endpoint.instances.address {
                    counts.fill(address);
                }
            }
        }
        self
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        let mut counts = endpoint.instances.counts.lock();
        counts.reserved -= 1;
        if self.connected {
            counts.connected -= 1;
            // Clients may queue again from now on, whether or not anybody is accepting yet. Raising the
            // backlog wakes those that wait in connect(2).
            if self.process == Some(process::id()) {
                endpoint.set_backlog(endpoint.instances.backlog);
            }
        }
        drop(counts);
        endpoint.instances.freed.notify_all();
    }
}
