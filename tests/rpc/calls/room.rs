//! Calls whose time is over while their requests wait for room, beneath servers on threads: a server that is busy with one
//! request receives no other.

use std::sync::{Mutex, mpsc};
use std::thread;

use pipetalk::{
    Blob, Call, CallError, CallOptions, Client, ClientOptions, ConnectOptions, Deadline,
    ListenOptions, Listener, LocalListener, LocalStream, ServerOptions, Stream, memory,
};

use util::{A_MOMENT, Place, here, limit, skip, soon};

/// What the pipe holds.
const BUFFER: usize = 64 << 10;

/// The blob is sent from where it is, and the vector is copied.
type Request = (Blob, Vec<u8>);

/// A request that takes a part of that.
fn request() -> Request {
    (Blob::new(), vec![7; 15_000])
}

/// Some of which no pipe holds more than a part.
fn too_large() -> [Request; 2] {
    let bytes = vec![7; 8 * BUFFER];
    [(Blob::new(), bytes.clone()), (bytes.into(), Vec::new())]
}

/// Fills the pipe with requests, times out with some that do not fit, and sees that everybody else is served. The client
/// has this one connection and no way to another.
fn assert_the_others_live_on<L: Listener>(listener: L, stream: impl Stream, large_at_end: bool) {
    let client: Client<Request, usize> = ClientOptions::new().over(stream).unwrap();
    let call = |request, deadline| {
        let options = CallOptions::new().deadline(deadline);
        client.call_with(&request, options)
    };
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = ServerOptions::new().on(listener);
    let handle = server.handle();
    let serving = thread::spawn(move || {
        server.serve(move |(blob, bytes): Request, _: &Call| {
            let size = blob.len() + bytes.len();
            if size == 0 {
                begin.send(()).unwrap();
                let _ = released.lock().unwrap().recv();
            }
            size
        })
    });
    let in_a_moment = || Deadline::after(A_MOMENT);
    // The largest first and last: with room for a part of it, and with none.
    let [first, last] = match large_at_end {
        true => too_large(),
        false => {
            let [vector, blob] = too_large();
            [blob, vector]
        }
    };
    // On a thread that ends then: the system takes back what it has begun.
    let does_not_fit = |request| {
        let called =
            thread::scope(|scope| scope.spawn(|| call(request, in_a_moment())).join().unwrap());
        assert!(
            matches!(called, Err(CallError::TimedOut { .. })),
            "{called:?}"
        );
    };
    thread::scope(|scope| {
        let slow = scope.spawn(|| call((Blob::new(), Vec::new()), soon()));
        begun.recv().unwrap();
        let patient: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| call(request(), soon())))
            .collect();
        does_not_fit(first);
        // It goes on where that one has stopped.
        let behind = scope.spawn(|| call(request(), soon()));
        let mut without_room = 0;
        while without_room < 5 {
            match call(request(), in_a_moment()) {
                // It fitted, and nobody answers it. Now it is cancelled, for which there may be no room either.
                Err(CallError::TimedOut { sent: true }) => {}
                Err(CallError::TimedOut { sent: false }) => without_room += 1,
                other => panic!("{other:?}"),
            }
        }
        does_not_fit(last);
        drop(release);
        assert_eq!(behind.join().unwrap(), Ok(15_000));
        assert_eq!(slow.join().unwrap(), Ok(0));
        for patient in patient {
            assert_eq!(patient.join().unwrap(), Ok(15_000));
        }
    });
    for request in too_large() {
        assert_eq!(call(request, soon()), Ok(8 * BUFFER));
    }
    assert_eq!(call(request(), soon()), Ok(15_000));
    handle.stop();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_call_without_room_for_its_request_leaves_the_others_alone() {
    let _limit = limit(here!());
    for large_at_end in [false, true] {
        let (listener, connector) = memory::Options::new().buffer_size(BUFFER).listener();
        let stream = connector.connect(soon()).unwrap();
        assert_the_others_live_on(listener, stream, large_at_end);
        if cfg!(not(any(windows, target_os = "linux"))) {
            skip("calls without room", "a socket takes a message in parts");
            continue;
        }
        let (listener, stream) = local();
        assert_the_others_live_on(listener, stream, large_at_end);
    }
}

fn local() -> (LocalListener, LocalStream) {
    let place = Place::new();
    let listener = ListenOptions::new().buffer_size(BUFFER);
    let listener = listener.bind(place.name()).unwrap();
    let options = ConnectOptions::new().buffer_size(BUFFER);
    let stream = options.connect(place.name(), soon()).unwrap();
    (listener, stream)
}

/// What has begun to go cannot be taken back: such a notification is still carried out.
#[test]
fn a_notification_that_is_sent_in_part_says_so_and_comes() {
    let _limit = limit(here!());
    if cfg!(not(any(windows, target_os = "linux"))) {
        skip(
            "notifications without room",
            "how much there is depends on the system",
        );
        return;
    }
    for large in too_large() {
        let (listener, stream) = local();
        let options = ClientOptions::new().timeout(A_MOMENT);
        let client: Client<Request, usize> = options.over(stream).unwrap();
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let server = ServerOptions::new().on(listener);
        let handle = server.handle();
        let serving = thread::spawn(move || {
            server.serve(move |(blob, bytes): Request, _: &Call| {
                begin.send(blob.len() + bytes.len()).unwrap();
                let _ = released.lock().unwrap().recv();
                0
            })
        });
        let patiently = || CallOptions::new().deadline(soon());
        thread::scope(|scope| {
            let slow = scope.spawn(|| client.call_with(&request(), patiently()));
            assert_eq!(begun.recv().unwrap(), 15_000);
            let told = client.notify(&large);
            assert_eq!(told, Err(CallError::TimedOut { sent: true }));
            drop(release);
            assert_eq!(slow.join().unwrap(), Ok(0));
        });
        // With the next message the rest of it goes.
        assert_eq!(client.call_with(&request(), patiently()), Ok(0));
        assert_eq!(begun.recv().unwrap(), 8 * BUFFER);
        assert_eq!(begun.recv().unwrap(), 15_000);
        handle.stop();
        serving.join().unwrap().unwrap();
    }
}
