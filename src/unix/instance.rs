//! One of the connections that a listener may have open at once.

use std::io;
use std::process;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::instances::Counts;

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
