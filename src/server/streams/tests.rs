//! A connection that sends only when it is told to, and what its streams make of that.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::*;
use crate::proto::wire::{Identity, Message};

/// What was sent of a stream: an item, the end, or an error.
type Said = (u32, Result<Vec<u8>, Option<Code>>);

/// A connection that only keeps what is to be sent.
struct Wire {
    conversation: Mutex<Conversation>,
    queued: AtomicU32,
    takes: u32,
}

impl Line for Wire {
    fn lock(&self) -> MappedMutexGuard<'_, Conversation> {
        MutexGuard::map(self.conversation.lock(), |conversation| conversation)
    }

    fn is_queued(&self) {
        self.queued.fetch_add(1, Ordering::SeqCst);
    }

    fn client_takes(&self) -> u32 {
        self.takes
    }

    fn is_draining(&self) -> bool {
        false
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> u32 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

/// A message that a client sends, and what the driver makes of it.
fn receive(wire: &Wire, write: impl FnOnce(&mut Vec<u8>)) {
    use crate::proto::ServerEvent;
    let mut message = Vec::new();
    write(&mut message);
    let mut conversation = wire.lock();
    let event = conversation.session.receive(&Identity::default(), &message);
    let waker = match event.expect("a message") {
        ServerEvent::Credit { id } => conversation.credit(id),
        ServerEvent::Cancel { id } => conversation.streams.cancel(id),
        _ => None,
    };
    drop(conversation);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A connection with a stream of so much credit.
fn stream(credit: u32) -> (Arc<Wire>, Outflow, Arc<Woken>) {
    let wire = wire(5_000);
    let (outflow, woken) = another(&wire, 1, credit);
    (wire, outflow, woken)
}

/// A connection whose client takes messages of that size.
fn wire(takes: u32) -> Arc<Wire> {
    let budget = Arc::new(Budget::new(1 << 20, 1 << 20));
    let wire = Arc::new(Wire {
        conversation: Mutex::new(Conversation::new(ServerSession::new(9), budget)),
        queued: AtomicU32::new(0),
        takes,
    });
    receive(&wire, |out| wire::hello(out, &Identity::default()));
    wire
}

fn another(wire: &Arc<Wire>, id: u32, credit: u32) -> (Outflow, Arc<Woken>) {
    receive(wire, |out| wire::open(out, id, 7, None, credit));
    let serial = wire.lock().streams.open(id);
    let line: Arc<dyn Line> = Arc::clone(wire) as _;
    let mut outflow = Outflow::new(line, serial, Deadline::NEVER);
    let woken = Arc::new(Woken::default());
    outflow.claim(Arc::clone(&woken) as _);
    (outflow, woken)
}

fn offer(outflow: &Outflow, payload: &[u8]) -> bool {
    let mut message = outflow.blank();
    message.bytes().extend_from_slice(payload);
    match outflow.offer(message, true) {
        Ok(()) => true,
        Err(Refused::Full(_)) => false,
        Err(refused) => panic!("{refused:?}"),
    }
}

/// Sends the next message, and says what it was: an id, and a payload, the end, or a failure.
fn send(wire: &Wire) -> Option<Said> {
    let mut conversation = wire.lock();
    let outbound = conversation.streams.next()?;
    if outbound.last {
        assert!(conversation.session.answer(outbound.id));
        conversation.session.answered();
    }
    let bytes = outbound.message.plain().unwrap().to_vec();
    let said = match wire::parse(&bytes).expect("a message") {
        Message::Item { id, payload } => (id, Ok(payload.to_vec())),
        Message::End { id } => (id, Err(None)),
        Message::Error { id, failure } => (id, Err(Some(failure.code))),
        other => panic!("{other:?}"),
    };
    assert_eq!(said.0, outbound.id);
    let waker = conversation.sent(outbound);
    let wakers = conversation.relieved();
    drop(conversation);
    waker
        .into_iter()
        .chain(wakers)
        .for_each(|waker| waker.wake());
    Some(said)
}

fn item(id: u32, payload: &[u8]) -> Option<Said> {
    Some((id, Ok(payload.to_vec())))
}

#[test]
fn items_wait_for_credit_and_the_end_comes_behind_them() {
    let (wire, outflow, woken) = stream(2);
    assert!(offer(&outflow, b"a") && offer(&outflow, b"b") && !offer(&outflow, b"c"));
    assert_eq!(wire.queued.load(Ordering::SeqCst), 2);
    // That one has been sent helps nobody who has no credit.
    assert_eq!(send(&wire), item(1, b"a"));
    assert_eq!(woken.times(), 0);
    receive(&wire, |out| wire::credit(out, 1, 1));
    assert_eq!(woken.times(), 1);
    receive(&wire, |out| wire::credit(out, 1, 1));
    assert_eq!(woken.times(), 0, "nobody has asked since");
    assert!(offer(&outflow, b"c"));
    drop(outflow);
    assert_eq!(send(&wire), item(1, b"b"));
    assert_eq!(send(&wire), item(1, b"c"));
    assert_eq!(send(&wire), Some((1, Err(None))));
    assert!(send(&wire).is_none());
    assert_eq!(wire.lock().session.in_flight(), 0);
}

#[test]
fn credit_that_a_large_item_has_used_up_wakes_nobody() {
    let (wire, outflow, woken) = stream(1);
    assert!(offer(&outflow, &[0; 3_000]) && !offer(&outflow, b"b"));
    receive(&wire, |out| wire::credit(out, 1, 2));
    assert_eq!(woken.times(), 0);
    receive(&wire, |out| wire::credit(out, 1, 1));
    assert_eq!(woken.times(), 1);
    assert!(offer(&outflow, b"b"));
}

#[test]
fn no_more_is_queued_than_may_be_however_much_credit_there_is() {
    let (wire, outflow, woken) = stream(1_000_000);
    let room = (0..).take_while(|_| offer(&outflow, b"small")).count();
    assert_eq!(room, AHEAD as usize);
    // Another stream has room of its own.
    let (other, _) = another(&wire, 2, 1_000_000);
    assert!(offer(&other, b"other"));
    for sent in 1..=AHEAD / 2 {
        assert_eq!(woken.times(), 0, "{sent}");
        assert_eq!(send(&wire), item(1, b"small"));
    }
    assert_eq!(woken.times(), 1);
    let room = (0..).take_while(|_| offer(&outflow, b"small")).count();
    assert_eq!(room, AHEAD as usize / 2);
}

/// Three of these are queued at most.
const LARGE: usize = 300 << 10;

/// So many streams of one connection, all with more credit than they can use.
fn streams(count: u32) -> (Arc<Wire>, Vec<(Outflow, Arc<Woken>)>) {
    let wire = wire(1 << 20);
    let streams = (0..count).map(|id| another(&wire, id, 1 << 20)).collect();
    (wire, streams)
}

fn offers_large((outflow, _): &(Outflow, Arc<Woken>)) -> bool {
    offer(outflow, &[0; LARGE])
}

#[test]
fn room_is_for_those_that_have_waited_longest() {
    let (wire, streams) = streams(7);
    assert!(streams[..3].iter().all(offers_large));
    // Asking twice is no more than asking once.
    for _ in 0..2 {
        assert!(!streams[3..].iter().any(offers_large));
    }
    let woken = || -> Vec<u32> { streams.iter().map(|(_, woken)| woken.times()).collect() };
    assert!(send(&wire).is_some());
    assert_eq!(woken(), [0; 7], "for so little nobody is woken");
    assert!(send(&wire).is_some());
    assert_eq!(woken(), [0, 0, 0, 1, 1, 0, 0]);
    // It is theirs, however often others ask who are quicker.
    assert!(!offers_large(&streams[0]) && !offers_large(&streams[6]));
    assert!(send(&wire).is_some());
    assert_eq!(woken(), [0, 0, 0, 0, 0, 1, 0]);
    assert!(offer(&streams[1].0, b"small"), "that counts for nothing");
    assert!(!offers_large(&streams[6]));
    assert!(offers_large(&streams[5]));
    assert!(offers_large(&streams[4]) && offers_large(&streams[3]));
    let mut turns = Vec::new();
    while send(&wire).is_some() {
        for (id, (outflow, woken)) in streams.iter().enumerate() {
            if woken.times() > 0 {
                assert!(offer(outflow, &[0; LARGE]), "{id} was promised that");
                turns.push(id);
            }
        }
    }
    assert_eq!(turns, [0, 6]);
}

#[test]
fn whoever_wants_no_room_any_more_leaves_it_to_the_next() {
    for is_told in [false, true] {
        let (wire, mut streams) = streams(6);
        assert!(streams[..3].iter().all(offers_large) && !streams[3..].iter().any(offers_large));
        // One that waits leaves the line, and one that has been woken what it was promised.
        drop(streams.remove(4));
        while is_told && streams[3].1.times() == 0 {
            assert!(send(&wire).is_some());
        }
        drop(streams.remove(3));
        let last = &streams[3];
        while !matches!(last.1.times(), 1) {
            assert!(send(&wire).is_some(), "nothing is left to wait for");
        }
        assert!(offers_large(last));
        let conversation = wire.lock();
        assert_eq!(conversation.streams.line.promised(), 0);
        assert!(conversation.streams.line.is_empty());
    }
}

#[cfg(feature = "tokio")]
#[test]
fn whoever_gives_up_while_the_stream_goes_on_leaves_it_to_the_next() {
    let (wire, streams) = streams(6);
    assert!(streams[..3].iter().all(offers_large) && !streams[3..].iter().any(offers_large));
    drop(streams[4].0.waits());
    // Somebody else may still wait for the same stream.
    assert_eq!(streams[4].1.times(), 1);
    assert!(send(&wire).is_some() && send(&wire).is_some());
    assert_eq!((streams[3].1.times(), streams[5].1.times()), (1, 1));
    assert!(!offers_large(&streams[4]));
    drop(streams[3].0.waits());
    assert_eq!(streams[4].1.times(), 1, "what the other was promised");
    assert!(offers_large(&streams[4]) && offers_large(&streams[5]));
}

/// As a sender that does not wait is told of nothing, nothing is kept for it.
#[test]
fn whoever_only_tries_is_promised_nothing() {
    let (wire, streams) = streams(4);
    assert!(streams[..3].iter().all(offers_large));
    let mut message = streams[3].0.blank();
    message.bytes().extend_from_slice(&[0; LARGE]);
    assert!(matches!(
        streams[3].0.offer(message, false),
        Err(Refused::Full(_))
    ));
    assert!(wire.lock().streams.line.is_empty());
    while send(&wire).is_some() {}
    assert_eq!(streams[3].1.times(), 0);
    assert!(offers_large(&streams[3]));
}

#[test]
fn cancelling_drops_what_is_queued() {
    let (wire, outflow, woken) = stream(9);
    let (other, _) = another(&wire, 2, 9);
    assert!(offer(&outflow, b"a") && offer(&other, b"other") && offer(&outflow, b"b"));
    receive(&wire, |out| wire::cancel(out, 1));
    assert_eq!(woken.times(), 1);
    assert!(!outflow.is_open() && other.is_open());
    assert!(matches!(
        outflow.offer(outflow.blank(), true),
        Err(Refused::Stopped)
    ));
    assert_eq!(send(&wire), item(2, b"other"));
    assert_eq!(send(&wire), Some((1, Err(Some(Code::Cancelled)))));
    // The client may use the number again: the earlier stream has nothing to do with the later one.
    let (again, _) = another(&wire, 1, 9);
    assert!(!outflow.is_open());
    drop(outflow);
    assert!(offer(&again, b"again"));
    assert_eq!(send(&wire), item(1, b"again"));
    assert!(send(&wire).is_none());
}

#[test]
fn what_is_too_large_ends_a_stream() {
    let (wire, outflow, _) = stream(9);
    assert!(offer(&outflow, &[0; 4_992]));
    let large = Blob::from(vec![0; 4_993]);
    assert!(matches!(
        outflow.offer_shared(&large),
        Err(Refused::TooLarge {
            limit: 5_000,
            size: 5_001
        })
    ));
    assert!(matches!(
        outflow.offer_shared(&large),
        Err(Refused::Stopped)
    ));
    assert!(matches!(send(&wire), Some((1, Ok(_)))));
    assert_eq!(send(&wire), Some((1, Err(Some(Code::TooLarge)))));
}

#[test]
fn the_end_of_the_connection_is_the_end_of_all() {
    let (wire, outflow, _) = stream(9);
    let (other, _) = another(&wire, 2, 9);
    assert!(offer(&outflow, b"a"));
    assert_eq!(wire.lock().streams.wakers().len(), 2);
    assert_eq!(wire.lock().streams.close().len(), 2);
    assert!(!outflow.is_open() && !other.is_open());
    let serial = wire.lock().streams.open(3);
    let late = Outflow::new(Arc::clone(&wire) as _, serial, Deadline::NEVER);
    assert!(!late.is_open());
    drop((outflow, other, late));
    assert!(send(&wire).is_none() && wire.lock().streams.is_closed());
}

#[test]
fn what_the_handler_leaves_is_ended() {
    let unclaimed = |id, wire: &Arc<Wire>| {
        receive(wire, |out| wire::open(out, id, 7, None, 1));
        wire.lock().streams.open(id)
    };
    let (wire, outflow, woken) = stream(9);
    let claimed = outflow.serial;
    // A sink that somebody has goes on.
    assert_eq!(settle(&*wire, claimed, Ok(Ok(()))), None);
    assert!(outflow.is_open());
    for (id, handled, code) in [
        (2, Ok(Ok(())), None),
        (
            3,
            Ok(Err(HandleError::UnknownMethod)),
            Some(Code::UnknownMethod),
        ),
        (
            4,
            Ok(Err(HandleError::Decode("no".into()))),
            Some(Code::Malformed),
        ),
        (5, Err(Panicked), Some(Code::Panicked)),
    ] {
        let serial = unclaimed(id, &wire);
        assert_eq!(settle(&*wire, serial, handled), code);
        assert_eq!(send(&wire), Some((id, Err(code))));
    }
    let panicked = settle(&*wire, claimed, Err(Panicked));
    assert_eq!((panicked, woken.times()), (Some(Code::Panicked), 1));
    assert_eq!(send(&wire), Some((1, Err(panicked))));
    drop(outflow);
    assert!(send(&wire).is_none());
}
