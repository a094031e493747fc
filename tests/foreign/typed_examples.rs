//! The examples of typed calls, run as the programs that they are.

use pipetalk::Name;
use util::{Place, Running, here, limit, soon};

const NO_ARGS: &[&str] = &[];

#[test]
fn quickstart_prints_the_reply() {
    let both = [(); 2].map(|()| Running::start("quickstart", NO_ARGS));
    for one in both {
        let lines = one.expect_success();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with("Hello, world"), "{lines:#?}");
    }
}

#[test]
fn calculator_shows_every_end_of_a_call() {
    let (status, out, err) = Running::start("calculator", NO_ARGS).finish();
    assert!(status.success(), "{status} {err:#?}");
    let expected = [
        "3 + 4: 7",
        "7 / 2: 3",
        "7 / 0: the service says: division by zero",
        "7 % 0: the call failed: the handler of the request panicked",
        "1 + 2 + 3 + ..., in 100 ms: the call failed: timed out waiting for the reply",
        "1 + 2 + ... + 100: 5050",
    ];
    assert_eq!(out, expected);
    // What the panic said stays with the server.
    let panic = "attempt to calculate the remainder with a divisor of zero";
    assert!(err.iter().any(|line| line == panic), "{err:#?}");
}

#[test]
fn skew_names_both_versions_and_replaces_the_old_one() {
    let lines = Running::start("skew", NO_ARGS).expect_success();
    let expected = [
        "A client of the same version:",
        "  page 7",
        "A client of the next version:",
        "  this program has notes 2.0.0 (",
        "  the server has   notes 1.4.2 (",
        "  the server says it has version 1.4.2",
        "  it runs in this process",
        "  the server has stopped, as it was asked to",
        "The next version takes its place:",
        "  page 7 of diary",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        let whole = !expected.ends_with('(');
        assert!(
            line == expected || (!whole && line.starts_with(expected)),
            "{line:?} is not {expected:?}"
        );
    }
}

#[test]
fn events_come_in_order_or_are_counted() {
    let _limit = limit(here!());
    let both = [(); 2].map(|()| Running::start("events", NO_ARGS));
    for one in both {
        let lines = one.expect_success();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(
            lines[0].starts_with("2000 readings published in "),
            "{lines:#?}"
        );
        for (line, who) in lines[1..].iter().zip(["eager", "absent", "slow"]) {
            let numbers = line.strip_prefix(who).unwrap_or_else(|| panic!("{line}"));
            let numbers = numbers.split(|c: char| !c.is_ascii_digit());
            let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
            let [got, missed, gaps] = numbers[..] else {
                panic!("{line}");
            };
            assert_eq!(got + missed, 2000, "{line}");
            assert_eq!(missed == 0, gaps == 0, "{line}");
        }
    }
}

/// The programs of a key-value store: its server and its client.
#[derive(Debug, Clone, Copy)]
struct Programs {
    server: &'static str,
    client: &'static str,
}

const BLOCKING: Programs = Programs {
    server: "kv_server",
    client: "kv_client",
};

#[cfg(feature = "tokio")]
const ASYNC: Programs = Programs {
    server: "kv_async_server",
    client: "kv_async_client",
};

/// All that do the same.
#[cfg(not(feature = "tokio"))]
const ALIKE: &[Programs] = &[BLOCKING];
#[cfg(feature = "tokio")]
const ALIKE: &[Programs] = &[BLOCKING, ASYNC];

/// All that understand each other.
#[cfg(not(feature = "tokio"))]
const PAIRS: &[Programs] = ALIKE;
#[cfg(feature = "tokio")]
const PAIRS: &[Programs] = &[
    BLOCKING,
    ASYNC,
    Programs {
        server: BLOCKING.server,
        client: ASYNC.client,
    },
    Programs {
        server: ASYNC.server,
        client: BLOCKING.client,
    },
];

/// A server that listens.
struct Store {
    programs: Programs,
    place: Place,
    process: Running,
}

impl Store {
    fn start(programs: Programs) -> Store {
        Store::start_at(programs, Place::new())
    }

