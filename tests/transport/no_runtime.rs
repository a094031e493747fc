//! Async streams and listeners where there is no runtime, or one that lacks something, or another one than before.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use pipetalk::tokio::{Listener, LocalListener, LocalStream, Stream, memory};
use pipetalk::{ConnectOptions, Deadline};
use tokio::runtime::{Builder, Runtime};

use util::{A_MOMENT, Place, expect_panics_of_tokio, here, limit, soon};

/// Runs a future that is to be done at once, where there is no runtime.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[track_caller]
fn assert_says<R: Debug>(what: &str, result: io::Result<R>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other, "{error:?}");
    assert!(error.to_string().contains(what), "{error}");
}

fn everything() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The client's end, the server's end, and the listener.
async fn connect() -> (LocalStream, LocalStream, LocalListener) {
    let place = Place::new();
    let listener = LocalListener::bind(place.name()).unwrap();
    let client = LocalStream::connect(place.name()).await.unwrap();
    let server = listener.accept(soon()).await.unwrap();
    (client, server, listener)
}

async fn assert_works(a: &impl Stream, b: &impl Stream) {
    let mut message = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        let text = [from, to];
        match from {
            0 => a.send(&text, soon()).await.unwrap(),
            _ => b.send(&text, soon()).await.unwrap(),
        }
        let received = match to {
            0 => a.recv_message(&mut message, soon()).await,
            _ => b.recv_message(&mut message, soon()).await,
        };
        assert_eq!(received.unwrap(), Some(2));
        assert_eq!(message, text);
    }
}

async fn assert_ended(stream: &impl Stream) {
    let received = stream.recv_message(&mut Vec::new(), soon()).await;
    assert_eq!(received.unwrap(), None);
}

#[test]
fn outside_a_runtime_it_says_so() {
    let _limit = limit(here!());
    let place = Place::new();
    assert_says("no tokio runtime", LocalListener::bind(place.name()));
    assert_says(
        "no tokio runtime",
        at_once(LocalStream::connect(place.name())),
    );
    // Nothing is left behind by that.
    everything().block_on(async {
        let listener = LocalListener::bind(place.name()).unwrap();
        let client = LocalStream::connect(place.name()).await.unwrap();
        assert_works(&client, &listener.accept(soon()).await.unwrap()).await;
    });
}

#[cfg(unix)]
#[test]
fn without_what_watches_sockets_it_says_so() {
    let _limit = limit(here!());
    // It is tokio that panics, where the crate asks it.
    let _expected = expect_panics_of_tokio();
    let place = Place::new();
    let with_it = everything();
    let without = Builder::new_current_thread().enable_time().build().unwrap();
    without.block_on(async { assert_says("enable_io", LocalListener::bind(place.name())) });
    let listener = with_it.block_on(async { LocalListener::bind(place.name()).unwrap() });
    without.block_on(async {
        assert_says("enable_io", LocalStream::connect(place.name()).await);
    });
    drop(listener);
}

/// A connection is not to be lost because nobody could serve it.
#[cfg(unix)]
#[test]
fn accepting_outside_a_runtime_says_so_and_takes_nobody() {
    let _limit = limit(here!());
    let place = Place::new();
    let runtime = everything();
    let (listener, client) = runtime.block_on(async {
        let listener = LocalListener::bind(place.name()).unwrap();
        let client = LocalStream::connect(place.name()).await.unwrap();
        (listener, client)
    });
    assert_says("no tokio runtime", at_once(listener.accept(Deadline::NOW)));
    runtime.block_on(async {
        assert_works(&client, &listener.accept(soon()).await.unwrap()).await;
    });
}

async fn says_that_there_is_no_timer(
    client: &impl Stream,
    server: &impl Stream,
    listener: &impl Listener,
) {
    // What does not wait, or not by the clock, does not need one.
    let nothing = server.recv(&mut [0; 8], Deadline::NOW).await;
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_works(client, server).await;
    assert_says("enable_time", server.recv(&mut [0; 8], soon()).await);
    let whole = server.recv_message(&mut Vec::new(), soon()).await;
    assert_says("enable_time", whole);
    assert_says("enable_time", listener.accept(soon()).await);
    // And nothing is lost.
    client.send(b"hello", soon()).await.unwrap();
    let mut message = Vec::new();
    let received = server.recv_message(&mut message, Deadline::NEVER).await;
    assert_eq!(received.unwrap(), Some(5));
}

