//! Those who have come when a server ends, and have not been accepted.

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use pipetalk::{ServerOptions, Stream};

use crate::calls::bytes::*;
use super::super::driver;
use super::super::town::{Gate, Raw, alone, echo};
use util::{A_WHILE, Place, here, limit, soon, until};

/// Lets in whoever comes, when it is open.
#[derive(Default)]
struct Door {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Door {
    fn waiting(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn pass(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        drop(self.changed.wait_while(state, |(open, _)| !*open).unwrap());
        true
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }
}

/// On Windows there is one instance for those who come.
const WAITING: u64 = if cfg!(windows) { 1 } else { 5 };

#[test]
fn who_waits_to_be_accepted_when_the_server_ends_is_told_so() {
    let _limit = limit(here!());
    let _alone = alone();
    for pool in driver::pools([0, 2]) {
        for stops in [false, true] {
            let place = Place::new();
            let door = Arc::new(Door::default());
            let at_door = Arc::clone(&door);
            let options = ServerOptions::new()
                .pool(pool)
                .admit(move |_| at_door.pass());
            let server = driver::bind(options, place.name()).unwrap();
            let handle = server.handle();
            let serving =
                thread::spawn(move || driver::serve(server, Arc::new(Gate::default()), pool));
            let comes = || Raw(pipetalk::LocalStream::connect(place.name()).unwrap());
            // The server is busy with this one.
            let first = comes();
            until("it is looked at", || door.waiting() == 1);
            let waiting: Vec<Raw> = (0..WAITING)
                .map(|number| {
                    let raw = comes();
                    raw.says(&hello());
                    raw.says(&echo(1, number));
                    raw
                })
                .collect();
            let ends = handle.clone();
            let ending = thread::spawn(move || match stops {
                true => ends.stop(),
                false => ends.drain(A_WHILE),
            });
            until("it is ending", || handle.is_draining());
            door.open();
            for raw in &waiting {
                raw.assert_refused(UNAVAILABLE, "ending");
            }
            ending.join().unwrap();
            serving.join().unwrap().unwrap();
            // This one has been let in, perhaps, and then told that no more is read.
            let mut message = Vec::new();
            match first.0.recv_message(&mut message, soon()) {
                Ok(Some(_)) => match read(&message) {
                    Said::Other(GOING_AWAY | GOODBYE) => {}
                    Said::Refusal(failure) => assert_eq!(failure.code, UNAVAILABLE),
                    other => panic!("{other:?}"),
                },
                Ok(None) => {}
                Err(error) => assert_ne!(error.kind(), ErrorKind::TimedOut),
            }
            // Nobody is there any more.
            assert!(
                pipetalk::ConnectOptions::new()
                    .connect(place.name(), pipetalk::Deadline::NOW)
                    .is_err()
            );
        }
    }
}
