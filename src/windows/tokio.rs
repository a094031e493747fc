//! The transport over Windows named pipes for async programs: the same pipes, with operations that wake a task.
//!
//! # How an operation ends
//!
//! tokio's own pipe loses the boundaries of messages, so the operations are ours: see [`operation`]. Each direction of
//! a stream has a place for one, and a listener has one for its wait for a client. An operation that ends at once,
//! which most writes do and reads of what is there, costs its one system call and nothing else. For one that is
//! pending, its event is given to the thread pool of the process, which calls back when the event is set; and the
//! callback wakes the task.
//!
//! Why an event and not the completion port of the thread pool (`CreateThreadpoolIo`): a handle that is bound to a port
//! gets a packet for every operation, also for one that has ended at once, so that each costs a second thread's time,
//! and its memory is not free before the packet has come. Windows can be told to leave those packets out, but of a read
//! that ends at once with a part of a message (ERROR_MORE_DATA) it is neither documented nor the same everywhere
//! whether one comes: a packet too many would end the next operation, and one too few is memory that never goes. With an
//! event there is one rule: it is set when the operation has ended.
//!
//! # Why this is sound
//!
//! * The kernel writes to the OVERLAPPED and to the buffer until the operation has ended. Both belong to the
//!   operation and not to the future that waits: a future that is dropped, or forgotten, changes nothing for the kernel.
//! * They are counted, and while an operation is pending the thread pool has a count, which the callback lets go of;
//!   so they are there until the event has been set, whoever drops what else. The wait object goes with the last count,
//!   when no callback is to come any more, so that nobody ever waits for a callback, and none comes too late.
//! * Every operation ends: whoever drops the place of one closes the pipe as well, which cancels what is pending on it.
//! * That an operation has ended is taken from its event, which is set after everything else was written. A call that
//!   does not want to wait may notice it before the callback comes; the callback then finds nothing to do, or the next
//!   operation pending, and waits for that one.
//!
//! # What a dropped future leaves
//!
//! * A receive: its read stays pending and has its buffer, and the next receive gets what it brings. The same goes for
//!   a receive whose deadline has passed.
//! * A send: its write goes on, from the operation's own copy of the message. The next send waits for it, and is told
//!   if it failed. Only the request of a transaction is taken back, where that can be had whole.
//! * An accept: the wait for a client goes on, and the next accept gets the client.
//!
//! Windows cancels what a thread has begun when that thread ends. A read, a wait for a client, or a write of no more than
//! fits the pipe is then begun anew by the next call that looks, and nothing is lost. A larger write may have gone in
//! part, which nobody says, so that the connection is closed for good. The threads of a runtime live as long as the runtime, except for those of its pool for
//! blocking work, which end when they have been idle for a while.

mod listener;
mod operation;
mod scratch;
mod stream;

use std::io;
use std::os::windows::io::OwnedHandle;

use super::rights::Direction;
use super::system::Os;
use super::{
    Wait, after_refusal, end_of_client, is_remote, make_ready, open_once, own_pipe_path, pipe_path,
};
use crate::base::backoff::Backoff;
use crate::transport::tokio::platform::Platform;
use crate::transport::tokio::runtime as rt;
use crate::{ConnectOptions, Deadline, ListenOptions, Name};
use listener::Listener;
use stream::{Parts, Stream};

impl Platform for Os {
    type Listener = Listener;
    type Stream = Stream;

    fn bind(options: &ListenOptions, name: &Name) -> io::Result<Listener> {
        Listener::bind(options, own_pipe_path(name)?)
    }

    /// A busy listener is tried again after ever longer pauses, of 50 ms at most, by the runtime's timer. The system's own
    /// wait (`WaitNamedPipe`) would be woken a little earlier, but it blocks a thread, which a future that is dropped could
    /// not have back before the deadline, and which a runtime that ends waits for.
    async fn connect(
        options: &ConnectOptions,
        name: &Name,
        deadline: Deadline,
    ) -> io::Result<Stream> {
        let (handle, direction) = open(options, name, deadline).await?;
        Ok(Parts::new()?.stream(
            handle,
            end_of_client(name),
            direction,
            options.read_mode,
            options.max_message,
        ))
    }
}

/// Opens the client's end, waiting for an instance until the deadline.
async fn open(
    options: &ConnectOptions,
    name: &Name,
    deadline: Deadline,
) -> io::Result<(OwnedHandle, Direction)> {
    let path = pipe_path(name)?;
    let mut backoff = Backoff::new();
    let mut was_busy = false;
    loop {
        let opened = if is_remote(name) {
            // The network takes its time.
            let (options, name, path) = (options.clone(), name.clone(), path.clone());
            let open = ::tokio::task::spawn_blocking(move || open_ready(&options, &name, &path));
            rt::by(deadline, open).await?.map_err(io::Error::other)?
        } else {
            open_ready(options, name, &path)
        };
        let refusal = match opened {
            Ok(opened) => return opened,
            Err(refusal) => refusal,
        };
        match after_refusal(options, name, refusal, was_busy, deadline)? {
            Wait::ForInstance => was_busy = true,
            Wait::ForServer => {}
        }
        rt::sleep(backoff.next(deadline)?).await?;
    }
}

/// Opens the client's end and sets it up, or says why it cannot be opened now.
fn open_ready(
    options: &ConnectOptions,
    name: &Name,
    path: &[u16],
) -> Result<io::Result<(OwnedHandle, Direction)>, io::Error> {
    let (handle, direction) = open_once(options, path)?;
    Ok(make_ready(options, name, &handle, direction).map(|()| (handle, direction)))
}

#[cfg(test)]
mod tests;
