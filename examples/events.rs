//! One publisher, and three subscribers of different speed.
//!
//! ```text
//! cargo run --example events
//! ```
//!
//! The server publishes 2000 readings and never waits for anybody. The first subscriber takes each at once, the second
//! stops after a while and takes the rest later, and the third is slow. What waits for a subscriber is bounded: beyond
//! that it misses the oldest, and is told how many.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use pipetalk::{Broadcast, Call, CallOptions, Event, ItemSink, Items, Server};

const READINGS: u32 = 2000;

/// How many readings wait for a slow subscriber at the server.
const WAITING: usize = 200;

/// How many are on their way to one, at most.
const WINDOW: u32 = 32;

pipetalk::service! {
    /// What a sensor has to say.
    pub trait Sensor {
        /// What is measured from now on.
        stream readings() -> Event<u32>;
    }
    /// Listens to it.
    pub struct SensorClient;
}

struct Thermometer(Broadcast<u32>);

impl Sensor for Thermometer {
    fn readings(&self, _: &Call, items: ItemSink<Event<u32>>) {
        // The call is over with this, and its thread; the stream goes on.
        self.0.subscribe(items);
    }
}

/// What has become of a subscription.
#[derive(Default)]
struct Tally {
    got: u32,
    missed: u64,
    gaps: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = format!("pipetalk.events.{}", std::process::id());
    let server = Server::bind(name.as_str())?;
    let handle = server.handle();
    let readings = Broadcast::new(WAITING);
    let thermometer = Thermometer(readings.clone());
    let serving = thread::spawn(move || server.serve(thermometer.service()));

    let pause = Duration::from_millis;
    let subscribers = [
        ("eager", [pause(0), pause(0)]),
        ("absent", [pause(0), pause(200)]),
        ("slow", [pause(3), pause(0)]),
    ]
    .map(|(who, [each, once])| {
        let name = name.clone();
        thread::spawn(move || {
            let client = SensorClient::connect(name.as_str())?;
            let items = client.with(CallOptions::new().window(WINDOW)).readings()?;
            let tally = follow(items, each, once)?;
            Ok::<_, pipetalk::CallError>((who, tally))
        })
    });
    while readings.subscribers() < subscribers.len() {
        thread::yield_now();
    }

    let started = Instant::now();
    let mut longest = Duration::ZERO;
    for reading in 0..READINGS {
        let before = Instant::now();
        readings.publish(&reading)?;
        longest = longest.max(before.elapsed());
        thread::sleep(Duration::from_micros(100));
    }
    println!(
        "{READINGS} readings published in {} ms, none of them took longer than {} ms",
        started.elapsed().as_millis(),
        longest.as_millis() + 1
    );
    // Each stream ends behind what waits for it.
    readings.end();
    for subscriber in subscribers {
        let (who, tally) = subscriber.join().expect("a subscriber does not panic")?;
        println!(
            "{who}: got {}, missed {} in {} gaps",
            tally.got, tally.missed, tally.gaps
        );
    }
    handle.drain(Duration::from_secs(5));
    serving.join().expect("the server does not panic")?;
    Ok(())
}

/// Takes readings until there are no more, and pauses after each, and once in the middle.
fn follow(
    items: Items<Event<u32>>,
    each: Duration,
    once: Duration,
) -> Result<Tally, pipetalk::CallError> {
    let mut tally = Tally::default();
    for item in items {
        match item? {
            Event::Item(_) => tally.got += 1,
            Event::Missed(count) => {
                tally.missed += count;
                tally.gaps += 1;
            }
        }
        thread::sleep(each);
        if tally.got == 500 {
            thread::sleep(once);
        }
    }
    Ok(tally)
}
