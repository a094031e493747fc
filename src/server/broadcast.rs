//! [`Broadcast`]: one item for many streams.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sink::Sink;
use super::streams::{Outflow, Wake};
use crate::Blob;
use crate::codec::{Codec, CodecError, DefaultCodec};
use crate::wire::{Code, Failure};

/// A set of streams to which the same items go: events, for whoever wants to hear of them.
///
/// Give its handlers' sinks to it, and publish. An item is encoded once, however many there are, and publishing never
/// waits for a subscriber: what one has no room for yet waits for it here, up to a limit, and then [`Slow`] says what
/// happens. There is no thread behind it: items leave when they are published, or when their subscriber makes room.
///
/// Clones publish to the same streams. When the last is dropped, and when the server drains, each stream ends behind
/// what waits for it.
///
/// ```
/// use pipetalk::{Broadcast, Call, Event, ItemSink, memory};
///
/// pipetalk::service! {
///     trait News {
///         /// What happens from now on.
///         stream watch() -> Event<String>;
///     }
///     struct NewsClient;
/// }
///
/// struct Desk(Broadcast<String>);
///
/// impl News for Desk {
///     fn watch(&self, _: &Call, items: ItemSink<Event<String>>) {
///         self.0.subscribe(items);
///     }
/// }
///
/// let news = Broadcast::new(100);
/// let (listener, connector) = memory::listener();
/// let server = pipetalk::ServerOptions::new().on(listener);
/// let desk = Desk(news.clone());
/// # let handle = server.handle();
/// let serving = std::thread::spawn(move || server.serve(desk.service()));
///
/// let client = NewsClient::over(connector.connect(pipetalk::Deadline::NEVER)?)?;
/// let mut events = client.watch()?;
/// while news.subscribers() == 0 {
///     std::thread::yield_now();
/// }
/// news.publish(&"it rains".to_owned())?;
/// assert_eq!(events.next(), Some(Ok(Event::Item("it rains".to_owned()))));
/// # handle.stop();
/// # serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Broadcast<T: 'static, C = DefaultCodec> {
    publisher: Arc<Publisher<T>>,
    codec: PhantomData<fn() -> C>,
}

/// What a subscriber of a [`Broadcast`] gets.
///
/// On the wire it is what a `Result<T, u64>` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event<T> {
    /// What was published.
    Item(T),
    /// The subscriber was too slow: so many items that were published here, between the one before and the one after,
    /// did not reach it.
    Missed(u64),
}

/// What becomes of a subscriber for whom as many items wait as may, when there is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Slow {
    /// The oldest item is dropped. In its place the subscriber is told how many it has [missed](Event::Missed).
    #[default]
    Lag,
    /// Its stream is ended, with [`CallError::Failed`](crate::CallError::Failed), which says so.
    End,
}

impl<T: Serialize, C: Codec> Broadcast<T, C> {
    /// One without subscribers, of each of which so many items may wait here, at least one, besides those that are on
    /// their way already, as the subscriber's [window](crate::CallOptions::window) says. Slow subscribers
    /// [lag](Slow::Lag), unless set otherwise.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Broadcast::with_slow(capacity, Slow::Lag)
    }

    /// The same, and what becomes of slow subscribers.
    #[must_use]
    pub fn with_slow(capacity: usize, slow: Slow) -> Self {
        let core = Core {
            capacity: capacity.max(1),
            slow,
            missed: |count| encoded::<C, ()>(Err(&count)),
            state: Mutex::new(State {
                subscribers: Vec::new(),
                next_key: 0,
                ending: false,
            }),
        };
        Broadcast {
            publisher: Arc::new(Publisher(Arc::new(core))),
            codec: PhantomData,
        }
    }

    /// Sends an item to all subscribers, or has it wait for those that have no room. Items that several threads
    /// publish come in one order to all.
    ///
    /// # Errors
    ///
    /// [`CodecError::Encode`], and nobody gets it.
    pub fn publish(&self, item: &T) -> Result<(), CodecError> {
        let core = &self.publisher.0;
        if core.state.lock().subscribers.is_empty() {
            return Ok(());
        }
        core.publish(item, &encoded::<C, T>(Ok(item))?);
        Ok(())
    }
}

impl<T, C> Broadcast<T, C> {
    /// Takes a stream in: it gets what is published from now on.
    pub fn subscribe(&self, sink: impl Sink<Event<T>, C>) {
        self.publisher.0.add(sink.into_opening().0, None);
    }

    /// The same, of those items alone of which `wants` says so. It is asked for each item as it is published, by the
    /// thread that publishes it, and must not use this broadcast itself. Items that it does not want are none that are
    /// missed.
    pub fn subscribe_to(
        &self,
        sink: impl Sink<Event<T>, C>,
        wants: impl Fn(&T) -> bool + Send + 'static,
    ) {
        let wants = Box::new(wants);
        self.publisher.0.add(sink.into_opening().0, Some(wants));
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.publisher.0.state.lock().subscribers.len()
    }

    /// Ends all streams, each behind what waits for it, and those that are subscribed later at once.
    pub fn end(&self) {
        self.publisher.0.end();
    }
}

impl<T, C> Clone for Broadcast<T, C> {
    fn clone(&self) -> Self {
        Broadcast {
            publisher: Arc::clone(&self.publisher),
            codec: PhantomData,
        }
    }
}

