//! Servers that end when the process is told to end.

use std::thread;

use pipetalk::{Call, Server};

use util::{A_WHILE, announce, here};

#[cfg(unix)]
mod unix {
    use std::os::unix::process::ExitStatusExt;

    use pipetalk::{Client, ClientOptions};
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use util::{Actor, Place, limit, until};

    #[test]
    fn a_signal_drains_all_servers_and_another_stops_them() {
        let _limit = limit(here!());
        for signal in [Signal::INT, Signal::TERM] {
            let (idle, busy) = (Place::new(), Place::new());
            let mut process = Actor::start("signals:serve", &[idle.name(), busy.name()]);
            assert_eq!(process.says(), "listening");
            let tell = |process: &Actor| {
                let id = Pid::from_raw(process.id() as i32).unwrap();
                kill_process(id, signal).unwrap();
            };
            let client: Client<(), ()> = ClientOptions::new()
                .timeout(None)
                .connect(busy.name())
                .unwrap();
            let waiting = thread::spawn(move || client.call(&()));
            assert_eq!(process.says(), "busy");

            tell(&process);
            assert_eq!(process.says(), "idle has ended");
            until("the other server takes no more clients", || {
                Client::<(), ()>::connect(busy.name()).is_err()
            });

            tell(&process);
            assert_eq!(process.says(), "busy has ended");
            let error = waiting.join().unwrap().unwrap_err();
            assert!(error.was_sent(), "{error:?}");

            // Nobody is left to be ended but the process.
            tell(&process);
            assert_eq!(process.status().signal(), Some(signal.as_raw()));
        }
    }
}

#[cfg(windows)]
#[test]
fn a_signal_drains_all_servers_and_another_stops_them() {
    util::skip(
        here!(),
        "Ctrl-C reaches every program of a console, so that it would end the tests too",
    );
}

pub(crate) mod actors {
    use super::*;

    pub(crate) fn play(part: &str, args: &[&str]) {
        match (part, args) {
            ("serve", [idle, busy]) => serve(idle, busy),
            _ => panic!("no such part: {part} {args:?}"),
        }
    }

    fn serve(idle: &str, busy: &str) {
        let servers = [idle, busy].map(|name| Server::bind(name).unwrap());
        let handles = [0, 1].map(|server| servers[server].handle());
        for handle in &handles {
            handle.drain_on_signal(A_WHILE).unwrap();
        }
        let [idle, busy] = servers;
        thread::scope(|scope| {
            scope.spawn(|| {
                idle.serve(|(): (), _: &Call| ()).unwrap();
                announce("idle has ended");
            });
            scope.spawn(|| {
                busy.serve(|(): (), call: &Call| {
                    announce("busy");
                    while !call.is_cancelled() {
                        thread::yield_now();
                    }
                })
                .unwrap();
                announce("busy has ended");
            });
            announce("listening");
        });
        // The handles are still there.
        util::wait_for_release();
        drop(handles);
    }
}
