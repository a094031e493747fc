//! Handlers that panic, and what they panic with panics as well.

use std::time::Duration;

use pipetalk::tokio::{Client, ItemSink, Items, memory};
use pipetalk::{Call, CallError, CallOptions, ClientOptions, ServerOptions};

use crate::tasks::harness::{Serving, alive_tasks, connect};
use util::bomb::{Bomb, raise};
use util::tasks::{runtimes, until};
use util::{A_MOMENT, here, limit};

const AT_ONCE: u32 = 1;
const BEFORE_WAITING: u32 = 2;
const LATER: u32 = 3;
/// When it is dropped, because nobody waits any more.
const DROPPED: u32 = 4;

fn what_it_does(what: u32) -> impl Future<Output = u32> + Send {
    if what == AT_ONCE {
        raise();
    }
    async move {
        if what == BEFORE_WAITING {
            raise();
        }
        let _bomb = (what == DROPPED).then(|| Bomb(3));
        tokio::time::sleep(Duration::from_millis(1)).await;
        if what == LATER {
            raise();
        }
        if what == DROPPED {
            std::future::pending::<()>().await;
        }
        what
    }
}

#[test]
fn a_handler_that_panics_so_is_told_at_once_and_leaves_nothing() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let before = alive_tasks();
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().in_flight(4).on_tokio(listener);
            let serving = Serving::start(server, |what: u32, _: Call| what_it_does(what));
            for _ in 0..5 {
                let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
                for _ in 0..3 {
                    for what in [AT_ONCE, BEFORE_WAITING, LATER] {
                        let called = client.call(&what).await;
                        assert_eq!(called, Err(CallError::Panicked), "{what}");
                        client.notify(&what).await.unwrap();
                    }
                    let moment = CallOptions::new().deadline(A_MOMENT);
                    let called = client.call_with(&DROPPED, moment).await;
                    // Whichever of the two is first.
                    let over = [
                        Err(CallError::TimedOut { sent: true }),
                        Err(CallError::Cancelled),
                    ];
                    assert!(over.contains(&called), "{called:?}");
                    assert_eq!(client.call(&7).await, Ok(7));
                }
            }
            serving.stop().await;
            until("no task is left", async || alive_tasks() == before).await;
        });
    }
}

#[test]
fn the_handler_of_a_stream_that_panics_so_leaves_nothing() {
    let _limit = limit(here!());
    for runtime in runtimes() {
        runtime.block_on(async {
            let before = alive_tasks();
            let (listener, connector) = memory::listener();
            let server = ServerOptions::new().in_flight(2).on_tokio(listener);
            let handle = server.handle();
            let serving = tokio::spawn(server.serve(|what: u32, _: Call, items: ItemSink<u32>| {
                let does = what_it_does(what);
                async move {
                    let _ = items.send(&does.await).await;
                }
            }));
            let client: Client<u32, u32> = connect(&connector, ClientOptions::new()).await;
            for _ in 0..3 {
                for what in [AT_ONCE, BEFORE_WAITING, LATER, DROPPED] {
                    let options = CallOptions::new().deadline(A_MOMENT * 20);
                    let opened = client.channel().open(0, &what, options).await;
                    let mut items: Items<u32> = opened.unwrap();
                    if what == DROPPED {
                        assert_eq!(
                            items.next_by(A_MOMENT / 10).await.map(|item| item.is_err()),
                            Some(true)
                        );
                        continue;
                    }
                    assert_eq!(items.next().await, Some(Err(CallError::Panicked)), "{what}");
                    assert_eq!(items.next().await, None);
                }
            }
            drop(client);
            handle.stop();
            serving.await.unwrap().unwrap();
            until("no task is left", async || alive_tasks() == before).await;
        });
    }
}
