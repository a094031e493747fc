//! What sends, what receives, and what drives a connection: the futures that a link is made of.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Shared, wake};
use crate::Deadline;
use crate::base::clock;
use crate::proto::client::{End, Queued};
use crate::proto::woken::Woken;
use crate::tokio::alarm::Alarm;
use crate::tokio::batch::send_batch;
use crate::tokio::fair;
use crate::tokio::transport::Stream;

/// Sends what is queued. It is polled by whoever has queued something, and waits for nothing but room.
pub(super) async fn write<S: Stream>(shared: Arc<Shared>, stream: Arc<S>) {
    let mut batch: Vec<Queued> = Vec::new();
    let mut woken = Woken::default();
    // There was nothing to send the last time, and whoever has something since then polls this.
    let mut looked = false;
    loop {
        if batch.is_empty() {
            poll_fn(|_| {
                if mem::take(&mut looked) || !shared.guarded.lock().calls.take_batch(&mut batch) {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
        }
        let sent = send_batch(&*stream, &batch, Deadline::NEVER).await;
        let mut guarded = shared.guarded.lock();
        let calls = &mut guarded.calls;
        let go_on = match sent {
            Ok(()) => {
                calls.sent_batch(&mut batch, &mut woken);
                looked = !calls.take_batch(&mut batch);
                true
            }
            Err(failed) => {
                let which = (failed.sent, failed.doubtful);
                calls.not_sent(&mut batch, which, &failed.error, &mut woken)
            }
        };
        // If nothing more can be sent, it reads what is still to be read, and then it says what became of the rest.
        if !go_on || guarded.is_earlier() {
            woken.add(guarded.driver());
        }
        drop(guarded);
        woken.drain(wake);
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
    let mut linger = Deadline::NEVER;
    let has_timers = shared.no_timers.is_none();
    poll_fn(|cx| {
        let is_deaf = shared.waking(|guarded, woken| {
            guarded.driven_by(cx);
            let calls = &mut guarded.calls;
            if !has_timers && calls.poll_timeout() == Deadline::NOW {
                calls.pass_on_all_room(woken);
            }
            calls.is_deaf()
        });
        if is_deaf && !deaf {
            // What it has said last may be there already, although the runtime does not know it yet.
            deaf = true;
            let reader = read(Arc::clone(shared), Arc::clone(&stream), Deadline::NOW);
            // What polls the one before lets go of it soon.
            let before = shared.reader.lock().replace(Box::pin(reader));
            drop(before);
            shared.guarded.lock().unread = true;
        }
        let mut guarded = shared.up_to_date();
        if guarded.calls.ended().is_some() {
            return Poll::Ready(());
        }
        if guarded.calls.is_behind() {
            // Once: a call that has not been pushed by then need not be waited for.
            waited = !waited && guarded.calls.expects_more() && !guarded.calls.is_sending();
            drop(guarded);
            if waited {
                cx.waker().wake_by_ref();
            } else {
                shared.flush(cx.waker());
            }
            guarded = shared.guarded.lock();
        }
        if guarded.calls.is_deaf() && !deaf {
            cx.waker().wake_by_ref();
        }
        if guarded.closing {
            let over = !guarded.calls.is_behind();
            linger = linger.min(Deadline::after(COURTESY));
            if over || !has_timers {
                return Poll::Ready(());
            }
        }
        loop {
            let at = guarded.calls.poll_timeout().min(linger);
            guarded.alarm = at;
            drop(guarded);
            if !has_timers {
                if at == Deadline::NOW {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            if at != Deadline::NOW {
                alarm.set(at.instant());
                if alarm.poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            let now = clock::now();
            if linger.has_passed_at(now) {
                return Poll::Ready(());
            }
            // What has come is in time, whichever task has been told of it.
            shared.guarded.lock().unread = true;
            drop(shared.up_to_date());
            shared.waking(|guarded, woken| guarded.calls.handle_timeout(now, woken));
            guarded = shared.guarded.lock();
            if guarded.calls.has_unsent() {
                // The cancellations.
                drop(guarded);
                shared.flush(cx.waker());
                guarded = shared.guarded.lock();
            }
        }
    })
    .await;
}

/// How long the driver goes on for what is still to be sent, when there can be no more calls.
const COURTESY: Duration = Duration::from_millis(100);

/// Receives all that there is, and hands it to whom it concerns, until the end. If it is not to wait, that is because
/// nothing can be sent: when what has come is read, what is unsent fails, and then it waits for the rest.
pub(super) async fn read<S: Stream>(shared: Arc<Shared>, stream: Arc<S>, mut deadline: Deadline) {
    let mut woken = Woken::default();
    let mut received = 0;
    let mut message = shared.guarded.lock().calls.buffer();
    loop {
        // It is nobody else's: those that a blob still holds are not kept.
        let buffer = Arc::make_mut(&mut message);
        let result = stream.recv_message(buffer, deadline).await;
        let result = result.map(|message| message.is_some());
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if deadline == Deadline::NOW && result.as_ref().is_err_and(nothing) {
            deadline = Deadline::NEVER;
            shared.waking(|guarded, woken| guarded.calls.fail_unsent(woken));
            continue;
        }
        let next = shared.received(result, message, &mut woken);
        woken.drain(wake);
        let Some(next) = next else { return };
        message = next;
        received = (received + 1) % fair::AT_ONCE;
        if received == 0 {
            fair::yield_now().await;
        }
    }
}
