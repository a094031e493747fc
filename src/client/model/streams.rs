//! Streams: consumers and callers read for each other, whoever leaves, and however it ends.

use loom::thread;

use super::client::{CLOSED, Client, Message, answered, answered_together, explore};
use crate::Deadline;
use crate::client::sync::at;

/// The items come while the other waits for its answer: whoever reads leaves them where they belong.
#[test]
fn a_consumer_and_a_caller_read_for_each_other() {
    explore(Some(4), || {
        let client = Client::new(9);
        let stream = client.open();
        let stream_id = stream.id;
        let other = client.spawn(Deadline::NEVER, move |client, id| {
            client.wire().deliver(Message::Item(stream_id, 10));
            client.wire().deliver(Message::Answer(id));
            client.wire().deliver(Message::Item(stream_id, 11));
            true
        });
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(11)));
        assert!(other.join().unwrap().is_ok());
    });
}

/// One that goes on reading wakes the other when it has read what that waits for.
#[test]
fn a_consumer_that_reads_on_wakes_a_caller() {
    explore(Some(4), || {
        let client = Client::new(9);
        let stream = client.open();
        let (caller, id) = (client.clone(), stream.id);
        let caller = thread::spawn(move || {
            assert!(caller.call(Deadline::NEVER, answered).is_ok());
            caller.wire().deliver(Message::Item(id, 10));
        });
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
        caller.join().unwrap();
    });
}

/// The same the other way round.
#[test]
fn a_caller_that_reads_on_wakes_a_consumer() {
    explore(Some(4), || {
        let client = Client::new(9);
        let stream = client.open();
        let (consumer, id) = (client.clone(), stream.id);
        let consumer = thread::spawn(move || {
            assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
            consumer.wire().change(|line| {
                let call = line.requests[0];
                line.to_client.push_back(Message::Answer(call));
            });
        });
        let called = client.call(Deadline::NEVER, move |client, call| {
            client.wire().change(|line| {
                line.requests.push(call);
                line.to_client.push_back(Message::Item(id, 10));
            });
            true
        });
        assert!(called.is_ok());
        consumer.join().unwrap();
    });
}

/// A consumer that has its item reads no more: the caller has to.
#[test]
fn a_consumer_that_has_its_item_hands_over() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        let stream_id = stream.id;
        let other = client.spawn(Deadline::NEVER, move |client, id| {
            client.wire().deliver(Message::Item(stream_id, 10));
            client.wire().deliver(Message::Answer(id));
            true
        });
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
        // It stays away for ever.
        assert!(other.join().unwrap().is_ok());
    });
}

/// The same with one that leaves, or whose time is over.
#[test]
fn a_consumer_that_stops_waiting_hands_over() {
    explore(Some(3), || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::NEVER, |client, id| {
            client.pass_the_deadline();
            answered(client, id)
        });
        assert_eq!(stream.next(at()), None);
        drop(stream);
        assert!(other.join().unwrap().is_ok());
    });
}

/// One whose time is over is not chosen to read, although it keeps its stream.
#[test]
fn a_consumer_that_has_stopped_waiting_is_not_chosen_to_read() {
    explore(Some(3), || {
        let client = Client::new(9);
        let stream = client.open();
        let others = [(); 2].map(|()| {
            client.spawn(Deadline::NEVER, |client, id| {
                client.pass_the_deadline();
                answered_together([0, 1])(client, id)
            })
        });
        assert_eq!(stream.next(at()), None);
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
        drop(stream);
    });
}

/// Two consumers, and whoever reads, reads for both.
#[test]
fn consumers_read_for_each_other() {
    explore(Some(3), || {
        let client = Client::new(9);
        let [stream, others] = [client.open(), client.open()];
        for item in [10, 11] {
            client.wire().deliver(Message::Item(stream.id, item));
            client.wire().deliver(Message::Item(others.id, item));
        }
        let other = thread::spawn(move || {
            assert_eq!(others.next(Deadline::NEVER), Some(Ok(10)));
            assert_eq!(others.next(Deadline::NEVER), Some(Ok(11)));
        });
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(11)));
        drop(stream);
        other.join().unwrap();
    });
}

/// One that is taken from on another thread each time.
#[test]
fn a_consumer_moves_to_another_thread() {
    explore(Some(3), || {
        let client = Client::new(9);
        let stream = client.open();
        let stream_id = stream.id;
        let other = client.spawn(Deadline::NEVER, move |client, id| {
            client.wire().deliver(Message::Item(stream_id, 10));
            client.wire().deliver(Message::Item(stream_id, 11));
            answered(client, id)
        });
        let consumer = stream.clone();
        let consumer = thread::spawn(move || consumer.next(Deadline::NEVER));
        assert_eq!(consumer.join().unwrap(), Some(Ok(10)));
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(11)));
        assert!(other.join().unwrap().is_ok());
    });
}

/// What has come is taken, and then comes the end.
#[test]
fn the_end_comes_after_the_items() {
    explore(Some(4), || {
        let client = Client::new(9);
        let stream = client.open();
        client.wire().deliver(Message::Item(stream.id, 10));
        let other = client.spawn(Deadline::NEVER, |client, _| {
            client.wire().change(|line| line.closed = true);
            true
        });
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
        assert_eq!(stream.next(Deadline::NEVER), Some(Err(CLOSED)));
        assert_eq!(other.join().unwrap(), Err(CLOSED));
    });
}
