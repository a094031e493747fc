//! Large messages, which wait for their share of the server's memory before they are received; and clients that send no
//! more at all.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::budget::{LOOK, Lease, SMALL};
use super::buffer::Buffer;
use super::connection::Connection;
use crate::proto::wire::{Code, Failure};
use crate::transport::carrier::Carrier;
use crate::transport::unless_it_panics;
use crate::{Deadline, Error};

/// How often to look whether a client is still there that sends no more.
const WHILE_IT_LISTENS: Duration = Duration::from_millis(20);

impl Connection {
    /// Receives a message of that size, once it has its share of the server's memory.
    #[cold]
    pub(super) fn receive_large(
        &self,
        stream: &dyn Carrier,
        message: &mut Vec<u8>,
        size: usize,
    ) -> io::Result<Option<usize>> {
        let is_closed = || self.state().running.is_closed();
        let lease = self.holder.lease(size).wait(Deadline::NEVER, is_closed);
        *self.lease.lock() = Some(Box::new(lease.ok_or(Error::Closed)?));
        let begun = Instant::now();
        loop {
            let look = Deadline::after(LOOK);
            match unless_it_panics(|| stream.recv_in_place(message, look)) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                received => return received,
            }
            let usually = self.shared.options.send_timeout;
            let most = self.holder.budget().patience_for_message(size, usually);
            if begun.elapsed() >= most {
                self.refuse(&Failure::new(Code::OverLimit, "time for a message"));
                return Err(Error::Closed.into());
            }
        }
    }

    /// The share of the server's memory of the message that was just received, if it has one.
    pub(super) fn lease_of(&self, message: &Buffer) -> Option<Box<Lease>> {
        (message.len() > SMALL)
            .then(|| self.lease.lock().take())
            .flatten()
    }

    /// It was not for a handler.
    pub(super) fn drop_lease(&self) {
        let lease = self.lease.lock().take();
        drop(lease);
    }

    /// A client that sends no more may still wait for what it has asked for.
    #[cold]
    pub(super) fn outlast(&self, stream: &dyn Carrier) {
        let waits = || self.in_flight() > 0 && self.stream().is_some();
        while waits() && stream.peer_listens() {
            thread::sleep(WHILE_IT_LISTENS);
        }
    }
}
