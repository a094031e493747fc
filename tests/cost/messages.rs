//! What async streams cost in memory: nothing for each message once warm, and little while they wait.

use std::future::Future;
use std::io::IoSlice;

use pipetalk::Deadline;
use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream};
use tokio::runtime::Builder;

use util::{Place, allow_many_descriptors, here, limit, soon};

use crate::{ALLOCATOR, alone};

/// Runs a test on this thread.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test)
}

#[test]
fn a_message_allocates_nothing_once_warm() {
    let _alone = alone();
    let _limit = limit(here!());
    run(async {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        let client = LocalStream::connect(place.name()).await.unwrap();
        let server = listener.accept(soon()).await.unwrap();
        let request = vec![7; 20_000];
        let (mut message, mut reply, mut buf) = (Vec::new(), Vec::new(), [0; 100]);
        let mut fewest = usize::MAX;
        // Whoever else runs in this process now and then has nothing to do with it: the fewest are ours.
        for _ in 0..20 {
            // Asking for it is not free everywhere.
            let soon = soon();
            let before = ALLOCATOR.allocations();
            for (size, deadline) in [(0, Deadline::NEVER), (64, soon), (20_000, soon)] {
                let request = &request[..size];
                for _ in 0..50 {
                    let (asked, answered) = tokio::join!(
                        async {
                            client.send(request, deadline).await?;
                            client.recv_message(&mut reply, deadline).await
                        },
                        async {
                            server.recv_message(&mut message, deadline).await?;
                            let (head, tail) = message.split_at(size / 2);
                            let pieces = [head, tail].map(IoSlice::new);
                            server.send_vectored(&pieces, deadline).await
                        }
                    );
                    assert_eq!(asked.unwrap(), Some(size));
                    answered.unwrap();
                    assert_eq!(reply, request);
                }
            }
            let few = [&b"one"[..], b"two"].map(IoSlice::new);
            client.send_all(&few, soon).await.unwrap();
            for _ in few {
                let part = server.recv(&mut buf, soon).await.unwrap();
                assert_eq!(part.unwrap().len, 3);
            }
            fewest = fewest.min(ALLOCATOR.allocations() - before);
        }
        assert_eq!(fewest, 0);
    });
}

#[test]
fn a_stream_that_waits_has_no_buffer() {
    let _alone = alone();
    let _limit = limit(here!());
    const STREAMS: usize = 200;
    allow_many_descriptors();
    run(async {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        let mut open = Vec::with_capacity(STREAMS);
        let mut message = Vec::new();
        let mut before = 0;
        for n in 0..=STREAMS {
            let client = LocalStream::connect(place.name()).await.unwrap();
            let server = listener.accept(soon()).await.unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                from.send(&[7; 3_000], soon()).await.unwrap();
                to.recv_message(&mut message, soon()).await.unwrap();
            }
            if n == 0 {
                // From here on everything is warm, and what grows is for the streams.
                before = ALLOCATOR.live();
            } else {
                open.push((client, server));
            }
        }
        let each = (ALLOCATOR.live() - before) / (2 * STREAMS);
        println!("{each} bytes on the heap for each stream");
        // What the runtime keeps for a descriptor is among it; the stream itself is in the vector, with its size.
        assert!(each < 1_024, "{each} bytes");
        let size = size_of::<LocalStream>();
        assert!(size < 512, "{size} bytes");
        drop(open);
    });
}
