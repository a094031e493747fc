//! The connected socket: messages behind their lengths.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use parking_lot::Mutex;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::connection::{CLOSED, Connection, POISONED, impersonate};
use super::framing::{Framing, HEADER, MAX_SLICES, NOTHING, SMALL, Source, header, with_slices};
use super::instance::Instance;
use super::os;
use super::patience::{self, Meanwhile, Patience};
use super::read_ahead::ReadAhead;
use super::socket::Socket;
use crate::base::callback::Callbacks;
use crate::transport::own::Own;
use crate::transport::platform::PlatformStream;
use crate::transport::{self, Stream as _, Unfinished, check_sendable, gather, total_len};
use crate::{Deadline, Error, Part, Peer, Waiting};

#[derive(Debug)]
pub(crate) struct Stream {
    connection: Connection<Socket>,
    receiving: Mutex<Receiving>,
    sending: Mutex<Sending>,
    callbacks: Callbacks,
}

impl Stream {
    /// With what a receive has of patience.
    pub(super) fn new(
        socket: Socket,
        peer: Option<Peer>,
        max_message: usize,
        patience: Patience,
    ) -> io::Result<Stream> {
        Ok(Stream {
            connection: Connection::new(socket, peer, max_message),
            receiving: Mutex::new(Receiving {
                framing: Framing::default(),
                patience,
            }),
            sending: Mutex::default(),
            callbacks: Callbacks::default(),
        })
    }

    pub(super) fn occupy(&self, instance: Instance) {
        self.connection.occupy(instance);
    }

    /// Sends what is behind so many bytes of a vector, the length first.
    #[inline(always)]
    fn send_own(
        &self,
        sending: &mut Sending,
        message: &mut Vec<u8>,
        begin: usize,
        deadline: Deadline,
        meanwhile: &mut Meanwhile<'_>,
    ) -> io::Result<()> {
        self.finish_last(sending, deadline, meanwhile)?;
        match self.send_slice(&message[begin..], deadline, meanwhile) {
            Ok(()) => Ok(()),
            Err((sent, error)) => self.after_failed_send(sending, sent, error, || {
                Some((mem::take(message), begin + sent))
            }),
        }
    }

