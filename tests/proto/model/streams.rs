//! Streams: consumers and callers read for each other, whoever leaves, and however it ends.

use loom::thread;

use crate::model::client::{Client, Message, answered, explore};
use crate::model::sync::Deadline;
use crate::model::turn::Over;

/// The items come while the other waits for its answer: whoever reads leaves them where they belong.
#[test]
fn a_consumer_and_a_caller_read_for_each_other() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, move |client, id| {
            client.wire().deliver(Message::Item(stream.id, 10));
            client.wire().deliver(Message::Answer(id));
            client.wire().deliver(Message::Item(stream.id, 11));
            true
        });
        assert_eq!(client.next(stream, Deadline::Never), Ok(10));
        assert_eq!(client.next(stream, Deadline::Never), Ok(11));
        assert!(other.join().unwrap().is_ok());
    });
}

/// A consumer that has its item reads no more: the caller has to.
#[test]
fn a_consumer_that_has_its_item_hands_over() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, move |client, id| {
            client.wire().deliver(Message::Item(stream.id, 10));
            client.wire().deliver(Message::Answer(id));
            true
        });
        assert_eq!(client.next(stream, Deadline::Never), Ok(10));
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
        let other = client.spawn(Deadline::Never, |client, id| {
            client.pass_the_deadline();
            answered(client, id)
        });
        assert_eq!(client.next(stream, Deadline::At), Err(Over::TimedOut));
        client.leave(stream);
        assert!(other.join().unwrap().is_ok());
    });
}

/// Two consumers, and whoever reads, reads for both.
#[test]
fn consumers_read_for_each_other() {
    explore(Some(3), || {
        let client = Client::new(9);
        let streams = [client.open(), client.open()];
        for item in [10, 11] {
            client.wire().deliver(Message::Item(streams[1].id, item));
            client.wire().deliver(Message::Item(streams[0].id, item));
        }
        let other = {
            let client = client.clone();
            thread::spawn(move || {
                assert_eq!(client.next(streams[0], Deadline::Never), Ok(10));
                assert_eq!(client.next(streams[0], Deadline::Never), Ok(11));
                client.leave(streams[0]);
            })
        };
        assert_eq!(client.next(streams[1], Deadline::Never), Ok(10));
        assert_eq!(client.next(streams[1], Deadline::Never), Ok(11));
        client.leave(streams[1]);
        other.join().unwrap();
    });
}

/// One that is taken from on another thread each time.
#[test]
fn a_consumer_moves_to_another_thread() {
    explore(Some(3), || {
        let client = Client::new(9);
        let stream = client.open();
        let other = client.spawn(Deadline::Never, move |client, id| {
            client.wire().deliver(Message::Item(stream.id, 10));
            client.wire().deliver(Message::Item(stream.id, 11));
            answered(client, id)
        });
        let consumer = client.clone();
        let consumer = thread::spawn(move || consumer.next(stream, Deadline::Never));
        assert_eq!(consumer.join().unwrap(), Ok(10));
        assert_eq!(client.next(stream, Deadline::Never), Ok(11));
        assert!(other.join().unwrap().is_ok());
    });
}

/// What has come is taken, and then comes the end.
#[test]
fn the_end_comes_after_the_items() {
    explore(None, || {
        let client = Client::new(9);
        let stream = client.open();
        client.wire().deliver(Message::Item(stream.id, 10));
        let other = client.spawn(Deadline::Never, |client, _| {
            client.wire().change(|line| line.closed = true);
            true
        });
        assert_eq!(client.next(stream, Deadline::Never), Ok(10));
        let ended = Err(Over::Ended("closed"));
        assert_eq!(client.next(stream, Deadline::Never), ended);
        assert_eq!(other.join().unwrap(), ended);
    });
}
