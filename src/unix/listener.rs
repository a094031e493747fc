//! The listening socket, for threads that wait.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use interprocess::os::unix::uds_local_socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Stream;
use super::endpoint::{BACKOFF, Endpoint, Next};
use super::instances::Instance;
use super::patience::Patience;
use crate::{Deadline, Error, ListenOptions, Name, Spin};

#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: Arc<Endpoint>,
    /// Readable for ever once the other end has been shut down, which is how `stop` wakes `accept`.
    wakes: UnixStream,
    waker: UnixStream,
    spin: Spin,
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        let endpoint = Arc::new(Endpoint::bind(options, name)?);
        let (wakes, waker) = UnixStream::pair()?;
        Ok(Listener {
            endpoint,
            wakes,
            waker,
            spin: options.spin,
        })
    }

    pub(crate) fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        self.accept_once(deadline).inspect_err(|error| {
            if Error::of(error) == Some(&Error::Stopped) {
                // Another thread is stopping it: not before the name is free does this one go on.
                self.stop();
            }
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

    fn next(&self, deadline: Deadline) -> io::Result<OwnedFd> {
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
    fn wait_readable(
        &self,
        socket: Option<&uds_local_socket::Listener>,
        deadline: Deadline,
    ) -> io::Result<()> {
        loop {
            let timeout = deadline
                .remaining()
                .map(|left| Timespec::try_from(left).unwrap_or(LONG));
            let wakes = PollFd::new(&self.wakes, PollFlags::IN);
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

    pub(crate) fn stop(&self) {
        self.endpoint.begin_stop();
        let _ = self.waker.shutdown(std::net::Shutdown::Both);
        self.endpoint.end_stop();
    }

    pub(crate) fn access(&self) -> io::Result<String> {
        self.endpoint.access()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

const LONG: Timespec = Timespec {
    tv_sec: 1 << 30,
    tv_nsec: 0,
};
