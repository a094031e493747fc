//! Streams and listeners as the drivers of typed calls use them, this crate's own or not.

use std::io::{self, IoSlice};

use super::{Listener, Stream};
use crate::Deadline;

/// A stream with what [`Own`](super::own::Own) has, or with what comes nearest to it.
///
/// A `dyn Carrier` finds out for each type of streams, and not with each call, which of the two it is.
pub(crate) trait Carrier: Stream {
    /// See [`Own::part`](super::own::Own::part).
    fn part(&self, courtesy: usize);

    /// Receives a message, and says where in the vector it begins, which is at its end at the latest: what stands before
    /// is no part of it.
    fn recv_in_place(&self, message: &mut Vec<u8>, deadline: Deadline)
    -> io::Result<Option<usize>>;

    /// See [`Own::send_in_place`](super::own::Own::send_in_place).
    fn send_in_place(
        &self,
        message: &mut Vec<u8>,
        room: usize,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()>;

    /// See [`Own::ask_before`](super::own::Own::ask_before).
    fn ask_before(&self, bytes: usize);

    /// See [`Own::finish_later`](super::own::Own::finish_later).
    fn finish_later(&self);

    /// See [`Own::peer_listens`](super::own::Own::peer_listens).
    fn peer_listens(&self) -> bool;
}

impl<S: Stream + ?Sized> Carrier for S {
    fn part(&self, courtesy: usize) {
        match self.own() {
            Some(own) => own.part(courtesy),
            None => self.close(),
        }
    }

    #[inline]
    fn recv_in_place(
        &self,
        message: &mut Vec<u8>,
        deadline: Deadline,
    ) -> io::Result<Option<usize>> {
        Ok(self.recv_message(message, deadline)?.map(|_| 0))
    }

    #[inline]
    fn send_in_place(
        &self,
        message: &mut Vec<u8>,
        room: usize,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()> {
        if let Some(own) = self.own() {
            return own.send_in_place(message, room, deadline, receive);
        }
        let message = &message[room..];
        match receive {
            Some(receive) => self.send_while_receiving(&[IoSlice::new(message)], deadline, receive),
            None => self.send(message, deadline),
        }
    }

    fn ask_before(&self, bytes: usize) {
        if let Some(own) = self.own() {
            own.ask_before(bytes);
        }
    }

    fn finish_later(&self) {
        if let Some(own) = self.own() {
            own.finish_later();
        }
    }

    fn peer_listens(&self) -> bool {
        self.own().is_some_and(|own| own.peer_listens())
    }
}

/// A listener with what [`OwnListener`](super::own::OwnListener) has, or with what comes nearest to it.
pub(crate) trait Doors: Listener {
    /// See [`OwnListener::see_off`](super::own::OwnListener::see_off).
    fn see_off(&self) -> bool {
        self.own().is_none_or(|own| own.see_off())
    }

    /// See [`OwnListener::close_door`](super::own::OwnListener::close_door).
    fn close_door(&self) {
        if let Some(own) = self.own() {
            own.close_door();
        }
    }
}

impl<L: Listener + ?Sized> Doors for L {}
