//! A call that nobody is ahead of.

use std::pin::pin;

use pipetalk::tokio::Client;
use pipetalk::{ClientOptions, Listener, LocalListener, LocalStream, Stream};
use tokio::task::spawn_blocking;

use util::tasks::{poll_times, runtimes};
use util::{Place, here, limit, soon};

/// The numbers that a client notifies of, until it goes.
fn received(stream: &LocalStream) -> Vec<u32> {
    let mut message = Vec::new();
    let hello = stream.recv_message(&mut message, soon()).unwrap();
    assert!(hello.is_some());
    let mut numbers = Vec::new();
    while stream.recv_message(&mut message, soon()).unwrap().is_some() {
        let bytes = message.last_chunk().unwrap();
        numbers.push(u32::from_le_bytes(*bytes));
    }
    numbers
}

/// It is sent by its caller as long as there is room; then it waits for some, and so does what is behind it.
#[test]
fn what_is_sent_until_there_is_no_room_comes_in_its_order() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        runtime.block_on(async {
            let options = ClientOptions::new();
            let client: Client<[u8; 4], ()> = options.connect_tokio(place.name()).await.unwrap();
            let stream = listener.accept(soon()).unwrap();
            let mut number = 0_u32;
            let (last, server) = loop {
                let bytes = number.to_le_bytes();
                let mut notifying = pin!(client.notify(&bytes));
                // Those that only let others have their turn go on.
                if poll_times(notifying.as_mut(), 100).await.is_some() {
                    number += 1;
                    continue;
                }
                let next = (number + 1).to_le_bytes();
                let mut behind = pin!(client.notify(&next));
                let early = poll_times(behind.as_mut(), 100).await;
                let server = spawn_blocking(move || received(&stream));
                notifying.await.unwrap();
                match early {
                    Some(notified) => notified.unwrap(),
                    None => behind.await.unwrap(),
                }
                break (number + 1, server);
            };
            drop(client);
            let numbers: Vec<u32> = (0..=last).collect();
            assert_eq!(server.await.unwrap(), numbers);
        });
    }
}
