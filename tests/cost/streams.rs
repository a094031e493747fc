//! What a stream costs of which nobody takes the items: a test of its own, because it counts all memory of the process.

use pipetalk::tokio::{Channel, ItemSink, memory};
use pipetalk::{Blob, Call, CallOptions, ClientOptions, ServerOptions};
use tokio::runtime::Builder;

use util::{here, limit, soon};

use crate::{ALLOCATOR, alone};

/// Who does not take items costs no more than the window, and holds up nobody.
#[test]
fn a_reader_that_stops_costs_bounded_memory() {
    const ITEM: usize = 16 << 10;
    let _alone = alone();
    let _limit = limit(here!());
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    let mut many = Builder::new_multi_thread();
    let many = many.worker_threads(2).enable_all().build().unwrap();
    for runtime in [one, many] {
        runtime.block_on(async {
            let handler = |count: u32, _: Call, items: ItemSink<Blob>| async move {
                for number in 0..count {
                    let item = Blob::from(vec![number as u8; ITEM]);
                    if items.send(&item).await.is_err() {
                        return;
                    }
                }
            };
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().on_tokio(listener);
            let handle = server.handle();
            let serving = tokio::spawn(server.serve(handler));
            let stream = connector.connect(soon()).await.unwrap();
            let channel: Channel = ClientOptions::new().channel_over_tokio(stream).unwrap();
            let options = CallOptions::new();
            let mut stopped = channel
                .open::<_, Blob>(0, &1000_u32, options)
                .await
                .unwrap();
            assert!(stopped.next().await.unwrap().is_ok());
            // Beside it 16 MB pass over the same connection, again and again.
            ALLOCATOR.forget_peak();
            let before = ALLOCATOR.live();
            for _ in 0..3 {
                let mut other = channel
                    .open::<_, Blob>(0, &1000_u32, options)
                    .await
                    .unwrap();
                let mut count = 0;
                while let Some(item) = other.next().await {
                    assert_eq!(item.unwrap().len(), ITEM);
                    count += 1;
                }
                assert_eq!(count, 1000);
                assert!(channel.info().await.is_ok());
            }
            // The window of either stream, what is queued of it, what is on its way, and the buffers that are kept.
            let most = ALLOCATOR.peak() - before;
            println!("at most {most} bytes in use");
            assert!(most < 1 << 20, "{most} bytes");
            let mut rest = 0;
            while let Some(item) = stopped.next().await {
                item.unwrap();
                rest += 1;
            }
            assert_eq!(rest, 999);
            handle.stop();
            serving.await.unwrap().unwrap();
        });
    }
}
