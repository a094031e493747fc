//! What sends, what receives, and what drives a connection: the futures that a link is made of.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use super::{Shared, wake_all};
use crate::Deadline;
use crate::base::clock;
use crate::client::common::End;
use crate::tokio::alarm::Alarm;
use crate::tokio::batch::send_batch;
use crate::tokio::client::calls::COURTESY;
use crate::tokio::client::slot::Queued;
use crate::tokio::fair;
use crate::tokio::transport::Stream;

/// Sends what is queued. It is polled by whoever has queued something, and waits for nothing but room.
pub(super) async fn write<S: Stream>(shared: Arc<Shared>, stream: Arc<S>) {
    let mut batch: Vec<Queued> = Vec::new();
    let mut woken = Vec::new();
    // There was nothing to send the last time, and whoever has something since then polls this.
    let mut looked = false;
    loop {
        if batch.is_empty() {
            poll_fn(|_| {
                if mem::take(&mut looked) || !shared.calls.lock().take_batch(&mut batch) {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
        }
        let sent = send_batch(&*stream, &batch, Deadline::NEVER).await;
        let mut calls = shared.calls.lock();
        let go_on = match sent {
            Ok(()) => {
                calls.sent(&mut batch, &mut woken);
                looked = !calls.take_batch(&mut batch);
                true
            }
            Err(failed) => calls.not_sent(&mut batch, failed, &mut woken),
        };
        if !go_on {
            // It reads what is still to be read, and then it says what became of the rest.
            woken.extend(calls.driver().cloned());
        }
        drop(calls);
        wake_all(&mut woken);
        if !go_on {
            return;
        }
    }
}

/// Ends the connection when the driver does, however that comes about.
pub(super) struct Ends(pub(super) Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end(End::broken());
        self.0.stream.close();
        // They hold the connection, which holds them.
        let writer = self.0.writer.lock().take();
        let reader = self.0.reader.lock().take();
        drop((writer, reader));
    }
}

/// Receives, sends where nobody else does, and minds the deadlines, until the connection ends.
pub(super) async fn drive<S: Stream>(ends: Ends, stream: Arc<S>) {
    let shared = &ends.0;
    let mut deaf = false;
    let mut alarm = Alarm::default();
    let mut waited = false;
    let mut linger = None;
    poll_fn(|cx| {
        let is_deaf = shared.waking(|calls, woken| {
            calls.driven_by(cx, woken);
            calls.is_deaf()
        });
        if is_deaf && !deaf {
            // What it has said last may be there already, although the runtime does not know it yet.
            deaf = true;
            let reader = read(Arc::clone(shared), Arc::clone(&stream), Deadline::NOW);
            // Whoever polls the one before lets go of it soon.
            let before = shared.reader.lock().replace(Box::pin(reader));
            drop(before);
            shared.calls.lock().unread = true;
        }
        let mut calls = shared.up_to_date();
        if calls.has_ended() {
            return Poll::Ready(());
        }
        if calls.is_sending() || calls.has_unsent() {
            // Once: whoever has not called by then need not be waited for.
            waited = !waited && calls.expects_more() && !calls.is_sending();
            drop(calls);
            if waited {
                cx.waker().wake_by_ref();
            } else {
                shared.flush(cx.waker());
            }
            calls = shared.calls.lock();
        }
        if calls.is_deaf() && !deaf {
            cx.waker().wake_by_ref();
        }
        if calls.closing {
            let over = !calls.has_unsent() && !calls.is_sending();
            let until = *linger.get_or_insert_with(|| Deadline::after(COURTESY));
            if over || shared.no_timers.is_some() {
                return Poll::Ready(());
            }
            calls.alarm = until;
        }
        loop {
            alarm.set(calls.alarm.instant());
            drop(calls);
            if alarm.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = clock::now();
            if linger.is_some_and(|until: Deadline| until.has_passed_at(now)) {
                return Poll::Ready(());
            }
            // What has come is in time, whoever has been told of it.
            shared.calls.lock().unread = true;
            drop(shared.up_to_date());
            shared.waking(|calls, woken| calls.expire(now, woken));
            calls = shared.calls.lock();
            calls.alarm = calls.alarm.min(linger.unwrap_or(Deadline::NEVER));
            if calls.has_unsent() {
                // The cancellations.
                drop(calls);
                shared.flush(cx.waker());
                calls = shared.calls.lock();
            }
        }
    })
    .await;
}

/// Receives all that there is, and hands it to whom it concerns, until the end. If it is not to wait, that is because
/// nothing can be sent: when what has come is read, what is unsent fails, and then it waits for the rest.
pub(super) async fn read<S: Stream>(shared: Arc<Shared>, stream: Arc<S>, mut deadline: Deadline) {
    let mut woken = Vec::new();
    let mut received = 0;
    let mut message = shared.calls.lock().buffer();
    loop {
        // It is nobody else's: those that a blob still holds are not kept.
        let buffer = Arc::make_mut(&mut message);
        let result = stream.recv_message(buffer, deadline).await;
        let result = result.map(|message| message.is_some());
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if deadline == Deadline::NOW && result.as_ref().is_err_and(nothing) {
            deadline = Deadline::NEVER;
            shared.waking(|calls, woken| calls.fail_unsent(woken));
            continue;
        }
        let next = shared.received(result, message, &mut woken);
        wake_all(&mut woken);
        let Some(next) = next else { return };
        message = next;
        received = (received + 1) % fair::AT_ONCE;
        if received == 0 {
            fair::yield_now().await;
        }
    }
}
