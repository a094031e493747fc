//! What this crate's own streams and listeners do beside what they promise to everybody.

use std::io;

use crate::Deadline;

/// What a stream of this crate's own does for typed calls.
pub trait Own {
    /// Closes this end after its last words, which are so many bytes of courtesy. A peer that does not read them may
    /// have to do without, where its end would keep the listener's name (Windows); it gets everything before them.
    fn part(&self, courtesy: usize);

    /// Sends a message with room before it for what the transport writes there, and receives meanwhile, if asked to, as
    /// [`send_while_receiving`](crate::Stream::send_while_receiving) does.
    ///
    /// The vector is as it was afterwards, unless the send is [unfinished](crate::transport::Unfinished).
    ///
    /// # Errors
    ///
    /// As [`send`](crate::Stream::send).
    fn send_in_place(
        &self,
        message: &mut Vec<u8>,
        room: usize,
        deadline: Deadline,
        receive: Option<&mut dyn FnMut() -> bool>,
    ) -> io::Result<()>;

    /// From now on a receive of a whole message that is larger than so many bytes fails once, with
    /// [`Announced`](crate::transport::Announced), before the rest of it is received; the next one gets the message.
    fn ask_before(&self, bytes: usize);

    /// From now on a send that has to give up in the middle of a message when its deadline passes fails with
    /// [`Unfinished`](crate::transport::Unfinished) instead of ending the connection, and the next send begins with the
    /// rest of it.
    fn finish_later(&self);

    /// Whether the peer, which has said that it sends no more, still receives. A transport that knows only one end, that
    /// of both directions, says no.
    fn peer_listens(&self) -> bool;
}

/// What a listener of this crate's own does for a server, blocking or async.
pub trait OwnListener {
    /// After it was stopped: sees to the streams that have [parted](Own::part), and says whether there is none left. If
    /// there is, it is to be called again after a moment.
    fn see_off(&self) -> bool {
        true
    }

    /// From now on nobody can connect any more, where the transport can do that. Those who have are still accepted; then
    /// it is as if it were stopped.
    fn close_door(&self) {}
}