#[test]
fn without_a_timer_it_says_so_where_one_is_needed() {
    let _limit = limit(here!());
    // It is tokio that panics, where the crate asks it.
    let _expected = expect_panics_of_tokio();
    #[cfg(unix)]
    let without = Builder::new_current_thread().enable_io().build().unwrap();
    #[cfg(windows)]
    let without = Builder::new_current_thread().build().unwrap();
    without.block_on(async {
        let place = Place::new();
        let listener = LocalListener::bind(place.name()).unwrap();
        let options = ConnectOptions::new();
        let client = options.connect_tokio(place.name(), soon()).await.unwrap();
        let server = listener.accept(Deadline::NEVER).await.unwrap();
        says_that_there_is_no_timer(&client, &server, &listener).await;

        let (listener, connector) = memory::listener();
        let client = connector.connect(soon()).await.unwrap();
        let server = listener.accept(Deadline::NEVER).await.unwrap();
        says_that_there_is_no_timer(&client, &server, &listener).await;
    });
}

#[test]
fn streams_are_dropped_anywhere() {
    let _limit = limit(here!());
    for many_threads in [true, false] {
        let runtime = match many_threads {
            true => Builder::new_multi_thread().enable_all().build().unwrap(),
            false => everything(),
        };
        let (client, server, listener) = runtime.block_on(connect());
        // On a thread that has no runtime.
        thread::spawn(move || drop(client)).join().unwrap();
        runtime.block_on(assert_ended(&server));
        drop((server, listener));

        // After the runtime.
        let (client, server, listener) = runtime.block_on(connect());
        drop(runtime);
        drop(listener);
        client.send(b"last", Deadline::NOW).unwrap_at_once();
        drop(client);
        let mut message = Vec::new();
        let received = server.recv_message(&mut message, Deadline::NOW);
        assert_eq!(received.unwrap_at_once(), Some(4));
        let ended = server.recv_message(&mut message, Deadline::NOW);
        assert_eq!(ended.unwrap_at_once(), None);
        drop(server);
    }
}

trait UnwrapAtOnce<T> {
    fn unwrap_at_once(self) -> T;
}

impl<T, F: Future<Output = io::Result<T>>> UnwrapAtOnce<T> for F {
    fn unwrap_at_once(self) -> T {
        at_once(self).unwrap()
    }
}

#[test]
fn a_stream_goes_from_one_runtime_to_another() {
    let _limit = limit(here!());
    let first = Builder::new_multi_thread().enable_all().build().unwrap();
    let second = everything();
    let (client, server, listener) = first.block_on(connect());
    second.block_on(async {
        assert_works(&client, &server).await;
        let late = server
            .recv(&mut [0; 8], Deadline::after(A_MOMENT))
            .await
            .unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    });
    drop((client, server, listener));
}

/// Whatever waits on a runtime that ends is told, and does not wait for ever.
#[cfg(unix)]
#[test]
fn waiting_on_a_runtime_that_has_gone_is_an_error() {
    let _limit = limit(here!());
    let first = everything();
    let second = everything();
    let (client, server, listener) = first.block_on(connect());
    drop(first);
    second.block_on(async {
        // What needs no waiting still works.
        client.send(b"one", soon()).await.unwrap();
        let mut message = Vec::new();
        let received = server.recv_message(&mut message, Deadline::NOW).await;
        assert_eq!(received.unwrap(), Some(3));
        for deadline in [soon(), Deadline::NEVER] {
            let error = server.recv_message(&mut message, deadline).await;
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Other);
            let error = listener.accept(deadline).await;
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Other);
        }
        // A send waits on the runtime that it is called on.
        let huge = vec![7; 16 << 20];
        let sending = async { client.send(&huge, soon()).await.unwrap() };
        let receiving = async {
            loop {
                match server.recv_message(&mut message, Deadline::NOW).await {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {
                        tokio::task::yield_now().await;
                    }
                    received => break assert_eq!(received.unwrap(), Some(huge.len())),
                }
            }
        };
        tokio::join!(sending, receiving);
        assert_eq!(message, huge);
    });
}

