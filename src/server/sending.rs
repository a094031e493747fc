//! What a connection sends: by the thread that has something to say, or by one of the connection's own, where there is a
//! pool.

use std::io;
use std::mem;
use std::sync::atomic::Ordering;

use super::budget::Counted;
use super::connection::{COURTESY, Connection, End, has_left};
use super::emit::wake;
use super::outbox::Outbox;
use crate::Deadline;
use crate::base::caught::drop_caught;
use crate::codec::outgoing::Outgoing;
use crate::proto::wire::{self, Failure};
use crate::transport::carrier::Carrier;
use crate::transport::unless_it_panics;

impl Connection {
    /// Sends what the threads of the pool have to say.
    pub(super) fn write_out(&self, outbox: &Outbox) {
        while let Some(mut message) = outbox.next() {
            let size = message.len();
            let owes = self.owes(size);
            let sent = self.send_now(&mut message, self.patience());
            drop(owes);
            if sent.is_err() {
                return;
            }
            if outbox.has_sent(size) {
                self.resume();
            }
            wake(self.holder.budget().relieved());
            message.clear();
            self.state().keep_out(message);
            if self.deaf.load(Ordering::Acquire) {
                return self.end(outbox);
            }
        }
        self.hang_up();
    }

    pub(super) fn reply(&self, id: u32, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), End> {
        self.send(self.patience(), |out| {
            wire::reply(out, id);
            write(out);
        })
        .map_err(|_| End::Gone)
    }

    pub(super) fn fail(&self, id: u32, failure: &Failure<'_>) -> Result<(), End> {
        self.send(self.patience(), |out| wire::error(out, id, failure))
            .map_err(|_| End::Gone)
    }

    /// Says why the connection ends.
    pub(super) fn refuse(&self, failure: &Failure<'_>) {
        let ours = self.shared.ours.identity();
        let _ = self.send(Deadline::after(COURTESY), |out| {
            wire::refusal(out, &ours, failure)
        });
    }

    /// How long a client may take to read what it is sent.
    pub(super) fn patience(&self) -> Deadline {
        Deadline::about(self.shared.options.send_timeout)
    }

    pub(super) fn send(
        &self,
        deadline: Deadline,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let mut out = Outgoing::default();
        write(out.bytes());
        if let Some(outbox) = &self.outbox {
            outbox.push(out, None);
            return Ok(());
        }
        self.send_now(&mut out, deadline)
    }

    /// Sends a message, or has it sent, and leaves it empty.
    #[inline]
    pub(super) fn hand_over(
        &self,
        stream: Option<&dyn Carrier>,
        message: &mut Outgoing,
        deadline: Deadline,
    ) -> io::Result<()> {
        let sent = self.deliver(stream, message, &mut None, deadline);
        message.clear();
        sent
    }

    /// The same, but what was sent is still there.
    #[inline]
    fn deliver(
        &self,
        stream: Option<&dyn Carrier>,
        message: &mut Outgoing,
        counted: &mut Option<Counted>,
        deadline: Deadline,
    ) -> io::Result<()> {
        if let Some(outbox) = &self.outbox {
            outbox.push(mem::take(message), counted.take());
            return Ok(());
        }
        match stream {
            Some(stream) => self.send_over(stream, message, deadline),
            None => self.send_now(message, deadline),
        }
    }

    /// The same with a large message, which counts among what is to be sent.
    #[cold]
    pub(super) fn hand_over_large(
        &self,
        stream: Option<&dyn Carrier>,
        message: &mut Outgoing,
        mut counted: Option<Counted>,
    ) -> io::Result<()> {
        let size = message.len();
        let owes = stream.map(|_| self.owes(size));
        let sent = self.deliver(stream, message, &mut counted, self.patience());
        // Before the share that it may have is another one's, whose reply would count beside it.
        drop((counted, owes));
        message.clear();
        wake(self.holder.budget().relieved());
        sent
    }

    /// Sends a message, unless the stream is closed.
    pub(super) fn send_now(&self, message: &mut Outgoing, deadline: Deadline) -> io::Result<()> {
        let stream = self.stream().ok_or(io::ErrorKind::NotConnected)?;
        let sent = self.send_over(&*stream, message, deadline);
        drop_caught(stream);
        sent
    }

    #[inline]
    fn send_over(
        &self,
        stream: &dyn Carrier,
        message: &mut Outgoing,
        deadline: Deadline,
    ) -> io::Result<()> {
        if self.deaf.load(Ordering::Acquire) {
            return Ok(());
        }
        match unless_it_panics(|| message.send(stream, deadline, None)) {
            // It may have left once it had said all that it had to say, and not waited for any answer.
            Err(error) if has_left(&error) => {
                self.deaf.store(true, Ordering::Release);
                self.client_has_gone();
                Ok(())
            }
            // A client that does not read is as good as gone.
            sent => sent.inspect_err(|_| self.close()),
        }
    }
}
