//! What this crate's own async streams do beside what they promise to everybody.

/// What an async stream of this crate's own does for typed calls. A receive without a deadline asks nothing of the runtime
/// that it is polled in.
pub trait Own {
    /// As [`Own::part`](crate::transport::own::Own::part) of the blocking streams.
    fn part(&self, courtesy: usize);

    /// As [`Own::ask_before`](crate::transport::own::Own::ask_before) of the blocking streams.
    fn ask_before(&self, bytes: usize);

    /// As [`Own::peer_listens`](crate::transport::own::Own::peer_listens) of the blocking streams.
    fn peer_listens(&self) -> bool;

    /// Whether [`try_send`](Own::try_send) may have success.
    fn tries_to_send(&self) -> bool {
        false
    }

    /// Sends a small message, if that can be done at once: if not, nothing of it has been sent, and sending it as usual
    /// says what there is to say. It asks nothing of the runtime.
    fn try_send(&self, message: &[u8]) -> bool {
        let _ = message;
        false
    }
}
