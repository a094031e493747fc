//! The listening end, for tasks.

use std::io;
use std::mem;
use std::os::windows::io::OwnedHandle;
use std::sync::Arc;

use ::tokio::sync::Notify;
use windows_sys::Win32::Foundation::{
    ERROR_NO_DATA, ERROR_OPERATION_ABORTED, ERROR_PIPE_CONNECTED,
};

use super::operation::{Operation, Stage, cancel_all};
use super::stream::{Parts, Stream};
use crate::transport::own::OwnListener;
use crate::transport::tokio::platform::PlatformListener;
use crate::transport::tokio::runtime as rt;
use crate::transport::tokio::turn::Turn;
use crate::transport::tokio::{self, Listener as _};
use crate::windows::instances::{BACKOFF, Bell, Instance, Instances, is_passing};
use crate::windows::pipe::End;
use crate::windows::rights::Direction;
use crate::{Deadline, ListenOptions};

#[derive(Debug)]
pub(crate) struct Listener {
    instances: Arc<Instances<Notify>>,
    /// The waiting instance's wait for a client. It goes on when an accept is dropped, for the next one.
    connecting: Operation,
    accepting: Turn<()>,
}

/// Rung as well when the listener is stopped: one task waits at a time, and looks what it was.
impl Bell for Notify {
    fn ring(&self) {
        self.notify_one();
    }
}

/// What an accept has come to.
enum Step {
    /// A client is there, and the next instance too.
    Connected(OwnedHandle, Parts),
    /// There is no client yet.
    NoClient,
    /// There are as many connections as may be.
    NoRoom,
    /// The system has run out of something.
    Exhausted,
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, path: Vec<u16>) -> io::Result<Listener> {
        Ok(Listener {
            connecting: Operation::new()?,
            instances: Arc::new(Instances::bind(options, path, Notify::new())?),
            accepting: Turn::default(),
        })
    }

    /// Goes on as far as it goes without waiting. All of it under the slot's lock, so that a listener that is stopped
    /// does nothing any more.
    fn step(&self) -> io::Result<Step> {
        let instances = &self.instances;
        let mut slot = instances.slot();
        instances.check_open()?;
        if slot.waiting.is_none() {
            if !instances.has_room(&slot) {
                return Ok(Step::NoRoom);
            }
            match instances.create(&slot) {
                Ok(instance) => slot.waiting = Some(instance),
                Err(error) => return exhausted(error),
            }
        }
        while let (Some(instance), false) = (&slot.waiting, slot.connected) {
            let stage = match self.connecting.take() {
                Stage::Idle => self.connecting.connect(instance),
                stage => stage,
            };
            let Stage::Ended(ended) = stage else {
                return Ok(Step::NoClient);
            };
            match ended.result {
                // A client may have come before the call, and have left again: what it wrote is still there.
                Ok(_) | Err(ERROR_PIPE_CONNECTED | ERROR_NO_DATA) => slot.connected = true,
                // The thread that began it is no more, and has taken it along.
                Err(ERROR_OPERATION_ABORTED) => {}
                Err(code) => return exhausted(io::Error::from_raw_os_error(code as i32)),
            }
        }
        let (next, parts) = match instances.succeed(&mut slot, Parts::new) {
            Ok(made) => made,
            Err(error) => return exhausted(error),
        };
        slot.connected = false;
        let instance = mem::replace(&mut slot.waiting, next);
        drop(slot);
        let Some(instance) = instance else {
            unreachable!("the instance was there, and the lock was held");
        };
        Ok(Step::Connected(instance, parts))
    }

    fn stream(&self, instance: OwnedHandle, parts: Parts) -> Stream {
        let stream = parts.stream(
            instance,
            End::Server,
            Direction::Both,
            self.instances.read_mode,
            self.instances.max_message,
        );
        stream.occupy(Instance::of(&self.instances));
        stream
    }
}

impl tokio::Listener for Listener {
    type Stream = Stream;

    async fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        let _accepting = rt::take(deadline, &self.accepting).await?;
        let instances = &self.instances;
        loop {
            match self.step()? {
                Step::Connected(instance, parts) => return Ok(self.stream(instance, parts)),
                Step::NoClient => {
                    let client = self.connecting.ended(|| !instances.is_stopped());
                    rt::by(deadline, client).await?;
                }
                Step::NoRoom => rt::by(deadline, instances.freed.notified()).await?,
                Step::Exhausted => {
                    let pause = deadline.min(Deadline::after(BACKOFF));
                    match rt::by(pause, instances.freed.notified()).await {
                        Err(error)
                            if error.kind() != io::ErrorKind::TimedOut || deadline.has_passed() =>
                        {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn stop(&self) {
        let mut slot = self.instances.slot();
        self.instances.stop(&mut slot);
        if let Some(instance) = slot.waiting.take() {
            cancel_all(&instance);
        }
        drop(slot);
        // Whoever is accepting leaves at once.
        self.connecting.wake();
        self.instances.freed.ring();
    }

    fn own(&self) -> Option<&dyn OwnListener> {
        Some(self)
    }
}

impl OwnListener for Listener {
    fn see_off(&self) -> bool {
        self.instances.see_off()
    }

    /// There is one instance that waits for a client, and no backlog: it goes when the listener is stopped.
    fn close_door(&self) {}
}

impl PlatformListener for Listener {
    fn access(&self) -> io::Result<String> {
        self.instances.access()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is waited out, or told.
fn exhausted(error: io::Error) -> io::Result<Step> {
    if is_passing(&error) {
        Ok(Step::Exhausted)
    } else {
        Err(error)
    }
}
