//! [`Broadcast`]: one item for many streams.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sink::Sink;
use super::streams::{Outflow, Wake};
use crate::Blob;
use crate::base::caught::{caught, drop_caught};
use crate::codec::{Codec, CodecError, DefaultCodec};
use crate::proto::wire::{Code, Failure};

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

    /// Like [`subscribe`](Self::subscribe), but only items for which `wants` returns true. Items that it does not want
    /// are none that are missed.
    ///
    /// It is called for each item by the thread that publishes it, before the item goes to anybody, and by several
    /// threads at once if they publish at once. It may use this broadcast itself. If it panics, its own subscriber's
    /// stream ends, with [`CallError::Panicked`](crate::CallError::Panicked), and nobody else notices.
    pub fn subscribe_to(
        &self,
        sink: impl Sink<Event<T>, C>,
        wants: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) {
        let wants: Wants<T> = Arc::new(wants);
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

/// The subscribers. Publishing holds the lock while the item is handed to each stream, which waits for nobody; so does the
/// thread that has learnt that a stream has room. It is never taken with the lock of a connection held.
///
/// What is not ours runs without it: filters are asked before, and what has to go is dropped after.
struct Core<T> {
    capacity: usize,
    slow: Slow,
    /// Encodes how many items were missed.
    missed: fn(u64) -> Result<Blob, CodecError>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// By their keys: those that came later stand behind.
    subscribers: Vec<Subscriber<T>>,
    next_key: u64,
    /// Nothing more is published.
    ending: bool,
}

/// Which items a subscriber wants.
type Wants<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

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

/// Subscribers that are no more, to be dropped without the lock: their filters are not ours.
#[must_use]
struct Gone<T>(Vec<Subscriber<T>>);

impl<T> Drop for Gone<T> {
    fn drop(&mut self) {
        for subscriber in self.0.drain(..) {
            subscriber.outflow.end();
            drop_caught(subscriber);
        }
    }
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
        let subscribers = &mut state.subscribers;
        let Ok(place) = subscribers.binary_search_by_key(&self.key, |subscriber| subscriber.key)
        else {
            return;
        };
        let subscriber = &mut subscribers[place];
        subscriber.full = false;
        if !subscriber.outflow.is_open() || !subscriber.flush(core.missed, ending) {
            let gone = Gone(vec![subscribers.remove(place)]);
            drop(state);
            drop(gone);
        }
    }
}

impl<T: 'static> Core<T> {
    fn add(self: &Arc<Self>, mut outflow: Outflow, wants: Option<Wants<T>>) {
        let mut state = self.state.lock();
        let key = state.next_key;
        let ending = state.ending;
        if !ending {
            state.next_key += 1;
            outflow.claim(Arc::new(Room {
                core: Arc::clone(self),
                key,
            }));
        }
        let mut subscriber = Subscriber {
            key,
            outflow,
            wants,
            waiting: VecDeque::new(),
            missed: 0,
            full: false,
        };
        // It may have ended just before, or the server have begun to, when nobody here could be told.
        let stays = !ending && subscriber.outflow.is_open() && subscriber.flush(self.missed, false);
        if stays {
            state.subscribers.push(subscriber);
        } else {
            drop(state);
            drop(Gone(vec![subscriber]));
        }
    }
}

impl<T> Core<T> {
    fn publish(&self, item: &T, encoded: &Blob) {
        let mut asked = Asked::default();
        let mut state = self.state.lock();
        // Those that have come while others were asked are asked as well.
        while !state.ending {
            let left = asked.left(&state);
            if left.is_empty() {
                break;
            }
            drop(state);
            asked.ask(left, item);
            state = self.state.lock();
        }
        if state.ending {
            return;
        }
        let gone = state.keep(|subscriber| match asked.answer(subscriber) {
            Answer::Wanted => subscriber.get(self, encoded),
            Answer::Unwanted => true,
            Answer::Panicked => {
                subscriber.outflow.fail(&Failure::new(Code::Panicked, ""));
                false
            }
        });
        drop(state);
        drop(gone);
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.ending = true;
        // Those for whom nothing waits end now, the others when they have got it.
        let gone = state.keep(|subscriber| subscriber.flush(self.missed, true));
        drop(state);
        drop(gone);
    }
}

impl<T> State<T> {
    /// Keeps those of which this says so.
    fn keep(&mut self, mut keep: impl FnMut(&mut Subscriber<T>) -> bool) -> Gone<T> {
        let mut gone = Vec::new();
        let stay = |subscriber: &mut Subscriber<T>| {
            let keep = keep(subscriber);
            if !keep {
                gone.push(subscriber.key);
            }
            keep
        };
        // Nearly always they all stay.
        if self
            .subscribers
            .iter_mut()
            .map(stay)
            .fold(true, |all, stays| all & stays)
        {
            return Gone(Vec::new());
        }
        let is_gone = |subscriber: &Subscriber<T>| gone.binary_search(&subscriber.key).is_ok();
        let all = mem::take(&mut self.subscribers).into_iter();
        let (gone, kept) = all.partition(is_gone);
        self.subscribers = kept;
        Gone(gone)
    }
}

/// What the filters say of one item.
#[derive(Default)]
struct Asked {
    /// From this key on they have not been asked.
    from: u64,
    /// By their keys.
    answers: Vec<(u64, Answer)>,
}

#[derive(Clone, Copy)]
enum Answer {
    Wanted,
    Unwanted,
    Panicked,
}

impl Asked {
    /// Those that have not been asked, from now on as if they had.
    fn left<T>(&mut self, state: &State<T>) -> Vec<(u64, Wants<T>)> {
        let from = mem::replace(&mut self.from, state.next_key);
        let later = state.subscribers.iter().rev();
        let mut left: Vec<_> = later
            .take_while(|subscriber| subscriber.key >= from)
            .filter_map(|subscriber| Some((subscriber.key, subscriber.wants.clone()?)))
            .collect();
        left.reverse();
        left
    }

    fn ask<T>(&mut self, left: Vec<(u64, Wants<T>)>, item: &T) {
        for (key, wants) in left {
            let answer = match caught(|| wants(item)) {
                Ok(true) => Answer::Wanted,
                Ok(false) => Answer::Unwanted,
                Err(_) => Answer::Panicked,
            };
            self.answers.push((key, answer));
            // It may be all that is left of it.
            drop_caught(wants);
        }
    }

    fn answer<T>(&self, subscriber: &Subscriber<T>) -> Answer {
        let answers = &self.answers;
        match answers.binary_search_by_key(&subscriber.key, |(key, _)| *key) {
            Ok(place) => answers[place].1,
            Err(_) => Answer::Wanted,
        }
    }
}

impl<T> Subscriber<T> {
    /// Takes in an item. Whether there is more for this one.
    fn get(&mut self, core: &Core<T>, encoded: &Blob) -> bool {
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
                let Ok(Ok(event)) = caught(|| missed(self.missed)) else {
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
