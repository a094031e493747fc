//! The listening socket, for tasks that wait.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::io::Interest;
use ::tokio::net::UnixStream;
use ::tokio::sync::Notify;
use parking_lot::RwLock;

use super::super::endpoint::{BACKOFF, Endpoint, Next};
use super::super::instance::Instance;
use super::super::socket::Socket;
use super::stream::Stream;
use crate::transport::own::OwnListener;
use crate::transport::tokio;
use crate::transport::tokio::platform::PlatformListener;
use crate::transport::tokio::runtime;
use crate::transport::tokio::turn::Turn;
use crate::{Deadline, Error, ListenOptions, Name};

#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: Arc<Endpoint>,
    /// The socket once more, as the runtime watches it until the listener is stopped. It is no stream, but what tokio
    /// has for listeners accepts by itself, and cannot be asked whether there is somebody to accept.
    watched: RwLock<Option<UnixStream>>,
    stopping: Notify,
    /// Held across waits: the runtime knows one task that waits.
    turn: Turn<()>,
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        let endpoint = Endpoint::bind(options, name)?;
        let socket = match &*endpoint.open() {
            Some(open) => open.socket.as_fd().try_clone_to_owned()?,
            None => return Err(Error::Stopped.into()),
        };
        let watched = runtime::with_driver("enable_io", || UnixStream::from_std(socket.into()))?;
        Ok(Listener {
            endpoint: Arc::new(endpoint),
            watched: RwLock::new(Some(watched)),
            stopping: Notify::new(),
            turn: Turn::default(),
        })
    }

    async fn accept_once(&self, deadline: Deadline) -> io::Result<Stream> {
        // Whoever comes is to be served: so nobody is taken where that cannot be.
        runtime::check()?;
        let _turn = runtime::take(deadline, &self.turn).await?;
        let instance = self.reserve(deadline).await?;
        loop {
            let socket = self.next(deadline).await?;
            let Some((socket, peer)) = self.endpoint.admit(socket)? else {
                continue;
            };
            rustix::io::ioctl_fionbio(&socket, true)?;
            match Stream::new(socket, peer, self.endpoint.max_message) {
                Ok(stream) => {
                    stream.occupy(instance.connected());
                    return Ok(stream);
                }
                // The system cannot watch one socket more: this client is let go of, as the socket is by now, and the
                // next may have better luck. Anything else is the runtime's.
                Err(error) if error.raw_os_error().is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn reserve(&self, deadline: Deadline) -> io::Result<Instance> {
        let instances = &self.endpoint.instances;
        loop {
            let freed = {
                let mut counts = instances.lock();
                if let Some(instance) = Instance::reserve(&self.endpoint, &mut counts)? {
                    return Ok(instance);
                }
                instances.freed.notified()
            };
            runtime::by(deadline, freed).await?;
        }
    }

    async fn next(&self, deadline: Deadline) -> io::Result<Socket> {
        let mut timer = pin!(None);
        let mut pause = pin!(None);
        loop {
            let mut stopping = pin!(self.stopping.notified());
            let next = poll_fn(|cx| {
                match self.poll_next(cx)? {
                    Poll::Ready(next) => return Poll::Ready(Ok(next)),
                    Poll::Pending if stopping.as_mut().poll(cx).is_ready() => {
                        return Poll::Ready(Err(Error::Stopped.into()));
                    }
                    Poll::Pending => {}
                }
                let over = match ready!(runtime::poll_passed(deadline, timer.as_mut(), cx)) {
                    Ok(()) => io::ErrorKind::TimedOut.into(),
                    Err(error) => error,
                };
                // Who has come, and the runtime has not told yet, is in time.
                Poll::Ready(match self.accept_now() {
                    Ok(Next::Nobody) => Err(over),
                    next => next,
                })
            });
            if let Next::Connection(socket) = next.await? {
                return Ok(socket);
            }
            let until = deadline.min(Deadline::after(BACKOFF));
            pause.set(None);
            poll_fn(|cx| {
                if stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Error::Stopped.into()));
                }
                runtime::poll_passed(until, pause.as_mut(), cx)
            })
            .await?;
            if deadline.has_passed() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes the next connection, if the runtime says that there may be one.
    fn poll_next(&self, cx: &mut Context<'_>) -> io::Result<Poll<Next>> {
        let watched = self.watched.read();
        let watched = watched.as_ref().ok_or(Error::Stopped)?;
        while watched.poll_read_ready(cx)?.is_ready() {
            let accept = || match self.accept_now()? {
                Next::Nobody => Err(io::ErrorKind::WouldBlock.into()),
                next => Ok(next),
            };
            match watched.try_io(Interest::READABLE, accept) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                next => return next.map(Poll::Ready),
            }
        }
        Ok(Poll::Pending)
    }

    fn accept_now(&self) -> io::Result<Next> {
        let open = self.endpoint.open();
        let open = open.as_ref().ok_or(Error::Stopped)?;
        self.endpoint.accept_now(&open.socket)
    }

    fn begin_stop(&self) {
        self.endpoint.begin_stop();
        if self.endpoint.is_own() {
            *self.watched.write() = None;
        } else if let Some(mut watched) = self.watched.try_write() {
            // The runtime's driver is shared with the process that has forked this one: what is taken from it here would
            // be taken from that one, too.
            std::mem::forget(watched.take());
        }
    }
}

impl tokio::Listener for Listener {
    type Stream = Stream;

    async fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        let accepted = self.accept_once(deadline).await;
        accepted.inspect_err(|error| {
            if Error::of(error) == Some(&Error::Stopped) {
                // Another thread is stopping it: not before the name is free does this one go on.
                self.stop();
            }
        })
    }

    fn stop(&self) {
        self.begin_stop();
        self.endpoint.end_stop();
        self.stopping.notify_waiters();
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
