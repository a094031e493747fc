//! What is left of a server that has ended: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pipetalk::server::{HandleError, Handler, Opening, Outgoing, Payload, encode_reply};
use pipetalk::{
    Broadcast, Call, CallOptions, ClientOptions, DefaultCodec, Event, ItemSink, ServerOptions, memory,
};

use super::driver::{Channel, Items, channel_over, on};
use util::{Rng, here, limit, rounds_or, until};

/// Echoes; counts to what is asked for, in a stream; and hands streams to a broadcast.
struct Service {
    news: Broadcast<u64>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler<DefaultCodec, Service> for Service {
    fn handle(
        &self,
        _: u32,
        payload: &Payload,
        _: &Call,
        reply: &mut Outgoing,
    ) -> Result<(), HandleError> {
        encode_reply::<DefaultCodec, u64>(&payload.decode::<DefaultCodec, _>()?, reply)
    }

    fn open(&self, method: u32, payload: &Payload, _: &Call, opening: Opening) -> Result<(), HandleError> {
        let to: u64 = payload.decode::<DefaultCodec, _>()?;
        if method == 1 {
            self.news.subscribe(opening.into_sink::<Event<u64>, DefaultCodec>());
            return Ok(());
        }
        let items: ItemSink<u64> = opening.into_sink();
        let _ = (0..to).try_for_each(|number| items.send(&number));
        Ok(())
    }
}

#[test]
fn the_service_has_been_dropped_when_serve_returns() {
    let _limit = limit(here!());
    let alive = Arc::new(AtomicUsize::new(0));
    let mut rng = Rng::new();
    for round in 0..rounds_or(300, 30) {
        let pool = [0, 2][round as usize % 2];
        let (listener, connector) = memory::listener();
        let server = on(ServerOptions::new().pool(pool), listener);
        let handle = server.handle();
        // It outlives the server, and so do the sinks in it.
        let news = Broadcast::new(10);
        alive.fetch_add(1, Ordering::SeqCst);
        let service = Service {
            news: news.clone(),
            alive: Arc::clone(&alive),
        };
        let counts = Arc::clone(&alive);
        let serving = thread::spawn(move || {
            server.serve(service).unwrap();
            counts.load(Ordering::SeqCst)
        });
        let mut stay: Vec<(Channel, Vec<Items<u64>>)> = Vec::new();
        for client in 0..rng.in_range(1..4) {
            let stream = connector.connect(util::soon()).unwrap();
            let channel = channel_over(ClientOptions::new(), stream).unwrap();
            let options = CallOptions::new;
            assert_eq!(channel.call(0, &7_u64, options()), Ok(7_u64));
            let opened = [(0, 0), (0, u64::MAX), (1, 0)].map(|(method, to): (u32, u64)| {
                channel.open(method, &to, options()).unwrap()
            });
            if client == 0 || rng.one_in(2) {
                stay.push((channel, opened.into()));
            }
        }
        until("somebody hears the news", || news.subscribers() > 0);
        news.publish(&1).unwrap();
        match rng.in_range(0..3) {
            0 => handle.stop(),
            1 => handle.drain(Duration::from_millis(1)),
            _ => {
                stay.clear();
                handle.drain(Duration::from_millis(20));
            }
        }
        assert_eq!(serving.join().unwrap(), 0, "round {round}");
    }
}
