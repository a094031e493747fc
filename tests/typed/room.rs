//! Calls whose time is over while their requests wait for room, beneath servers on threads: a server that is busy with one
//! request receives no other.

use std::sync::{Mutex, mpsc};
use std::thread;

use pipetalk::{
    Call, CallError, CallOptions, Client, ClientOptions, ConnectOptions, Deadline, ListenOptions,
    Listener, ServerOptions, Stream, memory,
};

use crate::util::{A_MOMENT, Place, here, limit, skip, soon};

/// What the pipe holds.
const BUFFER: usize = 64 << 10;

/// A request that takes a part of that.
fn request() -> Vec<u8> {
    vec![7; 15_000]
}

/// Fills the pipe with requests, times out with some that do not fit, and sees that everybody else is served. The client
/// has this one connection and no way to another.
fn assert_the_others_live_on<L: Listener>(listener: L, stream: impl Stream) {
    let client: Client<Vec<u8>, usize> = ClientOptions::new().over(stream).unwrap();
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
        server.serve(move |request: Vec<u8>, _: &Call| {
            if request.is_empty() {
                begin.send(()).unwrap();
                let _ = released.lock().unwrap().recv();
            }
            request.len()
        })
    });
    let in_a_moment = || Deadline::after(A_MOMENT);
    thread::scope(|scope| {
        let slow = scope.spawn(|| call(Vec::new(), soon()));
        begun.recv().unwrap();
        let patient: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| call(request(), soon())))
            .collect();
        let mut without_room = 0;
        while without_room < 5 {
            match call(request(), in_a_moment()) {
                // It fitted, and nobody answers it. Now it is cancelled, for which there may be no room either.
                Err(CallError::TimedOut { sent: true }) => {}
                Err(CallError::TimedOut { sent: false }) => without_room += 1,
                other => panic!("{other:?}"),
            }
        }
        drop(release);
        assert_eq!(slow.join().unwrap(), Ok(0));
        for patient in patient {
            assert_eq!(patient.join().unwrap(), Ok(15_000));
        }
    });
    assert_eq!(call(request(), soon()), Ok(15_000));
    handle.stop();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_call_without_room_for_its_request_leaves_the_others_alone() {
    let _limit = limit(here!());
    let (listener, connector) = memory::Options::new().buffer_size(BUFFER).listener();
    let stream = connector.connect(soon()).unwrap();
    assert_the_others_live_on(listener, stream);
    if cfg!(not(any(windows, target_os = "linux"))) {
        skip("calls without room", "a socket takes a message in parts");
        return;
    }
    let place = Place::new();
    let listener = ListenOptions::new().buffer_size(BUFFER);
    let listener = listener.bind(place.name()).unwrap();
    let options = ConnectOptions::new().buffer_size(BUFFER);
    let stream = options.connect(place.name(), soon()).unwrap();
    assert_the_others_live_on(listener, stream);
}
