//! Letting others run.

use std::future::poll_fn;
use std::task::Poll;

/// After so many messages that came without waiting, the others on the thread have their turn.
pub(super) const AT_ONCE: u32 = 128;

/// Goes to the end of the queue of those that can run.
pub(super) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