    fn start_at(programs: Programs, place: Place) -> Store {
        let process = Running::start(programs.server, &[place.name()]);
        let name = Name::new(place.name()).unwrap();
        assert_eq!(process.line(), format!("listening on {name}"));
        Store {
            programs,
            place,
            process,
        }
    }

    fn client(&self, command: &[&str]) -> Running {
        client(self.programs, &self.place, command)
    }

    fn ask(&self, command: &[&str]) -> Vec<String> {
        self.client(command).expect_success()
    }

    /// It ends by itself, has said nothing more, and has given the name back.
    fn expect_end(self) {
        assert_eq!(self.process.expect_success(), [""; 0]);
        Store::start_at(self.programs, self.place);
    }
}

fn client(programs: Programs, place: &Place, command: &[&str]) -> Running {
    let args = [&["--name", place.name()], command].concat();
    Running::start(programs.client, &args)
}

#[test]
fn a_value_is_put_and_printed_alone() {
    let _limit = limit(here!());
    for &programs in PAIRS {
        let store = Store::start(programs);
        let missing = store.client(&["get", "colour"]);
        assert_eq!(missing.expect_exit(1), "not found");
        assert_eq!(store.ask(&["put", "colour", "dark blue"]), ["ok"]);
        assert_eq!(store.ask(&["get", "colour"]), ["dark blue"]);
        assert_eq!(store.ask(&["put", "colour", "red\n\ngreen"]), ["ok"]);
        assert_eq!(store.ask(&["get", "colour"]), ["red", "", "green"]);
        assert_eq!(store.ask(&["put", "empty", ""]), ["ok"]);
        assert_eq!(store.ask(&["get", "empty"]), [""]);
    }
}

#[test]
fn a_touched_key_exists() {
    let _limit = limit(here!());
    for &programs in PAIRS {
        let store = Store::start(programs);
        assert_eq!(store.ask(&["touch", "key"]), ["ok"]);
        assert_eq!(store.ask(&["get", "key"]), [""]);
        assert_eq!(store.ask(&["put", "key", "value"]), ["ok"]);
        assert_eq!(store.ask(&["touch", "key"]), ["ok"]);
        assert_eq!(store.ask(&["get", "key"]), ["value"]);
    }
}

#[test]
fn changes_are_printed_to_those_who_watch() {
    let _limit = limit(here!());
    for &programs in PAIRS {
        assert_changes_are_printed(programs);
    }
}

fn assert_changes_are_printed(programs: Programs) {
    let store = Store::start(programs);
    let watches = ["", "a", "ab"].map(|prefix| store.client(&["watch", prefix]));
    // Whether they watch already nobody says: put until they have seen it.
    let mut seen = [false; 3];
    for round in 0.. {
        let value = round.to_string();
        assert_eq!(store.ask(&["put", "abc", &value]), ["ok"]);
        for (watch, seen) in watches.iter().zip(&mut seen) {
            *seen = *seen
                || watch
                    .line_if_any()
                    .is_some_and(|line| line.starts_with("abc="));
        }
        if seen == [true; 3] {
            break;
        }
    }
    for (key, value) in [("b", "1"), ("a", "2 and 3"), ("x", "4"), ("ab", "")] {
        assert_eq!(store.ask(&["put", key, value]), ["ok"]);
    }
    assert_eq!(store.ask(&["touch", "abba"]), ["ok"]);
    assert_eq!(store.ask(&["touch", "ab"]), ["ok"]);
    assert_eq!(store.ask(&["put", "abba", "5"]), ["ok"]);
    let lines = ["b=1", "a=2 and 3", "x=4", "ab=", "abba=", "abba=5"];
    for (watch, prefix) in watches.iter().zip(["", "a", "ab"]) {
        for expected in lines.iter().filter(|line| line.starts_with(prefix)) {
            let mut line = watch.line();
            while line.starts_with("abc=") {
                line = watch.line();
            }
            assert_eq!(&line, expected);
        }
    }
    // They do not hold up the end of the server, and end with it, in good order.
    assert_eq!(store.ask(&["drain"]), ["ok"]);
    store.expect_end();
    for watch in watches {
        assert_eq!(watch.expect_success(), [""; 0]);
    }
}

