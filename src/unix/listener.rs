//! The listening socket, for threads that wait.

use std::io;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::endpoint::{BACKOFF, Endpoint, Next};
use super::instance::Instance;
use super::listening::Listening;
use super::patience::Patience;
use super::socket::Socket;
use super::stream::Stream;
use crate::transport;
use crate::transport::own::OwnListener;
use crate::transport::platform::PlatformListener;
use crate::{Deadline, Error, ListenOptions, Name, Spin};

#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: Arc<Endpoint>,
    wake: Mutex<Arc<Wake>>,
    spin: Spin,
}

/// How `stop` wakes `accept`. A process that was forked has one of its own: the other is both processes'.
#[derive(Debug)]
struct Wake {
    /// Readable for ever once the other end has been shut down.
    wakes: UnixStream,
    waker: UnixStream,
    process: u32,
}

impl Wake {
    fn new() -> io::Result<Arc<Wake>> {
        let (wakes, waker) = UnixStream::pair()?;
        let process = process::id();
        Ok(Arc::new(Wake {
            wakes,
            waker,
            process,
        }))
    }
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        let endpoint = Arc::new(Endpoint::bind(options, name)?);
        Ok(Listener {
            endpoint,
            wake: Mutex::new(Wake::new()?),
            spin: options.spin,
        })
    }

    fn accept_once(&self, deadline: Deadline) -> io::Result<Stream> {
        let instance = self.reserve(deadline)?;
        loop {
            let Some((socket, peer)) = self.endpoint.admit(self.next(deadline)?)? else {
                continue;
            };
            let patience = Patience::spinning(self.spin).trying_first();
            let stream = Stream::new(socket, peer, self.endpoint.max_message, patience)?;
            stream.occupy(instance.connected());
            return Ok(stream);
        }
    }

    fn reserve(&self, deadline: Deadline) -> io::Result<Instance> {
        let instances = &self.endpoint.instances;
        let mut counts = instances.lock();
        loop {
            if let Some(instance) = Instance::reserve(&self.endpoint, &mut counts)? {
                return Ok(instance);
            }
            match (deadline.is_never(), deadline.instant()) {
                (true, _) => instances.freed.wait(&mut counts),
                (_, Some(at)) if !instances.freed.wait_until(&mut counts, at).timed_out() => {}
                _ => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    fn next(&self, deadline: Deadline) -> io::Result<Socket> {
        let open = self.endpoint.open();
        let socket = &open.as_ref().ok_or(Error::Stopped)?.socket;
        loop {
            match self.endpoint.accept_now(socket)? {
                Next::Connection(accepted) => return Ok(accepted),
                Next::Nobody => self.wait_readable(Some(socket), deadline)?,
                Next::Scarce => {
                    let pause = deadline.min(Deadline::after(BACKOFF));
                    match self.wait_readable(None, pause) {
                        Err(error)
                            if error.kind() == io::ErrorKind::TimedOut
                                && !deadline.has_passed() => {}
                        result => result?,
                    }
                }
            }
        }
    }

    /// Waits for a connection, or only for the deadline, and in either case for [`Listener::stop`].
    fn wait_readable(&self, socket: Option<&Listening>, deadline: Deadline) -> io::Result<()> {
        let wake = self.wake()?;
        // Who has stopped it before this has not woken this one.
        self.endpoint.check_open()?;
        loop {
            let timeout = deadline
                .remaining()
                .map(|left| Timespec::try_from(left).unwrap_or(LONG));
            let wakes = PollFd::new(&wake.wakes, PollFlags::IN);
            let polled = match socket {
                Some(socket) => poll(
                    &mut [wakes, PollFd::new(socket, PollFlags::IN)],
                    timeout.as_ref(),
                ),
                None => poll(&mut [wakes], timeout.as_ref()),
            };
            match polled {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.endpoint.check_open(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wake(&self) -> io::Result<Arc<Wake>> {
        let mut wake = self.wake.lock();
        if wake.process != process::id() {
            *wake = Wake::new()?;
        }
        Ok(Arc::clone(&wake))
    }

    fn begin_stop(&self) {
        self.endpoint.begin_stop();
        let wake = self.wake.lock();
        // Nobody waits yet for what is another process's.
        if wake.process == process::id() {
            let _ = wake.waker.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl transport::Listener for Listener {
    type Stream = Stream;

    fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        self.accept_once(deadline).inspect_err(|error| {
            if Error::of(error) == Some(&Error::Stopped) {
                // Another thread is stopping it: not before the name is free does this one go on.
                self.stop();
            }
        })
    }

    fn stop(&self) {
        self.begin_stop();
        self.endpoint.end_stop();
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        Some(self)
    }
}

impl OwnListener for Listener {
    /// Nobody stays who would have to be.
    fn see_off(&self) -> bool {
        true
    }

    fn close_door(&self) {
        self.endpoint.close_door();
    }
}

impl PlatformListener for Listener {
    fn access(&self) -> io::Result<String> {
        self.endpoint.access()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.begin_stop();
        self.endpoint.let_go();
    }
}

const LONG: Timespec = Timespec {
    tv_sec: 1 << 30,
    tv_nsec: 0,
};
