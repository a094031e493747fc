//! The listening end: one instance of the pipe that waits for a client, and the next one before it is handed out.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::Arc;

use parking_lot::Mutex;
use windows_sys::Win32::Foundation::{ERROR_NO_DATA, ERROR_PIPE_CONNECTED};

use super::instances::{BACKOFF, Bell, Instance, Instances, is_passing};
use super::overlapped::{self, Event, Operation, Undone, Woken};
use super::pipe::End;
use super::rights::Direction;
use super::stream::{Parts, Stream};
use crate::transport::own::OwnListener;
use crate::transport::platform::PlatformListener;
use crate::transport::{self, Listener as _};
use crate::{Deadline, Error, ListenOptions, Spin};

#[derive(Debug)]
pub(crate) struct Listener {
    instances: Arc<Instances<Event>>,
    /// Set when the listener is stopped.
    stop: Event,
    /// Whoever accepts holds it, and uses the event in it.
    accepting: Mutex<Event>,
    spin: Spin,
}

impl Bell for Event {
    fn ring(&self) {
        self.set();
    }
}

impl Listener {
    pub(super) fn bind(options: &ListenOptions, path: Vec<u16>) -> io::Result<Listener> {
        Ok(Listener {
            instances: Arc::new(Instances::bind(options, path, Event::new()?)?),
            stop: Event::new()?,
            accepting: Mutex::new(Event::new()?),
            spin: options.spin,
        })
    }

    fn accept_once(&self, deadline: Deadline) -> io::Result<Stream> {
        let mut event = deadline.lock(&self.accepting)?;
        let mut taken = self.take_instance(deadline)?;
        taken.connect(&mut event, deadline)?;
        loop {
            match taken.hand_out() {
                Err((unused, error)) if is_passing(&error) => {
                    taken = unused;
                    self.pause(deadline)?;
                }
                result => return result.map_err(|(_, error)| error),
            }
        }
    }

    /// The instance that waits for a client, once there may be one.
    fn take_instance(&self, deadline: Deadline) -> io::Result<Taken<'_>> {
        let instances = &self.instances;
        loop {
            let created = {
                let mut slot = instances.slot();
                instances.check_open()?;
                let instance = match slot.waiting.take() {
                    Some(instance) => Some(Ok(instance)),
                    None if instances.has_room(&slot) => Some(instances.create(&slot)),
                    None => {
                        // Under the lock, so that no instance is freed in between.
                        instances.freed.reset();
                        None
                    }
                };
                if let Some(Ok(instance)) = instance {
                    slot.taken = true;
                    let connected = std::mem::take(&mut slot.connected);
                    return Ok(Taken {
                        listener: self,
                        instance: Some(instance),
                        connected,
                    });
                }
                instance
            };
            match created {
                Some(Err(error)) if is_passing(&error) => self.pause(deadline)?,
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => {
                    match overlapped::wait(&self.stop, &instances.freed, deadline)? {
                        Woken::First => return Err(Error::Stopped.into()),
                        Woken::Second => {}
                        Woken::Deadline => return Err(io::ErrorKind::TimedOut.into()),
                    }
                }
            }
        }
    }

    /// Waits a little, or until the listener is stopped.
    fn pause(&self, deadline: Deadline) -> io::Result<()> {
        match overlapped::wait(
            &self.stop,
            &self.stop,
            deadline.min(Deadline::after(BACKOFF)),
        )? {
            Woken::Deadline if deadline.has_passed() => Err(io::ErrorKind::TimedOut.into()),
            Woken::Deadline => Ok(()),
            Woken::First | Woken::Second => Err(Error::Stopped.into()),
        }
    }
}

impl transport::Listener for Listener {
    type Stream = Stream;

    fn accept(&self, deadline: Deadline) -> io::Result<Stream> {
        self.accept_once(deadline).inspect_err(|error| {
            if Error::of(error) == Some(&Error::Stopped) {
                // Another thread is stopping it: not before the instance is gone does this one go on.
                self.stop();
            }
        })
    }

    fn stop(&self) {
        self.instances.stop(&mut self.instances.slot());
        self.stop.set();
        // Whoever is accepting leaves at once, and gives the instance back or drops it.
        drop(self.accepting.lock());
        self.instances.slot().waiting = None;
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

/// The waiting instance while somebody accepts on it. Dropping it puts it back.
#[derive(Debug)]
struct Taken<'a> {
    listener: &'a Listener,
    instance: Option<OwnedHandle>,
    connected: bool,
}

impl<'a> Taken<'a> {
    /// Waits for a client.
    fn connect(&mut self, event: &mut Event, deadline: Deadline) -> io::Result<()> {
        let Some(instance) = self.instance.as_ref().filter(|_| !self.connected) else {
            return Ok(());
        };
        loop {
            let stop = &self.listener.stop;
            let result = Operation::new(instance, &mut *event, stop, deadline).connect();
            match result {
                // A client may have come before the call, and have left again: what it wrote is still there.
                Ok(_) | Err(Undone::Code(ERROR_PIPE_CONNECTED | ERROR_NO_DATA)) => break,
                Err(Undone::TimedOut) => return Err(io::ErrorKind::TimedOut.into()),
                Err(Undone::Stopped) => return Err(Error::Stopped.into()),
                Err(Undone::Code(code)) => {
                    let error = io::Error::from_raw_os_error(code as i32);
                    if !is_passing(&error) {
                        return Err(error);
                    }
                    self.listener.pause(deadline)?;
                }
            }
        }
        self.connected = true;
        Ok(())
    }

    /// Makes a stream of a connected instance, with the next instance in its place before anybody sees it.
    fn hand_out(mut self) -> Result<Stream, (Taken<'a>, io::Error)> {
        let instances = &self.listener.instances;
        let mut slot = instances.slot();
        let made = instances.succeed(&mut slot, Parts::new);
        match (made, self.instance.take()) {
            (Ok((next, parts)), Some(instance)) => {
                slot.waiting = next;
                slot.taken = false;
                drop(slot);
                let stream = parts.stream(
                    instance,
                    End::Server,
                    Direction::Both,
                    instances.read_mode,
                    instances.max_message,
                    self.listener.spin,
                );
                stream.occupy(Instance::of(instances));
                Ok(stream)
            }
            (made, instance) => {
                drop(slot);
                self.instance = instance;
                let error = made.err().unwrap_or_else(|| Error::Stopped.into());
                Err((self, error))
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            let mut slot = self.listener.instances.slot();
            slot.taken = false;
            slot.connected = self.connected;
            slot.waiting = Some(instance);
        }
    }
}
