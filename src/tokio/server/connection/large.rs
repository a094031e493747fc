//! Requests that are large: they wait for their share of the server's memory before they are received, and are decoded
//! where that holds up nobody.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::super::core::Elsewhere;
use super::super::job::Reply;
use super::{Connection, Request, What};
use crate::Deadline;
use crate::base::caught::caught;
use crate::proto::wire::{Code, Failure};
use crate::server::budget::{LOOK, Lease, SMALL};
use crate::server::buffer::Buffer;
use crate::tokio::runtime;
use crate::tokio::transport::Stream;

impl<Q, F> Connection<Q, F>
where
    Q: Send + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    /// Receives a message of that size.
    pub(super) async fn receive_large<S: Stream>(
        &self,
        stream: &S,
        message: &mut Vec<u8>,
        size: usize,
    ) -> (Option<Box<Lease>>, io::Result<Option<usize>>) {
        let holder = &self.core.holder;
        let lease = holder.lease(size).await;
        let begun = Instant::now();
        loop {
            let received = stream.recv_message(message, Deadline::NEVER);
            if let Ok(received) = runtime::by(Deadline::after(LOOK), received).await {
                return (Some(Box::new(lease)), received);
            }
            // It has begun to send it, and is at the rest of it.
            let usually = self.shared.options.send_timeout;
            let most = holder.budget().patience_for_message(size, usually);
            if begun.elapsed() >= most {
                self.refuse(&Failure::new(Code::OverLimit, "time for a message"));
                return (None, Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    /// Starts the handler of a request that could not be started as it came.
    pub(super) async fn start_later(&self, mut request: Request<Q>, waker: &Waker) -> Buffer {
        if self.core.aborts {
            request = Box::pin(self.decoded(request)).await;
        }
        let place = self.core.state.lock().place(request.id);
        self.start(request, place, waker)
    }

    /// The same request once it is decoded. What comes behind it on the same connection waits, as it does for its bytes.
    async fn decoded(&self, request: Request<Q>) -> Request<Q> {
        let Request {
            id,
            method,
            asked,
            timeout,
            lease,
        } = request;
        let asked = match asked {
            What::Encoded(payload) if payload.bytes().len() > SMALL => {
                let shared = Arc::clone(&self.shared);
                let decoded = elsewhere(&self.core, move || {
                    caught(|| (shared.decode)(method, payload))
                });
                What::Decoded(decoded.await)
            }
            asked => asked,
        };
        Request {
            id,
            method,
            asked,
            timeout,
            lease,
        }
    }
}

/// Does something on a thread of the runtime's that may block; the connection lasts until it is done.
pub(in super::super) async fn elsewhere<F: Send + 'static, R: Send + 'static>(
    core: &Arc<super::Core<F>>,
    run: impl FnOnce() -> R + Send + 'static,
) -> R {
    let elsewhere = Elsewhere::begin(core);
    super::super::on_a_thread(move || {
        let _elsewhere = elsewhere;
        run()
    })
    .await
}
