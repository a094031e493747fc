//! A transport that tells nobody what has come.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Waker};

use pipetalk::tokio::{Client, Stream, memory};
use pipetalk::{CallOptions, ClientOptions, Deadline, Part, ServerOptions};

use crate::tasks::harness::Serving;
use util::tasks::runtimes;
use util::{A_MOMENT, here, limit, slowness, soon};

/// Receives when it is asked to, and wakes nobody to ask.
#[derive(Debug)]
struct Untold(memory::Stream);

impl Stream for Untold {
    async fn send(&self, message: &[u8], deadline: Deadline) -> io::Result<()> {
        self.0.send(message, deadline).await
    }

    async fn recv(&self, buf: &mut [u8], deadline: Deadline) -> io::Result<Option<Part>> {
        let mut receiving = pin!(self.0.recv(buf, deadline));
        poll_fn(|_| {
            let mut nobody = Context::from_waker(Waker::noop());
            receiving.as_mut().poll(&mut nobody)
        })
        .await
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Whoever is to be told may be slow to wake; that is no reason to take an answer for late that is not.
#[test]
fn what_has_come_by_the_deadline_is_in_time() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().on_tokio(listener);
            let serving = Serving::start(server, |number: u32, _| async move { number });
            let stream = Untold(connector.connect(soon()).await.unwrap());
            let client: Client<u32, u32> = ClientOptions::new().over_tokio(stream).unwrap();
            let options = CallOptions::new().deadline(A_MOMENT * 20 * slowness());
            assert_eq!(client.call_with(&7, options).await, Ok(7));
            serving.stop().await;
        });
    }
}
