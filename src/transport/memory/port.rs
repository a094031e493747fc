//! What accepts connections in memory, and what makes them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::instance::{Instance, Place};
use super::options::Options;
use super::stream::Stream;
use crate::base::signal::{Signal, wait};
use crate::transport::own::OwnListener;
use crate::{Deadline, Error, transport};

/// A listener in memory. Dropping it stops it: who has connected and is not yet accepted gets the end, and streams
/// that were accepted go on.
#[derive(Debug)]
pub struct Listener(pub(crate) Arc<Port>);

/// What connects to a [`Listener`] in memory, in place of a name.
#[derive(Debug, Clone)]
pub struct Connector(pub(crate) Arc<Port>);

pub(crate) struct Port {
    state: Mutex<PortState>,
    pub(crate) changed: Signal,
    options: Options,
}

#[derive(Default)]
pub(crate) struct PortState {
    stopped: bool,
    /// Nobody connects any more.
    closed: bool,
    /// How many instances there are.
    open: usize,
    /// Who has connected and waits to be accepted.
    backlog: VecDeque<Stream>,
}

/// Each connection that is open is one of those that the listener may have.
impl Place for Port {
    fn free(&self) {
        self.state.lock().open -= 1;
        self.changed.notify_all();
    }
}

pub(super) fn open(options: &Options) -> (Listener, Connector) {
    let port = Arc::new(Port {
        state: Mutex::default(),
        changed: Signal::new(),
        options: options.clone(),
    });
    (Listener(Arc::clone(&port)), Connector(port))
}

impl PortState {
    /// The next connection, or nothing until something has [changed](Port::changed).
    pub(crate) fn accept(&mut self) -> io::Result<Option<Stream>> {
        if self.stopped {
            return Err(Error::Stopped.into());
        }
        match self.backlog.pop_front() {
            None if self.closed => Err(Error::Stopped.into()),
            next => Ok(next),
        }
    }
}

impl Port {
    pub(crate) fn lock(&self) -> MutexGuard<'_, PortState> {
        self.state.lock()
    }

    /// A connection, or nothing until something has [changed](Port::changed), if the deadline lets one wait for that. Once
    /// there is one, and the lock has been let go of, that is a change as well.
    pub(crate) fn connect(
        self: &Arc<Port>,
        state: &mut PortState,
        deadline: Deadline,
    ) -> io::Result<Option<Stream>> {
        if state.stopped || state.closed {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "nobody listens any more",
            ));
        }
        if state.open >= self.options.instances {
            return match deadline {
                Deadline::NOW => Err(Error::Busy.into()),
                _ => Ok(None),
            };
        }
        let Options {
            buffer_size,
            max_message,
            ..
        } = self.options;
        let (client, server) = Stream::pair(buffer_size, max_message);
        state.open += 1;
        server.occupy(Instance::of(Arc::clone(self) as Arc<dyn Place>));
        state.backlog.push_back(server);
        Ok(Some(client))
    }
}

impl transport::Listener for Listener {
    type Stream = Stream;

    fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        let mut state = self.0.lock();
        loop {
            if let Some(stream) = state.accept()? {
                return Ok(stream);
            }
            wait(&self.0.changed, &mut state, deadline)?;
        }
    }

    fn stop(&self) {
        let mut state = self.0.state.lock();
        state.stopped = true;
        let refused = mem::take(&mut state.backlog);
        drop(state);
        self.0.changed.notify_all();
        // Each gives its instance back, which takes the lock.
        drop(refused);
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        Some(self)
    }
}

impl OwnListener for Listener {
    fn close_door(&self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        transport::Listener::stop(self);
    }
}

impl Connector {
    /// Connects to the listener; does not wait to be accepted.
    ///
    /// # Errors
    ///
    /// * `NotFound`: the listener was stopped or dropped.
    /// * [`Error::Busy`]: as many connections as [may be](Options::instances) are open, and the deadline is
    ///   [`Deadline::NOW`].
    /// * `TimedOut`: so it was until any other deadline.
    pub fn connect(&self, deadline: Deadline) -> io::Result<Stream> {
        let mut state = self.0.lock();
        loop {
            if let Some(stream) = self.0.connect(&mut state, deadline)? {
                drop(state);
                self.0.changed.notify_all();
                return Ok(stream);
            }
            wait(&self.0.changed, &mut state, deadline)?;
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (stopped, open, backlog) = (state.stopped, state.open, state.backlog.len());
        drop(state);
        let mut debug = f.debug_struct("Port");
        debug
            .field("stopped", &stopped)
            .field("open", &open)
            .field("backlog", &backlog);
        debug.finish_non_exhaustive()
    }
}
