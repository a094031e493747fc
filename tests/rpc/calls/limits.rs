//! Messages over the server's limit, and what becomes of the other calls.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use pipetalk::{Blob, Call, CallError, ClientOptions, ServerOptions};
use serde::{Serializer};

use super::driver::{Client, bind, connect};
use util::{Place, Serialize, here, limit};

/// The first request is over the limit, of which the client knows nothing yet: only that call fails.
#[test]
fn a_first_request_that_is_too_large_fails_alone() {
    let _limit = limit(here!());
    for (takes, size) in [
        // So small that it is sent without asking: the server ends that connection.
        (1_000, 2_000),
        (1_000, 10_000),
        (100_000, 200_000),
        (1 << 20, 8 << 20),
    ] {
        for pool in [0, 2] {
            let place = Place::new();
            let options = ServerOptions::new().max_message(takes).pool(pool);
            let server = bind(options, place.name()).unwrap();
            let handle = server.handle();
            let serving = thread::spawn(move || server.serve(|blob: Blob, _: &Call| blob.len()));
            for reconnect in [false, true] {
                let options = ClientOptions::new().reconnect(reconnect);
                let client: Client<Blob, usize> = connect(options, place.name()).unwrap();
                match client.call(&Blob::from(vec![7; size])) {
                    Err(CallError::TooLarge {
                        limit,
                        size: of,
                        reply: false,
                    }) => assert!(limit == takes as u64 && of > size as u64),
                    other => panic!("{size} bytes, {takes} at most: {other:?}"),
                }
                for _ in 0..3 {
                    match client.call(&Blob::from(vec![7; 100])) {
                        Err(CallError::Disconnected { sent: false }) => {
                            assert!(size < 4_096 && !reconnect);
                        }
                        reply => assert_eq!(reply, Ok(100)),
                    }
                }
                if size < 4_096 && !reconnect {
                    continue;
                }
                // From now on the client knows.
                let error = client.notify(&Blob::from(vec![7; size])).unwrap_err();
                assert!(matches!(error, CallError::TooLarge { .. }), "{error:?}");
                assert_eq!(client.call(&Blob::from(vec![7; 100])), Ok(100));
            }
            handle.stop();
            serving.join().unwrap().unwrap();
        }
    }
}

/// Is encoded when it may be, and is large then.
struct Late(Mutex<Option<(Sender<()>, Receiver<()>)>>);

impl Serialize for Late {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((begins, may_go_on)) = self.0.lock().unwrap().take() {
            begins.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
        serializer.serialize_bytes(&vec![7; 200_000])
    }
}

/// It begins when the client knows no limit, and is too large by the time it is sent, when a call is under way: which
/// goes on.
#[test]
fn a_notification_that_is_too_large_does_not_end_a_call() {
    let _limit = limit(here!());
    let place = Place::new();
    let server = bind(ServerOptions::new().max_message(100_000), place.name()).unwrap();
    let handle = server.handle();
    let (enter, entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let may_leave = Mutex::new(may_leave);
    let carried_out = Arc::new(Mutex::new(0));
    let carries_out = Arc::clone(&carried_out);
    let serving = thread::spawn(move || {
        server.serve(move |blob: Blob, _: &Call| {
            enter.send(()).unwrap();
            may_leave.lock().unwrap().recv().unwrap();
            *carries_out.lock().unwrap() += 1;
            blob.len()
        })
    });
    let client: Client<Blob, usize> = connect(ClientOptions::new(), place.name()).unwrap();
    let ((begin, begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let late = Late(Mutex::new(Some((begin, may_go_on))));
    thread::scope(|scope| {
        let channel = client.channel();
        let notifies = scope.spawn(move || channel.notify(0, &late, Default::default()));
        begun.recv().unwrap();
        let calls = scope.spawn(|| client.call(&Blob::from(vec![7; 100])));
        entered.recv().unwrap();
        go_on.send(()).unwrap();
        let error = notifies.join().unwrap().unwrap_err();
        assert!(matches!(error, CallError::TooLarge { limit: 100_000, .. }), "{error:?}");
        leave.send(()).unwrap();
        assert_eq!(calls.join().unwrap(), Ok(100));
    });
    assert_eq!(*carried_out.lock().unwrap(), 1);
    handle.stop();
    serving.join().unwrap().unwrap();
}