#[test]
fn an_error_of_the_service_is_one_line() {
    let _limit = limit(here!());
    for &programs in PAIRS {
        let store = Store::start(programs);
        let name = store.place.name();
        for (key, text) in [
            (String::new(), "a key cannot be empty"),
            ("k".repeat(1025), "a key has at most 1024 bytes"),
        ] {
            for command in [&["put", &key, "value"][..], &["touch", &key]] {
                let line = store.client(command).expect_exit(2);
                assert_eq!(line, format!("{}: {name}: {text}", programs.client));
            }
        }
    }
}

#[test]
fn info_says_who_the_server_is() {
    let _limit = limit(here!());
    for &programs in PAIRS {
        let store = Store::start(programs);
        let lines = store.ask(&["info"]);
        let field = |name: &str| {
            let line = lines.iter().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("no {name} in {lines:#?}"))[name.len()..].trim()
        };
        assert_eq!(field("service"), "Kv");
        assert_eq!(field("version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(field("process"), store.process.child.id().to_string());
        assert_eq!(field("connections"), "1");
        assert_eq!(field("requests"), "1");
        assert_eq!(field("draining"), "false");
    }
}

#[test]
fn a_client_drains_and_stops_a_server() {
    let _limit = limit(here!());
    for &programs in PAIRS {
        for command in ["drain", "stop"] {
            let store = Store::start(programs);
            assert_eq!(store.ask(&[command]), ["ok"]);
            store.expect_end();
        }
    }
}

#[test]
fn a_client_without_a_server_says_so_in_one_line() {
    let _limit = limit(here!());
    for &programs in ALIKE {
        let place = Place::new();
        for command in [
            &["get", "key"][..],
            &["put", "key", "value"],
            &["touch", "key"],
            &["watch", "key"],
            &["info"],
            &["drain"],
            &["stop"],
        ] {
            let line = client(programs, &place, command).expect_exit(2);
            assert_eq!(
                line,
                format!("{}: nobody listens at {}", programs.client, place.name())
            );
        }
    }
}

#[test]
fn a_command_that_is_none_is_answered_with_the_usage() {
    for &programs in ALIKE {
        for command in [&[][..], &["get"], &["put", "key"], &["remove", "key"]] {
            let line = Running::start(programs.client, command).expect_exit(2);
            assert!(
                line.starts_with(&format!("usage: {} ", programs.client)),
                "{line}"
            );
        }
    }
}

#[test]
fn a_server_whose_name_is_taken_says_so_in_one_line() {
    let _limit = limit(here!());
    for &programs in ALIKE {
        if util::skipped_under_wine(here!(), "it does not keep a second server from a name") {
            return;
        }
        let store = Store::start(programs);
        let name = store.place.name();
        let line = Running::start(programs.server, &[name]).expect_failure();
        assert!(
            line.starts_with(&format!("{}: cannot serve {name}: ", programs.server)),
            "{line}"
        );
        assert_eq!(store.ask(&["put", "still", "there"]), ["ok"]);
    }
}

#[test]
fn ctrl_c_drains_a_server() {
    let _limit = limit(here!());
    for &programs in ALIKE {
        let Some(interrupt) = util::INTERRUPT else {
            util::skip(
                here!(),
                "Ctrl-C reaches every program of a console, so that it would end the tests too",
            );
            return;
        };
        for clients in [0, 1, 3] {
            let store = Store::start(programs);
            let clients: Vec<_> = (0..clients)
                .map(|_| pipetalk::LocalStream::connect(store.place.name()).unwrap())
                .collect();
            interrupt(&store.process.child);
            store.expect_end();
            for client in &clients {
                // What it is told first is another matter: see `tests/hostile_calls`.
                let mut message = Vec::new();
                while let Ok(Some(_)) = pipetalk::Stream::recv_message(client, &mut message, soon())
                {
                }
            }
        }
    }
}