impl<T, C> fmt::Debug for Broadcast<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("capacity", &self.publisher.0.capacity)
            .field("slow", &self.publisher.0.slow)
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}

impl<T: Serialize> Serialize for Event<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Event::Item(item) => Ok(item),
            Event::Missed(count) => Err(count),
        }
        .serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Event<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Result::deserialize(deserializer)? {
            Ok(item) => Event::Item(item),
            Err(count) => Event::Missed(count),
        })
    }
}

/// An event as it is sent.
fn encoded<C: Codec, T: Serialize>(event: Result<&T, &u64>) -> Result<Blob, CodecError> {
    let mut bytes = Vec::new();
    C::encode(&event, &mut bytes)?;
    Ok(bytes.into())
}

/// What the clones of a broadcast share: its end is the end of the streams.
struct Publisher<T: 'static>(Arc<Core<T>>);

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The subscribers. Whoever publishes holds the lock while it hands the item to each stream, which waits for nobody; so
/// does the thread that has learnt that a stream has room. No lock of a connection is held by who takes this one.
struct Core<T> {
    capacity: usize,
    slow: Slow,
    /// Encodes how many items were missed.
    missed: fn(u64) -> Result<Blob, CodecError>,
    state: Mutex<State<T>>,
}

struct State<T> {
    subscribers: Vec<Subscriber<T>>,
    next_key: u64,
    /// Nothing more is published.
    ending: bool,
}

/// Which items a subscriber wants.
type Wants<T> = Box<dyn Fn(&T) -> bool + Send>;

struct Subscriber<T> {
    key: u64,
    outflow: Outflow,
    wants: Option<Wants<T>>,
    /// What there was no room for.
    waiting: VecDeque<Blob>,
    /// How many items were dropped before those that wait.
    missed: u64,
    /// There was no room, and it has not been said that there is.
    full: bool,
}

/// Tells the broadcast of a subscriber's room, or end.
struct Room<T: 'static> {
    core: Arc<Core<T>>,
    key: u64,
}

impl<T> Wake for Room<T> {
    fn wake(&self) {
        let core = &*self.core;
        let mut state = core.state.lock();
        let ending = state.ending;
        let mut subscribers = state.subscribers.iter_mut();
        let Some(place) = subscribers.position(|subscriber| subscriber.key == self.key) else {
            return;
        };
        let subscriber = &mut state.subscribers[place];
        subscriber.full = false;
        if !subscriber.outflow.is_open() || !subscriber.flush(core.missed, ending) {
            state.subscribers.swap_remove(place);
        }
    }
}

impl<T: 'static> Core<T> {
    fn add(self: &Arc<Self>, mut outflow: Outflow, wants: Option<Wants<T>>) {
        let mut state = self.state.lock();
        if state.ending {
            return;
        }
        let key = state.next_key;
        state.next_key += 1;
        outflow.claim(Arc::new(Room {
            core: Arc::clone(self),
            key,
        }));
        let mut subscriber = Subscriber {
            key,
            outflow,
            wants,
            waiting: VecDeque::new(),
            missed: 0,
            full: false,
        };
        // It may have ended just before, or the server have begun to, when nobody here could be told.
        if subscriber.outflow.is_open() && subscriber.flush(self.missed, false) {
            state.subscribers.push(subscriber);
        }
    }
}

impl<T> Core<T> {
    fn publish(&self, item: &T, encoded: &Blob) {
        let mut state = self.state.lock();
        if state.ending {
            return;
        }
        state
            .subscribers
            .retain_mut(|subscriber| subscriber.get(self, item, encoded));
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.ending = true;
        // Those for whom nothing waits end now, the others when they have got it.
        state
            .subscribers
            .retain_mut(|subscriber| subscriber.flush(self.missed, true));
    }
}

impl<T> Subscriber<T> {
    /// Takes in an item. Whether there is more for this one.
    fn get(&mut self, core: &Core<T>, item: &T, encoded: &Blob) -> bool {
        if self.wants.as_ref().is_some_and(|wants| !wants(item)) {
            return true;
        }
        if self.waiting.len() >= core.capacity {
            match core.slow {
                Slow::Lag => {
                    self.waiting.pop_front();
                    self.missed = self.missed.saturating_add(1);
                }
                Slow::End => {
                    let text = format!("too slow: {} items wait already", core.capacity);
                    self.outflow.fail(&Failure::new(Code::Failed, &text));
                    return false;
                }
            }
        }
        self.waiting.push_back(encoded.clone());
        self.flush(core.missed, false)
    }

    /// Sends what waits, as far as there is room. Whether there is more for this one: not if the stream is over, or
    /// everything has been sent and no more is to come.
    fn flush(&mut self, missed: fn(u64) -> Result<Blob, CodecError>, ending: bool) -> bool {
        while !self.full {
            let sent = if self.missed > 0 {
                let Ok(event) = missed(self.missed) else {
                    return false;
                };
                let sent = self.outflow.offer_shared(&event);
                if matches!(sent, Ok(true)) {
                    self.missed = 0;
                }
                sent
            } else if let Some(item) = self.waiting.front() {
                let sent = self.outflow.offer_shared(item);
                if matches!(sent, Ok(true)) {
                    self.waiting.pop_front();
                }
                sent
            } else {
                return !ending && !self.outflow.is_draining();
            };
            match sent {
                Ok(true) => {}
                Ok(false) => self.full = true,
                Err(_) => return false,
            }
        }
        true
    }
}