    #[inline]
    fn source<'a>(
        &'a self,
        receiving: &'a mut Receiving,
        deadline: Deadline,
    ) -> (&'a mut Framing, Waiter<'a>) {
        let Receiving { framing, patience } = receiving;
        let waiter = Waiter {
            connection: &self.connection,
            patience,
            deadline,
        };
        (framing, waiter)
    }

    /// Sends with what is received meanwhile.
    #[inline]
    fn calling_back<R>(
        &self,
        receive: &mut dyn FnMut() -> bool,
        send: impl FnOnce(&mut dyn FnMut() -> bool) -> R,
    ) -> R {
        let half_sent = ShutUnlessForgotten(&self.connection);
        let sent = send(&mut || self.callbacks.run(&mut *receive));
        mem::forget(half_sent);
        sent
    }

    #[inline]
    fn send_message(
        &self,
        sending: &mut Sending,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        meanwhile: &mut Meanwhile<'_>,
    ) -> io::Result<()> {
        self.connection.check_open()?;
        self.finish_last(sending, deadline, meanwhile)?;
        let header = header(total_len(pieces));
        let result = if total_len(pieces) <= SMALL {
            write_small(&mut sending.small, pieces);
            self.send_slice(&sending.small, deadline, meanwhile)
        } else {
            self.send_pieces(&header, pieces, deadline, meanwhile)
        };
        result.or_else(|(sent, error)| {
            self.after_failed_send(sending, sent, error, || {
                let rest = with_slices(&header, pieces, |mut slices| {
                    IoSlice::advance_slices(&mut slices, sent);
                    gather(slices, Vec::new())
                });
                Some((rest.ok()?, 0))
            })
        })
    }

    /// What is left of a message that the last send gave up goes first.
    #[inline]
    fn finish_last(
        &self,
        sending: &mut Sending,
        deadline: Deadline,
        meanwhile: &mut Meanwhile<'_>,
    ) -> io::Result<()> {
        match sending.unfinished.is_some() {
            false => Ok(()),
            true => self.send_rest(sending, deadline, meanwhile),
        }
    }

    #[cold]
    fn send_rest(
        &self,
        sending: &mut Sending,
        deadline: Deadline,
        meanwhile: &mut Meanwhile<'_>,
    ) -> io::Result<()> {
        let Some((message, before)) = sending.unfinished.take() else {
            return Ok(());
        };
        match self.send_slice(&message[before..], deadline, meanwhile) {
            Ok(()) => Ok(()),
            // Nothing of the next one has gone.
            Err((sent, error)) if error.kind() == io::ErrorKind::TimedOut => {
                sending.unfinished = Some((message, before + sent));
                Err(error)
            }
            Err((_, error)) => Err(self.connection.after_failed_send(1, error)),
        }
    }

    /// What becomes of a message of which so much has gone, where the rest can be kept for the next send.
    #[cold]
    fn after_failed_send(
        &self,
        sending: &mut Sending,
        sent: usize,
        error: io::Error,
        unfinished: impl FnOnce() -> Option<(Vec<u8>, usize)>,
    ) -> io::Result<()> {
        let goes_on = sent > 0 && sending.finishes_later && error.kind() == io::ErrorKind::TimedOut;
        if goes_on && self.connection.check_open().is_ok() {
            sending.unfinished = unfinished();
            if sending.unfinished.is_some() {
                return Err(Unfinished::error());
            }
        }
        Err(self.connection.after_failed_send(sent, error))
    }

    #[inline]
    fn send_slice(
        &self,
        mut rest: &[u8],
        deadline: Deadline,
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<(), Unsent> {
        let whole = rest.len();
        let socket = self.connection.socket.as_fd();
        while !rest.is_empty() {
            let send = |wait| rustix::net::send(socket, rest, send_flags(wait));
            let sent = patience::send(socket, deadline, meanwhile, send)
                .map_err(|error| (whole - rest.len(), error))?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    fn send_pieces(
        &self,
        header: &[u8],
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<(), Unsent> {
        let socket = self.connection.socket.as_fd();
        with_slices(header, pieces, |mut rest| {
            let mut sent = 0;
            while !rest.is_empty() {
                let some = &rest[..rest.len().min(MAX_SLICES)];
                let send = |wait| {
                    let mut nothing = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(socket, some, &mut nothing, send_flags(wait))
                };
                let n = patience::send(socket, deadline, meanwhile, send)
                    .map_err(|error| (sent, error))?;
                sent += n;
                IoSlice::advance_slices(&mut rest, n);
            }
            Ok(())
        })
    }

    fn recv_part(
        &self,
        receiving: &mut Receiving,
        buf: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        let (framing, mut source) = self.source(receiving, deadline);
        let mut got = 0;
        let part = framing.recv_part(&mut source, buf, &mut got);
        if part.is_err() {
            framing.put_aside(&buf[..got]);
        }
        part
    }
}

impl transport::Stream for Stream {
    #[inline]
    fn own(&self) -> Option<&dyn Own> {
        Some(self)
    }

    fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        check_sendable(message.len())?;
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.send_message(&mut sending, &[IoSlice::new(message)], deadline, &mut None)
    }

    fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        self.recv_part(&mut receiving, buf, deadline)
    }

    fn close(&self) {
        self.connection.shut(CLOSED);
    }

    fn abort(&self) {
        // What has been sent is in the peer's own queue, out of reach.
        self.connection.shut(CLOSED);
    }

    fn max_message(&self) -> usize {
        self.connection.max_message
    }

    #[inline]
    fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> io::Result<Option<usize>> {
        let mut receiving = deadline.lock(&self.receiving)?;
        let (framing, mut source) = self.source(&mut receiving, deadline);
        framing.recv_message(&mut source, message)
    }

    fn send_vectored(&self, pieces: &[IoSlice<'_>], deadline: Deadline) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.send_message(&mut sending, pieces, deadline, &mut None)
    }

    fn send_while_receiving(
        &self,
        pieces: &[IoSlice<'_>],
        deadline: Deadline,
        receive: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        check_sendable(total_len(pieces))?;
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.calling_back(receive, |meanwhile| {
            self.send_message(&mut sending, pieces, deadline, &mut Some(meanwhile))
        })
    }

    fn peek(&self) -> io::Result<Option<Waiting>> {
        // Whoever receives at the moment gets what comes.
        let Some(mut receiving) = self.receiving.try_lock() else {
            return Ok(Some(NOTHING));
        };
        let (framing, mut source) = self.source(&mut receiving, Deadline::NOW);
        let begun = framing.begin(&mut source);
        framing.peek(&self.connection.socket, begun)
    }

    fn transact(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Deadline,
    ) -> io::Result<Option<Part>> {
        check_sendable(request.len())?;
        self.callbacks.check_not_here()?;
        let mut receiving = deadline.lock(&self.receiving)?;
        let (framing, mut source) = self.source(&mut receiving, Deadline::NOW);
        match framing.begin(&mut source) {
            Ok(Some(_)) => return Err(Error::Busy.into()),
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
            // At the end, sending says what there is to say.
            Ok(None) | Err(_) => {}
        }
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.send_message(&mut sending, &[IoSlice::new(request)], deadline, &mut None)?;
        drop(sending);
        let part = self.recv_part(&mut receiving, reply, deadline);
        // Whatever the system could not do, the reply may still come, and would be taken for that of the next request.
        if matches!(&part, Err(error) if Error::of(error).is_none()) {
            self.connection.shut(POISONED);
        }
        part
    }

    fn peer(&self) -> io::Result<Peer> {
        Ok(self.connection.peer())
    }
}

impl Own for Stream {
    /// No client keeps a name here.
    fn part(&self, _courtesy: usize) {
        self.close();
    }

    fn send_in_place(
        &self,
        message: &mut Vec<u8>,
        room: usize,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        let size = message.len() - room;
        check_sendable(size)?;
        let begin = room - HEADER;
        message[begin..room].copy_from_slice(&header(size));
        let mut sending = self.callbacks.lock(&self.sending, deadline)?;
        self.connection.check_open()?;
        let sending = &mut sending;
        match receive {
            Some(receive) => self.calling_back(receive, |meanwhile| {
                self.send_own(sending, message, begin, deadline, &mut Some(meanwhile))
            }),
            None => self.send_own(sending, message, begin, deadline, &mut None),
        }
    }

    fn ask_before(&self, bytes: usize) {
        self.receiving.lock().framing.without_asking = NonZeroUsize::new(bytes);
    }

    fn finish_later(&self) {
        self.sending.lock().finishes_later = true;
    }

    fn peer_listens(&self) -> bool {
        self.connection.peer_listens()
    }
}

impl PlatformStream for Stream {
    fn impersonate<R>(&self, act: impl FnOnce() -> R) -> io::Result<R> {
        impersonate(act)
    }
}

/// Receives from a socket that blocks, until the deadline.
struct Waiter<'a> {
    connection: &'a Connection<Socket>,
    patience: &'a mut Patience,
    deadline: Deadline,
}

impl Source for Waiter<'_> {
    type Socket = Socket;

    #[inline]
    fn connection(&self) -> &Connection<Socket> {
        self.connection
    }

    #[inline]
    fn fill(&mut self, ahead: &mut ReadAhead) -> io::Result<usize> {
        let n = self.read(&mut [IoSliceMut::new(ahead.room())])?;
        ahead.received(n);
        Ok(n)
    }

    #[inline]
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let socket = &self.connection.socket;
        let receive = |wait| {
            let flags = if wait {
                RecvFlags::empty()
            } else {
                RecvFlags::DONTWAIT
            };
            socket.receive(slices, flags)
        };
        match self.patience.run(socket.as_fd(), self.deadline, receive) {
            Ok(received) => Ok(received.bytes),
            // The peer has closed without having read everything; all that it sent has been received by now.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Ends the connection where a callback has panicked: a part of the message may have gone.
struct ShutUnlessForgotten<'a>(&'a Connection<Socket>);

impl Drop for ShutUnlessForgotten<'_> {
    fn drop(&mut self) {
        self.0.shut(POISONED);
    }
}

/// What failed, and how many bytes had gone by then.
type Unsent = (usize, io::Error);

fn send_flags(wait: bool) -> SendFlags {
    if wait {
        os::NO_SIGNAL
    } else {
        os::NO_SIGNAL | SendFlags::DONTWAIT
    }
}

/// Held by what sends.
#[derive(Debug, Default)]
struct Sending {
    /// In it a small message is put behind its length, each anew.
    small: Vec<u8>,
    /// A message that was given up, and how much of it has been sent: the rest is sent before the next one.
    unfinished: Option<(Vec<u8>, usize)>,
    /// Whether anything may be left in there.
    finishes_later: bool,
}

#[derive(Debug)]
struct Receiving {
    framing: Framing,
    patience: Patience,
}

/// Puts a message behind its length, in place of what is there.
#[inline]
fn write_small(small: &mut Vec<u8>, pieces: &[IoSlice<'_>]) {
    small.clear();
    small.extend_from_slice(&header(total_len(pieces)));
    for piece in pieces {
        small.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_print_holds_no_lock() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Socket::new(socket.into());
        let stream = Stream::new(socket, None, 1, Patience::default()).unwrap();
        let _receiving = stream.receiving.lock();
        assert!(format!("{stream:?}").contains("locked"));
    }
}
