//! Async streams and listeners as the drivers of typed calls use them, this crate's own or not.

use super::{Listener, Stream};

/// A stream with what [`Own`](super::own::Own) has, or with what comes nearest to it.
pub(crate) trait Carrier: Stream {
    /// Whether it is this crate's own, of which a receive without a deadline asks nothing of the runtime.
    #[inline]
    fn is_own(&self) -> bool {
        self.own().is_some()
    }

    /// See [`Own::part`](super::own::Own::part).
    fn part(&self, courtesy: usize) {
        match self.own() {
            Some(own) => own.part(courtesy),
            None => self.close(),
        }
    }

    /// See [`Own::ask_before`](super::own::Own::ask_before).
    fn ask_before(&self, bytes: usize) {
        if let Some(own) = self.own() {
            own.ask_before(bytes);
        }
    }

    /// See [`Own::peer_listens`](super::own::Own::peer_listens).
    fn peer_listens(&self) -> bool {
        self.own().is_some_and(|own| own.peer_listens())
    }

    /// See [`Own::tries_to_send`](super::own::Own::tries_to_send).
    #[inline]
    fn tries_to_send(&self) -> bool {
        self.own().is_some_and(|own| own.tries_to_send())
    }

    /// See [`Own::try_send`](super::own::Own::try_send).
    #[inline]
    fn try_send(&self, message: &[u8]) -> bool {
        self.own().is_some_and(|own| own.try_send(message))
    }
}

impl<S: Stream> Carrier for S {}

/// A listener with what [`OwnListener`](crate::transport::own::OwnListener) has, or with what comes nearest to it.
pub(crate) trait Doors: Listener {
    /// See [`OwnListener::see_off`](crate::transport::own::OwnListener::see_off).
    fn see_off(&self) -> bool {
        self.own().is_none_or(|own| own.see_off())
    }

    /// See [`OwnListener::close_door`](crate::transport::own::OwnListener::close_door).
    fn close_door(&self) {
        if let Some(own) = self.own() {
            own.close_door();
        }
    }
}

impl<L: Listener> Doors for L {}
