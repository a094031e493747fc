//! Requests that take long to decode.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipetalk::tokio::{Channel, Client, ItemSink, memory};
use pipetalk::{Blob, Call, CallOptions, ClientOptions, ServerOptions};
use serde::Deserializer;

use crate::tasks::harness::{Serving, connect};
use util::tasks::{one_thread, until};
use util::{Deserialize, Serialize, here, limit, soon};

/// Bytes, of which many are not decoded before the test says so.
#[derive(Debug, Serialize)]
struct Slow(Blob);

/// How many are being decoded, and how many may be.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
static ALLOWED: AtomicUsize = AtomicUsize::new(0);

/// Both are everybody's.
static ALONE: Mutex<()> = Mutex::new(());

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Blob::deserialize(deserializer)?;
        if bytes.len() > 1000 {
            let number = BEGUN.fetch_add(1, Ordering::SeqCst);
            let deadline = soon();
            while ALLOWED.load(Ordering::SeqCst) <= number && !deadline.has_passed() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(Slow(bytes))
    }
}

fn large() -> Slow {
    Slow(vec![7; 1 << 20].into())
}

fn small(number: u8) -> Slow {
    Slow(vec![number].into())
}

#[test]
fn what_takes_long_to_decode_holds_up_nobody() {
    let _limit = limit(here!());
    let _alone = ALONE.lock().unwrap();
    BEGUN.store(0, Ordering::SeqCst);
    ALLOWED.store(0, Ordering::SeqCst);
    one_thread().block_on(async {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let length = |bytes: Slow, _: Call| async move { bytes.0.len() };
        let serving = Serving::start(server, length);
        let neighbour: Client<Slow, usize> = connect(&connector, ClientOptions::new()).await;
        assert_eq!(neighbour.call(&small(1)).await, Ok(1));
        let client: Client<Slow, usize> = connect(&connector, ClientOptions::new()).await;
        let caller = client.clone();
        let call = tokio::spawn(async move { caller.call(&large()).await });
        until("it is being decoded", async || {
            BEGUN.load(Ordering::SeqCst) == 1
        })
        .await;
        for _ in 0..10 {
            assert_eq!(neighbour.call(&small(1)).await, Ok(1));
        }
        assert!(!call.is_finished(), "the neighbour had to wait for it");
        ALLOWED.store(1, Ordering::SeqCst);
        assert_eq!(call.await.unwrap(), Ok(1 << 20));
        // A client that leaves meanwhile is not waited for by anybody, and the service is.
        let call = tokio::spawn(async move { client.call(&large()).await });
        until("it is being decoded", async || {
            BEGUN.load(Ordering::SeqCst) == 2
        })
        .await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        assert_eq!(neighbour.call(&small(1)).await, Ok(1));
        ALLOWED.store(2, Ordering::SeqCst);
        serving.stop().await;
    });
}

#[test]
fn a_stream_whose_request_takes_long_to_decode_holds_up_nobody() {
    let _limit = limit(here!());
    let _alone = ALONE.lock().unwrap();
    BEGUN.store(0, Ordering::SeqCst);
    ALLOWED.store(0, Ordering::SeqCst);
    one_thread().block_on(async {
        let (listener, connector) = memory::listener();
        let server = ServerOptions::new().on_tokio(listener);
        let handle = server.handle();
        let lengths = |bytes: Slow, _: Call, items: ItemSink<usize>| async move {
            items.send(&bytes.0.len()).await.unwrap();
            tokio::task::yield_now().await;
            items.send(&0).await.unwrap();
        };
        let serving = tokio::spawn(server.serve(lengths));
        let channel = async || -> Channel {
            let stream = connector.connect(soon()).await.unwrap();
            ClientOptions::new().channel_over_tokio(stream).unwrap()
        };
        let (one, neighbour) = (channel().await, channel().await);
        let mut slow = one
            .open::<_, usize>(0, &large(), CallOptions::new())
            .await
            .unwrap();
        until("it is being decoded", async || {
            BEGUN.load(Ordering::SeqCst) == 1
        })
        .await;
        for number in 0..3 {
            let mut quick = neighbour
                .open::<_, usize>(0, &small(number), CallOptions::new())
                .await
                .unwrap();
            assert_eq!(quick.next().await, Some(Ok(1)));
            assert_eq!(quick.next().await, Some(Ok(0)));
            assert_eq!(quick.next().await, None);
        }
        assert_eq!(
            slow.try_next(),
            Ok(None),
            "the neighbour had to wait for it"
        );
        ALLOWED.store(1, Ordering::SeqCst);
        assert_eq!(slow.next().await, Some(Ok(1 << 20)));
        assert_eq!(slow.next().await, Some(Ok(0)));
        assert_eq!(slow.next().await, None);
        handle.stop();
        serving.await.unwrap().unwrap();
    });
}