/// What is begun on one runtime and goes on on another says so when the first has gone.
#[cfg(unix)]
#[test]
fn a_send_whose_runtime_goes_under_it_is_an_error() {
    let _limit = limit(here!());
    let first = everything();
    let second = everything();
    let (client, _server, _listener) = first.block_on(connect());
    let huge = vec![7; 16 << 20];
    let mut sending = pin!(client.send(&huge, soon()));
    first.block_on(std::future::poll_fn(|cx| {
        assert!(sending.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    }));
    drop(first);
    second.block_on(async {
        let error = sending.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        // A part of that has gone.
        let next = client.send(b"next", soon()).await.unwrap_err();
        assert_eq!(next.kind(), ErrorKind::BrokenPipe);
    });
}

/// A call that need not wait still lets others have their turn now and then.
#[test]
fn a_task_that_never_waits_is_not_the_only_one() {
    let _limit = limit(here!());
    everything().block_on(async {
        let options = memory::Options::new().buffer_size(usize::MAX);
        let (from, to) = options.pair_tokio();
        let turns = Arc::new(AtomicUsize::new(0));
        let other = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move {
                loop {
                    turns.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut sent = 0;
        while turns.load(Ordering::SeqCst) < 3 {
            from.send(b"", Deadline::NEVER).await.unwrap();
            sent += 1;
        }
        for _ in 0..1_000 {
            from.send(b"", Deadline::NOW).await.unwrap();
        }
        turns.store(0, Ordering::SeqCst);
        for _ in 0..sent + 1_000 {
            to.recv(&mut [], Deadline::NEVER).await.unwrap();
        }
        assert!(turns.load(Ordering::SeqCst) > 3);
        other.abort();
    });

    let elsewhere = Builder::new_multi_thread().enable_all().build().unwrap();
    let (client, server, _listener) = elsewhere.block_on(connect());
    let reading = elsewhere.spawn(async move {
        let mut message = Vec::new();
        while let Ok(Some(_)) = server.recv_message(&mut message, soon()).await {}
    });
    everything().block_on(async {
        let ended = Arc::new(AtomicBool::new(false));
        tokio::spawn({
            let ended = Arc::clone(&ended);
            async move { ended.store(true, Ordering::SeqCst) }
        });
        while !ended.load(Ordering::SeqCst) {
            client.send(b"", soon()).await.unwrap();
        }
    });
    drop(client);
    elsewhere.block_on(reading).unwrap();
}

/// Both kinds of runtime, and each thread of one, may have futures of ours.
#[test]
fn every_future_can_be_sent_to_another_thread() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    async fn every_one<L: Listener>(listener: &L, stream: &L::Stream) {
        let (mut buf, mut message) = ([0; 8], Vec::new());
        let pieces = [io::IoSlice::new(b"piece")];
        drop(assert_send(listener.accept(Deadline::NOW)));
        drop(assert_send(stream.send(b"", Deadline::NOW)));
        drop(assert_send(stream.send_vectored(&pieces, Deadline::NOW)));
        drop(assert_send(stream.send_all(&pieces, Deadline::NOW)));
        drop(assert_send(stream.recv(&mut buf, Deadline::NOW)));
        drop(assert_send(
            stream.recv_message(&mut message, Deadline::NOW),
        ));
        drop(assert_send(stream.transact(b"", &mut buf, Deadline::NOW)));
    }
    let _limit = limit(here!());
    everything().block_on(async {
        let (client, server, listener) = connect().await;
        every_one(&listener, &server).await;
        assert_works(&client, &server).await;
        let shared = Arc::new(client);
        every_one(&Arc::new(listener), &server).await;
        assert_works(&shared, &server).await;
        drop(assert_send(LocalStream::connect("name")));
        let (listener, connector) = memory::listener();
        let client = assert_send(connector.connect(soon())).await.unwrap();
        every_one(&listener, &client).await;
    });
}
